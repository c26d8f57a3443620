"""The demo's results as one table. Pure: values in, something that rich can print out."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from examples.p2p_sharing.messages import Fetched, Ran
from examples.p2p_sharing.report import Kill, Report, Round

_MEGA = 1e6
_GIGA = 1e9


def results_table(report: Report) -> Table:
    """Returns a column per round and a line per quantity."""
    title = f"{report.model}, float32"
    return columns_table(title, [(each.title, _cells(each)) for each in report.rounds])


def columns_table(title: str, columns: Sequence[tuple[str, Mapping[str, str]]]) -> Table:
    """Returns a table with a column for each entry and a line for each of their cells.

    Args:
        title: above the table.
        columns: heading and cells of each, all with cells of the same names.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for name in columns[0][1]:
        table.add_row(name, *(cells[name] for _, cells in columns))
    return table


def _cells(each: Round) -> dict[str, str]:
    cold, shared = each.cold, each.shared
    fetched = shared.fetched or Fetched(0, 0.0, "", ())
    num_bytes = sum(source.num_bytes for source in fetched.sources)
    return {
        "prompt tokens": f"{shared.num_tokens}",
        "tokens reused": f"{shared.num_reused_tokens}",
        "  chunks of the shared text": f"{fetched.num_chunks} of {cold.num_prefix_chunks}",
        "holders: chunks": _holders(fetched),
        "killed": _kill(each.kill),
        "channel/transport": _transports(fetched),
        "bytes": f"{num_bytes / _MEGA:.1f} MB",
        "GB/s by holder": _rates(fetched, each.kill),
        "fetch": f"{fetched.seconds:.3f} s",
        "first token, cold": f"{cold.first_token_s:.2f} s",
        "first token, shared": _first_token(cold, shared),
        "answer as without sharing": _equality(each),
    }


def _holders(fetched: Fetched) -> str:
    parts = (f"{source.instance.upper()}: {source.num_chunks}" for source in fetched.sources)
    return ", ".join(parts) or "none"


def _kill(kill: Kill | None) -> str:
    return f"{kill.victim.upper()} at {kill.share:.0%} of the chunks" if kill else "nobody"


def _transports(fetched: Fetched) -> str:
    used = dict.fromkeys(f"{source.channel}/{source.transport}" for source in fetched.sources)
    return ", ".join(used) or "none"


def _rates(fetched: Fetched, kill: Kill | None) -> str:
    """Leaves out the victim: the time in which the fetch stood still counts as its reading time."""
    parts = (
        f"{source.instance.upper()}: {source.num_bytes / source.seconds / _GIGA:.2f}"
        for source in fetched.sources
        if source.seconds > 0 and not (kill and kill.victim == source.instance)
    )
    return ", ".join(parts) or "-"


def _first_token(cold: Ran, shared: Ran) -> str:
    return f"{shared.first_token_s:.2f} s ({cold.first_token_s / shared.first_token_s:.1f} x)"


def _equality(each: Round) -> str:
    return f"yes, {len(each.shared.answer)} tokens" if each.is_equal else "NO"
