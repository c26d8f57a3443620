"""A first contact may take a part of the budget, goes on by itself, and holds up no other."""

import pytest

from p2p.backend.actions import AskPeer, DropSocket, OpenLink, ShortReason
from p2p.backend.fetch_context import FetchLimits
from p2p.backend.handshake import PeerState
from p2p.backend.roster import Gone
from p2p.wire.messages import Hello, LeaseRequest
from tests.unit.backend.builders import holder_of, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(8)


def _shell(*names, limits=None, **parts):
    holders = [instance_core(name) for name in names]
    shell = Shell(holders, limits=limits or FetchLimits(num_windows=4), **parts)
    for core in shell.holders:
        shell.put(core, KEYS)
    return shell


def _order(*names):
    """The holders in the order in which they are asked."""
    shell = _shell(*names, silent=set(names))
    shell.fetch(KEYS)
    while len(shell.unanswered) < 2 * len(names):
        shell.advance(0.05)
    return [q.holder.instance for q in shell.unanswered if isinstance(q.message, LeaseRequest)]


def _answer_all(shell, name):
    shell.silent.discard(name)
    for question in [q for q in shell.unanswered if q.holder.instance == name]:
        shell.answer(question)


def _served(shell, fetch):
    return {source.instance: source.num_chunks for source in shell.outcome(fetch).sources}


def _meet(shell, name):
    """Links a holder, without a read by which its bandwidth would be known."""
    shell.reader.connect(holder_of(shell.cores[name]), shell.now_s)
    shell.carry_out()
    assert shell.reader.book.state(name) is PeerState.LINKED
    shell.log.clear()


# ---------------------------------------------------------------------- patience


@pytest.mark.parametrize(("budget_s", "patience_s"), [(0.4, 0.2), (2.0, 1.0), (10.0, 5.0)])
def test_connecting_the_channel_may_take_half_of_the_budget(budget_s, patience_s):
    shell = _shell("a", slow_links={"a"})
    fetch = shell.fetch(KEYS, budget_s=budget_s)
    shell.advance(patience_s - 0.01)
    assert fetch.outcome is None
    shell.link(shell.opening[0])
    assert shell.check_delivered(fetch, KEYS) == 8


def test_a_holder_whose_socket_answers_may_take_as_long_to_answer_a_hello():
    shell = _shell("a", silent={"a"}, alive={"a"})
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.advance(4.9)
    _answer_all(shell, "a")
    assert shell.check_delivered(fetch, KEYS) == 8


def test_a_lease_may_come_a_second_after_the_link():
    shell = _shell("a", silent={"a"}, alive={"a"})
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.advance(4.0)
    hello, lease = _first_two(shell)
    shell.answer(hello)
    shell.advance(0.9)
    assert fetch.outcome is None
    shell.answer(lease)
    assert shell.check_delivered(fetch, KEYS) == 8


def _first_two(shell):
    hello = next(q for q in shell.unanswered if isinstance(q.message, Hello))
    lease = next(q for q in shell.unanswered if isinstance(q.message, LeaseRequest))
    return hello, lease


def test_who_does_not_even_accept_a_connection_is_left_after_a_second():
    shell = _shell("a", silent={"a"})
    fetch = shell.fetch(KEYS, budget_s=60.0)
    while fetch.outcome is None:
        shell.advance(0.01)
    assert shell.now_s - 100.0 < 1.0 + 0.6  # and three looks into the directory


# ---------------------------------------------------------------------- what is said of it


@pytest.mark.parametrize(
    ("parts", "stage"),
    [
        ({"slow_links": {"a"}}, "its channel is being connected"),
        ({"silent": {"a"}, "alive": {"a"}}, "it has not answered our hello"),
    ],
)
def test_the_reason_names_the_holder_the_seconds_and_what_took_them(parts, stage):
    shell = _shell("a", **parts)
    fetch = shell.fetch(KEYS, budget_s=1.0)
    shell.advance(0.5)
    outcome = shell.outcome(fetch)
    assert outcome.reason is ShortReason.LINK_SLOW
    assert outcome.detail == f"a is not linked after 0.5 s: {stage}"
    assert shell.own.counters["holder_left_link_slow"] == 1


def test_a_fetch_that_comes_later_is_told_so_at_once():
    shell = _shell("a", slow_links={"a"})
    shell.fetch(KEYS, budget_s=1.0)
    shell.advance(3.0)
    outcome = shell.outcome(shell.fetch(KEYS, budget_s=1.0))
    assert outcome.reason is ShortReason.LINK_SLOW
    assert outcome.detail == "a is not linked after 3 s: its channel is being connected"


def test_a_fetch_with_more_patience_waits_for_the_contact_of_another():
    shell = _shell("a", slow_links={"a"})
    shell.fetch(KEYS, budget_s=1.0)
    shell.advance(3.0)
    fetch = shell.fetch(KEYS, budget_s=10.0)
    assert fetch.outcome is None
    shell.link(shell.opening[0])
    assert shell.check_delivered(fetch, KEYS) == 8


def test_at_the_end_of_the_budget_the_link_is_named_that_was_waited_for():
    limits = FetchLimits(num_windows=4, link_share=2.0)
    shell = _shell("a", slow_links={"a"}, limits=limits)
    fetch = shell.fetch(KEYS, budget_s=1.0)
    shell.advance(1.0)
    outcome = shell.outcome(fetch)
    assert (outcome.reason, outcome.detail[:25]) == (
        ShortReason.LINK_SLOW,
        "a is not linked after 1 s",
    )


def test_a_holder_that_is_down_is_named_to_the_next_fetch():
    shell = _shell("a", broken_links={"a"})
    shell.fetch(KEYS)
    outcome = shell.outcome(shell.fetch(KEYS))
    assert (outcome.reason, outcome.detail) == (ShortReason.LINK_FAILED, "a: no route")


# ---------------------------------------------------------------------- it goes on by itself


def test_a_link_that_is_ready_after_the_fetch_serves_the_next_one():
    shell = _shell("a", slow_links={"a"})
    shell.fetch(KEYS, budget_s=0.4)
    shell.advance(3.0)
    shell.link(shell.opening[0])
    num_hellos = len(shell.sent(Hello))
    fetch = shell.fetch(KEYS, budget_s=0.4)
    assert shell.check_delivered(fetch, KEYS) == 8
    assert len(shell.sent(Hello)) == num_hellos


def test_a_welcome_after_the_fetch_leads_to_a_link():
    shell = _shell("a", silent={"a"}, alive={"a"})
    shell.fetch(KEYS, budget_s=0.4)
    shell.advance(0.4)
    _answer_all(shell, "a")
    assert shell.reader.book.state("a") is PeerState.LINKED


def test_somebody_drives_the_reader_until_a_contact_is_over():
    shell = _shell("a", slow_links={"a"})
    shell.fetch(KEYS, budget_s=0.4)
    shell.advance(0.4)
    assert not shell.reader.fetches
    assert not shell.reader.is_idle
    shell.link(shell.opening[0])
    assert shell.reader.is_idle


def test_a_contact_ends_after_ten_seconds_and_is_begun_anew_after_a_pause():
    shell = _shell("a", silent={"a"}, alive={"a"})
    shell.fetch(KEYS, budget_s=0.4)
    while shell.reader.book.state("a") is PeerState.GREETED:
        shell.advance(0.05)
    assert shell.now_s == pytest.approx(110.0, abs=0.06)
    assert DropSocket("a") in shell.log
    assert 4 <= len(shell.sent(Hello)) <= 6  # one can be lost with the connection
    shell.silent.clear()
    shell.advance(0.25)
    assert shell.check_delivered(shell.fetch(KEYS), KEYS) == 8


def test_connecting_is_given_what_is_left_of_the_contact():
    shell = _shell("a", silent={"a"}, alive={"a"})
    shell.fetch(KEYS, budget_s=10.0)
    shell.advance(4.0)
    _answer_all(shell, "a")
    (action,) = [action for action in shell.log if isinstance(action, OpenLink)]
    assert action.timeout_s == pytest.approx(6.0)


# ---------------------------------------------------------------------- who is dead


def test_an_address_that_refuses_connections_ends_the_contact_at_once():
    shell = _shell("a", silent={"a"})
    fetch = shell.fetch(KEYS)
    shell.reader.on_unreachable(holder_of(shell.cores["a"]), shell.now_s)
    outcome = shell.outcome(fetch)
    assert outcome.reason is ShortReason.LINK_FAILED
    assert outcome.detail == "a: its address refuses connections, or no way leads there"


def test_what_is_heard_of_another_start_does_not_count():
    shell = _shell("a", silent={"a"})
    fetch = shell.fetch(KEYS)
    old = instance_core("a", incarnation=7)
    shell.reader.on_unreachable(holder_of(old), shell.now_s)
    shell.reader.on_reached(holder_of(old))
    assert fetch.outcome is None
    shell.advance(0.25)
    assert fetch.outcome is not None


def test_news_of_a_dead_holder_ends_the_contact_at_once():
    shell = _shell("a", silent={"a"}, alive={"a"})
    fetch = shell.fetch(KEYS, budget_s=1.5)
    shell.own.news.append(Gone("a", 1, is_restarted=False))
    shell.reader.on_time(shell.now_s)
    assert shell.outcome(fetch).reason is ShortReason.LINK_FAILED


# ---------------------------------------------------------------------- others


def test_a_holder_that_is_linked_is_asked_at_once_beside_a_stranger():
    first, other = _order("a", "b")
    shell = _shell("a", "b")
    _meet(shell, other)
    shell.slow_links = {first}
    fetch = shell.fetch(KEYS, budget_s=10.0)
    assert _served(shell, fetch) == {other: 8}
    assert shell.outcome(fetch).phases_s["done"] == 0.0


def test_another_stranger_is_asked_after_a_moment():
    first, other = _order("a", "b")
    shell = _shell("a", "b", slow_links={first})
    fetch = shell.fetch(KEYS, budget_s=10.0)
    assert not shell.sent(LeaseRequest, other)
    shell.advance(0.1)
    assert _served(shell, fetch) == {other: 8}
    shell.link(shell.opening[0])
    shell.check_nothing_left(fetch)


def test_one_stranger_after_the_other_is_asked_while_none_is_linked():
    names = _order("a", "b", "c")
    shell = _shell("a", "b", "c", slow_links={"a", "b", "c"})
    shell.fetch(KEYS, budget_s=10.0)
    asked = []
    for _ in range(3):
        asked.append([name for name in names if shell.sent(LeaseRequest, name)])
        shell.advance(0.1)
    assert asked == [names[:1], names[:2], names]


def test_with_a_small_budget_the_next_is_asked_sooner():
    first, other = _order("a", "b")
    shell = _shell("a", "b", slow_links={first})
    fetch = shell.fetch(KEYS, budget_s=0.4)
    shell.advance(0.05)
    assert _served(shell, fetch) == {other: 8}


def test_the_slow_one_helps_once_it_is_linked():
    first, other = _order("a", "b")
    shell = _shell("a", "b", slow_links={first}, holds_reads=True)
    fetch = shell.fetch(KEYS, budget_s=10.0)
    shell.advance(0.1)
    assert {read.instance for read in shell.reads} == {other}
    shell.link(shell.opening[0])
    assert {read.instance for read in shell.reads} == {first, other}
    while shell.reads:
        shell.finish(shell.reads[0])
    assert shell.check_delivered(fetch, KEYS) == 8
    shell.check_nothing_left(fetch)


def test_who_is_linked_gets_no_company():
    shell = _shell("a", "b")
    first, _ = _order("a", "b")
    _meet(shell, first)
    shell.holds_reads = True
    shell.fetch(KEYS, budget_s=10.0)
    shell.advance(0.2)
    asked = {action.holder.instance for action in shell.log if isinstance(action, AskPeer)}
    assert asked == {first}
