"""Settings of the `tcp` channel, checked when built."""

import os
from dataclasses import dataclass
from pathlib import Path

from p2p.channel.access import Access
from p2p.errors import ArgumentError, ConfigError
from p2p.wire.curve import CurveKeys

_MAX_STREAMS = 16
_MAX_PORT = 65535
_LEAST_RATE = 1 << 16


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM with which both sides of a stream prove themselves to each other by TLS.

    Attributes:
        certificate: ours.
        key: its secret.
        authority: who signed the certificates of all members.
    """

    certificate: Path
    key: Path
    authority: Path


def tls_files_in(folder: str, key: str) -> TlsFiles:
    """Returns ``cert.pem``, ``key.pem`` and ``ca.pem`` of a folder.

    Raises:
        ConfigError: one is missing; names the setting ``key`` and the file.
    """
    paths = [Path(folder) / name for name in ("cert.pem", "key.pem", "ca.pem")]
    for path in paths:
        if not path.is_file():
            raise ConfigError(key, str(path), "there is no such file")
    return TlsFiles(*paths)


@dataclass(frozen=True, slots=True)
class TcpConfig:
    """How the `tcp` channel listens, connects and shares.

    Attributes:
        host: address on which we listen; no name, no wildcard unless ``advertise`` is set.
        port: on which we listen; 0 takes a free one.
        advertise: address that peers are told, where it differs from ``host``.
        num_streams: connections of one link; 0 takes one for every four processors, at most four.
        access: what peers may do with our memory, and what we ask for of theirs.
        keys: the cluster's; both sides of every stream prove that theirs is authorized.
        tls: encrypts every byte, which costs a copy of each in user space.
        bytes_per_s: of all that we send; those who read share it equally. 0 is no limit.
        silence_s: a peer's host that acknowledges nothing for so long is dead.
    """

    host: str = "127.0.0.1"
    port: int = 0
    advertise: str = ""
    num_streams: int = 0
    access: Access = Access.READ
    keys: CurveKeys | None = None
    tls: TlsFiles | None = None
    bytes_per_s: int = 0
    silence_s: int = 5

    def __post_init__(self) -> None:
        _check("tcp.port", self.port, 0, _MAX_PORT)
        _check("tcp.num_streams", self.num_streams, 0, _MAX_STREAMS)
        _check("tcp.silence_s", self.silence_s, 1, 3600)
        if self.bytes_per_s and self.bytes_per_s < _LEAST_RATE:
            reason = f"must be 0 or at least {_LEAST_RATE}"
            raise ArgumentError("tcp.bytes_per_s", self.bytes_per_s, reason)

    def streams(self) -> int:
        """Returns how many connections a link has."""
        return self.num_streams or max(1, min(len(os.sched_getaffinity(0)) // 4, 4))


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ArgumentError(name, value, f"must be from {low} to {high}")
