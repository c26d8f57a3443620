"""``p2p-controller evict``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.cli.reports import show


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what each instance dropped; fails if a chunk could not be."""
    keys = keys_of_prompt(arguments)
    with connect(arguments) as client:
        reply = client.evict(
            arguments.namespace,
            keys,
            tenant=arguments.tenant,
            instance=arguments.instance,
            wait_s=arguments.wait,
        )
    return show(reply, arguments)
