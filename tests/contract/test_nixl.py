"""What the `nixl` channel promises beyond the contract: no leaks, no idle work, no noise."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import p2p.channel.nixl_link
from p2p.agent.nixl_agent import NixlAgent, Progress
from p2p.agent.nixl_config import NixlConfig
from p2p.channel.base import Link, Transfer, TransferState
from p2p.channel.nixl import NixlChannel
from p2p.channel.nixl_link import NixlLink
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
from tests.contract.blocks import BIG, SMALL, Blocks
from tests.contract.harness import ROOT, LocalHarness, Peer, ProcessHarness

pytestmark = pytest.mark.contract
TIMEOUT_S = 10.0


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


class Quarantine:
    """A channel with links to a good peer and to a bad one, over TCP."""

    def __init__(self, harness: ProcessHarness) -> None:
        self.ours = Blocks(BIG, seed=1)
        channel = harness.open(self.ours)
        assert isinstance(channel, NixlChannel)
        self.channel = channel
        self.good = harness.share_peer("good", BIG, 3)
        self.bad = harness.share_peer("bad", BIG, 2)
        self.good_link = self.connect("good", self.good)
        self.bad_link = self.connect("bad", self.bad)

    def connect(self, name: str, peer: Peer) -> NixlLink:
        return self.channel.connect(name, peer.offer, TIMEOUT_S)

    def give_up(self, link: Link | None = None, count: int = 1) -> Transfer:
        """Gives transfers up with the bad peer, which is stopped; returns the last one."""
        transfers = [(link or self.bad_link).read(range(32), range(32)) for _ in range(count)]
        for transfer in transfers:
            transfer.cancel()
            assert not transfer.quiesced()
        return transfers[-1]

    def num_agents(self) -> int:
        return len(self.channel._agents)


@pytest.fixture(scope="module")
def tcp_processes():
    harness = ProcessHarness("tcp")
    yield harness
    harness.end()


@pytest.fixture
def quarantine(tcp_processes):
    quarantine = Quarantine(tcp_processes)
    yield quarantine
    quarantine.good.resume()
    quarantine.bad.resume()
    tcp_processes.end_test()


def finish_well(transfer: Transfer) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while transfer.poll() is TransferState.PENDING:
        assert time.monotonic() < deadline
    assert transfer.poll() is TransferState.DONE, transfer.error()


def wait_quiesced(transfer: Transfer) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not transfer.quiesced():
        assert time.monotonic() < deadline


def num_open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def num_threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


def test_unknown_transport_does_not_start():
    blocks = Blocks(SMALL, seed=1)
    with pytest.raises((PluginMissingError, MemoryUnavailableError)):
        NixlChannel(blocks.region, NixlConfig(transports=("nosuch",)))


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


def test_fences_leak_neither_agents_nor_files_nor_threads(quarantine):
    counts = []
    for cycle in range(12):
        name = f"bad-{cycle}"  # a new name is no suspect: it starts on the shared agent
        link = quarantine.connect(name, quarantine.bad)
        quarantine.bad.stop()
        transfer = quarantine.give_up(link)
        finish_well(quarantine.good_link.read([40], [cycle]))
        quarantine.channel.fence(name)
        assert transfer.quiesced()
        quarantine.bad.resume()
        link = quarantine.connect(name, quarantine.bad)
        finish_well(link.read([41], [cycle]))
        link.close()
        assert quarantine.channel.quarantined() == 0
        finish_well(quarantine.good_link.read([42], [cycle]))
        counts.append(
            [quarantine.num_agents(), num_open_files(os.getpid()), num_threads(os.getpid())]
        )
    assert counts[-1][0] == 1
    assert counts[-1] == counts[1], counts


def test_an_agent_that_quiesces_by_itself_is_destroyed_with_its_last_user(quarantine):
    quarantine.bad.stop()
    transfer = quarantine.give_up()
    assert quarantine.num_agents() == 1, "the fresh agent comes with the first who needs it"
    finish_well(quarantine.good_link.read([40], [0]))
    assert quarantine.num_agents() == 2
    quarantine.bad.resume()
    wait_quiesced(transfer)
    finish_well(quarantine.bad_link.read([41], [1]))
    assert quarantine.num_agents() == 2
    quarantine.bad_link.close()
    assert quarantine.num_agents() == 1
    finish_well(quarantine.good_link.read([42], [2]))


def test_an_innocent_transfer_ends_on_the_agent_that_its_link_left(quarantine):
    quarantine.good.stop()
    older = quarantine.good_link.read(range(32, 48), range(32, 48))
    quarantine.bad.stop()
    transfer = quarantine.give_up()
    quarantine.good.resume()
    finish_well(quarantine.good_link.read([48], [48]))
    finish_well(older)
    assert not transfer.quiesced()
    assert quarantine.ours.blocks()[32:49] == Blocks(BIG, seed=3).blocks()[32:49]


def test_suspects_do_not_hurt_each_other_for_ever(quarantine):
    second = quarantine.connect("second", quarantine.good)
    quarantine.good.stop()
    quarantine.bad.stop()
    late = second.read(range(32, 48), range(32, 48))
    hung = quarantine.bad_link.read(range(32), range(32))
    late.cancel()
    hung.cancel()
    assert second.reading is quarantine.bad_link.reading
    quarantine.good.resume()
    wait_quiesced(late)
    finish_well(second.read([50], [50]))
    shared_with_nobody = second.read([51], [51])
    assert second.reading is not quarantine.bad_link.reading
    quarantine.channel.fence("bad")
    finish_well(shared_with_nobody)
    assert second.is_up()
    assert quarantine.good_link.is_up()
    finish_well(quarantine.good_link.read([52], [52]))


def test_a_silent_link_goes_down_instead_of_moving(quarantine, monkeypatch):
    quarantine.bad.stop()
    quarantine.give_up()
    assert quarantine.good_link.is_up()
    monkeypatch.setattr(p2p.channel.nixl_link, "_TRUST_S", 0.0)
    assert not quarantine.good_link.is_up()
    with pytest.raises(LinkDownError, match="dial again"):
        quarantine.good_link.read([40], [0])
    finish_well(quarantine.connect("good", quarantine.good).read([40], [0]))


def test_too_many_given_up_transfers_are_fenced_without_being_asked(quarantine):
    limit = NixlConfig().max_quarantined
    quarantine.bad.stop()
    transfer = quarantine.give_up(count=limit - 1)
    assert quarantine.channel.quarantined() == limit - 1
    last = quarantine.give_up()
    assert quarantine.channel.quarantined() == 0
    assert transfer.quiesced()
    assert last.quiesced()
    assert not quarantine.bad_link.is_up()
    finish_well(quarantine.good_link.read([40], [0]))
