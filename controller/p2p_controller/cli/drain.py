"""``p2p-controller drain``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.reports import show


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what the instance gave; fails if peers did not take all."""
    with connect(arguments) as client:
        reply = client.drain(arguments.instance, arguments.wait)
    return show(reply, arguments)
