"""Checks the settings that name channels. Pure."""

from collections.abc import Mapping, Sequence

from p2p.channel.registry import channel_names
from p2p.errors import ConfigError


def check_channels(
    channels: Sequence[str], channel: str, by_peer: Mapping[str, Sequence[str]]
) -> None:
    """Raises `ConfigError` for channels that are unknown, named twice, or contradict each other."""
    _check_list("backend.channels", channels)
    if channel:
        _check_list("backend.channel", (channel,))
    if channel and channels:
        raise ConfigError("backend.channel", channel, "channels names some, too: write one of both")
    allowed = (channel,) if channel else tuple(channels) or channel_names()
    for pattern, names in by_peer.items():
        key = f"backend.peer_channels.{pattern}"
        if not names:
            raise ConfigError(key, [], "must name at least one channel")
        _check_list(key, names)
        for name in names:
            if name not in allowed:
                reason = f"is not among the channels of this instance: {', '.join(allowed)}"
                raise ConfigError(key, name, reason)


def _check_list(key: str, names: Sequence[str]) -> None:
    known = channel_names()
    for name in names:
        if name not in known:
            raise ConfigError(key, name, f"no such channel; there are: {', '.join(sorted(known))}")
        if list(names).count(name) > 1:
            raise ConfigError(key, name, "is named twice")
