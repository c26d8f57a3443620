"""``p2p-controller clear``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.cli.reports import show


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what each instance dropped; fails if a chunk could not be, or one did not report."""
    is_all = not arguments.keys and arguments.keys_file is None and arguments.tokens_file is None
    keys = None if is_all else keys_of_prompt(arguments)
    with connect(arguments) as client:
        reply = client.clear(
            arguments.namespace or "",
            arguments.instance or "",
            arguments.wait,
            keys=keys,
            tenant=arguments.tenant,
        )
    return show(reply, arguments)
