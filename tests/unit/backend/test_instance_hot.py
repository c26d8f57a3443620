"""Many readers of one long run: the first ones are served, the others sent to them."""

from p2p.backend.hot import HotLimits
from p2p.wire.messages import LeaseBusy, LeaseGranted, LeaseRelease
from tests.unit.backend.builders import (
    CHUNK_BYTES,
    ask,
    hello,
    instance_core,
    lease_request,
    prompt,
    put,
)

KEYS = prompt(6)
LIMITS = HotLimits(readers_per_chunk=2, least_bytes=2 * CHUNK_BYTES, long_s=0.0, refusals=3)


def _holder(num_readers: int = 6, limits: HotLimits = LIMITS):
    core = instance_core("a", 16, hot=limits)
    put(core, KEYS)
    for number in range(num_readers):
        ask(core, hello(f"r{number}"))
    return core


def _ask(core, number, now_s=0.0, keys=KEYS, **fields):
    return ask(core, lease_request(keys, instance=f"r{number}", **fields), now_s)


def test_the_third_reader_of_a_long_run_is_told_to_try_the_first_two():
    core = _holder()
    assert isinstance(_ask(core, 0), LeaseGranted)
    assert isinstance(_ask(core, 1), LeaseGranted)
    busy = _ask(core, 2)
    assert isinstance(busy, LeaseBusy)
    assert set(busy.alternates) == {"r0", "r1"}
    assert busy.retry_after_ms > 0
    assert core.counters["readers_sent_elsewhere"] == 1


def test_a_short_run_is_lent_to_everybody():
    core = _holder()
    answers = [_ask(core, number, keys=KEYS[:1]) for number in range(6)]
    assert all(isinstance(answer, LeaseGranted) for answer in answers)


def test_what_is_read_in_a_moment_is_lent_to_everybody():
    limits = HotLimits(readers_per_chunk=1, least_bytes=2 * CHUNK_BYTES, long_s=0.2)
    core = _holder(limits=limits)
    for start_s, seconds, is_served in ((0.0, 0.1, True), (20.0, 3.0, False)):
        first, second, third = (0, 1, 2) if is_served else (3, 4, 5)
        lease = _ask(core, first, now_s=start_s, ttl_ms=9000)
        release = LeaseRelease(instance=f"r{first}", incarnation=1, token=lease.token)
        ask(core, release, start_s + seconds)
        assert isinstance(_ask(core, second, now_s=start_s + seconds), LeaseGranted)
        answer = _ask(core, third, now_s=start_s + seconds)
        assert isinstance(answer, LeaseGranted) is is_served


def test_without_a_limit_everybody_is_served():
    core = _holder(limits=HotLimits(readers_per_chunk=0, least_bytes=1))
    assert all(isinstance(_ask(core, number), LeaseGranted) for number in range(6))


def test_who_is_served_already_is_lent_more():
    core = _holder()
    _ask(core, 0)
    _ask(core, 1)
    assert isinstance(_ask(core, 0), LeaseGranted)


def test_a_reader_in_a_hurry_is_served():
    core = _holder()
    _ask(core, 0)
    _ask(core, 1)
    assert isinstance(_ask(core, 2, is_urgent=True), LeaseGranted)


def test_only_the_crowded_part_of_a_run_is_to_be_had_elsewhere():
    core = _holder()
    _ask(core, 0, keys=KEYS[3:])
    _ask(core, 1, keys=KEYS[3:])
    answer = _ask(core, 2)
    assert isinstance(answer, LeaseGranted)
    assert len(answer.slots) == 3
    assert set(answer.alternates) == {"r0", "r1"}
    assert answer.retry_after_ms > 0


def test_a_holder_that_lends_nothing_serves_whoever_comes():
    core = _holder()
    for number in range(2):
        lease = _ask(core, number)
        release = LeaseRelease(instance=f"r{number}", incarnation=1, token=lease.token)
        ask(core, release, 1.0)
    assert isinstance(_ask(core, 2, now_s=1.2), LeaseBusy)
    assert isinstance(_ask(core, 2, now_s=1.3), LeaseGranted)


def test_readers_are_forgotten_a_while_after_they_gave_back():
    core = _holder()
    other = prompt(1, salt="other")
    put(core, other)
    assert isinstance(_ask(core, 5, keys=other, ttl_ms=60_000), LeaseGranted)
    for number in range(2):
        lease = _ask(core, number)
        release = LeaseRelease(instance=f"r{number}", incarnation=1, token=lease.token)
        ask(core, release, 0.0)
    assert isinstance(_ask(core, 2, now_s=9.9), LeaseBusy)
    assert isinstance(_ask(core, 2, now_s=10.1), LeaseGranted)
    assert isinstance(_ask(core, 3, now_s=10.1), LeaseGranted)
    assert isinstance(_ask(core, 4, now_s=10.1), LeaseBusy)


def test_readers_that_still_read_are_not_forgotten():
    core = _holder()
    _ask(core, 0, ttl_ms=60_000)
    _ask(core, 1, ttl_ms=60_000)
    assert isinstance(_ask(core, 2, now_s=5.0), LeaseBusy)


def test_a_copy_is_due_once_many_readers_were_sent_away():
    core = _holder()
    for number in range(4):
        for _ in range(3):  # one that asks again and again counts once
            _ask(core, number)
    assert not core.hot.copies
    _ask(core, 4)
    (chain,) = core.hot.copies
    assert chain.keys == tuple(KEYS)
    assert core.wants_reader
    for number in range(2, 6):
        _ask(core, number)
    assert len(core.hot.copies) == 1  # not again so soon


def test_the_rest_of_a_long_run_is_not_short():
    core = _holder()
    _ask(core, 0)
    _ask(core, 1)
    assert isinstance(_ask(core, 2), LeaseBusy)
    assert isinstance(_ask(core, 2, now_s=0.5, keys=KEYS[5:]), LeaseBusy)
    assert isinstance(_ask(core, 3, now_s=0.5, keys=KEYS[5:]), LeaseGranted)
