"""Peers that want us to take over their chunks; fetches that bring in more holders."""

from p2p.backend.fetch_context import FetchLimits
from p2p.keys import join_keys
from p2p.wire.messages import LeaseRequest, TakenOver, TakeOver
from tests.unit.backend.builders import (
    CHUNK_BYTES,
    NAMESPACE,
    SENDER,
    instance_core,
    prompt,
    put,
)
from tests.unit.backend.shell import Shell

KEYS = prompt(4)


def _plead(shell: Shell, keys=KEYS, batch: int = 1) -> None:
    blob, key_bytes = join_keys(keys)
    plea = TakeOver(
        instance="a",
        incarnation=1,
        namespace=NAMESPACE.id,
        keys=blob,
        key_bytes=key_bytes,
        ttl_ms=1000,
        batch=batch,
    )
    assert shell.own.handle(SENDER, plea, shell.now_s) == []
    assert shell.own.wants_reader
    shell.advance(0.0)


def _answers(shell: Shell) -> list[TakenOver]:
    return [outgoing.message for outgoing in shell.own.take_late_answers()]  # type: ignore[misc]


def _shell(num_slots: int) -> Shell:
    shell = Shell([instance_core("a", 32)], own=instance_core("r", num_slots))
    shell.put(shell.holders[0], KEYS)
    return shell


def test_a_plea_is_answered_once_its_chunks_are_here():
    shell = _shell(8)
    _plead(shell)
    assert _answers(shell) == [TakenOver(num_chunks=4)]
    assert len(shell.own.index.prefix(KEYS, "")) == 4
    assert all(entry.num_pins == 0 for entry in shell.own.index)


def test_a_plea_is_fetched_whatever_the_engine_prefers():
    shell = _shell(8)
    shell.reader.limits = FetchLimits(pull="never")
    _plead(shell)
    assert _answers(shell) == [TakenOver(num_chunks=4)]


def test_pleas_of_one_batch_do_not_displace_each_other():
    shell = _shell(4)
    other = prompt(4, salt="other")
    shell.put(shell.holders[0], other)
    put(shell.own, prompt(2, salt="cold"))
    _plead(shell)
    assert _answers(shell) == [TakenOver(num_chunks=4)]
    _plead(shell, other)
    assert _answers(shell) == [TakenOver(num_chunks=0, is_full=True)]
    _plead(shell, other, batch=2)
    assert _answers(shell) == [TakenOver(num_chunks=4)]


def test_what_cannot_be_read_is_not_taken_over():
    shell = _shell(8)
    shell.corrupt = {"a"}
    _plead(shell)
    assert _answers(shell) == [TakenOver(num_chunks=0)]


def test_a_holder_that_will_not_be_in_time_gets_help():
    keys = prompt(16)
    limits = FetchLimits(window_bytes=CHUNK_BYTES, num_windows=1)
    holders = [instance_core(name, 32) for name in "ab"]
    shell = Shell(holders, own=instance_core("r", 32), limits=limits, holds_reads=True)
    for core in holders:
        shell.put(core, keys)
    fetch = shell.fetch(keys)
    first = shell.reads[0].instance
    second = {"a": "b", "b": "a"}[first]
    shell.finish(shell.reads[0])
    assert shell.sent(LeaseRequest, to=second) == []
    shell.advance(0.26)
    assert len(shell.sent(LeaseRequest, to=second)) == 1
    while any(read.instance == second for read in shell.reads):
        shell.finish(next(read for read in shell.reads if read.instance == second))
    for read in list(shell.reads):
        shell.finish(read)
    assert shell.check_delivered(fetch, keys) == len(keys)


def test_a_holder_that_will_be_in_time_does_it_alone():
    shell = Shell([instance_core(name, 32) for name in "ab"], holds_reads=True)
    shell.limits = FetchLimits(window_bytes=CHUNK_BYTES, num_windows=1)
    for core in shell.holders:
        shell.put(core, KEYS)
    shell.fetch(KEYS)
    for _ in range(2):
        shell.finish(shell.reads[0])
    shell.advance(0.26)
    assert len({read.instance for read in shell.reads}) == 1
