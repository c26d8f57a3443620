"""Opens the channels over which others read an instance's pool, and makes what chooses of them."""

import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from p2p.agent.host_limits import read_limits, read_place
from p2p.agent.nixl_config import UCX, NixlConfig
from p2p.backend.pair import PairRules
from p2p.backend.pairs import Pairs
from p2p.backend.pool import PoolMemory
from p2p.backend.settings import BackendConfig
from p2p.channel.base import ChannelName
from p2p.channel.channels import Channels
from p2p.channel.registry import ChannelSettings, channel_names, open_channel
from p2p.channel.shm.settings import PoolWriters, ShmConfig
from p2p.channel.slow import why_slow
from p2p.channel.tcp.settings import TcpConfig, tls_files_in
from p2p.errors import MemoryUnavailableError, PluginMissingError
from p2p.wire.curve import CurveKeys

if TYPE_CHECKING:
    from p2p.channel.base import Channel

logger = logging.getLogger(__name__)
_WRITERS = {
    "private": PoolWriters.HOLDER,
    "shared": PoolWriters.ENGINE,
    "device": PoolWriters.HOLDER,
}


@dataclass(frozen=True, slots=True)
class OpenedChannels:
    """The channels over which others read a pool.

    Attributes:
        channels: those that were opened.
        absent: why others were not, by name.
    """

    channels: Channels
    absent: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where an instance answers peers.

    Attributes:
        keys: its own, or None.
        bound: the address.
        advertised: the address that peers are told.
    """

    keys: CurveKeys | None
    bound: str
    advertised: str


def channels_of(config: BackendConfig, pool: PoolMemory, endpoints: Endpoints) -> OpenedChannels:
    """Opens the channels that were named, or all that can be had here.

    Raises:
        PluginMissingError: the package of a channel that was named is not installed, NIXL lacks the
            plugin that was named, or no channel can be had.
        ConfigError: a setting of a channel cannot be, with its name and value.
        MemoryUnavailableError: a channel that was named cannot register the pool.
    """
    opened: dict[ChannelName, Channel] = {}
    absent: dict[str, str] = {}
    names = config.possible_channels
    settings = settings_of(config, endpoints)
    for name in names:
        try:
            opened[ChannelName(name)] = open_channel(name, pool.region, settings)
        except (PluginMissingError, MemoryUnavailableError) as error:
            absent[name] = str(error)
            is_asked_for = name == "nixl" and config.nixl_plugin != UCX
            if config.named_channels or is_asked_for or len(absent) == len(names):
                for channel in opened.values():
                    channel.close()
                raise
            logger.warning("no channel %s here: %s", name, error)
    left_out = set(channel_names()) - set(names)
    absent.update((name, "the setting channels leaves it out") for name in sorted(left_out))
    return OpenedChannels(Channels(opened), tuple(absent.items()))


def settings_of(config: BackendConfig, endpoints: Endpoints) -> ChannelSettings:
    """Returns the settings of every channel."""
    folder = config.tcp_tls_dir
    return ChannelSettings(
        nixl=NixlConfig(
            plugin=config.nixl_plugin,
            transports=config.nixl_transports,
            net_devices=config.nixl_net_devices,
        ),
        shm=ShmConfig(config.shm_threads, writers=_WRITERS[config.pool_memory]),
        tcp=TcpConfig(
            host=_host_of(endpoints.bound),
            advertise=_host_of(endpoints.advertised),
            port=config.tcp_port,
            num_streams=config.tcp_streams,
            bytes_per_s=config.tcp_mbit * 125_000,
            keys=endpoints.keys,
            tls=tls_files_in(folder, "backend.tcp_tls_dir") if folder else None,
        ),
    )


def _host_of(address: str) -> str:
    """Returns the host of a ZMQ address; this one for a socket of this host."""
    if not address.startswith("tcp://"):
        return "127.0.0.1"
    return address.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def pairs_of(config: BackendConfig, opened: OpenedChannels, counters: Counter[str]) -> Pairs:
    """Returns what chooses among the channels."""
    rules = PairRules(
        names=tuple(offer.channel for offer in opened.channels.offers()),
        is_forced=bool(config.named_channels),
        by_peer=tuple(config.peer_channels.items()),
        absent=opened.absent,
        retry_s=config.channel_retry_s,
        host=config.host,
        why_slow=partial(why_slow, read_place(), read_limits(), config.nixl_transports),
    )
    return Pairs(rules, counters)
