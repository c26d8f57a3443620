"""How a reader stands with holders over several fetches: greetings, restarts, refusals."""

import msgspec

from p2p.backend.actions import DropPeer, OpenLink, ShortReason, Tag
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.handshake import PeerState
from p2p.backend.instance import InstanceCore
from p2p.wire.messages import Hello, LeaseGranted, LeaseRequest, Refusal, RefusalCode, Welcome
from tests.unit.backend.builders import OFFERS, ask, holder_of, identity, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(4)


def _shell(*names):
    shell = Shell([instance_core(name) for name in names])
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def _restart(shell, name, incarnation):
    core = instance_core(name, incarnation=incarnation)
    shell.holders = [core]
    shell.cores[name] = core
    shell.put(core, KEYS)


def _fetch_again(shell):
    for entry in list(shell.own.index):
        while entry.num_pins:
            shell.own.unpin(entry)
    shell.own.clear()
    return shell.fetch(KEYS)


def test_a_holder_that_restarted_is_greeted_and_linked_anew():
    shell = _shell("a")
    shell.fetch(KEYS)
    _restart(shell, "a", 2)
    fetch = _fetch_again(shell)
    assert shell.check_delivered(fetch, KEYS) == 4
    links = [action.welcome for action in shell.log if isinstance(action, OpenLink)]
    assert [link.incarnation for link in links] == [1, 2]


def test_a_holder_that_restarted_unknown_to_the_directory_is_left_and_dropped():
    shell = _shell("a")
    shell.fetch(KEYS)
    stale = shell.locate
    old = holder_of(shell.holders[0])
    _restart(shell, "a", 2)
    shell.locate = lambda question: msgspec.structs.replace(stale(question), holders=(old,) * 2)
    fetch = _fetch_again(shell)
    assert shell.outcome(fetch).reason is ShortReason.PEER_REFUSED
    assert "stale_incarnation" in shell.outcome(fetch).detail
    assert DropPeer("a") in shell.log


def test_a_holder_that_forgot_us_is_greeted_again_after_a_pause():
    shell = _shell("a")
    shell.fetch(KEYS)
    forgetful = instance_core("a")  # the same start, without what it knew
    shell.cores["a"] = forgetful
    shell.put(forgetful, KEYS)
    assert shell.outcome(_fetch_again(shell)).reason is ShortReason.PEER_REFUSED
    shell.now_s += 0.25
    assert shell.check_delivered(_fetch_again(shell), KEYS) == 4


def test_a_holder_of_another_layout_is_named_counted_and_not_asked_again():
    layout = msgspec.structs.replace(identity().layout, head_dim=16)
    shell = Shell([InstanceCore(identity("a", layout=layout), OFFERS, 16)])
    shell.put(shell.holders[0], KEYS)
    outcome = shell.outcome(shell.fetch(KEYS))
    assert outcome.reason is ShortReason.PEER_REFUSED
    assert "head_dim" in outcome.detail
    assert shell.own.counters["peer_refused_head_dim"] == 1
    shell.now_s += 1000.0
    num_asked = len(shell.sent(Hello)) + len(shell.sent(LeaseRequest))
    assert shell.outcome(shell.fetch(KEYS)).reason is ShortReason.PEER_REFUSED
    assert len(shell.sent(Hello)) + len(shell.sent(LeaseRequest)) == num_asked


def test_a_link_that_cannot_be_made_is_told_to_every_fetch_that_waits_for_it():
    shell = _shell("a")
    shell.silent, shell.broken_links = {"a"}, {"a"}
    fetches = [shell.fetch(KEYS), shell.fetch(KEYS)]
    (hello,) = [asked for asked in shell.unanswered if isinstance(asked.message, Hello)]
    shell.answer(hello)
    assert {shell.outcome(fetch).reason for fetch in fetches} == {ShortReason.LINK_FAILED}
    while shell.unanswered:
        shell.answer(shell.unanswered[0])
    shell.check_nothing_left(*fetches)


def test_a_holder_that_comes_back_serves_after_the_next_hello():
    shell = _shell("a")
    shell.silent = {"a"}
    shell.fetch(KEYS)
    shell.advance(0.25)
    shell.silent = set()
    assert shell.outcome(_fetch_again(shell)).reason is ShortReason.LINK_SLOW
    shell.advance(0.25)
    assert shell.check_delivered(_fetch_again(shell), KEYS) == 4


def test_a_welcome_that_comes_late_is_not_used_for_a_holder_that_is_down():
    shell = _shell("a")
    shell.silent = {"a"}
    shell.fetch(KEYS)
    shell.advance(shell.limits.contact_s)
    shell.answer(shell.unanswered[0])
    assert shell.reader.book.state("a") is PeerState.DOWN
    assert not any(isinstance(action, OpenLink) for action in shell.log)


def test_answers_to_questions_that_nobody_asked_are_ignored():
    shell = _shell("a")
    grant = LeaseGranted(token=1, ttl_ms=1, slots=(1,), generations=(1,), roots=((1,),))
    shell.reader.on_peer(Tag(77), grant, shell.now_s)
    shell.reader.on_controller(Tag(77), None, shell.now_s)
    assert shell.reader.take_actions() == []


def test_a_lease_that_came_before_the_welcome_is_used_once_there_is_a_link():
    shell = _shell("a")
    shell.silent = {"a"}
    fetch = shell.fetch(KEYS)
    hello, lease = shell.unanswered
    assert isinstance(hello.message, Hello)
    welcome = ask(shell.cores["a"], hello.message, shell.now_s)
    assert isinstance(welcome, Welcome)
    shell.answer(lease)
    assert not shell.reads
    shell.unanswered.remove(hello)
    shell.reader.on_peer(hello.tag, welcome, shell.now_s)
    shell.carry_out()
    assert shell.check_delivered(fetch, KEYS) == 4


def test_a_holder_whose_welcome_got_lost_is_left_for_the_next_one_and_greeted_again():
    shell = Shell([instance_core("a"), instance_core("b")], limits=FetchLimits(ask_timeout_s=0.1))
    for core in shell.holders:
        shell.put(core, KEYS)
    shell.silent = {"a", "b"}
    fetch = shell.fetch(KEYS)
    hello, lease = shell.unanswered
    assert isinstance(hello.message, Hello)
    ask(shell.cores[hello.holder.instance], hello.message, shell.now_s)
    shell.silent = set()
    shell.answer(lease)
    shell.advance(0.1)
    shell.advance(0.1)
    assert shell.check_delivered(fetch, KEYS) == 4


def test_a_refusal_by_an_earlier_start_does_not_count_against_the_present_one():
    shell = _shell("a")
    shell.silent = {"a"}
    shell.fetch(KEYS)
    (hello, _) = shell.unanswered
    _restart(shell, "a", 2)
    shell.silent = set()
    fetch = shell.fetch(KEYS)
    assert shell.check_delivered(fetch, KEYS) == 4
    refusal = Refusal(code=RefusalCode.LAYOUT, field="head_dim", ours="1", theirs="2")
    shell.reader.on_peer(hello.tag, refusal, shell.now_s)
    assert shell.reader.book.state("a") is PeerState.LINKED


def test_a_chunk_that_is_damaged_here_is_delivered_as_it_was_read_from_its_holder():
    shell = _shell("a")
    shell.put(shell.own, KEYS)
    damaged = shell.own.index.prefix(KEYS, "")[0]
    shell.own.index.pin(damaged)  # lent to somebody, so it cannot go yet
    shell.own.index.pin(damaged)
    shell.memory["r", damaged.slot] ^= 1
    assert shell.own.judge_suspect(damaged, (shell.memory["r", damaged.slot],))
    fetch = shell.fetch(KEYS)
    shell.check_delivered(fetch, KEYS)
