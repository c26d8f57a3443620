"""``p2p-controller shutdown``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import write_json, write_line


def run(arguments: argparse.Namespace) -> ExitCode:
    """Asks the controller to end."""
    with connect(arguments) as client:
        client.shutdown()
    if arguments.json:
        write_json({"event": "ending", "address": arguments.controller})
    else:
        write_line(f"the controller at {arguments.controller} is ending")
    return ExitCode.OK
