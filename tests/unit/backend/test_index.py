"""The index against a naive model: what is here, what goes first, what may never go."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from p2p.backend.index import Index
from p2p.keys import ChunkKey
from tests.unit.backend.builders import entry, prompt

NUM_KEYS = 8
KEYS = [ChunkKey(bytes([number]) * 8) for number in range(NUM_KEYS)]
numbers = st.integers(0, NUM_KEYS - 1)


class IndexMachine(RuleBasedStateMachine):
    """The model is a list, least recently used first, searched from the front every time."""

    def __init__(self):
        super().__init__()
        self.index = Index()
        self.model = [entry(KEYS[0])][:0]
        self.pins: dict[ChunkKey, int] = {}
        self.kept: set[ChunkKey] = set()
        self.next_slot = 0

    def _has_child(self, entry_):
        return any(other.parent == entry_.key for other in self.model)

    def _next_to_go(self):
        """The oldest spare copy, wherever it stands; without one, the oldest leaf."""
        free = [e for e in self.model if not self.pins.get(e.key) and e.key not in self.kept]
        spares = [e for e in free if e.is_spare]
        leaves = [e for e in free if not self._has_child(e)]
        return next(iter([*spares, *leaves]), None)

    @rule(number=numbers, parent=st.one_of(st.none(), numbers), tenant=st.sampled_from(["", "t"]))
    def add(self, number, parent, tenant):
        key = KEYS[number]
        if self.index.get(key) is not None or parent == number:
            return
        self.next_slot += 1
        added = entry(key, self.next_slot, None if parent is None else KEYS[parent], tenant)
        self.index.add(added)
        self.model.append(added)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def touch(self, data):
        used = data.draw(st.sampled_from(self.model))
        self.index.touch(used)
        self.model.remove(used)
        self.model.append(used)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def pin(self, data):
        pinned = data.draw(st.sampled_from(self.model))
        self.index.pin(pinned)
        self.pins[pinned.key] = self.pins.get(pinned.key, 0) + 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def keep_until(self, data):
        kept = data.draw(st.sampled_from(self.model))
        self.index.keep_until(kept, 5.0)
        self.kept.add(kept.key)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def let_go(self, data):
        kept = data.draw(st.sampled_from([e for e in self.model if e.key in self.kept]))
        self.index.let_go(kept)
        self.kept.remove(kept.key)

    @precondition(lambda self: any(self.pins.values()))
    @rule(data=st.data())
    def unpin(self, data):
        pinned = data.draw(st.sampled_from([e for e in self.model if self.pins.get(e.key)]))
        self.index.unpin(pinned)
        self.pins[pinned.key] -= 1

    @rule(count=st.integers(0, NUM_KEYS))
    def evict(self, count):
        expected = self.model[:0]
        while len(expected) < count and (gone := self._next_to_go()) is not None:
            self.model.remove(gone)
            expected.append(gone)
        assert self.index.evict(count) == expected

    @precondition(lambda self: self.model)
    @rule(data=st.data(), is_spare=st.booleans())
    def fetched(self, data, is_spare):
        """A chunk comes from others and is pinned: for long, or as a spare copy."""
        self.next_slot += 1
        keys = [key for key in KEYS if self.index.get(key) is None]
        if not keys:
            return
        parent = data.draw(st.sampled_from(self.model))
        added = entry(keys[0], self.next_slot, parent.key)
        added.num_pins, added.num_others, added.is_spare = 1, 1, is_spare
        self.index.add(added)
        self.model.append(added)
        self.pins[added.key] = 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def keep(self, data):
        kept = data.draw(st.sampled_from(self.model))
        self.index.keep(kept)
        assert not kept.is_spare

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def lend_and_take_back(self, data):
        lent = data.draw(st.sampled_from(self.model))
        self.index.lend([lent])
        assert not lent.is_spare
        self.index.take_back([lent])
        self.model.remove(lent)
        self.model.append(lent)

    @precondition(lambda self: any(not self.pins.get(e.key) for e in self.model))
    @rule(data=st.data())
    def remove(self, data):
        gone = data.draw(st.sampled_from([e for e in self.model if not self.pins.get(e.key)]))
        self.index.remove(gone)
        self.model.remove(gone)
        self.kept.discard(gone.key)

    @rule(wanted=st.lists(numbers, max_size=5), tenant=st.sampled_from(["", "t", "u"]))
    def prefix(self, wanted, tenant):
        by_key = {e.key: e for e in self.model}
        expected = self.model[:0]
        for number in wanted:
            found = by_key.get(KEYS[number])
            if found is None or not {"", tenant} & set(found.tenants):
                break
            expected.append(found)
        assert self.index.prefix([KEYS[number] for number in wanted], tenant) == expected

    @invariant()
    def agrees_with_the_model(self):
        self.index.check_integrity()
        assert {e.key for e in self.index} == {e.key for e in self.model}
        assert len(self.index) == len(self.model)
        for known in self.model:
            assert known.num_pins == self.pins.get(known.key, 0)
            assert (known.kept_until_s is not None) is (known.key in self.kept)
            is_needed = known.num_pins or known.key in self.kept
            is_free = known.is_spare or not self._has_child(known)
            assert known.can_go is (not is_needed and is_free)


IndexMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestIndexMachine = IndexMachine.TestCase


def _chain(index, keys):
    entries = [entry(key, slot, keys[slot - 1] if slot else None) for slot, key in enumerate(keys)]
    for added in entries:
        index.add(added)
    return entries


def test_a_chain_goes_from_its_end_however_old_its_start_is():
    index, keys = Index(), prompt(4)
    _chain(index, keys)
    assert [gone.key for gone in index.evict(4)] == keys[::-1]


def test_a_pinned_chunk_keeps_its_prefix():
    index = Index()
    entries = _chain(index, prompt(4))
    index.pin(entries[2])
    assert index.evict(4) == [entries[3]]


def test_a_chunk_whose_successor_came_first_still_counts_it():
    index, keys = Index(), prompt(2)
    index.add(entry(keys[1], 1, keys[0]))
    index.add(entry(keys[0], 0))
    assert [gone.key for gone in index.evict(2)] == [keys[1], keys[0]]


def test_a_damaged_chunk_is_not_found():
    index = Index()
    entries = _chain(index, prompt(3))
    entries[1].is_damaged = True
    assert index.prefix(prompt(3), "") == entries[:1]


def test_misuse_is_an_assertion():
    index, keys = Index(), prompt(1)
    (only,) = _chain(index, keys)
    with pytest.raises(AssertionError, match="indexed already"):
        index.add(entry(keys[0], 5))
    with pytest.raises(AssertionError, match="is not pinned"):
        index.unpin(only)
    index.pin(only)
    with pytest.raises(AssertionError, match="is pinned 1 times"):
        index.remove(only)


def test_many_uses_do_not_make_the_heap_grow_beyond_what_is_here():
    index = Index()
    entries = _chain(index, prompt(3))
    for _ in range(1000):
        index.touch(entries[2])
    assert index._order.num_candidates <= 64 + 4 * 3
    assert index.evict(1) == [entries[2]]


def test_what_was_used_since_is_not_evicted_for_what_came_before():
    index = Index()
    old = _chain(index, prompt(2, salt="old"))
    mark = index.num_uses
    new = _chain(index, prompt(2, salt="new"))
    index.touch(old[1])
    assert index.evict(4, used_before=mark) == []
    assert index.evict(1) == [new[1]]


def test_a_spare_copy_goes_first_even_from_the_middle_of_its_prompt():
    index, keys = Index(), prompt(3)
    old = _chain(index, prompt(1, salt="old"))
    copy = entry(keys[1], 11, keys[0])
    copy.num_others, copy.is_spare = 1, True
    for added in (entry(keys[0], 10), copy, entry(keys[2], 12, keys[1])):
        index.add(added)
    assert index.evict(1) == [copy]
    assert index.evict(1) == old


def test_a_spare_copy_that_was_used_since_is_not_evicted_for_what_came_before():
    index, keys = Index(), prompt(2)
    mark = index.num_uses
    copy = entry(keys[0], 0)
    copy.num_others, copy.is_spare = 1, True
    index.add(copy)
    assert index.evict(1, used_before=mark) == []
    assert index.evict(1) == [copy]


def test_what_was_not_used_since_is_evicted():
    index = Index()
    old = _chain(index, prompt(2, salt="old"))
    mark = index.num_uses
    _chain(index, prompt(2, salt="new"))
    assert index.evict(4, used_before=mark) == [old[1], old[0]]
