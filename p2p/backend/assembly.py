"""What an instance is made of, by its settings: its identity, its core, its limits."""

import time

from p2p.agent.memory import HostArena
from p2p.agent.shared_arena import SharedArena
from p2p.backend.connecting_ahead import AheadLimits
from p2p.backend.device_pool import DevicePool
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.following import Following, MirrorLimits
from p2p.backend.hot import HotLimits
from p2p.backend.instance import InstanceCore
from p2p.backend.leases import LeaseLimits
from p2p.backend.pool import Pool, PoolMemory
from p2p.backend.settings import BackendConfig, pool_place
from p2p.layout import Layout
from p2p.wire.curve import CurveKeys, load_keys
from p2p.wire.messages import RankEndpoint, RankOffer, Register

_ARENAS = {"private": HostArena, "shared": SharedArena}
_VERIFY_ONE_IN = {"always": 1, "sample": 16, "off": 0}


def identity_of(config: BackendConfig, layout: Layout, address: str, public_key: str) -> Register:
    """Returns what a new start of an instance tells of itself."""
    num_ranks = layout.tensor_parallel
    return Register(
        instance=config.instance,
        incarnation=time.time_ns(),
        namespace=config.namespace,
        layout=layout,
        address=address,
        public_key=public_key,
        host=config.host,
        rack=config.rack,
        world_size=num_ranks,
        ranks=tuple(
            RankEndpoint(rank=rank, address=address, metadata_version=1)
            for rank in range(num_ranks)
        ),
    )


def core_of(
    config: BackendConfig, identity: Register, offers: tuple[RankOffer, ...], num_slots: int
) -> InstanceCore:
    """Returns the core of a new start of an instance."""
    limits = LeaseLimits(ttl_s=config.lease_s, bytes_per_reader=config.lease_bytes_per_reader)
    hot = HotLimits(readers_per_chunk=config.readers_per_chunk)
    core = InstanceCore(identity, offers, num_slots, limits=limits, hot=hot)
    core.errands.pins.num_max = int(config.pinned_share * num_slots)
    if config.mirror:
        mirror = MirrorLimits(config.mirror_behind_s, config.mirror_entries_max)
        core.following = Following(core.membership, core.counters, mirror)
    return core


def fetch_limits(config: BackendConfig) -> FetchLimits:
    """Returns timing and sizes of fetches."""
    return FetchLimits(
        window_bytes=config.window_bytes,
        ahead_bytes=config.ahead_bytes,
        verify_one_in=_VERIFY_ONE_IN[config.verify],
        pull=config.pull,
        keep=config.keep,
    )


def ahead_limits(config: BackendConfig) -> AheadLimits:
    """Returns how far an instance connects ahead of need."""
    pause_s = 1 / config.links_ahead_per_s
    return AheadLimits(config.links_ahead, config.links_ahead_near, pause_s)


def pool_of(config: BackendConfig, layout: Layout) -> PoolMemory:
    """Returns the memory of an instance.

    Raises:
        ConfigError: less than one chunk, more than the machine has, or nothing digests there.
        MemoryUnavailableError: the device has not as much.
    """
    if config.pool_memory == "device":
        return DevicePool(config.pool_bytes, layout, pool_place(config))
    has_shm = "shm" in config.possible_channels
    arena = SharedArena if has_shm else _ARENAS[config.pool_memory]
    return Pool(config.pool_bytes, layout, arena)


def keys_of(config: BackendConfig) -> CurveKeys | None:
    """Returns the keys of an instance; None without encryption."""
    return (
        load_keys(config.keys_dir, config.key_name or config.instance) if config.keys_dir else None
    )
