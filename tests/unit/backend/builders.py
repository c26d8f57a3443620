"""Small complete values for tests of the backend: identities, keys, filled instances."""

import msgspec

from p2p.backend.hot import HotLimits
from p2p.backend.index import IndexEntry
from p2p.backend.instance import InstanceCore
from p2p.backend.leases import LeaseLimits
from p2p.keys import ChunkKey, Namespace, chunk_keys, join_keys
from p2p.layout import Layout
from p2p.regions import Region, Segment
from p2p.wire.codec import RequestId
from p2p.wire.exchange import Sender
from p2p.wire.messages import (
    ChannelOffer,
    Hello,
    Holder,
    LeaseRequest,
    Message,
    PeerRequest,
    RankOffer,
    Register,
)

LAYOUT = Layout(
    num_layers=1,
    num_kv_heads=1,
    head_dim=8,
    kv_dtype="uint8",
    block_tokens=4,
    chunk_tokens=4,
)
CHUNK_BYTES = LAYOUT.chunk_bytes
NAMESPACE = Namespace(model="m", weights_digest="d", kv_dtype="uint8")
OFFERS = (
    RankOffer(
        rank=0,
        channels=(
            ChannelOffer(channel="fake", metadata=b"", region=Region((Segment(0, 8, 8),), 8)),
        ),
    ),
)
SENDER = Sender(b"route", RequestId(1))


def prompt(num_chunks: int, salt: str = "") -> list[ChunkKey]:
    """Keys of a prompt of so many chunks."""
    return chunk_keys(range(4 * num_chunks), 4, salt=salt)


def identity(
    instance: str = "a", incarnation: int = 1, *, host: str = "", layout: Layout = LAYOUT
) -> Register:
    return Register(
        instance=instance,
        incarnation=incarnation,
        namespace=NAMESPACE,
        layout=layout,
        address=f"tcp://{instance}:1",
        host=host,
    )


def instance_core(
    instance: str = "a",
    num_slots: int = 16,
    *,
    incarnation: int = 1,
    limits: LeaseLimits | None = None,
    hot: HotLimits | None = None,
    host: str = "",
) -> InstanceCore:
    own = identity(instance, incarnation, host=host)
    return InstanceCore(own, OFFERS, num_slots, limits=limits, hot=hot)


def holder_of(core: InstanceCore) -> Holder:
    """How the directory names an instance."""
    own = core.identity
    return Holder(
        instance=own.instance, incarnation=own.incarnation, address=own.address, host=own.host
    )


def holder(
    instance: str, incarnation: int = 1, *, host: str = "", rack: str = "", load_bytes: int = 0
) -> Holder:
    return Holder(
        instance=instance,
        incarnation=incarnation,
        address=f"tcp://{instance}:1",
        host=host,
        rack=rack,
        load_bytes=load_bytes,
    )


def entry(
    key: ChunkKey, slot: int = 0, parent: ChunkKey | None = None, tenant: str = ""
) -> IndexEntry:
    return IndexEntry(key, slot, 1, (7,), (tenant,), parent)


def put(
    core: InstanceCore, keys: list[ChunkKey], tenant: str = "", *, root: int = 7
) -> list[IndexEntry]:
    """Stores chunks, as far as there is room."""
    return [core.commit(p, (root,), tenant) for p in core.begin_put(keys, tenant)]


def hello(instance: str = "r", incarnation: int = 1) -> Hello:
    return Hello(
        instance=instance,
        incarnation=incarnation,
        namespace=NAMESPACE,
        layout=LAYOUT,
        ranks=OFFERS,
    )


def lease_request(keys: list[ChunkKey], **fields: object) -> LeaseRequest:
    blob, key_bytes = join_keys(keys)
    request = LeaseRequest(
        instance="r",
        incarnation=1,
        holder_incarnation=1,
        namespace=NAMESPACE.id,
        keys=blob,
        key_bytes=key_bytes,
        ttl_ms=1000,
    )
    return msgspec.structs.replace(request, **fields)


def ask(core: InstanceCore, message: PeerRequest, now_s: float = 0.0) -> Message:
    """Returns an instance's answer, which goes to who asked."""
    (outgoing,) = core.handle(SENDER, message, now_s)
    assert outgoing.to == SENDER
    return outgoing.message


def but(message: Layout | Namespace, **changes: object) -> Layout | Namespace:
    return msgspec.structs.replace(message, **changes)
