"""Search against a naive model, with admissions and evictions in any order."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.directory import EVICT as EVICTS
from p2p.directory import Directory, Holding
from p2p.keys import ChunkKey, view_hash_of
from p2p.wire.messages import EventKind
from tests.unit.controller.instances import DEVICE, EVICT, HASH_MASK, key, keys

TENANTS = ("", "acme", "zen")
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 4),  # holding
        st.sampled_from(TENANTS),
        st.lists(st.tuples(st.sampled_from([EVICT, DEVICE, 2]), st.integers(0, 9)), max_size=8),
    ),
    max_size=40,
)
Entries = list[set[tuple[str, ChunkKey]]]


def naive_runs(
    entries: Entries, asked: list[ChunkKey], tenant: str, visible: set[int]
) -> list[tuple[int, int, frozenset[int]]]:
    holders = [
        frozenset(
            number
            for number in visible
            if ("", wanted) in entries[number] or (tenant, wanted) in entries[number]
        )
        for wanted in asked
    ]
    prefix = list(itertools.takewhile(bool, holders))
    runs, start = [], 0
    for group, members in itertools.groupby(prefix):
        count = len(list(members))
        runs.append((start, count, group))
        start += count
    return runs


def apply_all(
    changes: list[tuple[int, str, list[tuple[int, int]]]],
) -> tuple[Directory, list[Holding], Entries]:
    directory = Directory()
    holdings = [directory.open_holding() for _ in range(5)]
    entries: Entries = [set() for _ in holdings]
    for number, tenant, batch in changes:
        kinds = bytes(kind for kind, _ in batch)
        directory.apply(holdings[number], tenant, kinds, [key(k) for _, k in batch])
        for kind, k in batch:
            entry = (tenant, key(k))
            entries[number].discard(entry) if kind == EVICT else entries[number].add(entry)
    return directory, holdings, entries


@given(
    CHANGES,
    st.lists(st.integers(0, 9), max_size=12),
    st.sampled_from(TENANTS),
    st.sets(st.integers(0, 4)),
)
@settings(max_examples=300, deadline=None)
def test_runs_are_those_of_a_naive_search(changes, asked, tenant, visible):
    directory, holdings, entries = apply_all(changes)
    visible_mask = sum(holdings[number].bit for number in visible)
    runs = directory.find_runs(keys(*asked), tenant, visible_mask)
    found = [
        (run.start, run.num_chunks, frozenset(n for n in range(5) if run.mask & holdings[n].bit))
        for run in runs
    ]
    assert found == naive_runs(entries, keys(*asked), tenant, visible)


@given(CHANGES)
@settings(max_examples=200, deadline=None)
def test_sizes_and_view_hashes_follow_the_entries(changes):
    directory, holdings, entries = apply_all(changes)
    for holding, held in zip(holdings, entries, strict=True):
        assert holding.num_entries == len(held)
        assert holding.view_hash == sum(view_hash_of(k, t) for t, k in held) & HASH_MASK
    assert directory.num_keys == len(set().union(*entries))


@given(CHANGES, st.integers(1, 7), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_a_discarded_holding_is_swept_in_pieces_and_its_bit_used_again(changes, piece, number):
    directory, holdings, entries = apply_all(changes)
    gone = holdings[number]
    directory.discard(gone)
    num_sweeps = 0
    while directory.must_sweep:
        directory.sweep(piece)
        num_sweeps += 1
    assert num_sweeps <= len(entries[number]) // piece + 2
    entries[number] = set()
    assert directory.num_keys == len(set().union(*entries))
    assert directory.open_holding().position == gone.position


def test_a_directory_that_lost_everything_is_empty():
    directory = Directory()
    holding = directory.open_holding()
    directory.apply(holding, "acme", bytes([DEVICE] * 3), keys(1, 2, 3))
    directory.apply(holding, "acme", bytes([EVICT] * 3), keys(3, 1, 2))
    assert directory.num_keys == 0
    assert directory.find_runs(keys(1), "acme", holding.bit) == []


def test_equal_sets_of_holders_are_one_object():
    directory = Directory()
    for _ in range(64):
        holding = directory.open_holding()
        for number in range(10):  # one batch each, as from ten small puts
            directory.apply(holding, "", bytes([DEVICE]), keys(number))
    masks = directory._masks_by_tenant[""]
    assert len({id(mask) for mask in masks.values()}) == 1


def test_sharing_of_sets_is_bounded(monkeypatch):
    monkeypatch.setattr("p2p.directory._MAX_SHARED_MASKS", 4)
    directory = Directory()
    holdings = [directory.open_holding() for _ in range(6)]
    for number, holding in enumerate(holdings):
        directory.apply(holding, "", bytes([DEVICE]) * (number + 1), keys(*range(number + 1)))
        assert len(directory._shared_masks) <= 5
    everybody = sum(holding.bit for holding in holdings)
    assert [run.num_chunks for run in directory.find_runs(keys(*range(6)), "", everybody)] == [
        1
    ] * 6


def test_the_directory_and_the_wire_agree_on_what_evicts() -> None:
    assert EVICTS == EVICT == EventKind.EVICT.value
