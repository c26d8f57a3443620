"""What a fetch refuses when it is submitted, and that none is kept once it is over."""

import gc
import weakref

import pytest

from p2p.errors import ArgumentError
from p2p.keys import ChunkKey
from tests.unit.backend.builders import instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)


def _shell(name):
    shell = Shell([instance_core(name)])
    shell.put(shell.holders[0], KEYS)
    return shell


@pytest.mark.parametrize("budget_s", [0.0, -1.0, float("nan")])
def test_a_budget_that_is_not_positive_is_refused(budget_s):
    with pytest.raises(ArgumentError, match="budget_s"):
        _shell("a").fetch(KEYS, budget_s=budget_s)


def test_keys_of_different_lengths_are_refused():
    with pytest.raises(ArgumentError, match="same length"):
        _shell("a").fetch([KEYS[0], ChunkKey(bytes(16))])


def test_a_delivered_fetch_is_not_kept_in_memory():
    shell = _shell("a")
    gone = weakref.ref(shell.fetch(KEYS))
    gc.collect()
    assert gone() is None


def test_a_fetch_of_local_chunks_is_not_kept_in_memory():
    shell = _shell("a")
    shell.put(shell.own, KEYS)
    gone = weakref.ref(shell.fetch(KEYS))
    gc.collect()
    assert gone() is None


def test_a_fetch_that_the_controller_never_answered_is_not_kept_in_memory():
    shell = _shell("a")
    shell.is_controller_silent = True
    gone = weakref.ref(shell.fetch(KEYS))
    shell.advance(1.0)
    gc.collect()
    assert gone() is None
