"""Proves that a peer's agent is alive before it is allowed near a shared agent.

Loading metadata of an unreachable host blocks inside NIXL for seconds, and one bad descriptor
kills a connection. So a throw-away agent on a thread of its own connects first, and reads a few
bytes. If it takes too long the thread is left alone: it ends by itself and destroys its agent.
"""

import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from p2p.agent.nixl_agent import NixlAgent, Operation, Progress, Trace
from p2p.agent.nixl_config import NixlConfig
from p2p.errors import P2PError, PeerUnreachableError
from p2p.regions import MemoryKind, Region, Segment

_PROBE_BYTES = 4096
_PAUSES_S = (0.0002, 0.001, 0.005)
_GRACE_S = 0.05


@dataclass(frozen=True, slots=True)
class Proof:
    """What a probe found out.

    Attributes:
        agent: name of the peer's agent.
        transport: what moved the bytes, such as ``cma``, or ``unknown``.
    """

    agent: str
    transport: str


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to probe.

    Attributes:
        peer: the peer's name in our words.
        metadata: its agent's metadata.
        region: memory that it claims to serve.
    """

    peer: str
    metadata: bytes
    region: Region


def probe(target: Target, config: NixlConfig, timeout_s: float) -> Proof:
    """Connects to a peer's agent and reads a few bytes. Blocks, with the interpreter lock free.

    Raises:
        PeerUnreachableError: the peer is dead, hangs, or answers too late.
        ProtocolError: the metadata is not NIXL's, or does not cover the region.
    """
    outcome: SimpleQueue[Proof | P2PError] = SimpleQueue()
    deadline = time.monotonic() + timeout_s

    def run() -> None:
        try:
            outcome.put(_probe(target, config, deadline))
        except P2PError as error:
            outcome.put(error)

    threading.Thread(target=run, name=f"p2p-probe-{target.peer}", daemon=True).start()
    try:
        found = outcome.get(timeout=timeout_s + _GRACE_S)
    except Empty:
        raise _too_late(target.peer) from None
    if isinstance(found, P2PError):
        raise found
    return found


def _probe(target: Target, config: NixlConfig, deadline: float) -> Proof:
    piece = Segment(
        base=target.region.segments[0].base,
        stride=_PROBE_BYTES,
        length=min(_PROBE_BYTES, target.region.segments[0].length),
    )
    remote = Region((piece,), 1, target.region.kind, target.region.device)
    scratch = np.zeros(_PROBE_BYTES, np.uint8)
    local = Region((Segment(scratch.ctypes.data, _PROBE_BYTES, piece.length),), 1)
    agent = NixlAgent("probe", config, Progress.CALLER, Trace.TRANSPORT)
    try:
        agent.register([(scratch.ctypes.data, _PROBE_BYTES)], MemoryKind.DRAM, 0)
        name = agent.load_peer(target.peer, target.metadata)
        peering = agent.open_peer(target.peer, name, remote)
        first = np.zeros(1, np.int32)
        handle = agent.submit(Operation.READ, (agent.prepare_local(local), first), peering, first)
        pauses = iter(_PAUSES_S)
        pause = next(pauses)
        while handle and not agent.is_done(peering, handle):
            if time.monotonic() > deadline:
                raise _too_late(target.peer)
            time.sleep(pause)
            pause = next(pauses, pause)
        return Proof(peering.agent, agent.take_transport())
    finally:
        agent.close()


def _too_late(peer: str) -> PeerUnreachableError:
    return PeerUnreachableError(peer, "its agent does not answer in time")
