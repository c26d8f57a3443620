"""What the outside is told of the pool, in which order, and that nothing piles up."""

import pytest

from p2p.backend.feed import Event, EventFeed
from p2p.integrations.vllm.announcements import Announcements
from p2p.wire.messages import EventKind
from tests.unit.vllm.fakes import keys_of

A, B = keys_of(2)


def came(*keys):
    return [Event(EventKind.ADMIT_HOST, key, "") for key in keys]


def went(*keys):
    return [Event(EventKind.EVICT, key, "") for key in keys]


def test_a_chunk_is_told_once_it_is_here_and_described_in_either_order():
    it = Announcements[str]()
    it.describe(A, "a")
    assert it.take() == []
    it.note(came(A, B))
    it.describe(B, "b")
    assert it.take() == [(True, "a"), (True, "b")]
    assert it.take() == []


def test_a_chunk_that_goes_is_told_if_it_was_told():
    it = Announcements[str]()
    it.describe(A, "a")
    it.note([*came(A, B), *went(A, B), *came(A)])
    assert it.take() == [(True, "a"), (False, "a")]
    it.describe(A, "a again")
    assert it.take() == [(True, "a again")]
    it.describe(B, "b")
    assert it.take() == []


def test_what_comes_twice_is_told_once():
    it = Announcements[str]()
    it.describe(A, "a")
    it.note(came(A, A))
    it.describe(A, "other")
    assert it.take() == [(True, "a")]


def test_descriptions_of_what_never_comes_are_forgotten():
    it = Announcements[int](max_described=2)
    for number, key in enumerate(keys_of(5)):
        it.describe(key, number)
    it.note(came(*keys_of(5)))
    assert it.take() == [(True, 3), (True, 4)]
    assert not it.is_described(A)


@pytest.mark.parametrize("max_kept", [2, 100])
def test_who_watches_the_feed_gets_every_event_as_far_as_there_is_room(max_kept):
    feed = EventFeed(max_kept=max_kept)
    feed.append(EventKind.ADMIT_HOST, A, "")
    watched = feed.watch()
    assert not watched
    for event in [*came(A, B), *went(A)]:
        feed.append(*event)
    assert list(watched) == [*came(A, B), *went(A)][-max_kept:]
    feed.acknowledge(4)
    assert len(watched) == min(3, max_kept)
