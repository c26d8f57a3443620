"""``p2p-controller status``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_table


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints sizes and counters."""
    with connect(arguments) as client:
        status = client.status()
    if arguments.json:
        write_json(status)
        return ExitCode.OK
    sizes: list[tuple[str | int, ...]] = [
        ("version", status.version),
        ("epoch", str(status.epoch)),
        ("uptime", f"{status.uptime_ms / 1000:.1f} s"),
        ("instances", str(status.num_instances)),
        ("namespaces", str(status.num_namespaces)),
        ("keys", str(status.num_keys)),
        ("entries", str(status.num_entries)),
        ("answers are partial", "yes, after a restart" if status.partial else "no"),
    ]
    write_table(Table(("what", "value"), sizes, arguments.controller))
    if status.counters:
        write_table(Table(("unusual", "count"), sorted(status.counters.items())))
    return ExitCode.OK
