"""``p2p-controller doctor``: asks the instances what they found, and says what to change."""

import argparse
import asyncio
from contextlib import closing

from p2p.wire.context import WireContext
from p2p.wire.messages import Diagnose, Diagnosis, Refusal
from p2p_controller.advice import report_of
from p2p_controller.cli.asking import connect, keys_of
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.findings import write_report
from p2p_controller.cli.output import write_json
from p2p_controller.client import RequestRefusedError
from p2p_controller.round import ask_instances
from p2p_controller.views import named_views


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what was found; fails if something is broken."""
    with connect(arguments) as client:
        listed = client.instances()
    views = named_views(listed, arguments.instance)
    if isinstance(views, Refusal):
        raise RequestRefusedError(arguments.controller, views)
    with closing(WireContext(keys_of(arguments))) as wire:
        asked = ask_instances(wire, views, Diagnose(), Diagnosis, arguments.timeout)
        report = report_of(asyncio.run(asked), {view.instance for view in listed.instances})
    if arguments.json:
        write_json(report)
    else:
        write_report(report)
    return ExitCode.FAILED if report.is_broken else ExitCode.OK
