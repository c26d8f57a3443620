"""What the `nixl` channel promises beyond the contract: no leaks, no idle work, no noise."""

import os
import subprocess
import sys
import threading
import time

import pytest

from p2p.agent.nixl_agent import NixlAgent, Progress
from p2p.agent.nixl_config import NixlConfig
from p2p.channel.nixl import NixlChannel
from p2p.errors import (
    ClosedError,
    ConfigError,
    LinkDownError,
    LocalError,
    MemoryUnavailableError,
    PluginMissingError,
    ProtocolError,
)
from p2p.regions import MemoryKind, Region, Segment
from tests.contract.blocks import SMALL, Blocks
from tests.contract.harness import ROOT, LocalHarness, ProcessHarness
from tests.contract.watch import (
    TIMEOUT_S,
    finish_well,
    num_open_files,
    num_threads,
    processor_seconds,
)

pytestmark = pytest.mark.contract


@pytest.fixture
def local():
    harness = LocalHarness()
    yield harness
    harness.end_test()


@pytest.fixture
def processes():
    harness = ProcessHarness("")
    yield harness
    harness.end_test()


def run_python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_connecting_leaks_neither_files_nor_threads_on_either_side(processes):
    channel = processes.open(Blocks(SMALL, seed=1))
    peer = processes.start_peer("peer", SMALL, 2)
    counts = []
    for _ in range(3):
        for _ in range(6):
            link = channel.connect("peer", peer.offer, TIMEOUT_S)
            finish_well(link.read([0], [0]))
            link.close()
        time.sleep(0.3)  # the peer notices the end of our connections by itself
        counts.append(
            [f(p) for f in (num_open_files, num_threads) for p in (os.getpid(), peer.pid)]
        )
    assert counts[2] == counts[1]


def test_a_serving_process_is_idle_when_nobody_reads(processes):
    channel = processes.open(Blocks(SMALL, seed=1))
    peer = processes.start_peer("peer", SMALL, 2)
    channel.connect("peer", peer.offer, TIMEOUT_S)
    before = processor_seconds(peer.pid), time.monotonic()
    time.sleep(2.0)
    used = processor_seconds(peer.pid) - before[0]
    assert used / (time.monotonic() - before[1]) < 0.02


def test_a_reading_process_is_idle_too():
    code = """
import time
from p2p.channel.nixl import NixlChannel
from tests.contract.blocks import SMALL, Blocks
blocks = Blocks(SMALL, 1)
channel = NixlChannel(blocks.region)
link = channel.connect("self", channel.offer(), 10.0)
assert link.transport() == "cma"
before = time.process_time()
time.sleep(1.5)
assert time.process_time() - before < 0.03
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_terminal_environment_and_logging_stay_as_they_were():
    code = """
import logging, os
before = dict(os.environ)
from p2p.errors import P2PError
from p2p.channel.base import ChannelOffer
from p2p.channel.nixl import NixlChannel
from tests.contract.blocks import SMALL, Blocks
blocks = Blocks(SMALL, 1)
channel = NixlChannel(blocks.region)
offer = channel.offer()
channel.connect("self", offer, 10.0).read([0], [1])
try:
    channel.connect("bad", ChannelOffer(channel="nixl", metadata=b"bad", region=offer.region), 5.0)
except P2PError:
    pass
channel.close()
assert dict(os.environ) == before
assert logging.raiseExceptions
assert not logging.getLogger("nixl").handlers
"""
    result = run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_packages_import_without_nixl_and_torch():
    code = """
import sys
import p2p.agent, p2p.channel, p2p.channel.fake, p2p.channel.nixl, p2p.agent.memory
assert not {m.split(".")[0] for m in sys.modules} & {"nixl_cu13", "nixl_cu12", "nixl", "torch"}
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_missing_nixl_says_what_to_install():
    code = """
import sys
for name in ("nixl_cu13", "nixl_cu12", "nixl", "nixl_rocm"):
    sys.modules[name] = None
from p2p.agent.nixl_library import nixl_library
from p2p.errors import PluginMissingError
try:
    nixl_library()
except PluginMissingError as error:
    assert "p2p-kv[nixl]" in str(error)
else:
    sys.exit(1)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_a_missing_plugin_is_an_error_not_a_warning():
    with pytest.raises(PluginMissingError, match="NOSUCH"):
        NixlAgent("test", NixlConfig(plugin="NOSUCH"), Progress.CALLER)


def test_a_transport_that_is_not_here_does_not_start():
    blocks = Blocks(SMALL, seed=1)
    with pytest.raises((PluginMissingError, MemoryUnavailableError)):
        NixlChannel(blocks.region, NixlConfig(transports=("rc_mlx5",)))


def test_an_unknown_transport_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"nixl\.transports = 'nosuch'"):
        NixlConfig(transports=("nosuch",))


def test_transport_is_unknown_when_ucx_logs_elsewhere(tmp_path):
    code = """
from p2p.channel.nixl import NixlChannel
from tests.contract.blocks import SMALL, Blocks
blocks = Blocks(SMALL, 1)
channel = NixlChannel(blocks.region)
assert channel.connect("self", channel.offer(), 10.0).transport() == "unknown"
"""
    result = run_python(code, UCX_LOG_FILE=str(tmp_path / "ucx.log"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_lists_of_transports_work():
    blocks = Blocks(SMALL, seed=1)
    channel = NixlChannel(blocks.region, NixlConfig(transports=("tcp", "cma")))
    assert channel.connect("self", channel.offer(), TIMEOUT_S).transport() == "cma"
    channel.close()


def test_a_region_outside_of_the_metadata_is_refused(local):
    channel = local.open(Blocks(SMALL, seed=1))
    peer = local.start_peer("peer", SMALL, 2)
    segment = peer.offer.region.segments[0]
    for base, count in ((4096, 4), (segment.base, 17)):
        region = Region((Segment(base, segment.stride, segment.length),), count)
        offer = type(peer.offer)(channel="nixl", metadata=peer.offer.metadata, region=region)
        with pytest.raises(ProtocolError):
            channel.connect("peer", offer, TIMEOUT_S)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    finish_well(link.read([0], [0]))


def test_an_agent_used_by_two_threads_refuses_the_second(local):
    blocks = Blocks(SMALL, seed=1)
    channel = local.open(blocks)
    link = channel.connect("peer", local.start_peer("peer", SMALL, 2).offer, TIMEOUT_S)
    gate = link._seat._peering.gate
    refusals: list[LocalError] = []

    def intrude() -> None:
        try:
            link.read([0], [0])
        except LocalError as error:
            refusals.append(error)

    with gate:
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()
    assert "two threads" in str(refusals[0])
    finish_well(link.read([0], [0]))


def test_agents_never_share_a_name():
    agents = [NixlAgent("test", NixlConfig(), Progress.CALLER) for _ in range(2)]
    assert agents[0].name != agents[1].name
    for agent in agents:
        agent.close()
        agent.close()
        with pytest.raises(ClosedError):
            agent.metadata()


def test_device_memory_without_a_device_is_unavailable():
    agent = NixlAgent("test", NixlConfig(), Progress.CALLER)
    blocks = Blocks(SMALL, seed=1)
    with pytest.raises(MemoryUnavailableError):
        agent.register([(blocks.arena.address, 4096)], MemoryKind.VRAM, 0)
    agent.close()


def test_torn_down_links_say_why(local):
    channel = local.open(Blocks(SMALL, seed=1))
    link = channel.connect("peer", local.start_peer("peer", SMALL, 2).offer, TIMEOUT_S)
    channel.close()
    with pytest.raises(LinkDownError, match="the channel is closed"):
        link.read([0], [0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tcp_user_timeout_s", 0),
        ("tcp_syn_retries", 0),
        ("tcp_segment_bytes", 1),
        ("num_threads", -1),
        ("wakeup_ms", 0),
        ("max_quarantined", 0),
        ("transports", ("tcp,cma",)),
        ("net_devices", ("",)),
    ],
)
def test_impossible_settings_name_their_key(field, value):
    with pytest.raises(ConfigError) as caught:
        NixlConfig(**{field: value})
    assert caught.value.key == f"nixl.{field}"


def test_posting_threads_move_the_same_bytes(local):
    theirs = Blocks(SMALL, seed=2)
    ours = Blocks(SMALL, seed=1)
    config = NixlConfig(num_threads=1, split_batch_size=1)
    serving, reading = NixlChannel(theirs.region), NixlChannel(ours.region, config)
    link = reading.connect("peer", serving.offer(), TIMEOUT_S)
    finish_well(link.read(range(16), range(16)))
    assert ours.blocks() == theirs.blocks()
    reading.close()
    serving.close()


# Quarantine
