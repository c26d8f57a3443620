"""One batch of new prompts on a vLLM server, and its speed."""

import time
from concurrent.futures import ThreadPoolExecutor

from examples.p2p_sharing.vllm.servers import Server
from tests.bench.vllm_environment import prompt_of

_NUM_PROMPTS = 4
_NUM_PROMPT_TOKENS = 260
_NUM_ANSWER_TOKENS = 16


def tokens_per_second(server: Server) -> float:
    """Returns tokens, of prompts and answers, per second of four requests at once."""
    prompts = [prompt_of(_NUM_PROMPT_TOKENS) for _ in range(_NUM_PROMPTS)]
    with ThreadPoolExecutor(_NUM_PROMPTS) as threads:
        began_s = time.monotonic()
        answers = list(
            threads.map(lambda prompt: server.client.complete(prompt, _NUM_ANSWER_TOKENS), prompts)
        )
        took_s = time.monotonic() - began_s
    assert not any(answer.num_cached for answer in answers)
    return sum(answer.num_prompt + len(answer.tokens) for answer in answers) / took_s
