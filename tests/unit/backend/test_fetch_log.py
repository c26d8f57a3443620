"""What an instance reports of its fetches, by the real state machines."""

import msgspec
import pytest

from p2p.backend.actions import AskController, ShortReason
from p2p.backend.fetch_context import Behalf, FetchLimits
from p2p.backend.fetch_log import MAX_COMPLETE, MAX_SHORT, Ended, FetchLog, check_request_id
from p2p.backend.leases import LeaseLimits
from p2p.errors import ArgumentError
from p2p.layout import Layout
from p2p.wire.messages import (
    FetchReport,
    HolderRun,
    LeaseRequest,
    Located,
    PeerList,
    Why,
)
from tests.unit.backend.bond import Bond
from tests.unit.backend.builders import (
    CHUNK_BYTES,
    holder_of,
    identity,
    instance_core,
    prompt,
)
from tests.unit.backend.shell import Shell

KEYS = prompt(4)


def reported(shell: Shell) -> FetchReport:
    (message,) = shell.own.fetch_log.messages(shell.own.identity, 1, shell.now_s)
    return message.reports[-1]


def troubles(report: FetchReport) -> dict[str, str]:
    return {trouble.instance: trouble.reason for trouble in report.troubles}


def held(*names: str, limits: LeaseLimits | None = None) -> Shell:
    shell = Shell([instance_core(name, limits=limits) for name in names])
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def test_every_reason_of_a_fetch_is_one_of_an_explanation():
    renamed = {ShortReason.EVICTED: Why.EVICTED_AT_HOLDER}
    for reason in ShortReason:
        assert Why(reason.value) is renamed.get(reason, Why(reason.value))


def test_a_complete_fetch():
    shell = held("p")
    fetch = shell.fetch(KEYS)
    report = reported(shell)
    assert (report.reason, report.missing, report.troubles) == ("complete", b"", ())
    assert report.request == shell.outcome(fetch).request_id == "r.1.1"


def test_no_holder_and_the_first_missing_chunk():
    shell = Shell([instance_core("p")])
    shell.put(shell.holders[0], KEYS[:2])
    shell.fetch(KEYS, tenant="acme")
    report = reported(shell)
    assert (report.num_keys, report.num_delivered, report.reason) == (4, 2, "no_holder")
    assert (report.missing, report.tenant) == (KEYS[2], "acme")


def test_the_callers_id_is_kept():
    shell = held("p")
    shell.reader.submit(KEYS, "", 1.0, shell.now_s, request_id="cmpl-7")
    shell.carry_out()
    assert reported(shell).request == "cmpl-7"


def test_a_busy_holder_until_the_budget_is_spent():
    shell = held("p", limits=LeaseLimits(bytes_per_reader=CHUNK_BYTES - 1))
    shell.fetch(KEYS)
    while shell.reader.fetches:
        shell.advance(0.05)
    report = reported(shell)
    assert report.reason == "budget_spent"
    assert troubles(report) == {"p": "peer_busy"}


def test_a_holder_that_refuses_names_the_field():
    shell = held("p")
    held_by, own = shell.holders[0].identity.layout, shell.own
    assert held_by == own.identity.layout
    own.membership.identity = identity("r", layout=_changed(held_by))
    shell.fetch(KEYS)
    (trouble,) = reported(shell).troubles
    assert (trouble.reason, trouble.field) == ("peer_refused", "num_layers")
    assert (trouble.ours, trouble.theirs) == ("2", "1")
    shell.fetch(KEYS)  # now it is not even asked
    (trouble,) = reported(shell).troubles
    assert (trouble.instance, trouble.reason, trouble.field) == ("p", "peer_refused", "num_layers")


def _changed(layout: Layout) -> Layout:
    return msgspec.structs.replace(layout, num_layers=2)


def test_a_silent_holder_and_its_age():
    shell = held("p")
    shell.silent = {"p"}
    shell.fetch(KEYS)
    while shell.reader.fetches:
        shell.advance(0.05)
    shell.now_s += 3
    report = reported(shell)
    assert troubles(report) == {"p": "link_slow"}
    assert report.age_ms == 3000
    assert report.troubles[0].age_ms >= 3000


def test_a_digest_mismatch():
    shell = held("p")
    shell.corrupt = {"p"}
    shell.fetch(KEYS)
    report = reported(shell)
    assert report.reason == "digest_mismatch"
    assert troubles(report) == {"p": "digest_mismatch"}


def test_a_mismatch_that_another_holder_made_good_is_told_as_well():
    shell = held("p", "q")
    shell.corrupt = {"p", "q"}
    shell.holds_reads = True
    fetch = shell.fetch(KEYS)
    while shell.reads:
        read = shell.reads[0]
        shell.finish(read)
        shell.corrupt.discard(read.instance)
        shell.corrupt = set()
    report = reported(shell)
    assert report.reason == shell.outcome(fetch).reason.value == "complete"
    assert set(troubles(report).values()) == {"digest_mismatch"}


def test_a_link_that_fails():
    shell = held("p")
    shell.broken_links = {"p"}
    shell.fetch(KEYS)
    assert troubles(reported(shell)) == {"p": "link_failed"}


def test_a_read_that_fails():
    shell = held("p")
    shell.holds_reads = True
    shell.fetch(KEYS)
    shell.fail(shell.reads[0])
    assert troubles(reported(shell))["p"] == "read_failed"


def test_a_chunk_that_its_holder_has_dropped():
    shell = held("p")
    shell.silent = {"p"}
    shell.fetch(KEYS)
    shell.drop(shell.holders[0], KEYS[1:2])
    shell.silent = set()
    for question in list(shell.unanswered):
        shell.answer(question)
    report = reported(shell)
    assert (report.num_delivered, report.reason) == (1, "evicted_at_holder")
    assert troubles(report) == {"p": "evicted_at_holder"}


OTHERS = prompt(4, salt="another")


def guessed(*names: str) -> Shell:
    """Returns a reader whose last fetch was served by p, so that it asks p ahead next time."""
    shell = Shell([instance_core(name) for name in names])
    shell.put(shell.holders[0], KEYS)
    shell.fetch(KEYS)
    return shell


def test_a_guess_that_never_had_a_chunk_has_not_evicted_it():
    shell = guessed("p")
    shell.fetch(OTHERS)
    request = shell.sent(LeaseRequest, to="p")[-1]
    assert isinstance(request, LeaseRequest)
    assert request.keys == b"".join(OTHERS)
    report = reported(shell)
    assert (report.reason, report.troubles) == ("no_holder", ())


def test_a_guess_that_holds_the_beginning_has_not_evicted_the_rest():
    shell = guessed("p", "q")
    shell.put(shell.holders[0], OTHERS[:2])
    shell.put(shell.holders[1], OTHERS[:3])
    shell.fetch(OTHERS)
    report = reported(shell)
    assert (report.num_delivered, report.reason, report.troubles) == (3, "no_holder", ())


def test_a_peer_that_is_asked_without_a_directory_has_not_evicted_what_it_never_had():
    shell = guessed("p")
    shell.own.membership.roster.take(
        PeerList(epoch=1, version=1, peers=(holder_of(shell.holders[0]),)), shell.now_s
    )
    shell.is_controller_silent = True
    shell.fetch(OTHERS)
    while shell.reader.fetches:
        shell.advance(0.05)
    report = reported(shell)
    assert (report.reason, report.troubles) == ("controller_silent", ())


def test_a_guess_that_the_directory_names_as_well_has_evicted_what_it_lacks():
    shell = guessed("p")
    shell.is_controller_silent = True
    shell.fetch(OTHERS)
    question = next(one for one in reversed(shell.log) if isinstance(one, AskController))
    run = HolderRun(start=0, count=4, holders=(0,))
    stale = Located(epoch=1, holders=(holder_of(shell.holders[0]),), runs=(run,))
    shell.reader.on_controller(question.tag, stale, shell.now_s)
    shell.carry_out()
    report = reported(shell)
    assert (report.reason, troubles(report)) == ("evicted_at_holder", {"p": "evicted_at_holder"})


def test_what_proved_damaged_is_not_reported_as_evicted_when_its_holder_has_dropped_it():
    shell = guessed("p")
    for key in KEYS[1:]:  # until p is asked without the directory
        shell.fetch([key])
    shell.put(shell.holders[0], OTHERS)
    shell.corrupt, shell.is_controller_silent = {"p"}, True
    shell.fetch(OTHERS[:1])
    (suspect,) = shell.holders[0].take_suspects()
    entry = shell.holders[0].pin_suspect(suspect)
    assert entry is not None
    assert shell.holders[0].judge_suspect(entry, (0,))
    question = next(one for one in reversed(shell.log) if isinstance(one, AskController))
    run = HolderRun(start=0, count=1, holders=(0,))
    stale = Located(epoch=1, holders=(holder_of(shell.holders[0]),), runs=(run,))
    num_asked = len(shell.sent(LeaseRequest, to="p"))
    shell.reader.on_controller(question.tag, stale, shell.now_s)
    shell.carry_out()
    assert len(shell.sent(LeaseRequest, to="p")) == num_asked + 1
    report = reported(shell)
    assert (report.reason, troubles(report)) == ("digest_mismatch", {"p": "digest_mismatch"})


def test_recomputing_was_judged_cheaper():
    shell = held("p")
    shell.limits = FetchLimits(pull="never")
    shell.reader.limits = shell.limits
    shell.fetch(KEYS)
    assert reported(shell).reason == "recompute_chosen"


def test_a_silent_controller():
    shell = held("p")
    shell.is_controller_silent = True
    shell.fetch(KEYS)
    while shell.reader.fetches:
        shell.advance(0.05)
    assert reported(shell).reason == "controller_silent"


def test_a_fetch_for_a_peer_is_not_reported():
    shell = held("p")
    shell.reader.submit(KEYS, "", 1.0, shell.now_s, Behalf(0))
    shell.carry_out()
    assert shell.own.fetch_log.messages(shell.own.identity, 1, shell.now_s) == []


def _ended(*, is_short: bool) -> Ended:
    missing = b"m" * 8 if is_short else b""
    return Ended("r", "", 1, 0, 0, ShortReason.NO_HOLDER, "", missing, 0.5)


def test_each_report_is_told_once_and_all_again_to_a_new_controller():
    log = FetchLog()
    log.note(_ended(is_short=True), 1.0)
    (first,) = log.messages(identity(), 1, 2.0)
    assert [(one.number, one.age_ms) for one in first.reports] == [(1, 1000)]
    assert log.messages(identity(), 1, 2.0) == []
    log.note(_ended(is_short=False), 2.0)
    log.rewind()
    (again,) = log.messages(identity(), 2, 3.0)
    assert [one.number for one in again.reports] == [1, 2]


def test_the_log_is_bounded_and_full_fetches_do_not_push_out_short_ones():
    log = FetchLog()
    log.note(_ended(is_short=True), 0.0)
    for _ in range(10 * MAX_COMPLETE):
        log.note(_ended(is_short=False), 0.0)
    messages = log.messages(identity(), 1, 0.0)
    told = [one for message in messages for one in message.reports]
    assert len(told) == 1 + MAX_COMPLETE
    for _ in range(2 * MAX_SHORT):
        log.note(_ended(is_short=True), 0.0)
    told = [one for message in log.messages(identity(), 1, 0.0) for one in message.reports]
    assert len(told) == MAX_SHORT


def test_reports_go_with_the_heartbeat():
    bond = Bond()
    bond.settle()
    bond.core.fetch_log.note(_ended(is_short=True), bond.now_s)
    names = [sent.__name__ for sent in bond.turn(2.0)]
    assert names == ["Heartbeat", "FetchReports"]


def test_an_id_that_is_too_long_is_refused():
    check_request_id("x" * 128)
    with pytest.raises(ArgumentError, match="request_id"):
        check_request_id("x" * 129)
