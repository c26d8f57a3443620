"""Connects a command to the controller that its options name."""

import argparse

from p2p.wire.curve import CurveKeys, load_keys
from p2p_controller.client import ControllerClient


def connect(arguments: argparse.Namespace) -> ControllerClient:
    """Returns a client for ``--controller``, ``--keys-dir``, ``--key-name`` and ``--timeout``."""
    return ControllerClient(
        arguments.controller, keys=keys_of(arguments), timeout_s=arguments.timeout
    )


def keys_of(arguments: argparse.Namespace) -> CurveKeys | None:
    """Returns the keys that ``--keys-dir`` and ``--key-name`` name, if any."""
    if not arguments.keys_dir:
        return None
    return load_keys(arguments.keys_dir, arguments.key_name)
