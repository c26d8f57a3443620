"""CURVE keys on disk, and who may talk to a socket.

A key folder holds ``NAME.key_secret`` (mode 0600) of whoever runs there and ``authorized/NAME.key``
of everyone who may connect. Files are in the format of ``zmq.auth``.
"""

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import zmq.auth
from zmq.utils import z85

from p2p.errors import ConfigError

CONTROLLER_NAME = "controller"
_AUTHORIZED = "authorized"
_RAW_BYTES = 32


@dataclass(frozen=True)
class CurveKeys:
    """One process's key pair and the folder of those who may talk to it.

    Attributes:
        public: Z85 text, 40 characters.
        secret: Z85 text; never logged.
        authorized: folder of public certificates.
        controller_public: the controller's public key, which clients insist on.
    """

    public: str
    secret: str = field(repr=False)
    authorized: Path
    controller_public: str


def make_keys(folder: Path, names: list[str]) -> list[Path]:
    """Creates a key pair for every name that has none yet and authorizes it.

    Args:
        folder: created with mode 0700 if it is not there.
        names: ``controller`` and the instances' (or people's) names.

    Returns:
        The secret files that were written.

    Raises:
        ConfigError: a name is no plain file name.
    """
    for name in names:
        if not name or Path(name).name != name or name.startswith("."):
            raise ConfigError("name", name, "use letters, digits, '-' and '_'")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authorized = folder / _AUTHORIZED
    authorized.mkdir(exist_ok=True)
    written = []
    for name in names:
        if (folder / f"{name}.key_secret").exists():
            continue
        mask = os.umask(0o077)  # nobody else may read the secret, not even for a moment
        try:
            public, secret = zmq.auth.create_certificates(folder, name)
        finally:
            os.umask(mask)
        Path(public).rename(authorized / f"{name}.key")
        written.append(Path(secret))
    return written


def load_keys(folder: str, name: str) -> CurveKeys:
    """Returns the keys of one process.

    Raises:
        ConfigError: a file is missing or malformed; names the file.
    """
    root = Path(folder)
    public, secret = _load("keys_dir", root / f"{name}.key_secret")
    if secret is None:
        raise ConfigError("keys_dir", folder, f"{name}.key_secret holds no secret key")
    authorized = root / _AUTHORIZED
    controller_public, _ = _load("keys_dir", authorized / f"{CONTROLLER_NAME}.key")
    return CurveKeys(public, secret, authorized, controller_public)


def authorized_keys(folder: Path) -> frozenset[bytes]:
    """Returns the public keys, 32 bytes each, of everyone who may connect; reads the folder."""
    try:
        texts = zmq.auth.load_certificates(folder)
    except (OSError, ValueError) as error:
        raise ConfigError("keys_dir", str(folder), str(error)) from error
    return frozenset(raw_key(text.decode("ascii")) for text in texts)


def raw_key(text: str) -> bytes:
    """Returns the 32 bytes of a key in Z85.

    Raises:
        ConfigError: it is no key; the text is not told, since it may be a secret.
    """
    try:
        key: bytes = z85.decode(text)
    except (ValueError, KeyError, struct.error) as error:
        raise ConfigError("keys_dir", "a key", "is not in Z85") from error
    if len(key) != _RAW_BYTES:
        raise ConfigError("keys_dir", f"a key of {len(key)} bytes", f"{_RAW_BYTES} are needed")
    return key


def _load(key: str, path: Path) -> tuple[str, str | None]:
    try:
        public, secret = zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        reason = f"{error}; `p2p-controller keys init` makes keys"
        raise ConfigError(key, str(path), reason) from error
    return public.decode("ascii"), secret.decode("ascii") if secret else None
