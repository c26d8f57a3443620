"""``p2p-controller leases``: asks the instances themselves; the controller knows no leases."""

import argparse
import asyncio
from contextlib import closing

from p2p.wire.context import WireContext
from p2p.wire.messages import Refusal
from p2p_controller.cli.asking import connect, keys_of
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table
from p2p_controller.client import RequestRefusedError
from p2p_controller.lending import ask_leases
from p2p_controller.views import LeaseReport, named_views

_MIB = 1 << 20


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints one row a lease; fails if an instance did not answer."""
    with connect(arguments) as client:
        views = named_views(client.instances(), arguments.instance)
    if isinstance(views, Refusal):
        raise RequestRefusedError(arguments.controller, views)
    with closing(WireContext(keys_of(arguments))) as wire:
        report = asyncio.run(ask_leases(wire, views, arguments.timeout))
    if arguments.json:
        write_json(report)
    else:
        _write(report)
    return ExitCode.FAILED if report.silent else ExitCode.OK


def _write(report: LeaseReport) -> None:
    rows: list[tuple[str | int, ...]] = [
        (
            holder,
            lease.reader,
            lease.token,
            lease.num_chunks,
            lease.num_bytes // _MIB,
            f"{lease.left_ms / 1000:.1f} s",
        )
        for holder, leases in sorted(report.leases_by_holder.items())
        for lease in leases
    ]
    if rows:
        write_table(Table(("holder", "reader", "token", "chunks", "MiB", "left"), rows))
    else:
        write_line("no leases")
    for name in report.silent:
        write_line(f"{name} did not answer")
