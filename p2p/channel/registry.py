"""Opens channels by name. Optional packages are imported when their channel is chosen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from p2p.agent.nixl_config import NixlConfig
from p2p.channel.base import Channel, ChannelName
from p2p.channel.shm.settings import ShmConfig
from p2p.channel.tcp.settings import TcpConfig
from p2p.errors import ConfigError
from p2p.regions import Region


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """Settings of every channel that has some.

    Attributes:
        nixl: settings of the ``nixl`` channel.
        shm: settings of the ``shm`` channel.
        tcp: settings of the ``tcp`` channel.
    """

    nixl: NixlConfig = field(default_factory=NixlConfig)
    shm: ShmConfig = field(default_factory=ShmConfig)
    tcp: TcpConfig = field(default_factory=TcpConfig)


def open_channel(name: str, region: Region, settings: ChannelSettings) -> Channel:
    """Returns a channel that serves a region.

    Raises:
        ConfigError: no channel has this name.
        PluginMissingError: an optional package that it needs is not installed.
        MemoryUnavailableError: the memory cannot be registered.
    """
    create = _CREATORS.get(ChannelName(name))
    if create is None:
        known = ", ".join(sorted(_CREATORS))
        raise ConfigError("channel", name, f"no such channel; there are: {known}")
    return create(region, settings)


def channel_names() -> tuple[ChannelName, ...]:
    """Returns the names that `open_channel` knows, best first."""
    return tuple(_CREATORS)


def _open_nixl(region: Region, settings: ChannelSettings) -> Channel:
    from p2p.channel.nixl import NixlChannel  # noqa: PLC0415  loaded only when chosen

    return NixlChannel(region, settings.nixl)


def _open_shm(region: Region, settings: ChannelSettings) -> Channel:
    from p2p.channel.shm.channel import ShmChannel  # noqa: PLC0415  loaded only when chosen

    return ShmChannel(region, settings.shm)


def _open_tcp(region: Region, settings: ChannelSettings) -> Channel:
    from p2p.channel.tcp.channel import TcpChannel  # noqa: PLC0415  loaded only when chosen

    return TcpChannel(region, settings.tcp)


_CREATORS: Mapping[ChannelName, Callable[[Region, ChannelSettings], Channel]] = {
    ChannelName("shm"): _open_shm,
    ChannelName("nixl"): _open_nixl,
    ChannelName("tcp"): _open_tcp,
}
