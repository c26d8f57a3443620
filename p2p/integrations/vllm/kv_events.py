"""The pool's content as vLLM's KV events, for routers outside that choose where a prompt goes.

A chunk is the blocks that vLLM's own events name, with the same hashes; only the medium differs.
"""

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from vllm.distributed.kv_events import MEDIUM_CPU, BlockRemoved, BlockStored, KVCacheEvent
from vllm.v1.core.kv_cache_utils import (
    generate_block_hash_extra_keys,
    maybe_convert_block_hash,
    to_event_extra_keys,
)

from p2p.backend.feed import Event
from p2p.integrations.vllm.announcements import Announcements, News
from p2p.keys import ChunkKey

if TYPE_CHECKING:
    from vllm.v1.request import Request

_LOCAL = "LOCAL"


class PoolEvents:
    """Makes vLLM's events of what comes into the pool and goes.

    Args:
        changes: of the pool; emptied here.
        block_tokens: tokens of vLLM's blocks.
        blocks_per_chunk: that share a key, which is the hash of the last of them.
    """

    def __init__(self, changes: deque[Event], block_tokens: int, blocks_per_chunk: int) -> None:
        self._changes = changes
        self._block_tokens = block_tokens
        self._per_chunk = blocks_per_chunk
        self._announcements: Announcements[BlockStored] = Announcements()

    def describe(self, request: "Request", first: int = 0) -> None:
        """Remembers what a request's chunks from the ``first`` on are made of."""
        per_chunk, hashes = self._per_chunk, request.block_hashes
        for chunk in range(first, len(hashes) // per_chunk):
            key = ChunkKey(hashes[(chunk + 1) * per_chunk - 1])
            if not self._announcements.is_described(key):
                self._announcements.describe(key, self._stored(request, chunk))

    def take(self) -> list[KVCacheEvent]:
        """Returns the events since the last call, in order."""
        changes = [self._changes.popleft() for _ in range(len(self._changes))]
        self._announcements.note(changes)
        return list(_events(self._announcements.take()))

    def _stored(self, request: "Request", chunk: int) -> BlockStored:
        first, end = chunk * self._per_chunk, (chunk + 1) * self._per_chunk
        size, hashes, lora = self._block_tokens, request.block_hashes, request.lora_request
        extra_keys = [
            generate_block_hash_extra_keys(request, block * size, (block + 1) * size, 0)[0]
            for block in range(first, end)
        ]
        return BlockStored(
            block_hashes=[maybe_convert_block_hash(each) for each in hashes[first:end]],
            parent_block_hash=maybe_convert_block_hash(hashes[first - 1]) if first else None,
            token_ids=list(request.all_token_ids[first * size : end * size]),
            block_size=size,
            lora_id=lora.adapter_id if lora else None,
            medium=MEDIUM_CPU,
            lora_name=lora.name if lora else None,
            extra_keys=to_event_extra_keys(extra_keys),
            group_idx=0,
            locality=_LOCAL,
            session_id=request.session_id,
        )


def _events(news: list[News[BlockStored]]) -> Iterator[KVCacheEvent]:
    """Yields what came one by one, and what went together as one event."""
    for is_stored, group in groupby(news, lambda each: each.is_stored):
        chunks = [each.description for each in group]
        if is_stored:
            yield from chunks
            continue
        gone = [each for chunk in chunks for each in chunk.block_hashes]
        yield BlockRemoved(block_hashes=gone, medium=MEDIUM_CPU, group_idx=0, locality=_LOCAL)
