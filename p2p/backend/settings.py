"""Settings of a backend, checked before anything starts."""

import os
import socket
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from p2p.backend.channel_settings import check_channels
from p2p.backend.engine_device import parse_device
from p2p.channel.registry import channel_names
from p2p.config import Settings
from p2p.errors import ArgumentError, ConfigError
from p2p.kernels import DeviceKind, DeviceName
from p2p.keys import Namespace
from p2p.layout import ByteOrder, Layout
from p2p.wire.context import check_address

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class BackendConfig(Settings, frozen=True, kw_only=True):
    """How one instance takes part in the fabric.

    Attributes:
        namespace: what makes its chunk keys comparable with others'.
        controller: the controller's address.
        instance: its id, unique in the cluster and the same after a restart; by default the host
            name and the process id.
        bind: where it answers peers; port ``*`` takes a free one.
        advertise: the address that peers use, where it differs from ``bind``.
        device: where the engine keeps its paged cache: ``cpu``, ``cuda:0``, ``rocm``, ``npu:1``,
            ``mlu``. A pool in host memory is pinned where the device can; chunks go between it
            and a device through a ring of buffers, as `P2PBackend.register_cache` says.
        pool_bytes: memory for chunks, registered for remote reads; a number or such as ``4GiB``.
        pool_memory: ``shared`` lets the workers of the same engine map the pool, so that an
            instance may have several ranks: their shards of a chunk lie in one slot. ``device``
            takes memory of ``device``, a GPU that the network can reach: kernels copy and digest
            there, and no byte goes through the host. Untested on hardware.
        channels: how bytes may move: ``shm`` between instances of one host, one user and one
            network namespace; ``nixl``; ``tcp``, which needs nothing but a network. The first one
            that works with a peer is used for it. Empty offers all that can be had here, and takes
            the fastest that works.
        channel: the only one that may be used; the same as one name in ``channels``.
        peer_channels: the same for reading from some peers: lists by the peers' names, or patterns
            such as ``decode-*``; the first pattern that fits counts.
        channel_retry_s: a channel that failed with a peer while another one works is tried again
            after so long, then after twice as long, at last every five minutes.
        budget_s: of a fetch that names none.
        lease_s: longest lease that is granted without renewal.
        lease_bytes_per_reader: most that one reader may borrow at a time.
        readers_per_chunk: a long run is lent to so many readers at a time, and others are sent to
            those; 0 is no limit.
        ahead_bytes: a fetch of at most so much asks the holder that served the last one for a lease
            while the directory is still looking; 0 always waits for the directory.
        links_ahead: peers are linked before a fetch needs them, as long as there are fewer links
            than this: those that answers of the directory name, and some at the start; 0 waits for
            the first fetch.
        links_ahead_near: so many of the nearest members are linked at the start.
        links_ahead_per_s: so many of these first contacts are begun in a second at most.
        window_bytes: largest read that is submitted at once.
        quarantine_s: a given-up transfer that has not quiesced by then has its agent torn down.
        verify: which digests are checked of what arrives: all, those of one read in 16, or none.
            Without them a holder's damaged memory, and whoever lends it further, goes unnoticed.
        pull: ``auto`` leaves to the engine what takes longer to read than to compute, see
            `P2PBackend.report_prefill`; ``always`` reads what peers have, ``never`` reads nothing.
        keep: which fetched chunks stay when the pool is full: ``always`` all, like computed ones;
            ``never`` none beyond their use, before what is nowhere else; ``hot`` those that are
            fetched or used again soon, and what many want at once.
        mirror: keep a copy of the namespace's directory here, and look up without a message.
        mirror_behind_s: a copy that the controller has not confirmed for so long is not used.
        mirror_entries_max: a copy that would have more entries is given up; each takes 200 bytes.
        num_lanes: threads that read large chunks and verify them.
        pinned_share: operators may keep at most this share of the pool from eviction.
        leave_s: at the end, what is lent is left to its readers for so long at most.
        host: name of the machine; peers with the same one are near. By default its boot id.
        rack: label of the rack; peers with the same one are nearer than others.
        keys_dir: folder of CURVE keys; empty leaves the control plane open to everyone.
        key_name: which of the keys is ours; by default the instance's id.
        nixl_plugin: the plugin through which NIXL moves bytes.
        nixl_transports: UCX transports that the ``nixl`` channel may use, or all but those that
            are named with ``^``, such as ``^cma``; empty allows all.
        nixl_net_devices: network devices that it may use; empty allows all.
        shm_threads: that copy a piece above 4 MiB on the ``shm`` channel; 0 takes one for every
            processor, at most eight.
        tcp_port: on which the ``tcp`` channel listens, at the address of ``bind``; 0 takes a free
            one.
        tcp_streams: connections of a link on the ``tcp`` channel; 0 takes one for every four
            processors, at most four.
        tcp_mbit: most that the ``tcp`` channel sends in a second; its readers share it equally.
            0 is no limit.
        tcp_tls_dir: folder with ``cert.pem``, ``key.pem`` and ``ca.pem``, with which the ``tcp``
            channel encrypts what it moves; empty leaves it in the clear.
    """

    SECTION: ClassVar[str] = "backend"

    namespace: Namespace
    controller: str = "tcp://127.0.0.1:7600"
    instance: Annotated[str, msgspec.Meta(max_length=128)] = ""
    bind: str = "tcp://127.0.0.1:*"
    advertise: str = ""
    device: str = "cpu"
    pool_bytes: Annotated[int, msgspec.Meta(ge=1)] = 1 << 30
    pool_memory: Literal["private", "shared", "device"] = "private"
    channels: tuple[str, ...] = ()
    channel: str = ""
    peer_channels: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    channel_retry_s: _Seconds = 5.0
    budget_s: _Seconds = 0.5
    lease_s: _Seconds = 10.0
    lease_bytes_per_reader: Annotated[int, msgspec.Meta(ge=1)] = 1 << 40
    readers_per_chunk: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 8
    ahead_bytes: Annotated[int, msgspec.Meta(ge=0)] = 16 << 20
    links_ahead: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 16
    links_ahead_near: Annotated[int, msgspec.Meta(ge=0, le=512)] = 4
    links_ahead_per_s: Annotated[float, msgspec.Meta(gt=0, le=100)] = 4.0
    window_bytes: Annotated[int, msgspec.Meta(ge=1)] = 8 << 20
    quarantine_s: _Seconds = 5.0
    verify: Literal["always", "sample", "off"] = "always"
    pull: Literal["auto", "always", "never"] = "auto"
    keep: Literal["always", "hot", "never"] = "hot"
    mirror: bool = False
    mirror_behind_s: _Seconds = 2.0
    mirror_entries_max: Annotated[int, msgspec.Meta(ge=1)] = 4_000_000
    num_lanes: Annotated[int, msgspec.Meta(ge=1, le=64)] = 2
    pinned_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    leave_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 1.0
    host: Annotated[str, msgspec.Meta(max_length=256)] = ""
    rack: Annotated[str, msgspec.Meta(max_length=256)] = ""
    keys_dir: str = ""
    key_name: str = ""
    nixl_plugin: str = "UCX"
    nixl_transports: tuple[str, ...] = ()
    nixl_net_devices: tuple[str, ...] = ()
    shm_threads: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    tcp_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    tcp_streams: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0
    tcp_mbit: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    tcp_tls_dir: str = ""

    def check(self) -> None:
        """Raises `ConfigError` for values that types alone cannot refuse."""
        check_address("backend.controller", self.controller)
        parse_device(self.device)
        check_address("backend.bind", self.bind)
        if self.advertise:
            check_address("backend.advertise", self.advertise)
        if self.keys_dir and not Path(self.keys_dir).is_dir():
            raise ConfigError("backend.keys_dir", self.keys_dir, "is no folder")
        if self.key_name and not self.keys_dir:
            raise ConfigError("backend.key_name", self.key_name, "needs keys_dir")
        check_channels(self.channels, self.channel, self.peer_channels)
        _check_pool_place(self)

    @property
    def named_channels(self) -> tuple[str, ...]:
        """The channels that the user named, in order; empty leaves the choice open."""
        return (self.channel,) if self.channel else self.channels

    @property
    def possible_channels(self) -> tuple[str, ...]:
        """The channels that are named, or all that reach the pool's memory."""
        if self.named_channels:
            return self.named_channels
        return ("nixl",) if self.pool_memory == "device" else channel_names()

    def filled(self) -> "BackendConfig":
        """Returns the settings with what is left open taken from this machine."""
        return msgspec.structs.replace(
            self,
            instance=self.instance or f"{socket.gethostname()}-{os.getpid()}",
            host=self.host or boot_id(),
        )


def pool_place(config: BackendConfig) -> DeviceName:
    """Returns the device in whose memory the pool is; the host, unless settings say otherwise."""
    text = config.device if config.pool_memory == "device" else DeviceKind.CPU.value
    return parse_device(text)


def _check_pool_place(config: BackendConfig) -> None:
    """Refuses pools in device memory that the channel, or kernels, could not reach."""
    if config.pool_memory != "device":
        return
    if parse_device(config.device).torch_type != "cuda":
        reason = f"needs a GPU; backend.device is {config.device}"
        raise ConfigError("backend.pool_memory", "device", reason)
    for name in config.named_channels:
        if name != "nixl":
            reason = f"the {name} channel reads host memory: leave the pool there"
            raise ConfigError("backend.pool_memory", "device", reason)


def check_layout(config: BackendConfig, layout: Layout) -> None:
    """Raises `ConfigError` for a layout that this backend or the namespace cannot have."""
    try:
        layout.check()
    except ArgumentError as error:
        raise ConfigError(f"layout.{error.name}", error.value, error.reason) from error
    if layout.kv_dtype != config.namespace.kv_dtype:
        reason = f"the namespace says {config.namespace.kv_dtype}"
        raise ConfigError("layout.kv_dtype", layout.kv_dtype, reason)
    if layout.pipeline_parallel != 1:
        reason = "stages do not share a pool"
        raise ConfigError("layout.pipeline_parallel", layout.pipeline_parallel, reason)
    if layout.tensor_parallel == 1:
        return
    if config.pool_memory != "shared":
        reason = "this backend runs one rank in the engine's process, unless pool_memory = shared"
        raise ConfigError("layout.tensor_parallel", layout.tensor_parallel, reason)
    if layout.byte_order is not ByteOrder.OPAQUE:
        reason = "shards in one slot move whole: the layout must be opaque"
        raise ConfigError("layout.byte_order", layout.byte_order.value, reason)


def boot_id() -> str:
    """Returns a name for this machine that containers on it share; the host name elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def advertised_address(config: BackendConfig, bound: str) -> str:
    """Returns the address that peers are told.

    Raises:
        ConfigError: every interface is bound, so the address must be named.
    """
    if config.advertise:
        host, _, port = config.advertise.rpartition(":")
        return f"{host}:{bound.rpartition(':')[2]}" if port == "*" else config.advertise
    if any(wildcard in bound for wildcard in ("0.0.0.0", "[::]")):  # noqa: S104
        reason = "name the address that peers can reach, such as tcp://10.0.0.7:*"
        raise ConfigError("backend.advertise", config.advertise, reason)
    return bound
