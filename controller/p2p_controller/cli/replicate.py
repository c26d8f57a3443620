"""``p2p-controller replicate``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.cli.reports import show


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what the target has now; fails if that is not all."""
    keys = keys_of_prompt(arguments)
    with connect(arguments) as client:
        reply = client.replicate(
            arguments.namespace,
            keys,
            arguments.target,
            source=arguments.source,
            tenant=arguments.tenant,
            wait_s=arguments.wait,
        )
    return show(reply, arguments)
