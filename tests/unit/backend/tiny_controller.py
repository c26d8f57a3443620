"""A controller with one member: takes batches and pages in order, by the protocol and no more."""

from dataclasses import dataclass, field

import msgspec

from p2p.keys import split_keys
from p2p.wire.messages import (
    ControllerReply,
    Done,
    EventKind,
    Events,
    FeedStatus,
    FetchReports,
    Heartbeat,
    Message,
    Order,
    OrderResult,
    Register,
    Registered,
    SnapshotPage,
    Want,
)

Entries = set[tuple[bytes, str]]


@dataclass
class TinyController:
    """What a directory knows of one instance.

    Attributes:
        entries: keys and tenants of what the instance holds.
        orders: asked for in every answer to a heartbeat until they are reported done.
        done: what was reported of orders.
        received: everything that came in.
    """

    epoch: int = 1
    heartbeat_ms: int = 1000
    acked_seq: int = 0
    entries: Entries = field(default_factory=set)
    orders: list[Order] = field(default_factory=list)
    done: dict[int, OrderResult] = field(default_factory=dict)
    received: list[Message] = field(default_factory=list)
    _sync: int = 0
    _synced_page: int = -1
    _staged: Entries = field(default_factory=set)

    def restart(self) -> None:
        """Forgets everything."""
        self.epoch += 1
        self.acked_seq = self._sync = 0
        self._synced_page = -1
        self.entries = set()

    def take(self, message: Message) -> ControllerReply:
        """Returns the answer to a request."""
        self.received.append(message)
        match message:
            case Register():
                self.acked_seq, self.entries, self._sync, self._synced_page = 0, set(), 0, -1
                return Registered(
                    epoch=self.epoch, heartbeat_ms=self.heartbeat_ms, expiry_ms=60_000
                )
            case Events() | SnapshotPage() | Heartbeat() if message.epoch != self.epoch:
                return FeedStatus(epoch=self.epoch, acked_seq=0, want=Want.REGISTER)
            case Events() | SnapshotPage():
                return self._take_changes(message)
            case Heartbeat():
                self.done.update({result.id: result for result in message.orders_done})
                self.orders = [order for order in self.orders if order.id not in self.done]
                is_behind = message.last_seq > self.acked_seq
                status = self.status(Want.REPLAY if is_behind else Want.NOTHING)
                return msgspec.structs.replace(
                    status,
                    orders=tuple(self.orders),
                    is_leaving=message.is_leaving,
                    beat=message.beat,
                )
            case FetchReports():
                return Done()
            case _:
                raise AssertionError(message)

    def status(self, want: Want = Want.NOTHING) -> FeedStatus:
        """How far this controller is."""
        return FeedStatus(
            epoch=self.epoch,
            acked_seq=self.acked_seq,
            want=want,
            sync=self._sync,
            synced_page=self._synced_page,
        )

    def _take_changes(self, message: Events | SnapshotPage) -> FeedStatus:
        if isinstance(message, Events):
            return self._take_events(message)
        return self._take_page(message)

    def _take_events(self, events: Events) -> FeedStatus:
        if events.first_seq > self.acked_seq + 1:
            return self.status(Want.REPLAY)
        skip = self.acked_seq + 1 - events.first_seq
        keys = split_keys(events.keys, events.key_bytes)
        for kind, key in list(zip(events.kinds, keys, strict=True))[skip:]:
            self.acked_seq += 1
            change = self.entries.discard if kind == EventKind.EVICT.value else self.entries.add
            change((key, events.tenant))
        return self.status()

    def _take_page(self, page: SnapshotPage) -> FeedStatus:
        if page.sync > self._sync:
            self._sync, self._synced_page, self._staged = page.sync, -1, set()
        if page.sync == self._sync and page.page == self._synced_page + 1:
            self._synced_page = page.page
            keys = split_keys(page.keys, page.key_bytes)
            self._staged |= {(key, page.tenant) for key in keys}
            if page.last:
                self.entries, self.acked_seq = self._staged, page.start_seq
        return self.status()
