"""The network devices of this machine, as the kernel shows them under ``/sys``."""

from dataclasses import dataclass
from pathlib import Path

_NET = Path("/sys/class/net")
_RDMA = Path("/sys/class/infiniband")
_LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class NetworkDevice:
    """A device.

    Attributes:
        name: the kernel's; of an RDMA adapter with its port, such as ``mlx5_0:1``.
        is_rdma: it is an adapter for RDMA, and not a device for packets.
        is_up: it has a carrier, or the port is active.
        mbit_per_s: as the driver says; 0 if it does not.
    """

    name: str
    is_rdma: bool
    is_up: bool
    mbit_per_s: int = 0


def network_devices(net: Path = _NET, rdma: Path = _RDMA) -> tuple[NetworkDevice, ...]:
    """Returns the devices, adapters for RDMA first; without the loopback device."""
    ports = sorted(rdma.glob("*/ports/*"))
    packets = sorted(path for path in net.glob("*") if path.name != _LOOPBACK)
    return (*map(_port, ports), *map(_packets, packets))


def _port(path: Path) -> NetworkDevice:
    state = _text(path / "state")  # such as "4: ACTIVE"
    rate = _text(path / "rate").split()  # such as "100 Gb/sec (4X EDR)"
    mbit = int(float(rate[0]) * 1000) if rate and rate[0].replace(".", "", 1).isdigit() else 0
    name = f"{path.parents[1].name}:{path.name}"
    return NetworkDevice(name, is_rdma=True, is_up="ACTIVE" in state, mbit_per_s=mbit)


def _packets(path: Path) -> NetworkDevice:
    speed = _text(path / "speed")  # -1 where the driver does not know
    is_up = _text(path / "operstate") in {"up", "unknown"}
    mbit = int(speed) if speed.isdigit() else 0
    return NetworkDevice(path.name, is_rdma=False, is_up=is_up, mbit_per_s=mbit)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
