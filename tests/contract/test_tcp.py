"""What the `tcp` channel promises beyond the contract: who is let in; death, lies, leaks."""

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from p2p.backend.assembly import pool_of
from p2p.backend.own_channels import Endpoints, settings_of
from p2p.backend.settings import BackendConfig
from p2p.channel.base import Channel, ChannelOffer, TransferState
from p2p.channel.registry import open_channel
from p2p.channel.tcp import Access, TcpChannel, TcpConfig, tls_files_in
from p2p.channel.tcp.frames import HEADER_BYTES, Header, Kind, decode, encode
from p2p.channel.tcp.greeting import TcpMetadata
from p2p.channel.tcp.greeting import encode as encode_metadata
from p2p.channel.tcp.handshake import admit, open_stream
from p2p.channel.tcp.pipe import PlainPipe
from p2p.channel.tcp.spans import SPAN
from p2p.errors import (
    ArgumentError,
    ConfigError,
    LinkDownError,
    PeerRefusedError,
    PeerUnreachableError,
)
from p2p.keys import Namespace
from p2p.layout import Layout
from p2p.regions import MemoryKind, Region, Segment
from p2p.wire.curve import load_keys, make_keys, raw_key
from tests.contract.blocks import BIG, SMALL, STRIDED, Blocks
from tests.contract.tcp_harness import PARALLEL, WRITABLE, TcpHarness, TcpHostsHarness
from tests.contract.transfers import TIMEOUT_S, finish, finish_well, wait_quiesced
from tests.contract.watch import num_open_files, num_threads, processor_seconds
from tests.net.namespaces import is_supported

pytestmark = pytest.mark.contract


@pytest.fixture
def processes() -> Iterator[TcpHarness]:
    harness = TcpHarness(WRITABLE)
    yield harness
    harness.end_test()


@pytest.fixture
def opened() -> Iterator[Callable[[Blocks, TcpConfig], TcpChannel]]:
    channels: list[TcpChannel] = []

    def open_one(blocks: Blocks, config: TcpConfig) -> TcpChannel:
        channels.append(TcpChannel(blocks.region, config))
        return channels[-1]

    yield open_one
    for channel in channels:
        channel.close()


def changed(offer: ChannelOffer, **fields: str | bytes | int) -> ChannelOffer:
    """Returns an offer with other metadata."""
    metadata = msgspec.msgpack.decode(offer.metadata, type=TcpMetadata)
    other = msgspec.structs.replace(metadata, **fields)
    return ChannelOffer(channel=offer.channel, metadata=encode_metadata(other), region=offer.region)


def target_of(offer: ChannelOffer) -> TcpMetadata:
    return msgspec.msgpack.decode(offer.metadata, type=TcpMetadata)


# Who is let in


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"token": b"\0" * 32}, "proof"),
        ({"version": 2}, "version"),
        ({"is_tls": True}, "tls"),
        ({"key": b"k" * 32}, "key"),
    ],
)
def test_who_does_not_fit_is_refused_by_its_field(opened, fields, field):
    holder, reader = opened(Blocks(SMALL, 2), TcpConfig()), opened(Blocks(SMALL, 1), TcpConfig())
    with pytest.raises(PeerRefusedError) as caught:
        reader.connect("peer", changed(holder.offer(), **fields), TIMEOUT_S)
    assert caught.value.field == field
    finish_well(reader.connect("peer", holder.offer(), TIMEOUT_S).read([0], [0]))


def keys_in(folder: Path, names: list[str]) -> list[TcpConfig]:
    make_keys(folder, ["controller", *names])
    return [TcpConfig(keys=load_keys(str(folder), name)) for name in names]


def test_members_with_keys_let_each_other_in(opened, tmp_path):
    theirs, ours = keys_in(tmp_path, ["holder", "reader"])
    holder, reader = opened(Blocks(SMALL, 2), theirs), opened(Blocks(SMALL, 1), ours)
    for _ in range(3):
        finish_well(reader.connect("peer", holder.offer(), TIMEOUT_S).read([0], [0]))


def test_a_stranger_with_keys_of_its_own_is_refused_by_either_side(opened, tmp_path):
    (theirs,), (ours,) = keys_in(tmp_path / "a", ["holder"]), keys_in(tmp_path / "b", ["reader"])
    holder, reader = opened(Blocks(SMALL, 2), theirs), opened(Blocks(SMALL, 1), ours)
    with pytest.raises(PeerRefusedError, match="an authorized one") as caught:
        reader.connect("peer", holder.offer(), TIMEOUT_S)
    assert caught.value.field == "key"
    names = "holder.key", "authorized"
    known = (tmp_path / "a" / names[1] / names[0]).read_bytes()
    (tmp_path / "b" / names[1] / names[0]).write_bytes(known)  # now the reader trusts the holder
    with pytest.raises(PeerRefusedError, match="an authorized one"):
        reader.connect("peer", holder.offer(), TIMEOUT_S)


def test_who_knows_the_offer_but_not_the_secret_is_refused(opened, tmp_path):
    theirs, member = keys_in(tmp_path, ["holder", "member"])
    assert member.keys is not None
    _, thief = keys_in(tmp_path / "other", ["holder", "thief"])
    assert thief.keys is not None
    forged = type(member.keys)(
        public=member.keys.public,
        secret=thief.keys.secret,
        authorized=member.keys.authorized,
        controller_public=member.keys.controller_public,
    )
    holder = opened(Blocks(SMALL, 2), theirs)
    reader = opened(Blocks(SMALL, 1), TcpConfig(keys=forged))
    with pytest.raises(PeerRefusedError) as caught:
        reader.connect("peer", holder.offer(), TIMEOUT_S)
    assert caught.value.field == "proof"


def test_a_key_that_was_taken_back_lets_nobody_in_any_more(opened, tmp_path):
    theirs, ours = keys_in(tmp_path, ["holder", "reader"])
    holder, reader = opened(Blocks(SMALL, 2), theirs), opened(Blocks(SMALL, 1), ours)
    reader.connect("peer", holder.offer(), TIMEOUT_S)
    (tmp_path / "authorized" / "reader.key").unlink()
    with pytest.raises(PeerRefusedError, match="an authorized one"):
        reader.connect("again", holder.offer(), TIMEOUT_S)


def test_with_and_without_keys_do_not_fit(opened, tmp_path):
    (ours,) = keys_in(tmp_path, ["reader"])
    holder = opened(Blocks(SMALL, 2), TcpConfig())
    for channel, offer in (
        (opened(Blocks(SMALL, 1), ours), holder.offer()),
        (holder, opened(Blocks(SMALL, 1), ours).offer()),
    ):
        with pytest.raises(PeerRefusedError) as caught:
            channel.connect("peer", offer, TIMEOUT_S)
        assert caught.value.field == "key"


def test_a_reader_that_may_only_read_cannot_write(opened):
    theirs = Blocks(SMALL, 2)
    holder = opened(theirs, TcpConfig())
    for access in (Access.READ, Access.WRITE):
        reader = opened(Blocks(SMALL, 1), TcpConfig(access=access))
        link = reader.connect("peer", holder.offer(), TIMEOUT_S)
        with pytest.raises(PeerRefusedError) as caught:
            link.write([0], [0])
        assert caught.value.field == "access"
        finish_well(link.read([0], [1]))
    assert theirs.blocks() == Blocks(SMALL, 2).blocks()


def certificates(folder: Path) -> None:
    """Makes an authority, and a certificate that it signed."""
    folder.mkdir()
    new = ("req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    ca = ("-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    for words in (
        (*new, "-x509", "-subj", "/CN=authority", *ca),
        (*new, "-subj", "/CN=member", "-keyout", "key.pem", "-out", "cert.csr"),
        ("x509", "-req", "-in", "cert.csr", *signed, "-out", "cert.pem"),
    ):
        subprocess.run(("openssl", *words), cwd=folder, check=True, capture_output=True)  # noqa: S607


def test_tls_moves_the_same_bytes_between_members_of_one_authority(opened, tmp_path):
    try:
        certificates(tmp_path / "one")
        certificates(tmp_path / "two")
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    one, two = (
        TcpConfig(num_streams=2, access=Access.WRITE, tls=tls_files_in(str(tmp_path / name), "tls"))
        for name in ("one", "two")
    )
    ours, theirs = Blocks(BIG, 1), Blocks(BIG, 2)
    holder, reader = opened(theirs, one), opened(ours, one)
    link = reader.connect("peer", holder.offer(), TIMEOUT_S)
    transfers = [link.read(range(i, i + 16), range(i, i + 16)) for i in range(0, 64, 16)]
    finish_well(link.write([3], [5]))
    for transfer in transfers:
        finish_well(transfer)
    assert link.transport() == "tls"
    assert np.array_equal(ours.all_bytes()[4 << 20 :], Blocks(BIG, 2).all_bytes()[4 << 20 :])
    assert theirs.block(5) == ours.block(3) or theirs.block(5) == Blocks(BIG, 1).block(3)
    stranger = opened(Blocks(BIG, 1), two)
    with pytest.raises((PeerRefusedError, PeerUnreachableError)):
        stranger.connect("peer", holder.offer(), TIMEOUT_S)
    link.close()


def test_missing_certificates_and_impossible_settings_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cert\.pem"):
        tls_files_in(str(tmp_path), "backend.tcp_tls_dir")
    for name, make in (
        ("port", lambda: TcpConfig(port=-1)),
        ("num_streams", lambda: TcpConfig(num_streams=17)),
        ("silence_s", lambda: TcpConfig(silence_s=0)),
        ("bytes_per_s", lambda: TcpConfig(bytes_per_s=10)),
    ):
        with pytest.raises(ArgumentError, match=f"tcp.{name}"):
            make()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            TcpChannel(Blocks(SMALL, 1).region, TcpConfig(port=port))


def test_device_memory_is_refused():
    region = Region((Segment(4096, 4096, 4096),), 4, MemoryKind.VRAM)
    with pytest.raises(ArgumentError, match="VRAM"):
        TcpChannel(region)


def test_the_settings_of_an_instance_reach_the_channel(tmp_path):
    make_keys(tmp_path, ["controller", "us"])
    keys = load_keys(str(tmp_path), "us")
    layout = Layout(4, 2, 64, "bfloat16", block_tokens=16, chunk_tokens=64)
    namespace = Namespace("test", "0" * 32, "bfloat16")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    config = BackendConfig(namespace=namespace, channel="tcp", tcp_port=port, pool_bytes=1 << 20)
    endpoints = Endpoints(keys, "tcp://0.0.0.0:1", "tcp://127.0.0.2:1")
    region = pool_of(config, layout).region
    channel = open_channel("tcp", region, settings_of(config, endpoints))
    target = target_of(channel.offer())
    assert (target.host, target.port, target.is_tls) == ("127.0.0.2", port, False)
    assert target.key == raw_key(keys.public)
    link = channel.connect("self", channel.offer(), TIMEOUT_S)
    finish_well(link.read([0], [1]))
    channel.close()
    bad = msgspec.structs.replace(config, tcp_tls_dir=str(tmp_path))
    with pytest.raises(ConfigError, match=r"backend\.tcp_tls_dir"):
        settings_of(bad, endpoints)


# Lies


def test_garbage_ends_a_connection_and_nothing_else(opened):
    holder, reader = opened(Blocks(SMALL, 2), TcpConfig()), opened(Blocks(SMALL, 1), TcpConfig())
    link = reader.connect("peer", holder.offer(), TIMEOUT_S)
    target = target_of(holder.offer())
    chance = random.Random(3)  # noqa: S311
    for size in (1, 2, 100, 5000):
        with socket.create_connection((target.host, target.port), TIMEOUT_S) as stranger:
            with suppress(OSError):  # closed, or reset
                stranger.sendall(chance.randbytes(size))
                stranger.shutdown(socket.SHUT_WR)
                while stranger.recv(100):
                    pass
    finish_well(link.read([0], [0]))


def requests() -> list[tuple[str, bytes]]:
    """Returns requests that no holder may carry out, each by what is wrong with it."""

    def of(kind: Kind, spans: list[tuple[int, int, int]], num_bytes: int) -> bytes:
        content = np.array(spans, SPAN).tobytes()
        return encode(Header(kind, 1, num_bytes, len(spans)), content)

    good = of(Kind.READ, [(0, 4096, 0)], 4096)
    return [
        ("a damaged header", bytes([good[0] ^ 1]) + good[1:]),
        ("damaged spans", good[:-1] + bytes([good[-1] ^ 1])),
        ("no request", encode(Header(Kind.BYTES, 1, 4096, 0))),
        ("a segment too many", of(Kind.READ, [(4, 10, 0)], 10)),
        ("a write to the probe", of(Kind.WRITE, [(3, 10, 0)], 10)),
        ("the gap behind a block", of(Kind.WRITE, [(0, 8, 4094)], 8)),
        ("behind the last block", of(Kind.WRITE, [(1, 10, 1104 * 8)], 10)),
        ("before the first block", of(Kind.WRITE, [(1, 10, (1 << 64) - 104)], 10)),
        ("no bytes", of(Kind.WRITE, [(0, 0, 0)], 10)),
        ("fewer bytes than its spans", of(Kind.WRITE, [(0, 100, 0)], 10)),
        ("more bytes than its spans", of(Kind.WRITE, [(0, 100, 0)], 1 << 20)),
    ]


@pytest.mark.parametrize(("what", "request_bytes"), requests(), ids=lambda x: str(x)[:30])
def test_a_holder_drops_who_lies_and_nothing_is_touched(opened, what, request_bytes):
    theirs = Blocks(STRIDED, 2)
    holder = opened(theirs, WRITABLE)
    reader = opened(Blocks(STRIDED, 1), WRITABLE)
    link = reader.connect("peer", holder.offer(), TIMEOUT_S)
    before = theirs.all_bytes().copy()
    ends = reader._shared.ends
    liar = open_stream("peer", target_of(holder.offer()), Access.WRITE, ends, TIMEOUT_S).pipe
    liar.send([memoryview(request_bytes + bytes(4096))])
    with pytest.raises(OSError):  # noqa: PT011  reset or closed
        liar.receive([memoryview(bytearray(1))])
    liar.close()
    assert np.array_equal(theirs.all_bytes(), before), what
    finish_well(link.read([0], [0]))


def test_a_reader_without_leave_that_writes_all_the_same_is_dropped(opened):
    theirs = Blocks(SMALL, 2)
    holder, reader = opened(theirs, TcpConfig()), opened(Blocks(SMALL, 1), WRITABLE)
    ends = reader._shared.ends
    liar = open_stream("peer", target_of(holder.offer()), Access.WRITE, ends, TIMEOUT_S)
    assert liar.access is Access.READ
    spans = np.array([(0, 4096, 0)], SPAN).tobytes()
    liar.pipe.send([memoryview(encode(Header(Kind.WRITE, 1, 4096, 1), spans) + bytes(4096))])
    with pytest.raises(OSError):  # noqa: PT011  reset or closed
        liar.pipe.receive([memoryview(bytearray(1))])
    liar.pipe.close()
    assert theirs.blocks() == Blocks(SMALL, 2).blocks()


def test_random_requests_crash_no_holder(opened):
    theirs = Blocks(STRIDED, 2)
    holder, reader = opened(theirs, TcpConfig()), opened(Blocks(STRIDED, 1), TcpConfig())
    ends, target = reader._shared.ends, target_of(holder.offer())
    chance = random.Random(5)  # noqa: S311
    good = encode(Header(Kind.READ, 1, 300, 3), np.array([(1, 100, 0)] * 3, SPAN).tobytes())
    for _ in range(100):
        content = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        pipe = open_stream("peer", target, Access.READ, ends, TIMEOUT_S).pipe
        pipe.send([memoryview(content)])
        pipe.shut()
        pipe.close()
    finish_well(reader.connect("peer", holder.offer(), TIMEOUT_S).read([0], [0]))
    assert theirs.guards_are_intact()


@contextmanager
def lying_holder(reader: TcpChannel, honest: TcpChannel, answer: bytes) -> Iterator[ChannelOffer]:
    """Yields the offer of a holder that proves itself and answers a request with these bytes."""
    metadata = target_of(honest.offer())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def lie() -> None:
            connection, _ = listener.accept()
            ends = honest._shared.ends
            pipe = admit("reader", connection, (metadata, Access.READ), ends, TIMEOUT_S).pipe
            header = bytearray(HEADER_BYTES)
            pipe.receive([memoryview(header)])
            found, _ = decode("reader", header)
            pipe.receive([memoryview(bytearray(found.spans_bytes))])
            pipe.send([memoryview(answer)])
            pipe.shut()
            pipe.close()

        thread = threading.Thread(target=lie)
        thread.start()
        offer = changed(honest.offer(), port=listener.getsockname()[1])
        region = msgspec.structs.replace(offer.region, probe=None)  # the lie is for the transfer
        yield msgspec.structs.replace(offer, region=region)
        thread.join()


ANSWERS = [
    ("another number", encode(Header(Kind.BYTES, 2, 8192, 0)) + bytes(8192)),
    ("another size", encode(Header(Kind.BYTES, 1, 8193, 0)) + bytes(8193)),
    ("another kind", encode(Header(Kind.WRITTEN, 1, 8192, 0))),
    ("a request", encode(Header(Kind.READ, 1, 8192, 1), bytes(SPAN.itemsize)) + bytes(8192)),
    ("a damaged header", b"x" + encode(Header(Kind.BYTES, 1, 8192, 0)) + bytes(8192)),
    ("half of the bytes", encode(Header(Kind.BYTES, 1, 8192, 0)) + bytes(4096)),
    ("half a header", encode(Header(Kind.BYTES, 1, 8192, 0))[:10]),
    ("nothing", b""),
]


@pytest.mark.parametrize(("what", "answer"), ANSWERS, ids=lambda x: str(x)[:20])
def test_a_reader_fails_a_transfer_whose_answer_is_a_lie(opened, what, answer):
    ours = Blocks(SMALL, 1)
    honest, reader = opened(Blocks(SMALL, 2), TcpConfig()), opened(ours, WRITABLE)
    before = ours.blocks()
    with lying_holder(reader, honest, answer) as offer:
        link = reader.connect("peer", offer, TIMEOUT_S)
        transfer = link.read([3], [3])
        assert finish(transfer) is TransferState.FAILED, what
        assert transfer.error()
        assert transfer.quiesced()
        with pytest.raises(LinkDownError):
            link.read([0], [0])
    after = ours.blocks()
    assert after[:3] + after[4:] == before[:3] + before[4:]
    if what != "half of the bytes":
        assert after[3] == before[3]


# Death, standstill, pressure


def test_submitting_to_a_peer_that_stands_still_never_waits(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    scattered = [(7 * i) % 16 for i in range(16)]
    longest_s, transfers = 0.0, []
    for _ in range(500):
        start_s = time.monotonic()
        transfers.append(link.read(range(16), scattered))
        longest_s = max(longest_s, time.monotonic() - start_s)
    assert longest_s < 0.5
    peer.resume()
    for transfer in transfers:
        finish_well(transfer)


def test_a_reader_that_takes_nothing_holds_up_nobody_else(processes):
    peer = processes.start_peer("peer", BIG, 2)
    lazy = open_stream(
        "peer",
        target_of(peer.offer),
        Access.READ,
        processes.open(Blocks(BIG, 1))._shared.ends,
        TIMEOUT_S,
    ).pipe
    spans = np.array([(0, 1 << 20, i << 20) for i in range(32)], SPAN)
    lazy.send([memoryview(encode(Header(Kind.READ, 1, 32 << 20, 32), spans.tobytes()))])
    time.sleep(0.2)
    link = processes.open(Blocks(BIG, 1)).connect("peer", peer.offer, TIMEOUT_S)
    start_s = time.monotonic()
    finish_well(link.read(range(64), range(64)))
    assert time.monotonic() - start_s < 1.0
    lazy.close()


def test_a_given_up_transfer_is_not_asked_for_any_further(processes):
    ours = Blocks(BIG, 1)
    channel = processes.open(ours)
    peer = processes.start_peer("peer", BIG, 2)
    link = channel.connect("peer", peer.offer, TIMEOUT_S)
    peer.stop()
    spans = [(7 * i) % 64 for i in range(64)]
    wanted = [link.read(range(64), spans) for _ in range(2)]
    others = [link.read(range(64), spans) for _ in range(200)]
    for transfer in others:
        transfer.cancel()
    num_asked = channel.quarantined()
    assert 0 < num_asked < 100, "the kernel takes so many requests ahead"
    peer.resume()
    for transfer in wanted:
        finish_well(transfer)
    for transfer in others:
        wait_quiesced(transfer)
    assert channel.quarantined() == 0
    finish_well(link.read([0], [2]))


def test_closing_a_link_quiesces_in_the_middle_of_a_transfer(processes):
    ours = Blocks(BIG, 1)
    channel = processes.open(ours)
    peer = processes.start_peer("peer", BIG, 2)
    for streams in (1, 3):
        channel = TcpChannel(ours.region, TcpConfig(num_streams=streams))
        for _ in range(10):
            link = channel.connect("peer", peer.offer, TIMEOUT_S)
            transfers = [link.read(range(64), range(64)) for _ in range(4)]
            time.sleep(0.002)
            link.close()
            assert all(transfer.quiesced() for transfer in transfers)
            ours.clear()
            time.sleep(0.01)
            assert not ours.all_bytes().any()
        channel.close()


def test_a_holder_that_closes_fails_what_is_in_flight(opened):
    holder = opened(Blocks(BIG, 2), TcpConfig(bytes_per_s=10 << 20))
    link = opened(Blocks(BIG, 1), PARALLEL).connect("peer", holder.offer(), TIMEOUT_S)
    transfer = link.read(range(64), range(64))
    time.sleep(0.05)
    start_s = time.monotonic()
    holder.close()
    assert time.monotonic() - start_s < 1.0
    assert finish(transfer) is TransferState.FAILED
    assert not link.is_up()


def test_readers_share_a_limited_holder_equally(opened):
    rate = 40 << 20
    holder = opened(Blocks(BIG, 2), TcpConfig(bytes_per_s=rate))
    links = [
        opened(Blocks(BIG, 1), TcpConfig(num_streams=num)).connect(
            "peer", holder.offer(), TIMEOUT_S
        )
        for num in (1, 3)
    ]
    blocks = range(32)  # 16 MiB: 0.8 s for both together
    start_s = time.monotonic()
    transfers = [link.read(blocks, blocks) for link in links]
    ended_s = [0.0, 0.0]
    while not all(ended_s):
        for number, transfer in enumerate(transfers):
            if transfer.poll() is TransferState.DONE and not ended_s[number]:
                ended_s[number] = time.monotonic() - start_s
        assert time.monotonic() - start_s < TIMEOUT_S
    assert 0.6 < max(ended_s) < 1.5
    assert min(ended_s) > 0.7 * max(ended_s)


def test_a_forked_child_does_not_hide_the_death_of_its_parent(opened):
    holder = opened(Blocks(SMALL, 2), TcpConfig())
    link = opened(Blocks(SMALL, 1), TcpConfig()).connect("peer", holder.offer(), TIMEOUT_S)
    finish_well(link.read([0], [0]))
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(out, 1)
        os._exit(0)
    try:
        holder.close()
        deadline_s = time.monotonic() + TIMEOUT_S
        while link.is_up():
            assert time.monotonic() < deadline_s, "the child holds the connection open"
    finally:
        os.write(into, b"x")
        os.waitpid(child, 0)
        os.close(out)
        os.close(into)


@pytest.fixture
def hosts() -> Iterator[TcpHostsHarness]:
    if reason := is_supported():
        pytest.skip(reason)
    harness = TcpHostsHarness(TcpConfig(silence_s=2))
    yield harness
    harness.end_test()
    harness.end()


def test_a_host_that_drops_all_frames_is_noticed_and_holds_up_nobody(hosts):
    """Half-open: its process lives, and nobody is told that nothing comes through."""
    ours = Blocks(BIG, 1)
    channel = hosts.open(ours)
    bad, good = hosts.start_peer("bad", BIG, 2), hosts.start_peer("good", BIG, 3)
    link, other = (
        channel.connect(name, peer.offer, TIMEOUT_S)
        for name, peer in (("bad", bad), ("good", good))
    )
    finish_well(link.read([0], [0]))
    silent = hosts.network.hosts["peer0"]
    silent.cut_in()
    silent.cut_out()
    start_s = time.monotonic()
    hung = link.read(range(32), range(32))
    assert time.monotonic() - start_s < 0.5
    with ThreadPoolExecutor(1) as threads:
        dialling = threads.submit(channel.dial, "bad", bad.offer, 1.0)
        longest_s = 0.0
        while hung.poll() is TransferState.PENDING:
            before_s = time.monotonic()
            finish_well(other.read([40], [40]))
            longest_s = max(longest_s, time.monotonic() - before_s)
            assert before_s - start_s < TIMEOUT_S, "the silence is not noticed"
        with pytest.raises(PeerUnreachableError):
            dialling.result()
    assert longest_s < 0.5
    assert hung.poll() is TransferState.FAILED
    assert hung.quiesced()
    assert not link.is_up()
    silent.heal()
    finish_well(channel.connect("bad", bad.offer, TIMEOUT_S).read([1], [1]))
    assert ours.block(1) == Blocks(BIG, 2).block(1)


# Leaks and idleness


def connect_and_close(channel: Channel, offer: ChannelOffer) -> None:
    link = channel.connect("peer", offer, TIMEOUT_S)
    finish_well(link.read([0], [0]))
    link.close()


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_two_hundred_connects_leak_neither_files_nor_threads_nor_memory(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    counts, memory = [], []
    for num_connects in (20, 90, 90):
        for _ in range(num_connects):
            connect_and_close(channel, peer.offer)
        time.sleep(0.3)  # the peer notices the end of our connections by itself
        pids = os.getpid(), peer.pid
        counts.append([f(p) for f in (num_open_files, num_threads) for p in pids])
        memory.append([resident_kb(pid) for pid in pids])
    assert counts[2] == counts[1] == counts[0]
    assert all(after - before < 2000 for before, after in zip(memory[1], memory[2], strict=True))


def test_a_peer_that_was_dialled_and_not_attached_leaks_nothing(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    before = num_open_files(os.getpid())
    for _ in range(5):
        channel.dial("peer", peer.offer, TIMEOUT_S)
    assert num_open_files(os.getpid()) == before


def test_both_processes_are_idle_when_nobody_reads(processes):
    channel = processes.open(Blocks(SMALL, 1))
    peer = processes.start_peer("peer", SMALL, 2)
    finish_well(channel.connect("peer", peer.offer, TIMEOUT_S).read([0], [0]))
    pids = os.getpid(), peer.pid
    before = [processor_seconds(pid) for pid in pids]
    time.sleep(1.0)
    used = [processor_seconds(pid) - b for pid, b in zip(pids, before, strict=True)]
    assert max(used) < 0.03


def test_dialling_a_silent_port_ends_in_time(opened):
    reader = opened(Blocks(SMALL, 1), TcpConfig())
    holder = opened(Blocks(SMALL, 2), TcpConfig())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        offer = changed(holder.offer(), port=silent.getsockname()[1])
        start_s = time.monotonic()
        with pytest.raises(PeerUnreachableError, match="no answer"):
            reader.connect("peer", offer, 0.2)
        assert time.monotonic() - start_s < 1.0


def test_a_pipe_carries_many_small_views():
    ours, theirs = socket.socketpair()
    content = random.Random(1).randbytes(3_000_000)  # noqa: S311
    sender = threading.Thread(
        target=lambda: PlainPipe(theirs).send(
            [memoryview(content)[i : i + 1000] for i in range(0, len(content), 1000)]
        )
    )
    sender.start()
    memory = bytearray(len(content))
    views = [memoryview(memory)[i : i + 700] for i in range(0, len(content), 700)]
    PlainPipe(ours).receive(views)
    sender.join()
    assert memory == content
    ours.close()
    theirs.close()
