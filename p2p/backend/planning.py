"""Gives the chunks of a fetch the holders that the directory named, or those that are likely.

No I/O, no clock, no threads.
"""

from collections.abc import Callable, Sequence

from p2p.backend.fetch_context import FetchContext
from p2p.backend.plan import Place, PlannedRun, View
from p2p.wire.messages import Holder


def view_of(context: FetchContext, now_s: float) -> View:
    """Returns what the reader of a fetch knows when it plans."""
    core, book = context.desk.instance, context.desk.book
    identity = core.identity
    return View(
        reader=Place(identity.instance, identity.host, identity.rack),
        chunk_bytes=core.chunk_bytes,
        is_usable=lambda holder: context.is_usable(holder, now_s),
        standing=lambda instance: book.speeds.standing(instance, now_s),
    )


def give_runs(
    context: FetchContext, runs: Sequence[PlannedRun], may_ask: Callable[[Holder], bool]
) -> None:
    """Gives every chunk of planned runs its holders, best first.

    Those that lend a chunk already, since they were asked ahead, stay in front.
    """
    chunks = context.chunks
    for run in runs:
        usable = [holder.instance for holder in run.holders if may_ask(holder)]
        for position in range(run.start, min(run.start + run.count, len(chunks))):
            lenders = chunks[position].holders
            chunks[position].holders = lenders + [n for n in usable if n not in lenders]
            chunks[position].width = run.width
            chunks[position].num_others = max(run.num_others, 1)


def give_peers(context: FetchContext, names: Sequence[str]) -> None:
    """Every wanted chunk may be at any of a few peers: all are asked."""
    for chunk in context.chunks.wanted():
        chunk.holders += [name for name in names if name not in chunk.holders]
        chunk.width = max(1, len(chunk.holders))
