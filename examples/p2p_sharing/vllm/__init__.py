"""Two ``vllm serve`` processes with a real model share their KV cache."""
