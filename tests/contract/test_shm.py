"""What the `shm` channel promises beyond the contract: who may map a pool; nothing leaks."""

import fcntl
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from p2p.agent.memory_files import SharedFile, shared_file_of
from p2p.agent.shared_arena import SharedArena, attach
from p2p.channel.base import Channel, ChannelOffer, TransferState
from p2p.channel.shm import Access, PoolWriters, ShmChannel, ShmConfig
from p2p.channel.shm.greeting import Grant, Greeting, ShmMetadata, encode
from p2p.channel.shm.session import read_target
from p2p.errors import LinkDownError, PeerRefusedError, PeerUnreachableError, ProtocolError
from tests.contract.blocks import BIG, SMALL, Blocks, Shape
from tests.contract.harness import ROOT
from tests.contract.shm_harness import READS_ASIDE, ShmHarness
from tests.contract.transfers import TIMEOUT_S, finish, finish_well, wait_quiesced
from tests.contract.watch import num_open_files, num_threads, processor_seconds

pytestmark = pytest.mark.contract

READ_ONLY = ShmConfig(num_threads=2)
HUGE = Shape(128, (1 << 20,))


@pytest.fixture
def processes() -> Iterator[ShmHarness]:
    harness = ShmHarness(READ_ONLY)
    yield harness
    harness.end_test()


@pytest.fixture
def threads() -> Iterator[ShmHarness]:
    harness = ShmHarness(READS_ASIDE)
    yield harness
    harness.end_test()


def shared_file(blocks: Blocks) -> SharedFile:
    file = shared_file_of(blocks.region)
    assert file is not None
    return file


def changed(offer: ChannelOffer, **fields: str | bytes | int) -> ChannelOffer:
    """Returns an offer with other metadata."""
    metadata = msgspec.msgpack.decode(offer.metadata, type=ShmMetadata)
    other = msgspec.structs.replace(metadata, **fields)
    return ChannelOffer(channel=offer.channel, metadata=encode(other), region=offer.region)


# Who may map a pool, and for what


def test_a_pool_that_is_lent_can_be_neither_shrunk_nor_mapped_for_writing(processes):
    blocks = Blocks(SMALL, 1, SharedArena)
    channel = ShmChannel(blocks.region, READ_ONLY)
    file = shared_file(blocks)
    for size in (0, file.num_bytes + mmap.PAGESIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(file.descriptor, size)
    again = f"/proc/self/fd/{file.descriptor}"
    descriptor = os.open(again, os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, file.num_bytes, mmap.MAP_SHARED)
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
    finally:
        os.close(descriptor)
    blocks.fill(3)  # the holder itself writes as before
    channel.close()


def test_workers_of_the_engine_map_a_lent_pool_for_writing_and_readers_cannot():
    theirs, ours = Blocks(SMALL, 2, SharedArena), Blocks(SMALL, 1)
    assert isinstance(theirs.arena, SharedArena)
    holder = ShmChannel(theirs.region, ShmConfig(writers=PoolWriters.ENGINE))
    attach(theirs.arena.file)[:8192] = 7  # as a worker does
    target = read_target("peer", holder.offer().metadata, theirs.region)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with connection:
        connection.connect(f"\0{target.metadata.name}")
        greeting = Greeting(version=1, token=target.metadata.token, access=Access.WRITE)
        connection.send(encode(greeting))
        content, (descriptor,), _, _ = socket.recv_fds(connection, 4096, 1)
        assert msgspec.msgpack.decode(content, type=Grant).access is Access.READ
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, target.metadata.num_bytes, mmap.MAP_SHARED)
        os.close(descriptor)
    reader = ShmChannel(ours.region)
    finish_well(reader.connect("peer", holder.offer(), TIMEOUT_S).read([1], [0]))
    assert ours.block(1) == b"\7" * 8192
    reader.close()
    holder.close()


def test_a_reader_that_may_only_read_cannot_write(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    with pytest.raises(PeerRefusedError) as caught:
        link.write([0], [0])
    assert caught.value.field == "access"
    finish_well(link.read([0], [1]))


def test_a_holder_that_lends_for_reading_grants_no_more(processes):
    peer = processes.start_peer("peer", SMALL, 2)
    channel = ShmChannel(Blocks(SMALL, 1).region, ShmConfig(access=Access.WRITE))
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    with pytest.raises(PeerRefusedError):
        link.write([0], [0])
    channel.close()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"token": b"\0" * 32}, "token"),
        ({"boot": "another host"}, "host"),
        ({"network": "net:[1]"}, "network namespace"),
        ({"version": 2}, "version"),
    ],
)
def test_who_does_not_fit_is_refused_by_its_field(processes, fields, field):
    channel = processes.open(Blocks(SMALL, 1))
    offer = processes.start_peer("peer", SMALL, 2).offer
    with pytest.raises(PeerRefusedError) as caught:
        channel.connect("peer", changed(offer, **fields), TIMEOUT_S)
    assert caught.value.field == field
    finish_well(channel.connect("peer", offer, TIMEOUT_S).read([0], [0]))


def test_private_memory_is_lent_to_nobody():
    private = ShmChannel(Blocks(SMALL, 1).region, READ_ONLY)
    reader = ShmChannel(Blocks(SMALL, 2).region, READ_ONLY)
    with pytest.raises(PeerRefusedError) as caught:
        reader.connect("peer", private.offer(), TIMEOUT_S)
    assert caught.value.field == "memory"


def test_a_region_outside_of_its_file_is_a_protocol_error(processes):
    channel = processes.open(Blocks(SMALL, 1))
    offer = processes.start_peer("peer", SMALL, 2).offer
    metadata = msgspec.msgpack.decode(offer.metadata, type=ShmMetadata)
    beyond = metadata.address + metadata.num_bytes
    with pytest.raises(ProtocolError, match="outside"):
        channel.connect("peer", changed(offer, address=beyond), TIMEOUT_S)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
def test_another_user_is_refused_by_either_side(processes):
    offer = processes.start_peer("peer", SMALL, 2).offer
    code = """
import os, sys, socket, msgspec
from p2p.channel.base import ChannelOffer
from p2p.channel.shm.greeting import *
from p2p.channel.shm import ShmChannel, Access
from p2p.errors import PeerRefusedError
from p2p.regions import Region, Segment
import numpy as np
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
offer = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=ChannelOffer)
memory = np.zeros(16 * 8192, np.uint8)
region = Region((Segment(memory.ctypes.data, 8192, 8192),), 16)
try:
    ShmChannel(region).connect("peer", offer, 5.0)
except PeerRefusedError as error:
    print("reader", error.field)
metadata = decode_metadata("peer", offer.metadata)
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as plain:
    plain.settimeout(5.0)
    plain.connect("\\0" + metadata.name)
    plain.send(encode(Greeting(version=VERSION, token=metadata.token, access=Access.READ)))
    content, files, _, _ = socket.recv_fds(plain, MAX_BYTES, 1)
    print("holder", decode_answer("peer", content).field, len(files))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=msgspec.msgpack.encode(offer),
        capture_output=True,
        check=False,
        timeout=60,
    )
    said = result.stdout.decode().split("\n")[:2]
    assert said == ["reader user", "holder user 0"], result.stderr.decode()


def test_garbage_ends_a_connection_and_nothing_else(processes):
    channel = processes.open(Blocks(SMALL, 1))
    offer = processes.start_peer("peer", SMALL, 2).offer
    link = channel.connect("peer", offer, TIMEOUT_S)
    name = msgspec.msgpack.decode(offer.metadata, type=ShmMetadata).name
    for content in (b"garbage", b"x" * 10_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.settimeout(TIMEOUT_S)
            stranger.connect(f"\0{name}")
            stranger.send(content)
            assert stranger.recv(100) == b""
    finish_well(link.read([0], [0]))
    finish_well(channel.connect("again", offer, TIMEOUT_S).read([1], [1]))


@contextmanager
def lying_holder(descriptor: int) -> Iterator[str]:
    """Yields the name of a socket that lends whatever file it is given."""
    name = f"p2p-shm-liar-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.settimeout(TIMEOUT_S)
        listener.bind(f"\0{name}")
        listener.listen()

        def lend() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                socket.send_fds(connection, [encode(Grant(access=Access.READ))], [descriptor])
                connection.recv(1)

        thread = threading.Thread(target=lend)
        thread.start()
        yield name
        thread.join()


@pytest.mark.parametrize("kind", ["not sealed", "too short", "no memory file"])
def test_a_file_that_could_kill_its_reader_is_not_mapped(kind, tmp_path):
    lender, reader = Blocks(SMALL, 1, SharedArena), Blocks(SMALL, 2)
    offer = ShmChannel(lender.region, READ_ONLY).offer()
    size = shared_file(lender).num_bytes
    if kind == "no memory file":
        descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    else:
        descriptor = os.memfd_create("liar", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size - mmap.PAGESIZE if kind == "too short" else size)
    if kind == "too short":
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    channel = ShmChannel(reader.region, READ_ONLY)
    before = num_open_files(os.getpid())
    with lying_holder(descriptor) as name:
        with pytest.raises(ProtocolError, match="it lent"):
            channel.connect("peer", changed(offer, name=name), TIMEOUT_S)
    assert num_open_files(os.getpid()) == before
    os.close(descriptor)


# Death and standstill


def test_a_stopped_holder_delays_no_reader(processes):
    ours = Blocks(BIG, 1)
    channel = processes.open(ours)
    peer = processes.start_peer("peer", BIG, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    finish_well(link.read(range(64), range(64)))
    assert ours.blocks() == Blocks(BIG, 2).blocks()
    before = time.monotonic()
    with pytest.raises(PeerUnreachableError, match="no answer"):
        channel.connect("peer", peer.offer, 0.3)
    assert time.monotonic() - before < 2.0
    assert link.is_up()
    peer.resume()
    finish_well(channel.connect("peer", peer.offer, TIMEOUT_S).read([0], [1]))


def test_a_holder_killed_in_the_middle_of_a_transfer_fails_it(threads):
    ours = Blocks(HUGE, 1)
    channel = threads.open(ours)
    peer = threads.start_peer("peer", HUGE, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    transfers = [link.read(range(128), range(128)) for _ in range(8)]
    assert transfers[-1].poll() is TransferState.PENDING
    peer.kill()
    assert finish(transfers[-1]) is TransferState.FAILED
    assert "ended" in transfers[-1].error()
    assert transfers[-1].quiesced()
    assert not link.is_up()
    with pytest.raises(LinkDownError):
        link.read([0], [0])
    assert channel.quarantined() == 0


def test_a_cancelled_transfer_stops_between_pieces(threads):
    ours = Blocks(HUGE, 1)
    channel = threads.open(ours)
    peer = threads.start_peer("peer", HUGE, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    ours.clear()
    transfer = link.read(range(128), range(128))
    transfer.cancel()
    assert transfer.poll() is TransferState.CANCELLED
    wait_quiesced(transfer)
    landed = ours.all_bytes().copy()
    assert not landed[-HUGE.lengths[0] :].any(), "the last piece came in spite of it"
    finish_well(link.read([0], [1]))
    assert np.array_equal(landed[HUGE.lengths[0] :], ours.all_bytes()[HUGE.lengths[0] :])


def test_a_fence_waits_for_what_was_given_up_and_ends_the_link(threads):
    ours = Blocks(HUGE, 1)
    channel = threads.open(ours)
    peer = threads.start_peer("peer", HUGE, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    other = channel.connect("other", peer.offer, TIMEOUT_S)
    running = [link.read(range(128), range(128)) for _ in range(2)]
    for transfer in running:
        transfer.cancel()
    wants = other.read(range(64), range(64))
    channel.fence("peer")
    assert all(transfer.quiesced() for transfer in running)
    assert channel.quarantined() == 0
    finish_well(wants)
    assert other.is_up()


def test_a_forked_child_does_not_hide_the_death_of_its_parent():
    code = """
import os, sys, time, msgspec
from p2p.agent.shared_arena import SharedArena, attach
from p2p.channel.shm import ShmChannel
from tests.contract.blocks import SMALL, Blocks
channel = ShmChannel(Blocks(SMALL, 2, SharedArena).region)
sys.stdout.buffer.write(msgspec.msgpack.encode(channel.offer()) + b"END")
sys.stdout.flush()
sys.stdin.buffer.read(1)
if os.fork() == 0:
    os.close(1)
    sys.stdin.buffer.read()
    os._exit(0)
os.write(1, b"forked")
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        content = b""
        while not content.endswith(b"END"):
            content += process.stdout.read(1)
        offer = msgspec.msgpack.decode(content[:-3], type=ChannelOffer)
        channel = ShmChannel(Blocks(SMALL, 1).region)
        link = channel.connect("peer", offer, TIMEOUT_S)
        process.stdin.write(b"x")
        process.stdin.flush()
        assert process.stdout.read(6) == b"forked"
        finish_well(link.read([0], [0]))
        process.kill()
        process.wait()
        deadline = time.monotonic() + TIMEOUT_S  # the child may not have run yet
        while link.is_up():
            assert time.monotonic() < deadline, "the child holds the connection open"
        channel.close()


def test_a_program_that_we_start_gets_neither_file_nor_socket():
    blocks = Blocks(SMALL, 1, SharedArena)
    channel = ShmChannel(blocks.region)
    link = channel.connect("self", channel.offer(), TIMEOUT_S)
    listing = subprocess.run(
        ["/bin/ls", "-l", "/proc/self/fd"],
        close_fds=False,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        capture_output=False,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert "p2p-pool" not in listing
    assert "socket" not in listing
    link.close()
    channel.close()


# Leaks and idleness


def num_maps(pid: int) -> int:
    lines = Path(f"/proc/{pid}/maps").read_text().split("\n")
    return sum("memfd:p2p-pool" in line for line in lines)


def connect_and_close(channel: Channel, offer: ChannelOffer) -> None:
    link = channel.connect("peer", offer, TIMEOUT_S)
    finish_well(link.read([0], [0]))
    link.close()


def test_two_hundred_connects_leak_neither_files_nor_threads_nor_maps(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    counts = []
    for num_connects in (5, 100, 100):
        for _ in range(num_connects):
            connect_and_close(channel, peer.offer)
        time.sleep(0.2)  # the peer notices the end of our connections by itself
        pids = os.getpid(), peer.pid
        counts.append([f(p) for f in (num_open_files, num_threads, num_maps) for p in pids])
    assert counts[2] == counts[1] == counts[0]


def test_a_closed_link_gives_the_memory_back(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    before = num_maps(os.getpid()), num_open_files(os.getpid())
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    transfer = link.read([0], [0])
    assert num_maps(os.getpid()) == before[0] + 1
    link.close()
    assert (num_maps(os.getpid()), num_open_files(os.getpid())) == before
    assert transfer.poll() is TransferState.DONE


def test_a_serving_process_is_idle_when_nobody_reads(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    channel.connect("peer", peer.offer, TIMEOUT_S)
    before = processor_seconds(peer.pid)
    time.sleep(1.0)
    assert processor_seconds(peer.pid) - before < 0.02
