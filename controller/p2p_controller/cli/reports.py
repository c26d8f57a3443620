"""Shows what instances did of an operation."""

import argparse

from p2p.wire.messages import InstanceReport, Left, LeftReason, OperationReply
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table

_WORDS = {
    LeftReason.NOT_HERE: "not there",
    LeftReason.NOT_AT_TARGET: "not at the target any more",
    LeftReason.IN_USE: "lent or in use all the time",
    LeftReason.PINNED: "pinned",
    LeftReason.PIN_LIMIT: "more than may be pinned there",
    LeftReason.NO_ROOM: "no room",
    LeftReason.FETCH_SHORT: "could not be fetched",
    LeftReason.UNKNOWN_SOURCE: "does not know the source",
    LeftReason.TIME_OVER: "the time was over",
    LeftReason.OTHER_NAMESPACE: "is in another namespace",
    LeftReason.MALFORMED: "could not make sense of it",
    LeftReason.CLOSING: "is closing",
    LeftReason.SILENT: "is not heard",
    LeftReason.GONE: "left, or restarted",
    LeftReason.NO_REPORT: "did not report in time",
    LeftReason.TOO_MANY_ORDERS: "has too many open orders",
}


def show(reply: OperationReply, arguments: argparse.Namespace) -> ExitCode:
    """Prints one row an instance and deed; fails if anything was left undone."""
    if arguments.json:
        write_json(reply)
    else:
        _write(reply)
    return ExitCode.OK if reply.is_complete else ExitCode.FAILED


def _write(reply: OperationReply) -> None:
    rows = [row for report in reply.reports for row in _rows(report)]
    if rows:
        columns = ("instance", "did", "chunks", "not done", "reason")
        write_table(Table(columns, rows))
    else:
        write_line("no instance is concerned")
    if reply.num_unheld:
        write_line(f"{reply.num_unheld} chunks are held by nobody")


def _rows(report: InstanceReport) -> list[tuple[str | int, ...]]:
    first, *others = report.left or (None,)
    name, did = report.instance, report.did.value
    rows: list[tuple[str | int, ...]] = [(name, did, str(report.num_chunks), *_left(first))]
    rows += [(name, did, "", *_left(left)) for left in others]
    return rows


def _left(left: Left | None) -> tuple[str, str]:
    """Returns how many chunks were left, where that is known, and why."""
    if left is None:
        return "", ""
    reason = _WORDS[left.reason]
    return str(left.num_chunks or "?"), f"{reason}: {left.detail}" if left.detail else reason
