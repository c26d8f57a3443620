"""What tests with real servers have in common with each other."""

import time

from examples.p2p_sharing.vllm.servers import Server, await_counter
from tests.e2e.vllm.fixtures import CHUNK, prompt_of


def held(server: Server, num_tokens: int) -> list[int]:
    """Returns a prompt that a server has computed, and whose chunks the directory knows."""
    prompt = prompt_of(num_tokens)
    before = server.client.metrics()["saved_chunks"]
    server.client.complete(prompt, 2)
    await_counter(server, "saved_chunks", before + num_tokens // CHUNK)
    time.sleep(0.2)  # digests are taken, and the directory told
    return prompt


def meet(a: Server, b: Server) -> None:
    """Lets both fetch from each other until they do: a first contact may outlast a budget."""
    for holder, reader in ((a, b), (b, a)):
        for _ in range(5):
            if reader.client.complete(held(holder, 300), 1).num_cached:
                break
        else:
            raise AssertionError(f"no fetch: {reader.client.metrics()}")
