"""Writes answers for people and for programs.

A terminal gets a table drawn by rich, if rich is there (extra ``controller``); a pipe, or a machine
without rich, gets the same cells as plain columns.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True)
class Table:
    """Cells with a heading each.

    Attributes:
        columns: headings.
        rows: as many cells each; numbers are aligned to the right.
        title: what this is.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int, ...]]
    title: str = ""


def write_json(value: object) -> None:
    """Writes one line of JSON; bytes become base64."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def write_line(text: str) -> None:
    """Writes a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_table(table: Table) -> None:
    """Writes a table, as the terminal allows."""
    drawn = _drawn(table) if sys.stdout.isatty() else None
    sys.stdout.write(plain(table) if drawn is None else drawn)


def plain(table: Table) -> str:
    """Returns a table as columns of text."""
    cells = [table.columns, *(tuple(str(cell) for cell in row) for row in table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    numeric = [_is_numeric(table, column) for column in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    heading = [table.title] if table.title else []
    return "\n".join([*heading, *lines]) + "\n"


def _is_numeric(table: Table, column: int) -> bool:
    return bool(table.rows) and all(isinstance(row[column], int) for row in table.rows)


def _drawn(table: Table) -> str | None:
    try:
        from rich.console import Console  # noqa: PLC0415
        from rich.table import Table as RichTable  # noqa: PLC0415
    except ImportError:
        return None
    drawing = RichTable(title=table.title or None, title_justify="left")
    for column, heading in enumerate(table.columns):
        if _is_numeric(table, column):
            drawing.add_column(heading, justify="right")
        else:
            drawing.add_column(heading, overflow="fold")
    for row in table.rows:
        drawing.add_row(*(str(cell) for cell in row))
    console = Console()
    with console.capture() as capture:
        console.print(drawing, markup=False)
    return capture.get()
