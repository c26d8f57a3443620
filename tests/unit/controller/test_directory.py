"""Search against a naive model, with admissions and evictions in any order."""

import itertools
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.changes import EVICT as EVICTS
from p2p.changes import Changes
from p2p.directory import Directory
from p2p.holding import Holding
from p2p.keys import ChunkKey, join_keys, split_keys
from p2p.view_hash import VIEW_HASH_MASK, view_hash_of
from p2p.wire.messages import EventKind
from tests.unit.controller.instances import DEVICE, EVICT, HOST, key, keys

TENANTS = ("", "acme", "zen")
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 4),  # holding
        st.sampled_from(TENANTS),
        st.lists(st.tuples(st.sampled_from([EVICT, DEVICE, HOST]), st.integers(0, 9)), max_size=8),
    ),
    max_size=40,
)
Entries = list[dict[tuple[str, ChunkKey], int]]
Batch = list[tuple[int, int]]


@pytest.fixture(autouse=True, scope="module", params=[(12, 2), (1 << 18, 2), (1 << 18, 24)])
def sizes(request):
    """Everything holds in one volume of the map, and in many; with stretches, and without."""
    max_put, min_keys = request.param
    with (
        mock.patch("p2p.key_map._MAX_PUT", max_put),
        mock.patch("p2p.key_map._SPARSE_KEYS", 2),
        mock.patch("p2p.key_map.MIN_KEYS", min_keys),
        mock.patch("p2p.stretch.MIN_KEYS", min_keys),
        mock.patch("p2p.stretch.MAX_KEYS", 2 * min_keys),
    ):
        yield


def apply(directory: Directory, holding: Holding, tenant: str, batch: Batch) -> None:
    blob, key_bytes = join_keys([key(number) for _, number in batch])
    kinds = bytes(kind for kind, _ in batch)
    directory.apply(holding, Changes(tenant, kinds, blob, key_bytes))


def naive_runs(
    entries: Entries, asked: list[ChunkKey], tenant: str, visible: set[int]
) -> list[tuple[int, int, frozenset[tuple[int, int]]]]:
    """Returns start, length, and who holds it in which tier."""
    prefix = []
    for wanted in asked:
        tiers = {
            number: [entries[number].get((whose, wanted), 0) for whose in ("", tenant)]
            for number in visible
        }
        holders = frozenset(
            (n, min(filter(None, found))) for n, found in tiers.items() if any(found)
        )
        if not holders:
            break
        prefix.append(holders)
    runs, start = [], 0
    for group, members in itertools.groupby(prefix):
        count = len(list(members))
        runs.append((start, count, group))
        start += count
    return runs


def apply_all(changes: list[tuple[int, str, Batch]]) -> tuple[Directory, list[Holding], Entries]:
    directory = Directory()
    holdings = [directory.open_holding() for _ in range(5)]
    entries: Entries = [{} for _ in holdings]
    for number, tenant, batch in changes:
        apply(directory, holdings[number], tenant, batch)
        for kind, k in batch:
            entries[number].pop((tenant, key(k)), None)
            if kind != EVICT:
                entries[number][tenant, key(k)] = kind
    return directory, holdings, entries


@given(
    CHANGES,
    st.lists(st.integers(0, 9), max_size=40),
    st.sampled_from(TENANTS),
    st.sets(st.integers(0, 4)),
)
@settings(max_examples=300, deadline=None)
def test_runs_are_those_of_a_naive_search(changes, asked, tenant, visible):
    directory, holdings, entries = apply_all(changes)
    visible_mask = sum(holdings[number].mask for number in visible)
    runs = directory.find_runs(join_keys(keys(*asked)), tenant, visible_mask)
    found = [
        (
            run.start,
            run.num_chunks,
            frozenset((n, tier) for n in range(5) if (tier := holdings[n].tier_of(run.mask))),
        )
        for run in runs
    ]
    assert found == naive_runs(entries, keys(*asked), tenant, visible)
    assert all(run.mask.bit_count() == len(who) for run, (*_, who) in zip(runs, found, strict=True))


@given(CHANGES, st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_a_stretch_names_only_keys_that_have_it(changes, number):
    directory, holdings, _ = apply_all(changes)
    _check_stretches(directory)
    directory.discard(holdings[number])
    while directory.must_sweep:
        directory.sweep(3)
        _check_stretches(directory)


def _check_stretches(directory: Directory) -> None:
    for masks in directory._masks_by_tenant.values():
        mask_by_key = dict(masks.items())
        num_named = 0
        for mask in {id(mask): mask for mask in mask_by_key.values()}.values():
            named = split_keys(masks.stretches.blob_by_id.get(id(mask), b""), 32)
            assert all(mask_by_key[key] is mask for key in named)
            assert len(set(named)) == len(named)
            num_named += bool(named)
        assert len(masks.stretches.blob_by_id) == num_named  # those that are nowhere are forgotten


@given(CHANGES)
@settings(max_examples=200, deadline=None)
def test_sizes_and_view_hashes_follow_the_entries(changes):
    directory, holdings, entries = apply_all(changes)
    for holding, held in zip(holdings, entries, strict=True):
        assert holding.num_entries == len(held)
        expected = sum(view_hash_of(k, tenant, tier) for (tenant, k), tier in held.items())
        assert holding.view_hash == expected & VIEW_HASH_MASK
        assert {(t, k): tier for t, k, tier in directory.entries_of(holding)} == held
    assert directory.num_keys == len({entry for held in entries for entry in held})


@given(CHANGES, st.integers(1, 7), st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_a_discarded_holding_is_swept_in_pieces_and_its_bits_used_again(changes, piece, number):
    directory, holdings, entries = apply_all(changes)
    gone = holdings[number]
    num_logged = sum(log.num_logged for log in gone.logs.values())
    num_positions = directory._num_positions
    directory.discard(gone)
    num_sweeps = 0
    while directory.must_sweep:
        directory.sweep(piece)
        num_sweeps += 1
    assert num_sweeps <= num_logged // piece + 2
    entries[number] = {}
    assert directory.num_keys == len({entry for held in entries for entry in held})
    for tier in range(1, gone.mask.bit_count() + 1):
        apply(directory, directory.open_holding(), "", [(tier, 0)])
    assert directory._num_positions == num_positions


@given(st.lists(st.tuples(st.sampled_from([EVICT, DEVICE]), st.integers(0, 99)), max_size=400))
@settings(max_examples=50, deadline=None)
def test_what_was_held_is_swept_and_stale_keys_are_forgotten(changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("p2p.holding._PIECE_KEYS", 8)
        patch.setattr("p2p.holding._SLACK_KEYS", 16)
        directory = Directory()
        holding = directory.open_holding()
        held: set[int] = set()
        for kind, number in changes:
            apply(directory, holding, "", [(kind, number)])
            held.discard(number) if kind == EVICT else held.add(number)
            num_logged = sum(log.num_logged for log in holding.logs.values())
            assert num_logged <= 3 * max(len(held), 1) + 200
        apply(directory, directory.open_holding(), "", [(HOST, 0)])
        directory.discard(holding)
        directory.sweep(1 << 20)
    assert directory.num_keys == 1


def test_a_key_that_comes_and_goes_does_not_fill_the_log():
    directory = Directory()
    holding = directory.open_holding()
    apply(directory, holding, "", [(DEVICE, number) for number in range(5000)])
    for _ in range(60):
        for kind in (EVICT, DEVICE):
            apply(directory, holding, "", [(kind, number) for number in range(1000)])
    (log,) = holding.logs.values()
    assert log.num_held == 5000
    assert log.num_logged < 4 * 5000


def test_a_directory_that_lost_everything_is_empty():
    directory = Directory()
    holding = directory.open_holding()
    apply(directory, holding, "acme", [(DEVICE, number) for number in (1, 2, 3)])
    apply(directory, holding, "acme", [(EVICT, number) for number in (3, 1, 2)])
    assert directory.num_keys == 0
    assert directory.find_runs(join_keys(keys(1)), "acme", holding.mask) == []


def test_equal_sets_of_holders_are_one_object():
    directory = Directory()
    for _ in range(64):
        holding = directory.open_holding()
        for number in range(10):  # one batch each, as from ten small puts
            apply(directory, holding, "", [(DEVICE, number)])
    masks = directory._masks_by_tenant[""]
    assert len({id(mask) for _, mask in masks.items()}) == 1


def test_sharing_of_sets_is_bounded(monkeypatch):
    monkeypatch.setattr("p2p.directory._MAX_SHARED_MASKS", 4)
    directory = Directory()
    holdings = [directory.open_holding() for _ in range(6)]
    for number, holding in enumerate(holdings):
        apply(directory, holding, "", [(DEVICE, n) for n in range(number + 1)])
        assert len(directory._shared_masks) <= 5
    everybody = sum(holding.mask for holding in holdings)
    runs = directory.find_runs(join_keys(keys(*range(6))), "", everybody)
    assert [run.num_chunks for run in runs] == [1] * 6


def test_the_directory_and_the_wire_agree_on_what_evicts() -> None:
    assert EVICTS == EVICT == EventKind.EVICT.value
