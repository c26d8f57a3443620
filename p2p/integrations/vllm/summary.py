"""What was shared of one request, as its response tells it. Pure values."""

import msgspec

from p2p.backend import FetchResult


class Source(msgspec.Struct, frozen=True):
    """What one holder contributed.

    Attributes:
        instance: its id.
        chunks: that came from it.
        bytes: of those.
        transport: that moved them.
    """

    instance: str
    chunks: int
    bytes: int
    transport: str


class Summary(msgspec.Struct, frozen=True):
    """What was shared of one request.

    Attributes:
        external_tokens: that the engine did not compute.
        local_chunks: of this instance's own pool.
        sources: the holders, best first.
        reason: why there is not more; ``complete`` if there is all.
        detail: the names and numbers behind the reason.
        fetch_ms: that looking and fetching took.
    """

    external_tokens: int
    local_chunks: int
    sources: tuple[Source, ...]
    reason: str
    detail: str
    fetch_ms: float


def summary_of(result: FetchResult, num_external: int) -> Summary:
    """Returns the summary of a fetch of which the engine takes ``num_external`` tokens."""
    sources = [
        Source(tally.instance, tally.num_chunks, tally.num_bytes, tally.transport)
        for tally in result.sources
    ]
    return Summary(
        external_tokens=num_external,
        local_chunks=result.num_local,
        sources=tuple(sources),
        reason=result.reason.value,
        detail=result.detail,
        fetch_ms=round(result.seconds * 1e3, 3),
    )
