"""Proves that a peer's agent is alive before it is allowed near a shared agent.

Loading metadata of an unreachable host blocks inside NIXL for seconds, and one bad descriptor
kills a connection. So a throw-away agent on a thread of its own connects first, and reads a few
bytes: twice, since the first time includes what UCX sets up. If it takes too long the thread is
left alone: it ends by itself and destroys its agent.
"""

import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from p2p.agent.nixl_agent import NixlAgent, Operation, Peering, Progress, Trace
from p2p.agent.nixl_config import NixlConfig
from p2p.errors import P2PError, PeerUnreachableError
from p2p.regions import PROBE_BYTES, MemoryKind, Region, Segment

_PAUSES_S = (0.0002, 0.001, 0.005)
_SPIN_S = 0.002
_GRACE_S = 0.05


@dataclass(frozen=True, slots=True)
class Proof:
    """What a probe found out.

    Attributes:
        agent: name of the peer's agent.
        transport: what moved the bytes, such as ``cma``, or ``unknown``.
        latency_s: of a read of `PROBE_BYTES`.
        content: what was read: the region's probe if it has one.
    """

    agent: str
    transport: str
    latency_s: float
    content: bytes


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


def _probe(target: Target, config: NixlConfig, deadline_s: float) -> Proof:
    piece = _piece(target.region)
    remote = Region((piece,), 1, target.region.kind, target.region.device)
    scratch = np.zeros(PROBE_BYTES, np.uint8)
    local = Region((Segment(scratch.ctypes.data, PROBE_BYTES, piece.length),), 1)
    agent = NixlAgent("probe", config, Progress.CALLER, Trace.TRANSPORT)
    try:
        agent.register([(scratch.ctypes.data, PROBE_BYTES)], MemoryKind.DRAM, 0)
        name = agent.load_peer(target.peer, target.metadata)
        peering = agent.open_peer(target.peer, name, remote)
        reads = _Reads(agent, agent.prepare_local(local), peering)
        reads.once(deadline_s)
        latency_s = reads.once(deadline_s)
        content = scratch[: piece.length].tobytes()
        return Proof(name, agent.take_transport(), latency_s, content)
    finally:
        agent.close()


def _piece(region: Region) -> Segment:
    """Returns what is read: the region's probe, or else the beginning of its first block."""
    if region.probe is not None:
        return Segment(region.probe.base, PROBE_BYTES, PROBE_BYTES)
    first = region.segments[0]
    return Segment(first.base, PROBE_BYTES, min(PROBE_BYTES, first.length))


@dataclass(frozen=True, slots=True)
class _Reads:
    """Reads of one block through an agent."""

    agent: NixlAgent
    local: int
    peering: Peering

    def once(self, deadline_s: float) -> float:
        """Reads the block and returns how long that took, in seconds.

        Raises:
            PeerUnreachableError: the deadline has passed.
            LinkDownError: the peer is gone.
        """
        block = np.zeros(1, np.int32)
        began_s = time.monotonic()
        handle = self.agent.submit(Operation.READ, (self.local, block), self.peering, block)
        pauses = iter(_PAUSES_S)
        pause_s = next(pauses)
        while handle and not self.agent.is_done(self.peering, handle):
            now_s = time.monotonic()
            if now_s > deadline_s:
                raise _too_late(self.peering.peer)
            if now_s > began_s + _SPIN_S:
                time.sleep(pause_s)
                pause_s = next(pauses, pause_s)
        return time.monotonic() - began_s


def _too_late(peer: str) -> PeerUnreachableError:
    return PeerUnreachableError(peer, "its agent does not answer in time")
