"""One simulated instance: production cores, a pool of small slots, and a shell of a few lines."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from p2p.backend.actions import (
    Action,
    AskController,
    AskPeer,
    CancelRead,
    OpenLink,
    Read,
    ReadId,
    Tag,
    TellPeer,
    Verify,
)
from p2p.backend.fetch import Fetch
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.instance import InstanceCore
from p2p.backend.plan import PlanLimits
from p2p.backend.reader import ReaderCore
from p2p.keys import ChunkKey, Namespace
from p2p.layout import Layout
from p2p.regions import Region, Segment
from p2p.wire.codec import RequestId, encode_body
from p2p.wire.decoders import CONTROLLER_REPLIES, PEER_REPLIES, PEER_REQUESTS
from p2p.wire.exchange import Sender
from p2p.wire.messages import ChannelOffer, Message, RankOffer, Register

if TYPE_CHECKING:
    from tests.sim.world import World

LAYOUT = Layout(1, 1, 16, "uint8", block_tokens=1, chunk_tokens=4)  # 128 bytes a chunk
NAMESPACE = Namespace("sim", "0", "uint8")
CHUNK_BYTES = LAYOUT.chunk_bytes
TICK_S = 0.01
_LIMITS = FetchLimits(
    window_bytes=2 * CHUNK_BYTES,
    num_windows=1,
    ask_timeout_s=0.3,
    plan=PlanLimits(stripe_bytes=4 * CHUNK_BYTES),
)


def content_of(key: ChunkKey, instance: str) -> bytes:
    """Returns what an instance computes under a key: valid, but not what others compute."""
    block = xxhash.xxh3_128_digest(key + instance.encode())
    return block * (CHUNK_BYTES // len(block))


def digest_of(key: ChunkKey, content: bytes) -> int:
    """Returns a digest in the manner of the real one."""
    return xxhash.xxh3_64_intdigest(key + content)


@dataclass(slots=True)
class Transfer:
    """A read under way in simulated memory."""

    action: Read
    source: "SimInstance"
    source_life: int
    is_cancelled: bool = False
    is_over: bool = False


@dataclass(slots=True)
class Caller:
    """Somebody who waits for a fetch."""

    fetch: Fetch
    keys: list[ChunkKey]
    deadline_s: float
    is_checked: bool = field(default=False)


class SimInstance:
    """An instance that can crash and come again."""

    def __init__(self, world: "World", name: str, num_slots: int) -> None:
        self.world = world
        self.name = name
        self.num_slots = num_slots
        self.life = 0
        self.rate = 1 + world.clock.random.uniform(-0.005, 0.005)
        self.is_up = False
        self.start()

    def now_s(self) -> float:
        """Returns this machine's own time: it runs a little fast or slow."""
        return self.world.clock.now_s * self.rate

    def start(self) -> None:
        """Starts with empty memory and a new incarnation."""
        self.life += 1
        self.is_up = True
        identity = Register(
            instance=self.name,
            incarnation=int(self.world.clock.now_s * 1e6) + self.life,
            namespace=NAMESPACE,
            layout=LAYOUT,
            address=f"ipc://{self.name}",
        )
        region = Region((Segment(0, CHUNK_BYTES, CHUNK_BYTES),), self.num_slots)
        offer = ChannelOffer(channel="sim", metadata=b"", region=region)
        offers = (RankOffer(rank=0, channels=(offer,)),)
        self.core = InstanceCore(identity, offers, self.num_slots)
        self.reader = ReaderCore(self.core, _LIMITS)
        self.memory = np.zeros((self.num_slots, CHUNK_BYTES), np.uint8)
        self.writers: dict[int, int] = {}
        self.transfers: dict[ReadId, Transfer] = {}
        self.callers: list[Caller] = []
        self.later(TICK_S, self.tick)

    def crash(self) -> None:
        """Everything is lost; what is under way never comes back here."""
        self.is_up = False

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        """Runs an event if this life still lasts then."""
        life = self.life

        def run() -> None:
            if self.is_up and self.life == life:
                event()

        self.world.clock.after(delay_s, run)

    # ------------------------------------------------------------------ the work of the shells

    def tick(self) -> None:
        """What threads do by time: bond, leases, deadlines."""
        now_s = self.now_s()
        self.core.tick(now_s)
        self.core.carry_out_orders()
        for message in self.core.membership.poll(now_s, self.core.leases.num_bytes):
            self.world.ask_controller(self, message, self._on_bond)
        self.reader.on_time(now_s)
        self.carry_out()
        self.later(TICK_S, self.tick)

    def put(self, keys: list[ChunkKey]) -> None:
        """Stores own content under keys."""
        for placement in self.core.begin_put(keys, ""):
            self.world.check(placement.slot not in self.writers, "a put into a slot being written")
            content = content_of(placement.key, self.name)
            self.memory[placement.slot] = np.frombuffer(content, np.uint8)
            self.core.commit(placement, (digest_of(placement.key, content),), "")

    def fetch(self, keys: list[ChunkKey], budget_s: float) -> None:
        """Starts a fetch."""
        self.world.num_fetches += 1
        fetch = self.reader.submit(keys, "", budget_s, self.now_s())
        self.callers.append(Caller(fetch, keys, self.now_s() + budget_s))
        self.carry_out()

    def carry_out(self) -> None:
        """Does what the reader asks for, and takes what is delivered."""
        for action in self.reader.take_actions():
            self._do(action)
        self.reader.take_phases()
        for caller in list(self.callers):
            if caller.fetch.outcome is not None:
                self._take(caller)
            late = self.now_s() > caller.deadline_s + 2 * TICK_S
            self.world.check(caller.is_checked or not late, "a fetch outlived its budget")

    def _take(self, caller: Caller) -> None:
        outcome = caller.fetch.outcome
        assert outcome is not None
        for number, entry in enumerate(outcome.entries):
            key = caller.keys[number]
            found = self.memory[entry.slot].tobytes()
            valid = {content_of(key, name) for name in self.world.instances}
            self.world.check(entry.key == key and found in valid, "wrong bytes were delivered")
        self.world.outcomes[outcome.reason.value] += 1
        caller.is_checked = True
        self.callers.remove(caller)
        entries = list(outcome.entries)
        hold_s = self.world.clock.random.uniform(0, 0.05)

        def release() -> None:
            for entry in entries:
                self.core.unpin(entry)

        self.later(hold_s, release)

    def _on_bond(self, body: bytes) -> None:
        self.core.membership.on_answer(CONTROLLER_REPLIES.decode(body), self.now_s())

    def _do(self, action: Action) -> None:
        match action:
            case AskController():
                self.world.ask_controller(
                    self, action.message, partial(self._on_located, action.tag)
                )
            case AskPeer():
                self._tell(action.holder.instance, action.message, action.tag)
            case TellPeer():
                self._tell(action.holder.instance, action.message, None)
            case OpenLink():
                self.later(0.001, lambda: self._link(action))
            case Read():
                self._read(action)
            case CancelRead():
                self._cancel(action.read_id)
            case Verify():
                self.later(0.0005, lambda: self._verify(action))
            case _:
                pass

    def _on_located(self, tag: Tag, body: bytes) -> None:
        self.reader.on_controller(tag, CONTROLLER_REPLIES.decode(body), self.now_s())
        self.carry_out()

    def _tell(self, target: str, message: Message, tag: Tag | None) -> None:
        body = encode_body(message)
        life = self.life

        def arrive() -> None:
            peer = self.world.instances[target]
            if not peer.is_up:
                return
            request = PEER_REQUESTS.decode(body)
            sender = Sender(self.name.encode(), RequestId(tag or 0))
            for outgoing in peer.core.handle(sender, request, peer.now_s()):
                answer = encode_body(outgoing.message)
                if tag is not None:
                    self.world.network.send(target, self.name, partial(take, answer))

        def take(answer: bytes) -> None:
            if self.is_up and self.life == life and tag is not None:
                self.reader.on_peer(tag, PEER_REPLIES.decode(answer), self.now_s())
                self.carry_out()

        self.world.network.send(self.name, target, arrive)

    def _link(self, action: OpenLink) -> None:
        peer = self.world.instances[action.holder.instance]
        same = peer.is_up and peer.core.identity.incarnation == action.holder.incarnation
        problem = None if same else "connection refused"
        self.reader.on_link(action.holder.instance, problem, self.now_s())
        self.carry_out()

    # ------------------------------------------------------------------ memory

    def _read(self, action: Read) -> None:
        source = self.world.instances[action.instance]
        transfer = Transfer(action, source, source.life)
        self.transfers[action.read_id] = transfer
        for slot in action.local:
            self.world.check(slot not in self.writers, "a slot was reused while written")
            self.writers[slot] = action.read_id
        draw = self.world.clock.random
        is_slow = draw.random() < self.world.slow_reads
        duration_s = draw.uniform(0.0005, 0.01) * (200 if is_slow else 1)
        num_pieces = 2 * len(action.local)
        for piece in range(num_pieces):
            at_s = duration_s * (piece + 1) / (num_pieces + 1)
            self.later(at_s, partial(self._copy, transfer, piece))
        self.later(duration_s, lambda: self._end(transfer))

    def _copy(self, transfer: Transfer, piece: int) -> None:
        source, index, half = transfer.source, piece // 2, piece % 2
        if transfer.is_over or not source.is_up or source.life != transfer.source_life:
            return
        part = slice(half * CHUNK_BYTES // 2, (half + 1) * CHUNK_BYTES // 2)
        content = source.memory[transfer.action.remote[index], part].copy()
        if self.world.clock.random.random() < self.world.flips:
            content[0] ^= 1
        self.memory[transfer.action.local[index], part] = content

    def _end(self, transfer: Transfer) -> None:
        if transfer.is_over:
            return
        transfer.is_over = True
        for slot in transfer.action.local:
            del self.writers[slot]
        read_id = transfer.action.read_id
        del self.transfers[read_id]
        source = transfer.source
        if transfer.is_cancelled:
            self.reader.on_quiesced(read_id)
        elif source.is_up and source.life == transfer.source_life:
            self.reader.on_read_done(read_id, self.now_s())
        else:
            self.reader.on_read_failed(read_id, "remote disconnected", self.now_s())
        self.carry_out()

    def _cancel(self, read_id: ReadId) -> None:
        transfer = self.transfers.get(read_id)
        if transfer is not None:
            transfer.is_cancelled = True  # NIXL cannot cancel: pieces still land until it ends

    def _verify(self, action: Verify) -> None:
        pairs = zip(action.keys, action.slots, strict=True)
        roots = tuple((digest_of(key, self.memory[slot].tobytes()),) for key, slot in pairs)
        self.reader.on_verified(action.read_id, roots, self.now_s())
        self.carry_out()
