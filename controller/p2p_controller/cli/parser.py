"""What the command line accepts. Imports nothing heavy."""

import argparse
import os
from collections.abc import Sequence

from p2p_controller.cli import help as texts
from p2p_controller.cli.exit_code import EXIT_CODES_HELP
from p2p_controller.cli.options import add_operations, seconds
from p2p_controller.cli.prompt_keys import add_prompt_options
from p2p_controller.settings import DEFAULT_ADDRESS

ADDRESS_VARIABLE = "P2P_CONTROLLER"
_DESCRIPTION = "The controller of a KV cache fabric: who is there, and who holds which chunk."


class Commands:
    """Adds commands that look alike to a parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(self, name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
        """Returns the parser of a new command."""
        command = self._commands.add_parser(
            name,
            help=description,
            description=description,
            epilog=f"{epilog}\n{EXIT_CODES_HELP}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--json", action="store_true", help="print JSON instead of text")
        return command

    def add_asking(self, name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
        """Returns the parser of a new command that asks a controller."""
        command = self.add(name, description, epilog)
        address = os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
        command.add_argument(
            "--controller",
            default=address,
            metavar="ADDRESS",
            help=f"its address (default: ${ADDRESS_VARIABLE}, now {address})",
        )
        command.add_argument("--keys-dir", default="", metavar="DIR", help="folder of CURVE keys")
        command.add_argument(
            "--key-name", default="admin", metavar="NAME", help="whose key we use (default: admin)"
        )
        command.add_argument(
            "--timeout",
            type=seconds,
            default=3.0,
            metavar="SECONDS",
            help="how long to wait for the controller (default: 3)",
        )
        return command


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Returns the parsed command line; exits with 2 and a usage line if it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="p2p-controller",
        description=_DESCRIPTION,
        epilog=f"{texts.EXAMPLES}\n{EXIT_CODES_HELP}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = Commands(parser)
    _add_serve(commands)
    commands.add_asking("status", "How the controller is: sizes, and counts of what is unusual.")
    commands.add_asking("instances", "Which instances are known, and what they hold.")
    leases = commands.add_asking("leases", "What every instance lends, and to whom.", texts.LEASES)
    leases.add_argument("--instance", default="", metavar="INSTANCE", help="only this one's")
    doctor = commands.add_asking(
        "doctor", "What the instances found, how they are connected, what to change.", texts.DOCTOR
    )
    doctor.add_argument("--instance", default="", metavar="INSTANCE", help="only this one")
    _add_locate(commands)
    _add_explain(commands)
    _add_requests(commands)
    add_operations(commands)
    _add_keys(commands)
    commands.add("dashboard", "Print the Grafana dashboard, ready to be imported.")
    commands.add_asking("shutdown", "End the controller, orderly.")
    return parser.parse_args(argv)


def _add_serve(commands: Commands) -> None:
    command = commands.add("serve", "Run a controller.", texts.SERVE)
    command.add_argument("--config", metavar="FILE", help="TOML file with a table [controller]")
    command.add_argument("--bind", metavar="ADDRESS", help="tcp://HOST:PORT; port * is any")
    command.add_argument("--http", metavar="HOST:PORT", help="also serve HTTP; port * is any")
    command.add_argument("--keys-dir", metavar="DIR", help="folder of CURVE keys")
    command.add_argument("--key-name", metavar="NAME", help="our key (default: controller)")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; repeat it"
    )


def _add_locate(commands: Commands) -> None:
    command = commands.add_asking("locate", "Who holds the longest prefix of keys.", texts.LOCATE)
    command.add_argument("--namespace", required=True, metavar="ID", help="what they belong to")
    add_prompt_options(command)
    command.add_argument("--tenant", default="", help="whose entries count besides nobody's")
    command.add_argument(
        "--as-instance", default="", metavar="INSTANCE", help="only holders that it can read"
    )
    command.add_argument(
        "--rank", type=int, metavar="N", help="which of its ranks asks: shows whom it reads from"
    )


def _add_explain(commands: Commands) -> None:
    command = commands.add_asking("explain", "Why a hit was short or zero.", texts.EXPLAIN)
    command.add_argument("--namespace", default="", metavar="ID", help="what the keys belong to")
    add_prompt_options(command)
    command.add_argument("--tenant", default="", help="whose entries count besides nobody's")
    command.add_argument(
        "--as-instance", default="", metavar="INSTANCE", help="who asks: its layout and namespace"
    )
    command.add_argument("--request", default="", metavar="ID", help="a request that was reported")


def _add_requests(commands: Commands) -> None:
    command = commands.add_asking("requests", "The last fetches that were short.", texts.REQUESTS)
    command.add_argument("--instance", default="", metavar="INSTANCE", help="only this one's")
    command.add_argument("--all", action="store_true", help="also those that got everything")
    command.add_argument(
        "--limit", type=int, default=50, metavar="N", help="as many at most (default: 50)"
    )


def _add_keys(commands: Commands) -> None:
    command = commands.add("keys", "Make CURVE keys.", texts.KEYS)
    command.add_argument("action", choices=["init"], help="make the keys that are not there yet")
    command.add_argument("directory", metavar="DIR", help="made if it is not there")
    command.add_argument(
        "--name", action="append", default=[], metavar="NAME", help="an instance; repeat it"
    )
