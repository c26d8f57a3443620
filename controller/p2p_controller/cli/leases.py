"""``p2p-controller leases``: asks the instances themselves; the controller knows no leases."""

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from p2p.errors import PeerUnreachableError
from p2p.wire.context import WireContext
from p2p.wire.decoders import PEER_REPLIES
from p2p.wire.messages import InstanceView, LeaseList, ListLeases
from p2p.wire.requester import Requester
from p2p_controller.cli.asking import connect, keys_of
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table
from p2p_controller.views import LeaseReport

if TYPE_CHECKING:
    from p2p.wire.messages import LeaseView

_MIB = 1 << 20


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints one row a lease; fails if an instance did not answer."""
    with connect(arguments) as client:
        views = [
            view
            for view in client.instances().instances
            if arguments.instance in {"", view.instance}
        ]
    report = _ask_all(views, arguments)
    if arguments.json:
        write_json(report)
    else:
        _write(report)
    return ExitCode.FAILED if report.silent else ExitCode.OK


def _ask_all(views: list[InstanceView], arguments: argparse.Namespace) -> LeaseReport:
    found: dict[str, tuple[LeaseView, ...]] = {}
    silent: list[str] = []
    with closing(WireContext(keys_of(arguments))) as wire:
        for view in views:
            requester = Requester(wire, view.address, PEER_REPLIES, view.public_key)
            try:
                answer = requester.request(ListLeases(), arguments.timeout)
            except PeerUnreachableError:
                answer = None
            finally:
                requester.close()
            if isinstance(answer, LeaseList):
                found[view.instance] = answer.leases
            else:
                silent.append(view.instance)
    return LeaseReport(found, tuple(silent))


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
