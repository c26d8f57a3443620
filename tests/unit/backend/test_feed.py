"""The event log and snapshots: numbering, what is kept, how it is cut."""

import pytest

from p2p.backend.feed import EventFeed, Snapshot
from p2p.backend.index import Index
from p2p.keys import ChunkKey
from p2p.view_hash import view_hash_of
from p2p.wire.messages import EventKind
from tests.unit.backend.builders import entry, prompt

ADMIT, EVICT = EventKind.ADMIT_HOST, EventKind.EVICT
HOST = ADMIT.value
KEYS = prompt(6)


def _feed(keys=KEYS, max_kept=100):
    feed = EventFeed(max_kept)
    for key in keys:
        feed.append(ADMIT, key, "")
    return feed


def _batch(feed, seq, max_events=10):
    batch = feed.batch_after(seq, max_events)
    assert batch is not None
    return batch


def _index(keys, tenants=("",)):
    index = Index()
    for number, key in enumerate(keys):
        index.add(entry(key, number, tenant=tenants[number % len(tenants)]))
    return index


def test_a_batch_holds_the_events_after_a_number():
    batch = _batch(_feed(), 2, max_events=3)
    assert (batch.first, batch.keys) == (3, b"".join(KEYS[2:5]))
    assert (batch.kinds, batch.key_bytes) == (bytes([ADMIT.value] * 3), 32)


def test_there_is_no_batch_after_the_last_event():
    assert _feed().batch_after(6, 10) is None
    assert EventFeed().batch_after(0, 10) is None


def test_a_batch_ends_where_tenant_or_key_length_changes():
    feed = _feed(KEYS[:2])
    feed.append(ADMIT, KEYS[2], "t")
    feed.append(EVICT, KEYS[2], "t")
    feed.append(ADMIT, ChunkKey(bytes(8)), "t")
    batches = [_batch(feed, seq) for seq in (0, 2, 4)]
    assert [(len(b.kinds), b.tenant, b.key_bytes) for b in batches] == [
        (2, "", 32), (2, "t", 32), (1, "t", 8),
    ]  # fmt: skip


def test_acknowledged_events_are_forgotten():
    feed = _feed()
    feed.acknowledge(4)
    assert feed.first_kept_seq == 5
    assert feed.has_after(4)
    assert not feed.has_after(3)
    assert feed.batch_after(3, 10) is None
    assert _batch(feed, 4).keys == b"".join(KEYS[4:])


def test_numbers_go_on_after_everything_was_acknowledged():
    feed = _feed()
    feed.acknowledge(99)
    feed.append(ADMIT, ChunkKey(bytes(32)), "")
    assert _batch(feed, 6).first == feed.last_seq == 7


def test_too_many_events_drop_the_oldest():
    feed = _feed(max_kept=4)
    assert (feed.last_seq, feed.first_kept_seq) == (6, 3)
    assert feed.batch_after(1, 10) is None


def test_the_view_hash_is_that_of_what_is_here_now():
    feed = _feed()
    feed.append(EVICT, KEYS[0], "")
    feed.append(ADMIT, KEYS[0], "t")
    expected = view_hash_of(KEYS[0], "t", HOST) + sum(
        view_hash_of(key, "", HOST) for key in KEYS[1:]
    )
    assert feed.view_hash == expected % 2**64
    for key in KEYS[1:]:
        feed.append(EVICT, key, "")
    feed.append(EVICT, KEYS[0], "t")
    assert feed.view_hash == 0


def test_a_snapshot_of_nothing_is_one_empty_page():
    snapshot = Snapshot(1, 0, Index(), ADMIT)
    assert snapshot.num_pages == 1
    assert (snapshot.page(0).keys, snapshot.page(0).first) == (b"", 0)


@pytest.mark.parametrize(("page_events", "sizes"), [(6, [6]), (4, [4, 2]), (3, [3, 3])])
def test_a_snapshot_is_cut_into_full_pages(monkeypatch, page_events, sizes):
    monkeypatch.setattr(Snapshot, "PAGE_EVENTS", page_events)
    snapshot = Snapshot(1, 6, _index(KEYS), ADMIT)
    pages = [snapshot.page(number) for number in range(snapshot.num_pages)]
    assert [len(page.kinds) for page in pages] == sizes
    assert [page.first for page in pages] == list(range(len(sizes)))
    assert b"".join(page.keys for page in pages) == b"".join(KEYS)


def test_a_page_has_one_tenant():
    snapshot = Snapshot(1, 6, _index(KEYS, tenants=("t", "")), ADMIT)
    pages = [snapshot.page(number) for number in range(snapshot.num_pages)]
    assert [(page.tenant, len(page.kinds)) for page in pages] == [("", 3), ("t", 3)]


def test_later_changes_do_not_show_in_a_snapshot():
    index = _index(KEYS)
    snapshot = Snapshot(1, 6, index, ADMIT)
    index.evict(6)
    assert snapshot.page(0).keys == b"".join(KEYS)


def test_the_view_hash_is_that_of_all_events_whenever_it_is_asked_for():
    feed, expected = EventFeed(max_kept=10), 0
    for number, key in enumerate(prompt(3000)):
        tenant = "t" if number % 3 else ""
        feed.append(ADMIT, key, tenant)
        expected += view_hash_of(key, tenant, HOST)
        if number % 5 == 0:
            feed.append(EVICT, key, tenant)
            expected -= view_hash_of(key, tenant, HOST)
        if number in {0, 7, 2999}:
            assert feed.view_hash == expected % 2**64
