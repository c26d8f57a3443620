"""Every reason that `explain` can give, staged: what happens is real, and so is what is told of it.

A reader and its holders are the production state machines. What the reader reports goes to the
production controller, which is then asked why. No report is made by hand.
"""

from collections.abc import Callable

import msgspec
import pytest

from p2p.backend.fetch import Fetch
from p2p.backend.leases import LeaseLimits
from p2p.keys import join_keys
from p2p.wire.messages import Explain, Explained, FetchReports, Finding, Why
from p2p_controller.cli.reasons import is_explained
from tests.unit.backend.builders import (
    CHUNK_BYTES,
    LAYOUT,
    NAMESPACE,
    instance_core,
    prompt,
)
from tests.unit.backend.shell import Shell
from tests.unit.controller.instances import LAYOUT as CONTROLLER_LAYOUT
from tests.unit.controller.instances import NAMESPACE as CONTROLLER_NAMESPACE
from tests.unit.controller.instances import Controller, Instance, keys

KEYS = prompt(4)
Stage = Callable[[], Explained]
_BY_WHY: dict[Why, Stage] = {}
_HOLDER = {  # reasons that must name the holder p; the others name the reader r
    Why.PEER_SILENT,
    Why.PEER_REFUSED,
    Why.PEER_BUSY,
    Why.LINK_FAILED,
    Why.LINK_SLOW,
    Why.EVICTED_AT_HOLDER,
    Why.LEASE_LOST,
    Why.READ_FAILED,
    Why.READ_STALLED,
    Why.DIGEST_MISMATCH,
}


def stages(why: Why) -> Callable[[Stage], Stage]:
    """Marks what stages a reason."""

    def mark(stage: Stage) -> Stage:
        _BY_WHY[why] = stage
        return stage

    return mark


# ---------------------------------------------------------------------- told by a fetch


def held(lends: LeaseLimits | None = None, **fields: object) -> Shell:
    """Returns a reader, and a holder p that has the prompt."""
    shell = Shell([instance_core("p", limits=lends)], **fields)  # type: ignore[arg-type]
    shell.put(shell.holders[0], KEYS)
    return shell


def ended(shell: Shell, fetch: Fetch) -> Explained:
    """Lets a fetch end, has the reader tell the controller, and asks that why."""
    while fetch.outcome is None:
        shell.advance(0.02)
    shell.advance(1.0)
    controller = Controller(recovery_s=0)
    reader = controller.join(Instance("r", namespace=NAMESPACE, layout=LAYOUT))
    messages = shell.own.fetch_log.messages(shell.own.identity, reader.epoch, shell.now_s)
    for message in messages:
        assert isinstance(message, FetchReports)
        controller.send(message)
    request = shell.outcome(fetch).request_id
    answer = controller.send(Explain(request=request))
    assert isinstance(answer, Explained)
    return answer


@stages(Why.NO_HOLDER)
def nobody_has_it() -> Explained:
    shell = Shell([instance_core("p")])
    return ended(shell, shell.fetch(KEYS))


@stages(Why.DIRECTORY_PARTIAL)
def the_directory_is_being_filled() -> Explained:
    shell = Shell([instance_core("p")], is_partial=True)
    return ended(shell, shell.fetch(KEYS))


@stages(Why.CONTROLLER_SILENT)
def the_controller_does_not_answer() -> Explained:
    shell = held(is_controller_silent=True)
    return ended(shell, shell.fetch(KEYS))


@stages(Why.PEER_SILENT)
def the_holder_does_not_answer() -> Explained:
    shell = held()
    shell.fetch(KEYS[:1])  # there is a link
    shell.silent = {"p"}
    return ended(shell, shell.fetch(KEYS))


@stages(Why.LINK_SLOW)
def linking_takes_too_long() -> Explained:
    shell = held(slow_links={"p"})
    return ended(shell, shell.fetch(KEYS))


@stages(Why.PEER_REFUSED)
def the_holder_has_another_layout() -> Explained:
    shell = held()
    own = shell.own.membership
    own.identity = msgspec.structs.replace(
        own.identity, layout=msgspec.structs.replace(LAYOUT, num_layers=2)
    )
    return ended(shell, shell.fetch(KEYS))


@stages(Why.PEER_BUSY)
def the_holder_lends_no_more() -> Explained:
    shell = held(LeaseLimits(bytes_per_reader=CHUNK_BYTES - 1))
    return ended(shell, shell.fetch(KEYS))


@stages(Why.BUDGET_SPENT)
def the_budget_ends_before_the_read() -> Explained:
    shell = held(holds_reads=True)
    fetch = shell.fetch(KEYS, budget_s=0.3)
    for _ in range(3):  # something comes, so nothing has stalled
        shell.advance(0.09)
        shell.finish(shell.reads[0])
    return ended(shell, fetch)


@stages(Why.LINK_FAILED)
def there_is_no_link() -> Explained:
    shell = held()
    shell.broken_links = {"p"}
    return ended(shell, shell.fetch(KEYS))


@stages(Why.EVICTED_AT_HOLDER)
def the_holder_evicts_before_it_lends() -> Explained:
    shell = held()
    shell.silent = {"p"}
    fetch = shell.fetch(KEYS)
    shell.drop(shell.holders[0], KEYS)
    shell.silent = set()
    for question in list(shell.unanswered):
        shell.answer(question)
    return ended(shell, fetch)


@stages(Why.LEASE_LOST)
def the_bytes_arrive_after_the_lease() -> Explained:
    shell = held(LeaseLimits(ttl_s=0.1), holds_reads=True)
    fetch = shell.fetch(KEYS)
    shell.silent = {"p"}  # no renewal is answered
    shell.advance(0.06)
    shell.now_s += 0.1
    while shell.reads:
        shell.finish(shell.reads[0])
    return ended(shell, fetch)


@stages(Why.READ_FAILED)
def the_read_is_reset() -> Explained:
    shell = held(holds_reads=True)
    fetch = shell.fetch(KEYS)
    shell.fail(shell.reads[0])
    return ended(shell, fetch)


@stages(Why.READ_STALLED)
def nothing_comes() -> Explained:
    shell = held(holds_reads=True)
    return ended(shell, shell.fetch(KEYS))


@stages(Why.DIGEST_MISMATCH)
def the_bytes_are_damaged() -> Explained:
    shell = held()
    shell.corrupt = {"p"}
    return ended(shell, shell.fetch(KEYS))


@stages(Why.POOL_FULL)
def every_slot_here_is_pinned() -> Explained:
    shell = held(own=instance_core("r", num_slots=2))
    mine = prompt(2, salt="mine")
    shell.put(shell.own, mine)
    shell.fetch(mine)  # its result is not released
    return ended(shell, shell.fetch(KEYS))


@stages(Why.RECOMPUTE_CHOSEN)
def computing_is_faster_than_reading() -> Explained:
    shell = held()
    speeds, num_bytes = shell.reader.book.speeds, 1 << 20
    speeds.started("p", num_bytes, shell.now_s - 10)  # what others read from it took so long
    speeds.ended("p", num_bytes, shell.now_s, is_good=True)
    shell.own.prefill.note(1e9, 1.0, shell.now_s)
    return ended(shell, shell.fetch(KEYS))


@stages(Why.CLOSED)
def the_backend_closes() -> Explained:
    shell = held(holds_reads=True)
    fetch = shell.fetch(KEYS)
    shell.reader.close(shell.now_s)
    shell.carry_out()
    return ended(shell, fetch)


# ---------------------------------------------------------------------- seen by the controller


def asked(controller: Controller, *numbers: int, asker: str = "", tenant: str = "") -> Explained:
    blob, key_bytes = join_keys(keys(*numbers))
    question = Explain(
        namespace=CONTROLLER_NAMESPACE.id,
        keys=blob,
        key_bytes=key_bytes,
        instance=asker,
        tenant=tenant,
    )
    answer = controller.send(question)
    assert isinstance(answer, Explained)
    return answer


@stages(Why.EVICTED)
def an_instance_tells_of_an_eviction() -> Explained:
    controller = Controller()
    p = controller.joined("p", 1)
    controller.send(p.evict(1))
    return asked(controller, 1)


@stages(Why.HELD_BEHIND_GAP)
def the_chunk_before_is_missing() -> Explained:
    controller = Controller()
    controller.joined("p", 2)
    return asked(controller, 1, 2)


@stages(Why.HOLDER_SILENT)
def a_holder_misses_heartbeats() -> Explained:
    controller = Controller()
    controller.joined("p", 1)
    controller.wait(10)
    return asked(controller, 1)


@stages(Why.HOLDER_GONE)
def a_holder_is_forgotten() -> Explained:
    controller = Controller()
    controller.joined("p", 1)
    controller.wait(100)
    return asked(controller, 1)


@stages(Why.NAMESPACE_DIFFERS)
def the_keys_are_those_of_another_model() -> Explained:
    controller = Controller()
    controller.joined("q")
    other = msgspec.structs.replace(CONTROLLER_NAMESPACE, kv_dtype="int8")
    controller.joined("p", 1, namespace=other)
    return asked(controller, 1)


@stages(Why.LAYOUT_DIFFERS)
def the_holder_cannot_be_read() -> Explained:
    controller = Controller()
    controller.joined("p", 1)
    controller.joined("q", layout=msgspec.structs.replace(CONTROLLER_LAYOUT, chunk_tokens=128))
    return asked(controller, 1, asker="q")


@stages(Why.OTHER_TENANT)
def it_is_anothers() -> Explained:
    controller = Controller()
    controller.send(controller.joined("p").admit(1, tenant="acme"))
    return asked(controller, 1, tenant="blue")


@stages(Why.UNKNOWN)
def nobody_knows_the_request() -> Explained:
    answer = Controller().send(Explain(request="nope"))
    assert isinstance(answer, Explained)
    return answer


# ---------------------------------------------------------------------- all of them


def test_every_reason_is_staged():
    assert set(_BY_WHY) == set(Why) - {Why.COMPLETE}


def found(answer: Explained, why: Why) -> Finding:
    return next(one for one in answer.findings if one.why is why)


@pytest.mark.parametrize("why", list(_BY_WHY), ids=lambda why: why.value)
def test_what_happened_is_what_is_told(why):
    answer = _BY_WHY[why]()
    told = found(answer, why)
    assert is_explained(answer) is (why is not Why.UNKNOWN)
    if told.request and why is not Why.UNKNOWN:
        assert told.instance == ("p" if why in _HOLDER else "r")
        assert told.age_ms is not None
        assert 900 <= told.age_ms <= 12_000
    others = {one.why for one in answer.findings if one.request} - {why}
    assert others <= _MAY_COME_WITH.get(why, set()), "a reason that nothing staged"


_MAY_COME_WITH = {
    Why.PEER_BUSY: {Why.BUDGET_SPENT},
    Why.LEASE_LOST: {Why.PEER_SILENT},
}
