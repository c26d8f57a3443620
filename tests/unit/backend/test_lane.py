"""A lane reads windows piece by piece, hashes what arrived, and gives up cleanly."""

import numpy as np
import pytest

from p2p.backend.actions import Read, ReadId
from p2p.backend.lane import Lane, LinkLost, Quiesced
from p2p.backend.links import Links, ReadEnd
from p2p.backend.pool import Pool
from p2p.channel.channels import Channels
from p2p.channel.fake import FAKE, FakeChannel, FakeNetwork, Pace
from p2p.kernels import chunk_digest
from p2p.keys import chunk_keys
from p2p.layout import Layout

LAYOUT = Layout(16, 8, 64, "bfloat16", block_tokens=16, chunk_tokens=64)  # 2 MiB: 2 to a piece
NUM = 5
KEYS = chunk_keys(range(NUM * 64), 64)


class Bench:
    """A lane, its holder, and the clock."""

    def __init__(self, pace: Pace) -> None:
        self.network = FakeNetwork(pace)
        self.ours, self.theirs = (Pool(NUM * LAYOUT.chunk_bytes, LAYOUT) for _ in range(2))
        random = np.random.default_rng(3)
        for slot in range(NUM):
            self.theirs.view(slot)[:] = random.integers(0, 256, LAYOUT.chunk_bytes, np.uint8)
        self.channel = FakeChannel(self.network, "us", self.ours.region)
        self.holder = FakeChannel(self.network, "them", self.theirs.region)
        self.now_s = 0.0
        self.events: list[object] = []
        self.channels = Channels({FAKE: self.channel})
        self.links = Links(self.channels, lambda: self.now_s, quarantine_s=5.0)
        self.lane = Lane(self.links, self.ours, self.events.append, lambda: self.now_s)
        self.links.attach(self.channels.dial("a", self.holder.offer(), 1.0))

    def read(self, number: int = 1, wanted: int = 100) -> None:
        """Reads all chunks, wanted for so many looks."""
        looks = iter([True] * wanted)
        slots = tuple(range(NUM))
        action = Read(ReadId(number), "a", tuple(KEYS), slots, slots)
        self.lane.read(action, lambda: next(looks, False))

    def ends(self) -> list[ReadEnd]:
        return [event for event in self.events if isinstance(event, ReadEnd)]


def expected_roots(bench: Bench) -> tuple[tuple[int, ...], ...]:
    size = LAYOUT.chunk_bytes
    views = [bench.theirs.view(slot) for slot in range(NUM)]
    return tuple((chunk_digest(k, v, size),) for k, v in zip(KEYS, views, strict=True))


@pytest.mark.parametrize("pace", [Pace.AT_ONCE, Pace.PER_POLL])
def test_a_window_arrives_whole_with_the_digest_of_every_chunk(pace):
    bench = Bench(pace)
    bench.read()
    while not bench.events:
        bench.lane.poll()
    (end,) = bench.ends()
    assert (end.problem, end.is_quiet) == ("", True)
    assert end.roots == expected_roots(bench)
    assert all((bench.ours.view(n) == bench.theirs.view(n)).all() for n in range(NUM))


def test_a_window_that_is_given_up_stops_at_the_next_piece():
    bench = Bench(Pace.AT_ONCE)
    bench.read(wanted=1)
    (end,) = bench.ends()
    assert (end.problem, end.is_quiet) == ("given up", True)
    assert (bench.ours.view(1) == bench.theirs.view(1)).all()
    assert not bench.ours.view(2).any()
    bench.lane.cancel(ReadId(1))
    bench.lane.poll()
    assert len(bench.events) == 1


def test_a_window_given_up_in_flight_quiesces_once_and_after_its_last_piece():
    bench = Bench(Pace.BY_HAND)
    bench.read()
    bench.lane.cancel(ReadId(1))
    bench.network.step(NUM - 1)
    bench.lane.poll()
    assert bench.events == []
    bench.network.settle()
    bench.lane.poll()
    bench.lane.poll()
    assert bench.events == [Quiesced(ReadId(1))]


def test_a_holder_that_dies_ends_the_window_once():
    bench = Bench(Pace.BY_HAND)
    bench.read()
    bench.network.step(3)
    bench.network.kill("them")
    bench.lane.poll()
    bench.lane.poll()
    (end,) = bench.ends()
    assert "killed" in end.problem
    assert end.is_quiet or Quiesced(ReadId(1)) in bench.events
    bench.read(number=2)
    assert bench.ends()[1].is_quiet


def test_what_does_not_quiesce_is_fenced_and_its_link_reported():
    bench = Bench(Pace.BY_HAND)
    bench.read()
    bench.network.stop("them")
    bench.lane.cancel(ReadId(1))
    bench.now_s = 4.9
    bench.lane.poll()
    assert bench.events == []
    bench.now_s = 5.1
    bench.lane.poll()
    assert set(bench.events) == {Quiesced(ReadId(1)), LinkLost("a")}
    bench.ours.view(0)[:] = 0
    bench.network.resume("them")
    bench.network.settle()
    assert not bench.ours.view(0).any()


def test_a_read_from_a_stranger_ends_at_once():
    bench = Bench(Pace.AT_ONCE)
    bench.lane.read(Read(ReadId(1), "nobody", (KEYS[0],), (0,), (0,)), lambda: True)
    (end,) = bench.ends()
    assert (end.problem, end.is_quiet) == ("no link", True)
