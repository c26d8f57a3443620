"""``p2p-controller dashboard``."""

import argparse
from importlib import resources

from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import write_line


def run(arguments: argparse.Namespace) -> ExitCode:  # noqa: ARG001 every command takes them
    """Prints the bundled Grafana dashboard; it is JSON with ``--json`` and without."""
    file = resources.files("p2p_controller") / "grafana" / "p2p_controller.json"
    write_line(file.read_text().rstrip())
    return ExitCode.OK
