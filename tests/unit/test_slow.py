"""Why a transport is slower than it should be is said with what would help, or not at all."""

import pytest

from p2p.agent.host_limits import HostLimits, read_limits, read_place
from p2p.agent.network_devices import NetworkDevice, network_devices
from p2p.backend.limit_views import limit_views
from p2p.channel.slow import why_slow
from p2p.wire.messages import ProcessPlace

HERE = ProcessPlace(boot="b", pid_namespace="p", network_namespace="n", user=1000)
OTHER_PIDS = ProcessPlace(boot="b", pid_namespace="q", network_namespace="n", user=1000)
OTHER_USER = ProcessPlace(boot="b", pid_namespace="p", network_namespace="n", user=0)
ELSEWHERE = ProcessPlace(boot="c", pid_namespace="p", network_namespace="n", user=1000)
RDMA = HostLimits(rdma_devices=("mlx5_0",), has_rdma_files=True)


@pytest.mark.parametrize(
    ("place", "limits", "transports", "expected"),
    [
        (OTHER_PIDS, HostLimits(), (), "another PID namespace"),
        (OTHER_USER, HostLimits(), (), "as user 0, we as 1000"),
        (HERE, HostLimits(ptrace_scope=1), (), "kernel.yama.ptrace_scope is 1"),
        (HERE, HostLimits(), (), "allow process_vm_readv"),
        (HERE, HostLimits(), ("tcp",), "nixl_transports = tcp leaves out cma"),
        (HERE, HostLimits(), ("^cma",), "nixl_transports = ^cma leaves out cma"),
        (ELSEWHERE, HostLimits(), (), ""),
        (ELSEWHERE, RDMA, ("tcp",), "leaves out RDMA, and mlx5_0 is there"),
        (ELSEWHERE, HostLimits(rdma_devices=("mlx5_0",)), (), "/dev/infiniband is not"),
        (
            ELSEWHERE,
            HostLimits(locked_bytes=64 << 10, rdma_devices=("mlx5_0",), has_rdma_files=True),
            (),
            "ulimit -l is 64 KiB",
        ),
        (ELSEWHERE, RDMA, (), "mlx5_0 is not used"),
        (None, RDMA, (), ""),
    ],
)
def test_a_slow_transport_has_a_reason(place, limits, transports, expected):
    found = why_slow(HERE, limits, transports, "nixl", "tcp", place)
    assert expected in found
    assert bool(found) == bool(expected)


@pytest.mark.parametrize(
    ("channel", "transport"), [("nixl", "cma"), ("nixl", "cma+tcp"), ("shm", "shm"), ("tcp", "tcp")]
)
def test_what_is_as_fast_as_it_should_be_has_none(channel, transport):
    assert why_slow(HERE, RDMA, (), channel, transport, OTHER_PIDS) == ""


def faults(limits: HostLimits, *channels: str) -> list[str]:
    return [view.name for view in limit_views(limits, channels) if view.fault]


def test_limits_are_faults_only_where_they_matter():
    low = HostLimits(locked_bytes=64 << 10, ptrace_scope=1, shmem_huge_pages="never")
    assert faults(low) == []
    assert faults(low, "nixl", "shm") == [
        "kernel.yama.ptrace_scope",
        "transparent_hugepage/shmem_enabled",
    ]
    with_adapter = HostLimits(locked_bytes=64 << 10, rdma_devices=("mlx5_0",))
    assert faults(with_adapter, "nixl") == ["ulimit -l"]
    gpu = HostLimits(rdma_devices=("m",), has_nvidia=True, has_expandable_segments=True)
    assert faults(gpu, "nixl") == ["peer memory module", "expandable_segments"]


def test_this_machine_can_be_read():
    assert read_limits().locked_bytes >= -1
    assert read_place().pid_namespace.startswith("pid:[")


def test_network_devices_are_read_as_the_kernel_shows_them(tmp_path):
    port = tmp_path / "ib/mlx5_0/ports/1"
    port.mkdir(parents=True)
    (port / "state").write_text("4: ACTIVE\n")
    (port / "rate").write_text("100 Gb/sec (4X EDR)\n")
    for name, state, speed in (("eth0", "up", "25000"), ("eth1", "down", "-1"), ("lo", "up", "")):
        (tmp_path / "net" / name).mkdir(parents=True)
        (tmp_path / "net" / name / "operstate").write_text(state)
        (tmp_path / "net" / name / "speed").write_text(speed)
    assert network_devices(tmp_path / "net", tmp_path / "ib") == (
        NetworkDevice("mlx5_0:1", is_rdma=True, is_up=True, mbit_per_s=100_000),
        NetworkDevice("eth0", is_rdma=False, is_up=True, mbit_per_s=25_000),
        NetworkDevice("eth1", is_rdma=False, is_up=False),
    )
