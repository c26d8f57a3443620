"""``p2p-controller serve``."""

import argparse
import logging
import signal
import sys

from p2p.config import load_settings, parse_assignments
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import write_json, write_line
from p2p_controller.server import ControllerServer
from p2p_controller.settings import ControllerSettings


def run(arguments: argparse.Namespace) -> ExitCode:
    """Serves until a signal or a request to end."""
    overrides = parse_assignments(ControllerSettings, arguments.set)
    for key in ("bind", "http", "keys_dir", "key_name"):
        overrides[key] = getattr(arguments, key) or overrides.get(key)
    settings = load_settings(ControllerSettings, file=arguments.config, overrides=overrides)
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    server = ControllerServer(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    if arguments.json:
        ready = {"event": "ready", "address": server.address, "epoch": server.core.epoch}
        write_json({**ready, "http": server.http_address})
    else:
        http = f", and at {server.http_address}" if server.http_address else ""
        write_line(f"p2p-controller is ready at {server.address}{http}")
    sys.stdout.flush()
    server.serve()
    return ExitCode.OK
