"""``p2p-controller clear``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints what each instance dropped; fails if one did not report."""
    with connect(arguments) as client:
        cleared = client.clear(arguments.namespace, arguments.instance, arguments.wait)
    if arguments.json:
        write_json(cleared)
    else:
        rows: list[tuple[str | int, ...]] = [*sorted(cleared.num_chunks_by_instance.items())]
        if rows:
            write_table(Table(("instance", "chunks dropped"), rows))
        for instance in cleared.missing:
            write_line(f"{instance} did not report")
        if not rows and not cleared.missing:
            write_line("no instances")
    return ExitCode.FAILED if cleared.missing else ExitCode.OK
