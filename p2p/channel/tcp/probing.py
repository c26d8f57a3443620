"""Reads a holder's probe over a stream that was just opened, before any link uses it."""

import threading
import time
from typing import NamedTuple

import numpy as np

from p2p.channel.tcp import frames
from p2p.channel.tcp.frames import HEADER_BYTES, Header, Kind
from p2p.channel.tcp.pipe import Pipe
from p2p.channel.tcp.spans import SPAN
from p2p.errors import PeerUnreachableError, ProtocolError
from p2p.regions import PROBE_BYTES, Region


class Probed(NamedTuple):
    """What a probe brought.

    Attributes:
        content: the bytes; none if the region has no probe.
        latency_s: from the request to the last byte.
    """

    content: bytes
    latency_s: float


def read_probe(peer: str, pipe: Pipe, region: Region, timeout_s: float) -> Probed:
    """Returns what lies in a holder's probe. Blocks; a stream that fails is shut.

    Raises:
        PeerUnreachableError: it did not come within ``timeout_s``.
        ProtocolError: something else came.
    """
    if region.probe is None:
        return Probed(b"", 0.0)
    span = np.array([(len(region.segments), PROBE_BYTES, 0)], SPAN)
    request = frames.encode(Header(Kind.READ, 1, PROBE_BYTES, 1), span.tobytes())
    header, content = bytearray(HEADER_BYTES), bytearray(PROBE_BYTES)
    watchdog = threading.Timer(timeout_s, pipe.shut)
    watchdog.daemon = True
    watchdog.start()
    began_s = time.monotonic()
    try:
        pipe.send([memoryview(request)])
        pipe.receive([memoryview(header)])
        answer, _ = frames.decode(peer, header)
        if answer != Header(Kind.BYTES, 1, PROBE_BYTES, 0):
            pipe.shut()
            raise ProtocolError(f"{peer}: {answer} is no answer to a probe")
        pipe.receive([memoryview(content)])
    except OSError as error:
        raise PeerUnreachableError(peer, f"its probe did not come: {error}") from error
    finally:
        watchdog.cancel()
    return Probed(bytes(content), time.monotonic() - began_s)
