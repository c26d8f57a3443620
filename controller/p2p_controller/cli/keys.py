"""``p2p-controller keys``."""

import argparse
from pathlib import Path

from p2p.errors import ConfigError
from p2p.wire.curve import CONTROLLER_NAME, make_keys
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import write_json, write_line

_ADMIN_NAME = "admin"


def run(arguments: argparse.Namespace) -> ExitCode:
    """Makes the keys that are not there yet, and says what to do with them."""
    folder = Path(arguments.directory)
    names = list(dict.fromkeys([CONTROLLER_NAME, _ADMIN_NAME, *arguments.name]))
    try:
        written = make_keys(folder, names)
    except OSError as error:
        raise ConfigError("DIR", arguments.directory, str(error)) from error
    if arguments.json:
        write_json({"directory": str(folder), "names": names, "written": list(map(str, written))})
        return ExitCode.OK
    for path in written:
        write_line(f"made {path}")
    kept = len(names) - len(written)
    write_line(f"{len(written)} made, {kept} were there already; next:")
    write_line(f"  1. p2p-controller serve --keys-dir {folder}")
    write_line(f"  2. p2p-controller status --keys-dir {folder}")
    write_line("  3. give each instance its NAME.key_secret and the folder authorized/,")
    write_line("     and set keys_dir and key_name there; nobody needs another's secret")
    return ExitCode.OK
