"""Finds the module of a command and runs it; the others are not imported."""

import argparse
import importlib
from typing import Protocol, cast

from p2p_controller.cli.exit_code import ExitCode


class Command(Protocol):
    """A module of this package that is a command."""

    def run(self, arguments: argparse.Namespace) -> ExitCode:
        """Runs the command."""
        ...


def run(arguments: argparse.Namespace) -> ExitCode:
    """Runs the command that was parsed."""
    module = importlib.import_module(f"p2p_controller.cli.{arguments.command}")
    return cast("Command", module).run(arguments)
