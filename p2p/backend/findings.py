"""Puts into messages what was found on a machine. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from p2p import __version__
from p2p.agent.host_limits import HostLimits
from p2p.agent.network_devices import NetworkDevice
from p2p.backend.engine_device import parse_device
from p2p.backend.limit_views import limit_views
from p2p.backend.settings import BackendConfig
from p2p.kernels import Detected
from p2p.wire.messages import (
    MAX_PAIRS,
    DeviceView,
    Diagnosis,
    KernelView,
    NicView,
    OwnChannel,
    PairView,
    ProcessPlace,
    Register,
)

_TESTED = frozenset({"shm", "tcp"})
_MAX_NICS = 256


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found.

    Attributes:
        place: where our process runs.
        limits: of the host and the process.
        devices: accelerators, by kind.
        network: its devices.
        used: the device where the engine's cache is.
    """

    place: ProcessPlace
    limits: HostLimits
    devices: Sequence[Detected]
    network: Sequence[NetworkDevice]
    used: str

    @property
    def has_rdma(self) -> bool:
        """There is an adapter for RDMA."""
        return any(device.is_rdma for device in self.network)


def diagnosis_of(
    identity: Register,
    machine: Machine,
    channels: Sequence[OwnChannel],
    kernels: Sequence[KernelView],
    pairs: Sequence[PairView],
) -> Diagnosis:
    """Returns the whole answer."""
    names = tuple(one.channel for one in channels if one.is_open)
    return Diagnosis(
        instance=identity.instance,
        incarnation=identity.incarnation,
        version=__version__,
        host=identity.host,
        place=machine.place,
        devices=_device_views(machine),
        nics=tuple(map(_nic_view, machine.network[:_MAX_NICS])),
        limits=limit_views(machine.limits, names),
        channels=tuple(channels),
        kernels=tuple(kernels),
        pairs=tuple(pairs[:MAX_PAIRS]),
        more=max(0, len(pairs) - MAX_PAIRS),
    )


def own_channels(
    names: Sequence[str],
    absent: Sequence[tuple[str, str]],
    config: BackendConfig,
    machine: Machine,
) -> tuple[OwnChannel, ...]:
    """Returns the channels that are open, and why others are not."""
    opened = [
        OwnChannel(
            channel=name,
            is_open=True,
            detail=_nixl_detail(config) if name == "nixl" else "",
            is_tested=name in _TESTED or not machine.has_rdma,
        )
        for name in names
    ]
    missing = [OwnChannel(channel=name, is_open=False, detail=reason) for name, reason in absent]
    return (*opened, *missing)


def _nixl_detail(config: BackendConfig) -> str:
    transports = ",".join(config.nixl_transports) or "all"
    devices = ",".join(config.nixl_net_devices) or "all"
    return f"plugin {config.nixl_plugin}, transports {transports}, network devices {devices}"


def _device_views(machine: Machine) -> tuple[DeviceView, ...]:
    used = parse_device(machine.used).kind.value
    host = DeviceView(kind="cpu", name="host", is_used=used == "cpu", is_tested=True)
    found = [
        DeviceView(
            kind=each.kind.value,
            name=f"{each.count} found" if each.count else "none",
            state=each.reason,
            is_used=each.kind.value == used,
        )
        for each in machine.devices
    ]
    return (host, *found)


def _nic_view(device: NetworkDevice) -> NicView:
    return NicView(
        name=device.name,
        kind="infiniband" if device.is_rdma else "ethernet",
        has_carrier=device.is_up,
        mbit_per_s=device.mbit_per_s,
    )
