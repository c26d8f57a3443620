"""``p2p-controller clear``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.cli.reports import show


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what each instance dropped; fails if a chunk could not be, or one did not report."""
    has_keys = arguments.keys or arguments.keys_file or arguments.tokens_file
    keys = keys_of_prompt(arguments) if has_keys else []
    with connect(arguments) as client:
        reply = client.clear(
            arguments.namespace,
            arguments.instance,
            arguments.wait,
            keys=keys,
            tenant=arguments.tenant,
        )
    return show(reply, arguments)
