"""``p2p-controller unpin``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.cli.reports import show


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what each instance unpinned; fails if one did not report."""
    keys = keys_of_prompt(arguments)
    with connect(arguments) as client:
        reply = client.unpin(
            arguments.namespace,
            keys,
            tenant=arguments.tenant,
            instance=arguments.instance,
            wait_s=arguments.wait,
        )
    return show(reply, arguments)
