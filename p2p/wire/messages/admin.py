"""Between people (the command line) and the controller. No I/O."""

import msgspec

from p2p.keys import Namespace
from p2p.layout import Layout
from p2p.wire.messages.base import Message, Unsigned
from p2p.wire.messages.directory import RankEndpoint


class ListInstances(Message, frozen=True, kw_only=True):
    """Which instances are known?"""


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """One instance as the controller sees it.

    Attributes:
        state: ``alive``, ``leaving`` or ``silent``.
        num_pinned: chunks that operators keep from eviction.
    """

    instance: str
    incarnation: Unsigned
    state: str
    namespace: Namespace
    layout: Layout
    address: str
    host: str
    rack: str
    world_size: int
    num_chunks: Unsigned
    load_bytes: Unsigned
    silent_ms: Unsigned
    synced: bool
    public_key: str = ""
    ranks: tuple[RankEndpoint, ...] = ()
    num_pinned: Unsigned = 0


class InstanceList(Message, frozen=True, kw_only=True):
    """Answer to `ListInstances`."""

    instances: tuple[InstanceView, ...]


class GetStatus(Message, frozen=True, kw_only=True):
    """How is the controller?"""


class ControllerStatus(Message, frozen=True, kw_only=True):
    """Answer to `GetStatus`."""

    version: str
    epoch: Unsigned
    uptime_ms: Unsigned
    num_instances: Unsigned
    num_namespaces: Unsigned
    num_keys: Unsigned
    num_entries: Unsigned
    partial: bool
    counters: dict[str, int]
    closing: bool = False


class GetMetrics(Message, frozen=True, kw_only=True):
    """What is where, and how long do requests take? Asked by monitoring, beside `GetStatus`."""


class NamespaceMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of one namespace."""

    namespace: str
    model: str
    num_alive: Unsigned
    num_silent: Unsigned
    num_keys: Unsigned
    num_entries: Unsigned


class RequestMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests of one kind came, and how long some took from decoded to answered.

    Attributes:
        kind: name of the message.
        num: of them.
        num_by_bucket: of those whose time was taken, one in 16: bucket b counts those below 2**b
            microseconds that are in no earlier bucket; the last one counts the rest.
        total_ns: of those in buckets.
    """

    kind: str
    num: Unsigned
    num_by_bucket: tuple[Unsigned, ...]
    total_ns: Unsigned


class ControllerMetrics(Message, frozen=True, kw_only=True):
    """Answer to `GetMetrics`."""

    namespaces: tuple[NamespaceMetrics, ...]
    requests: tuple[RequestMetrics, ...]


class Shutdown(Message, frozen=True, kw_only=True):
    """End the controller process, orderly."""
