"""Why a hit is short: every reason that the controller itself records, staged."""

import msgspec
import pytest

from p2p.keys import join_keys
from p2p.wire.messages import (
    Clear,
    Done,
    Explain,
    Explained,
    FetchReport,
    FetchReports,
    Finding,
    ListRequests,
    Refusal,
    RefusalCode,
    RequestList,
    Trouble,
    Why,
)
from p2p_controller import evidence
from p2p_controller.cli.reasons import is_explained, summary
from tests.unit.controller.instances import EVICT, HOST, LAYOUT, NAMESPACE, Controller, key, keys


def explain(controller, *numbers, asker="", tenant="", request="", namespace=NAMESPACE.id):
    blob, key_bytes = join_keys(keys(*numbers))
    reply = controller.send(
        Explain(
            namespace=namespace,
            keys=blob,
            key_bytes=key_bytes,
            instance=asker,
            tenant=tenant,
            request=request,
        )
    )
    assert isinstance(reply, Explained), reply
    return reply


def finding(answer: Explained, why: Why) -> Finding:
    (found,) = [one for one in answer.findings if one.why is why]
    return found


def whys(answer: Explained) -> set[Why]:
    return {one.why for one in answer.findings}


@pytest.fixture
def controller():
    controller = Controller(recovery_s=0)
    controller.wait(1)
    return controller


def report(number=1, request="r1", **fields):
    values = {
        "num_keys": 3,
        "num_delivered": 1,
        "reason": "budget_spent",
        "missing": key(2),
        "detail": "budget of 1 s",
    }
    return FetchReport(number=number, request=request, **{**values, **fields})


def send_reports(controller, instance, *reports):
    message = FetchReports(
        instance=instance.name,
        incarnation=instance.incarnation,
        epoch=instance.epoch,
        reports=reports,
    )
    assert controller.send(message) == Done()


def test_a_full_hit_needs_no_reason(controller):
    controller.joined("p", 1, 2)
    answer = explain(controller, 1, 2)
    assert (answer.num_keys, answer.num_held, answer.findings) == (2, 2, ())
    assert is_explained(answer)
    assert summary(answer) == "2 of 2 chunks are held"


def test_no_holder(controller):
    controller.joined("p", 1)
    answer = explain(controller, 1, 2, 3)
    found = finding(answer, Why.NO_HOLDER)
    assert (answer.num_held, found.position, found.count) == (1, 1, 2)
    assert summary(answer) == "1 of 3 chunks are held; chunk 1 is held by nobody"
    assert is_explained(answer)


def test_a_namespace_that_nobody_is_in(controller):
    assert "no instance" in finding(explain(controller, 1), Why.NO_HOLDER).detail


def test_evicted_names_who_and_when(controller):
    p = controller.joined("p", 1, 2, 3)
    controller.now_s += 2
    controller.send(p.evict(2))
    controller.now_s += 1
    answer = explain(controller, 1, 2, 3)
    found = finding(answer, Why.EVICTED)
    assert (found.position, found.count, found.instance, found.age_ms) == (1, 1, "p", 1000)
    assert finding(answer, Why.HELD_BEHIND_GAP).position == 2
    expected = "1 of 3 chunks are held; chunk 1 was evicted by p 1.0 s ago, nobody else holds it"
    assert summary(answer) == expected


def test_evictions_of_consecutive_chunks_are_one_finding(controller):
    p = controller.joined("p", 1, 2, 3, 4)
    controller.send(p.evict(2, 3, 4))
    found = finding(explain(controller, 1, 2, 3, 4), Why.EVICTED)
    assert (found.position, found.count) == (1, 3)


def test_what_was_evicted_and_admitted_again_is_held(controller):
    p = controller.joined("p", 1)
    controller.send(p.evict(1))
    controller.send(p.admit(1))
    assert explain(controller, 1).findings == ()


def test_a_repeated_batch_does_not_move_the_eviction(controller):
    p = controller.joined("p", 1)
    batch = p.evict(1)
    controller.send(batch)
    controller.now_s += 2
    controller.send(batch)
    assert finding(explain(controller, 1), Why.EVICTED).age_ms == 2000


def test_only_the_evictions_of_a_mixed_batch_count(controller):
    p = controller.joined("p", 1)
    controller.send(p.change((HOST, 2), (EVICT, 1), (HOST, 3)))
    answer = explain(controller, 1, 2, 3, 4)
    assert [one.position for one in answer.findings if one.why is Why.EVICTED] == [0]


def test_an_eviction_by_order_says_so(controller):
    p = controller.joined("p", 1)
    controller.send_all(Clear(instance="p"))
    controller.send(p.evict(1))
    assert "ordered to clear" in finding(explain(controller, 1), Why.EVICTED).detail


def test_evictions_are_bounded_and_what_is_lost_is_unknown(controller, monkeypatch):
    monkeypatch.setattr(evidence, "MAX_EVICTION_BYTES", 1200)
    p = controller.joined("p", 1, 2, 3)
    for number in (1, 2, 3):
        controller.send(p.evict(number))
        controller.now_s += 1
    answer = explain(controller, 1)
    assert whys(answer) == {Why.UNKNOWN}
    assert not is_explained(answer)
    assert summary(answer) == "0 of 1 chunks are held; why chunk 0 is missing is not known"
    assert whys(explain(controller, 3)) == {Why.EVICTED}


def sync(controller, instance, *numbers):
    """The index has only these entries now, and a snapshot is how the controller learns of it."""
    controller.send(instance.page(1, 0, list(numbers), last=True, start_seq=instance.last_seq))


def test_what_a_snapshot_lacks_was_evicted_before_it(controller):
    p = controller.joined("p", 1, 2, 3, 4)
    controller.now_s += 5
    sync(controller, p, 1, 4, 5)
    assert whys(explain(controller, 1)) == set()
    controller.wait(0.5)
    found = finding(explain(controller, 1, 2, 3, 4), Why.EVICTED)
    assert (found.position, found.count, found.instance) == (1, 2, "p")
    assert found.age_ms == 500
    assert "snapshot" in found.detail


def test_an_eviction_that_was_told_keeps_its_time_when_a_snapshot_follows(controller):
    p = controller.joined("p", 1, 2)
    controller.send(p.evict(2))
    controller.now_s += 3
    sync(controller, p, 1)
    controller.wait(1)
    found = finding(explain(controller, 1, 2), Why.EVICTED)
    assert (found.age_ms, found.detail) == (4000, "")


def test_the_same_chunk_of_another_tenant_is_not_what_a_snapshot_lacks(controller):
    p = controller.joined("p", 1)
    controller.send(p.admit(2, tenant="acme"))
    sync(controller, p, 1)
    controller.wait(0.5)
    assert whys(explain(controller, 2)) == {Why.NO_HOLDER}
    assert whys(explain(controller, 2, tenant="acme")) == {Why.EVICTED}


def test_a_large_snapshot_is_compared_a_piece_at_a_time(controller):
    numbers = range(1, 20_001)
    p = controller.joined("p", *numbers)
    sync(controller, p, *numbers[:10_000])
    controller.core.tick(controller.now_s)
    assert whys(explain(controller, 20_000)) != {Why.EVICTED}, "all of it was done at once"
    controller.wait(1)
    assert finding(explain(controller, *numbers[9_990:10_010]), Why.EVICTED).count == 10
    assert controller.state().num_entries == controller.state().num_keys == 10_000


def test_an_instance_that_goes_while_its_snapshot_is_compared(controller):
    numbers = range(1, 10_001)
    p = controller.joined("p", *numbers)
    q = controller.joined("q", 1)
    sync(controller, p, 1)
    controller.core.tick(controller.now_s)
    controller.send(p.deregister())
    controller.wait(1)
    assert controller.state().num_keys == 1
    assert finding(explain(controller, 10_000), Why.HOLDER_GONE).instance == "p"
    assert controller.is_equal(q)


def test_a_silent_holder_since_when(controller):
    controller.joined("p", 1)
    controller.wait(10)
    found = finding(explain(controller, 1), Why.HOLDER_SILENT)
    assert (found.instance, found.age_ms) == ("p", 10_000)


def test_a_forgotten_instance_with_what_it_held(controller):
    controller.joined("p", 1, 2)
    controller.wait(70)
    answer = explain(controller, 1)
    found = finding(answer, Why.HOLDER_GONE)
    assert found.instance == "p"
    assert found.detail == "was forgotten with 2 chunks of this namespace"
    assert found.age_ms is not None
    assert 9_000 <= found.age_ms <= 11_000


def test_who_left_and_who_restarted(controller):
    p, q = controller.joined("p", 1), controller.joined("q", 1)
    controller.send(p.deregister())
    q.incarnation += 1
    controller.join(q)
    details = {o.instance: o.detail for o in explain(controller, 1).findings if o.instance}
    assert details["p"].startswith("left with 1 chunks")
    assert details["q"].startswith("restarted with 1 chunks")


def test_a_layout_that_differs_names_the_field_and_both_values(controller):
    controller.joined("p", 1)
    other = msgspec.structs.replace(LAYOUT, chunk_tokens=128)
    controller.joined("q", layout=other)
    assert explain(controller, 1).findings == ()
    found = finding(explain(controller, 1, asker="q"), Why.LAYOUT_DIFFERS)
    assert (found.instance, found.field, found.ours, found.theirs) == (
        "p",
        "chunk_tokens",
        "128",
        "64",
    )


def test_the_same_keys_in_another_namespace(controller):
    controller.joined("p", 9)
    controller.joined("q", 1, namespace=msgspec.structs.replace(NAMESPACE, kv_dtype="int8"))
    found = finding(explain(controller, 1), Why.NAMESPACE_DIFFERS)
    assert (found.instance, found.field, found.ours, found.theirs) == (
        "q",
        "kv_dtype",
        "float16",
        "int8",
    )
    assert "same key" in found.detail


def test_a_near_namespace_whose_keys_can_never_match(controller):
    controller.joined("p")
    controller.joined("q", 5, namespace=msgspec.structs.replace(NAMESPACE, key_seed="42"))
    found = finding(explain(controller, 1), Why.NAMESPACE_DIFFERS)
    assert (found.field, found.ours, found.theirs) == ("key_seed", "", "42")
    assert "never match" in found.detail


def test_another_tenants_entries_only(controller):
    p = controller.joined("p")
    controller.send(p.admit(1, tenant="acme"))
    found = finding(explain(controller, 1, tenant="blue"), Why.OTHER_TENANT)
    assert (found.instance, found.ours, found.theirs) == ("p", "blue", "acme")
    assert explain(controller, 1, tenant="acme").findings == ()


def test_a_directory_that_is_partial_after_a_restart():
    controller = Controller(recovery_s=10)
    controller.joined("p", 1)
    controller.wait(2)
    answer = explain(controller, 2)
    found = [one for one in answer.findings if one.why is Why.DIRECTORY_PARTIAL]
    assert answer.partial
    assert [(one.instance, one.age_ms) for one in found] == [("", 2000), ("p", None)]


def test_a_request_that_nobody_reported_is_unknown(controller):
    answer = explain(controller, request="nope")
    assert whys(answer) == {Why.UNKNOWN}
    assert not is_explained(answer)


@pytest.mark.parametrize(
    "reason",
    [
        "peer_busy",
        "peer_refused",
        "digest_mismatch",
        "peer_silent",
        "link_failed",
        "link_slow",
        "lease_lost",
        "read_failed",
        "read_stalled",
        "evicted_at_holder",
    ],
)
def test_what_an_instance_reported_of_a_holder(controller, reason):
    p = controller.joined("p", 1, 2)
    q = controller.joined("q")
    trouble = Trouble(
        instance="p", reason=reason, age_ms=40, field="f", ours="a", theirs="b", detail="d"
    )
    send_reports(controller, q, report(age_ms=20, reason=reason, troubles=(trouble,)))
    controller.now_s += 1
    controller.send(p.evict(2))
    for answer in (explain(controller, request="r1", namespace=""), explain(controller, 1, 2, 3)):
        found = finding(answer, Why(reason))
        assert (found.position, found.instance, found.age_ms, found.request) == (1, "p", 1040, "r1")
        assert (found.field, found.ours, found.theirs) == ("f", "a", "b")
        assert finding(answer, Why.EVICTED).age_ms == 0
    assert summary(explain(controller, request="r1", namespace="")).startswith("1 of 3 chunks")


@pytest.mark.parametrize(
    "reason", ["budget_spent", "recompute_chosen", "pool_full", "controller_silent", "closed"]
)
def test_what_an_instance_reported_of_itself(controller, reason):
    controller.joined("p", 1, 2, 3)
    q = controller.joined("q")
    send_reports(controller, q, report(reason=reason))
    answer = explain(controller, request="r1", namespace="")
    assert whys(answer) == {Why(reason)}
    assert finding(answer, Why(reason)).instance == "q"
    assert answer.num_held == 2  # what was missing is held now
    assert is_explained(answer)


def test_a_report_whose_missing_key_is_none_is_refused(controller):
    """Explaining that request would be asking the directory for it."""
    p = controller.joined("p")
    reply = controller.send(
        FetchReports(
            instance="p",
            incarnation=p.incarnation,
            epoch=p.epoch,
            reports=(report(1, missing=b"short"),),
        )
    )
    assert isinstance(reply, Refusal)
    assert (reply.code, reply.field) == (RefusalCode.MALFORMED, "missing")
    assert whys(explain(controller, request="r1")) == {Why.UNKNOWN}


def test_reports_that_come_twice_count_once(controller):
    q = controller.joined("q")
    send_reports(controller, q, report(1), report(2, request="r2"))
    send_reports(controller, q, report(1), report(2, request="r2"), report(3, request="r3"))
    listed = controller.send(ListRequests())
    assert isinstance(listed, RequestList)
    assert [view.report.request for view in listed.requests] == ["r3", "r2", "r1"]
    assert controller.count("reports_repeated") == 2


def test_requests_are_listed_by_instance_and_kind(controller):
    p, q = controller.joined("p"), controller.joined("q")
    send_reports(controller, p, report(1))
    full = report(1, "full", missing=b"", num_delivered=3, reason="complete")
    send_reports(controller, q, full)
    assert [v.instance for v in controller.send(ListRequests()).requests] == ["p"]
    every = controller.send(ListRequests(only_short=False)).requests
    assert [v.report.request for v in every] == ["full", "r1"]
    assert [v.instance for v in controller.send(ListRequests(instance="q")).requests] == []
    assert is_explained(explain(controller, request="full", namespace=""))


def test_requests_are_bounded(controller, monkeypatch):
    q = controller.joined("q")
    for start in range(1, evidence.MAX_REQUESTS + 65, 64):
        send_reports(controller, q, *(report(n, f"r{n}") for n in range(start, start + 64)))
    listed = controller.send(ListRequests(limit=4096)).requests
    assert len(listed) == evidence.MAX_REQUESTS
    assert whys(explain(controller, request="r1")) == {Why.UNKNOWN}


def test_without_a_namespace_the_instance_says_it(controller):
    controller.joined("p", 1)
    assert explain(controller, 1, asker="p", namespace="").num_held == 1
    blob, key_bytes = join_keys(keys(1))
    reply = controller.send(Explain(keys=blob, key_bytes=key_bytes))
    assert isinstance(reply, Refusal)


def test_an_asker_that_nobody_knows_is_refused_though_the_namespace_is_given(controller):
    controller.joined("p", 1)
    blob, key_bytes = join_keys(keys(1))
    question = Explain(namespace=NAMESPACE.id, keys=blob, key_bytes=key_bytes, instance="nobody")
    refusal = controller.send(question)
    assert isinstance(refusal, Refusal)
    assert (refusal.field, refusal.theirs) == ("instance", "nobody")


def test_a_request_of_an_instance_that_is_gone_is_still_explained(controller):
    q = controller.joined("q")
    send_reports(controller, q, report())
    controller.send(q.deregister())
    assert (
        finding(explain(controller, request="r1", namespace=""), Why.BUDGET_SPENT).instance == "q"
    )


def test_the_last_line_of_a_prompt_tells_what_is_so_now_and_that_of_a_request_what_was(controller):
    p = controller.joined("p", 1, 2, 3)
    q = controller.joined("q")
    send_reports(controller, q, report(reason="budget_spent"))
    controller.send(p.evict(2))
    of_prompt = summary(explain(controller, 1, 2, 3))
    assert of_prompt == (
        "1 of 3 chunks are held; chunk 1 was evicted by p 0.0 s ago, nobody else holds it"
    )
    of_request = summary(explain(controller, request="r1", namespace=""), "r1")
    assert of_request == (
        "1 of 3 chunks were delivered; chunk 1 did not reach q within its budget 0.0 s ago"
    )


def test_what_is_held_now_and_was_not_then(controller):
    controller.joined("p", 1, 2, 3)
    q = controller.joined("q")
    send_reports(controller, q, report(reason="no_holder"))
    expected = "3 of 3 chunks are held; chunk 1 was held by nobody 0.0 s ago, when q asked"
    assert summary(explain(controller, 1, 2, 3)) == expected


@pytest.mark.parametrize("why", sorted(set(Why) - {Why.COMPLETE, Why.HELD_BEHIND_GAP}, key=str))
def test_every_reason_has_words(why):
    found = Finding(position=0, count=1, why=why, instance="p", age_ms=5000)
    line = summary(Explained(num_keys=1, num_held=0, findings=(found,)))
    assert line.startswith("0 of 1 chunks are held; ")
    assert "{" not in line
    assert is_explained(Explained(num_keys=1, num_held=0, findings=(found,))) is (
        why is not Why.UNKNOWN
    )


def test_explain_looks_at_a_bounded_part_of_a_long_prompt(controller):
    controller.joined("p", 1)
    found = finding(explain(controller, *range(1, 2000)), Why.NO_HOLDER)
    assert found.count == 512
