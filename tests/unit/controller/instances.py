"""A pretended instance that makes messages, and a controller that is asked about it."""

from dataclasses import dataclass, field

from p2p.keys import ChunkKey, Namespace, join_keys
from p2p.layout import Layout
from p2p.view_hash import VIEW_HASH_MASK, view_hash_of
from p2p.wire.codec import RequestId
from p2p.wire.exchange import Outgoing, Sender
from p2p.wire.messages import (
    ControllerReply,
    ControllerRequest,
    ControllerStatus,
    Deregister,
    Events,
    FeedStatus,
    GetStatus,
    Heartbeat,
    Locate,
    Located,
    OrderResult,
    RankEndpoint,
    Register,
    Registered,
    SnapshotPage,
)
from p2p_controller.core import ControllerCore
from p2p_controller.settings import ControllerSettings

NAMESPACE = Namespace(model="tiny", weights_digest="d1", kv_dtype="float16")
LAYOUT = Layout(
    num_layers=2, num_kv_heads=8, head_dim=16, kv_dtype="float16", block_tokens=16, chunk_tokens=64
)
SENDER = Sender(b"route", RequestId(7))
EVICT, DEVICE, HOST = 0, 1, 2


def key(number: int) -> ChunkKey:
    return ChunkKey(number.to_bytes(32, "big"))


def keys(*numbers: int) -> list[ChunkKey]:
    return [key(number) for number in numbers]


@dataclass
class Instance:
    """What an instance knows of itself; every method returns the message to send."""

    name: str
    incarnation: int = 1
    epoch: int = 0
    namespace: Namespace = NAMESPACE
    layout: Layout = LAYOUT
    address: str = ""
    ranks: tuple[RankEndpoint, ...] = ()
    last_seq: int = 0
    index: dict[tuple[str, ChunkKey], int] = field(default_factory=dict)  # to tiers

    def register(self) -> Register:
        return Register(
            instance=self.name,
            incarnation=self.incarnation,
            namespace=self.namespace,
            layout=self.layout,
            address=self.address or f"tcp://{self.name}:7700",
            world_size=max(1, len(self.ranks)),
            ranks=self.ranks,
        )

    def change(self, *changes: tuple[int, int], tenant: str = "") -> Events:
        """Changes the index by (kind, key number), and returns the batch that tells of it."""
        first = self.last_seq + 1
        for kind, number in changes:
            entry = (tenant, key(number))
            self.index.pop(entry, None) if kind == EVICT else self.index.update({entry: kind})
        self.last_seq += len(changes)
        blob, key_bytes = join_keys(key(number) for _, number in changes)
        return Events(
            instance=self.name,
            incarnation=self.incarnation,
            epoch=self.epoch,
            first_seq=first,
            kinds=bytes(kind for kind, _ in changes),
            keys=blob,
            key_bytes=key_bytes,
            tenant=tenant,
        )

    def admit(self, *numbers: int, tenant: str = "") -> Events:
        return self.change(*((DEVICE, number) for number in numbers), tenant=tenant)

    def evict(self, *numbers: int, tenant: str = "") -> Events:
        return self.change(*((EVICT, number) for number in numbers), tenant=tenant)

    def page(
        self, sync: int, page: int, numbers: list[int], *, last: bool, start_seq: int
    ) -> SnapshotPage:
        blob, key_bytes = join_keys(keys(*numbers))
        return SnapshotPage(
            instance=self.name,
            incarnation=self.incarnation,
            epoch=self.epoch,
            sync=sync,
            start_seq=start_seq,
            page=page,
            last=last,
            kinds=bytes([DEVICE]) * len(numbers),
            keys=blob,
            key_bytes=key_bytes,
        )

    def heartbeat(
        self, load_bytes: int = 0, orders_done: tuple[OrderResult, ...] = (), **fields: object
    ) -> Heartbeat:
        return Heartbeat(
            instance=self.name,
            incarnation=self.incarnation,
            epoch=self.epoch,
            last_seq=self.last_seq,
            view_hash=sum(view_hash_of(k, tenant, tier) for (tenant, k), tier in self.index.items())
            & VIEW_HASH_MASK,
            num_chunks=len(self.index),
            load_bytes=load_bytes,
            orders_done=orders_done,
            **fields,  # type: ignore[arg-type]
        )

    def deregister(self) -> Deregister:
        return Deregister(instance=self.name, incarnation=self.incarnation)


class Controller:
    """A core with a clock that the test moves."""

    def __init__(self, epoch: int = 11, **settings: object) -> None:
        self.core = ControllerCore(ControllerSettings(**settings), epoch)  # type: ignore[arg-type]
        self.now_s = 1000.0

    def send(self, message: ControllerRequest) -> ControllerReply:
        """Returns the only answer."""
        (outgoing,) = self.send_all(message)
        assert outgoing.to == SENDER
        return outgoing.message  # type: ignore[return-value]

    def send_all(self, message: ControllerRequest) -> list[Outgoing]:
        return self.core.handle(SENDER, message, self.now_s)

    def status_after(self, message: ControllerRequest) -> FeedStatus:
        reply = self.send(message)
        assert isinstance(reply, FeedStatus), reply
        return reply

    def join(self, instance: Instance) -> Instance:
        reply = self.send(instance.register())
        assert isinstance(reply, Registered), reply
        instance.epoch = reply.epoch
        return instance

    def joined(self, name: str, *numbers: int, **fields: object) -> Instance:
        """Returns a registered instance that holds these keys."""
        instance = self.join(Instance(name, **fields))  # type: ignore[arg-type]
        if numbers:
            self.status_after(instance.admit(*numbers))
        return instance

    def wait(self, seconds: float) -> list[Outgoing]:
        """Lets time pass as a server would, tick by tick."""
        end_s = self.now_s + seconds
        sent: list[Outgoing] = []
        while True:
            sent += self.core.tick(self.now_s)
            next_s = max(self.core.next_deadline_s(self.now_s), self.now_s + 1e-3)
            if next_s >= end_s:
                self.now_s = end_s
                return sent + self.core.tick(end_s)
            self.now_s = next_s

    def locate(
        self,
        *numbers: int,
        asker: str = "",
        tenant: str = "",
        namespace: Namespace = NAMESPACE,
        rank: int | None = None,
    ) -> Located:
        blob, key_bytes = join_keys(keys(*numbers))
        reply = self.send(
            Locate(
                namespace=namespace.id,
                keys=blob,
                key_bytes=key_bytes,
                instance=asker,
                tenant=tenant,
                rank=rank,
            )
        )
        assert isinstance(reply, Located), reply
        return reply

    def runs(
        self, *numbers: int, asker: str = "", tenant: str = ""
    ) -> list[tuple[int, int, list[str]]]:
        """Returns start, length and holders of each run."""
        located = self.locate(*numbers, asker=asker, tenant=tenant)
        return [
            (run.start, run.count, [located.holders[index].instance for index in run.holders])
            for run in located.runs
        ]

    def state(self) -> ControllerStatus:
        reply = self.send(GetStatus())
        assert isinstance(reply, ControllerStatus)
        return reply

    def count(self, name: str) -> int:
        return self.state().counters.get(name, 0)

    def is_equal(self, instance: Instance) -> bool:
        return self.core.entries_of(instance.name) == instance.index
