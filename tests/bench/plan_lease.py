"""Processor time of locate, lease and plan for 100 chunks, in reader, holder and controller.

Everything of a fetch but the bytes: the directory is asked, runs are planned, a lease is asked for
and given back, all over ZMQ. Compared with a pass of ``dict.get`` over 100 cold keys.
"""

import multiprocessing as mp
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from p2p.backend import BackendConfig, P2PBackend
from p2p.backend.actions import SourceTally
from p2p.backend.borrow import Borrower
from p2p.backend.plan import Place, PlanLimits, View, plan_runs
from p2p.backend.speeds import Speeds
from p2p.keys import ChunkKey, Namespace, chunk_keys, join_keys
from p2p.layout import Layout
from p2p.regions import Region, Segment
from p2p.wire.context import WireContext
from p2p.wire.decoders import CONTROLLER_REPLIES, PEER_REPLIES
from p2p.wire.messages import (
    ChannelOffer,
    Hello,
    Holder,
    LeaseGranted,
    LeaseRelease,
    LeaseRequest,
    Locate,
    Located,
    RankOffer,
    Welcome,
)
from p2p.wire.requester import Requester

NAMESPACE = Namespace("bench", "0" * 32, "bfloat16")
LAYOUT = Layout(1, 1, 64, "bfloat16", block_tokens=16, chunk_tokens=16)  # 4 KiB
NUM_KEYS = 100
_DICT_KEYS = 2_000_000
_WAIT_S = 10.0
_OFFER = ChannelOffer(channel="none", metadata=b"", region=Region((Segment(0, 8, 8),), 8))


def keys() -> list[ChunkKey]:
    """Returns the keys of the prompt that is asked for."""
    return chunk_keys(range(NUM_KEYS * LAYOUT.chunk_tokens), LAYOUT.chunk_tokens)


def config(controller: str, instance: str) -> BackendConfig:
    """Returns the settings of an instance with room for the prompt."""
    return BackendConfig(
        namespace=NAMESPACE,
        controller=controller,
        instance=instance,
        channel="nixl",
        pool_bytes=NUM_KEYS * LAYOUT.chunk_bytes,
    )


def hold(controller: str, pipe: Connection) -> None:
    """The holder's process."""
    with P2PBackend.start(config(controller, "holder"), LAYOUT) as backend:
        content = np.ones((NUM_KEYS, LAYOUT.chunk_bytes), dtype=np.uint8)
        backend.put(keys(), content)
        assert backend.wait_advertised(_WAIT_S)
        pipe.send(backend.address)
        pipe.recv()


def processor_s(pid: int) -> float:
    """Returns the processor time of all threads of a process, in seconds."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Reader:
    """Asks, plans, borrows and gives back.

    Args:
        controller: its address.
        holder: the holder's.
    """

    def __init__(self, controller: str, holder: str) -> None:
        self._wire = WireContext(None)
        self._controller = Requester(self._wire, controller, CONTROLLER_REPLIES)
        self._holder = Requester(self._wire, holder, PEER_REPLIES)
        self._keys = keys()
        speeds = Speeds()
        self._view = View(
            reader=Place("reader", "", ""),
            chunk_bytes=LAYOUT.chunk_bytes,
            is_usable=lambda _: True,
            standing=lambda instance: speeds.standing(instance, 0.0),
        )
        hello = Hello(
            instance="reader",
            incarnation=1,
            namespace=NAMESPACE,
            layout=LAYOUT,
            ranks=(RankOffer(rank=0, channels=(_OFFER,)),),
        )
        answer = self._holder.request(hello, _WAIT_S)
        assert isinstance(answer, Welcome), answer

    def round(self) -> None:
        """Does all of it once."""
        blob, key_bytes = join_keys(self._keys)
        question = Locate(namespace=NAMESPACE.id, keys=blob, key_bytes=key_bytes, instance="reader")
        located = self._controller.request(question, _WAIT_S)
        assert isinstance(located, Located)
        (run,) = plan_runs(located, 0, self._view, PlanLimits())
        assert run.count == NUM_KEYS
        self._borrow(run.holders[0])

    def _borrow(self, holder: Holder) -> None:
        blob, key_bytes = join_keys(self._keys)
        request = LeaseRequest(
            instance="reader",
            incarnation=1,
            holder_incarnation=holder.incarnation,
            namespace=NAMESPACE.id,
            keys=blob,
            key_bytes=key_bytes,
            ttl_ms=1000,
        )
        granted = self._holder.request(request, _WAIT_S)
        assert isinstance(granted, LeaseGranted)
        borrower = Borrower(holder, SourceTally(holder.instance))
        borrower.take(range(NUM_KEYS), 0.0, granted)
        release = LeaseRelease(instance="reader", incarnation=1, token=granted.token)
        self._holder.request(release, _WAIT_S)

    def close(self) -> None:
        """Closes the sockets."""
        self._controller.close()
        self._holder.close()
        self._wire.close()


def dict_pass_s(rounds: int) -> float:
    """Returns the mean time of a pass of ``dict.get`` over 100 keys that are in no cache."""
    draw = random.Random(1)  # noqa: S311
    table = {draw.randbytes(32): number for number in range(_DICT_KEYS)}
    known = list(table)
    passes = [[known[draw.randrange(_DICT_KEYS)] for _ in range(NUM_KEYS)] for _ in range(rounds)]
    passes = [[bytes(bytearray(key)) for key in one] for one in passes]  # no hash is known yet
    start_s = time.process_time()
    for one in passes:
        for key in one:
            table.get(key)
    return (time.process_time() - start_s) / rounds


def measure(controller: str, controller_pid: int, rounds: int) -> dict[str, float]:
    """Returns processor time per round of each process, in µs, and that of the dict."""
    spawn = mp.get_context("spawn")
    ours, theirs = spawn.Pipe()
    holder = spawn.Process(target=hold, args=(controller, theirs), daemon=True)
    holder.start()
    reader = Reader(controller, ours.recv())
    assert holder.pid is not None
    pids = {"reader": os.getpid(), "holder": holder.pid, "controller": controller_pid}
    for _ in range(100):
        reader.round()
    before = {name: processor_s(pid) for name, pid in pids.items()}
    for _ in range(rounds):
        reader.round()
    after = {name: processor_s(pid) for name, pid in pids.items()}
    reader.close()
    ours.send("end")
    holder.join()
    spent = {name: (after[name] - before[name]) / rounds * 1e6 for name in pids}
    spent["dict"] = dict_pass_s(rounds) * 1e6
    return spent
