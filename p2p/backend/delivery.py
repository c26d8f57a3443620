"""What a fetch delivers at its end: the verified prefix, pinned, and why it is not longer.

No I/O, no clock, no threads.
"""

from collections.abc import Sequence

from p2p.backend.actions import FetchOutcome, ShortReason, SourceTally
from p2p.backend.fetch_context import FetchContext
from p2p.backend.fetch_log import ended_of
from p2p.backend.index import IndexEntry


def deliver(
    context: FetchContext,
    tallies: Sequence[SourceTally],
    num_local: int,
    phases_s: dict[str, float],
    now_s: float,
) -> FetchOutcome:
    """Returns the outcome of a fetch, and lets go what is not part of it.

    Args:
        context: the fetch.
        tallies: what each holder contributed.
        num_local: leading chunks that were here already.
        phases_s: seconds from the start to each phase.
        now_s: the time.
    """
    chunks = context.chunks
    kept = _keep_prefix(context)
    is_complete = chunks.first == len(chunks)
    missing = None if is_complete else chunks[chunks.first]
    phases_s["done"] = now_s - context.started_s
    outcome = FetchOutcome(
        entries=kept,
        reason=missing.reason if missing else ShortReason.COMPLETE,
        detail=missing.detail if missing else "",
        num_local=num_local,
        sources=sorted((t for t in tallies if t.num_chunks), key=lambda t: -t.num_chunks),
        phases_s=phases_s,
        request_id=context.request_id,
    )
    if context.request_id:
        context.desk.instance.fetch_log.note(ended_of(context, outcome, now_s), now_s)
    if outcome.sources:
        context.desk.book.served(outcome.sources[0].instance)
    return outcome


def _keep_prefix(context: FetchContext) -> list[IndexEntry]:
    """Returns the entries of the verified prefix; those behind it are unpinned."""
    core, chunks = context.desk.instance, context.chunks
    chunks.cut_damaged()
    first = [chunks[position].entry for position in range(chunks.first)]
    kept = [entry for entry in first if entry is not None]
    for position in range(chunks.first, len(chunks)):
        entry = chunks[position].entry
        if entry is not None:
            core.unpin(entry)
    if context.is_sent_elsewhere and context.limits.keep == "hot":
        for entry in kept:  # many want these: others may be sent here
            core.index.keep(entry)
    return kept
