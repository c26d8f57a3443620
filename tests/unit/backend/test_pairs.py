"""The channel of each pair: chosen by what works, demoted with a reason, tried again, shown."""

from collections import Counter

import pytest

from p2p.backend.pair import PairRules
from p2p.backend.pairs import Pairs
from p2p.backend.trials import DialPlan, Path, Trial, Verdict
from p2p.regions import Region, Segment
from p2p.wire.messages import (
    ChannelOffer,
    ChannelState,
    Holder,
    MeasuredRate,
    PairView,
    ProcessPlace,
    RankOffer,
)

REGION = Region((Segment(0, 8, 8),), 8)
NAMES = ("shm", "nixl", "tcp")
NEAR = Holder(instance="a", incarnation=3, address="tcp://127.0.0.1:1", host="h")
FAR = Holder(instance="a", incarnation=3, address="tcp://127.0.0.1:1", host="elsewhere")
TRANSPORTS = {"shm": "shm", "nixl": "cma", "tcp": "tcp"}
RATES = {"shm": 7e9, "nixl": 6.5e9, "tcp": 4.5e9}


def offer_of(*names: str, measured: tuple[MeasuredRate, ...] = ()) -> RankOffer:
    return RankOffer(
        rank=0,
        channels=tuple(
            ChannelOffer(channel=name, metadata=b"", region=REGION, measured=measured)
            for name in names
        ),
    )


class Book:
    """Pairs, and what a shell would do with them."""

    def __init__(self, **rules: object) -> None:
        self.counters: Counter[str] = Counter()
        values: dict[str, object] = {"names": NAMES, "host": "h", "retry_s": 5.0, **rules}
        self.pairs = Pairs(PairRules(**values), self.counters)  # type: ignore[arg-type]
        self.now_s = 100.0
        self.broken: set[str] = set()
        self.refusing: set[str] = set()

    def greet(self, holder: Holder = NEAR, offer: RankOffer | None = None) -> str:
        """Plans and dials; returns the channel that serves then."""
        plan = self.pairs.plan(holder, offer or offer_of(*NAMES), self.now_s)
        self.carry_out(holder, plan)
        return self.view().channel

    def carry_out(self, holder: Holder, plan: DialPlan) -> None:
        trials: list[Trial] = []
        for attempt in plan.attempts:
            trials.append(self._trial(attempt.channel))
            if trials[-1].verdict is Verdict.WORKS:
                break
        works = trials and trials[-1].verdict is Verdict.WORKS
        self.pairs.on_trials(holder, trials, trials[-1].channel if works else "", self.now_s)
        if works:
            self.pairs.on_linked(holder, trials[-1].channel, trials, self.now_s)

    def retry(self, after_s: float) -> bool:
        """Lets time pass, and tries again what is due; false if nothing is."""
        self.now_s += after_s
        due = self.pairs.retry("a", self.now_s)
        if due is None:
            assert not self.pairs.is_retry_due(self.now_s)
            return False
        self.carry_out(*due)
        return True

    def fail(self, channel: str) -> bool:
        return self.pairs.on_failure(Path("a", channel), "no more bytes", self.now_s)

    def view(self) -> PairView:
        view = self.pairs.view("a", 6e9, self.now_s)
        assert view is not None
        return view

    def state(self, channel: str) -> tuple[ChannelState, str, int]:
        (one,) = (one for one in self.view().channels if one.channel == channel)
        return one.state, one.reason, one.retry_ms

    def _trial(self, name: str) -> Trial:
        if name in self.refusing:
            return Trial(name, Verdict.REFUSED, f"{name}: host differs")
        if name in self.broken:
            return Trial(name, Verdict.FAILED, f"{name}: no answer")
        return Trial(name, Verdict.WORKS, "", TRANSPORTS[name], 1e-6, RATES[name])


def planned(plan: DialPlan) -> list[str]:
    return [attempt.channel for attempt in plan.attempts]


def test_the_fastest_is_tried_first_by_what_is_known_of_the_place():
    book = Book()
    assert planned(book.pairs.plan(NEAR, offer_of(*NAMES), 0.0)) == ["shm", "nixl", "tcp"]
    assert planned(book.pairs.plan(FAR, offer_of(*NAMES), 0.0)) == ["nixl", "shm", "tcp"]


def test_only_what_both_speak_is_tried():
    book = Book(names=("nixl", "tcp"))
    assert planned(book.pairs.plan(NEAR, offer_of("shm", "tcp"), 0.0)) == ["tcp"]
    plan = book.pairs.plan(NEAR, offer_of("shm"), 0.0)
    assert plan.attempts == ()
    assert plan.problem == "offers no channel that we may use (nixl, tcp), only shm"


def test_named_channels_keep_their_order_and_a_peer_may_have_its_own():
    book = Book(names=("tcp", "shm", "nixl"), is_forced=True, by_peer=(("a*", ("nixl", "tcp")),))
    plan = book.pairs.plan(NEAR, offer_of(*NAMES), 0.0)
    assert (planned(plan), plan.is_forced) == (["nixl", "tcp"], True)
    other = Holder(instance="b", incarnation=1, address="tcp://127.0.0.1:1", host="h")
    assert planned(book.pairs.plan(other, offer_of(*NAMES), 0.0)) == ["tcp", "shm", "nixl"]
    assert book.state("shm")[:2] == (
        ChannelState.FORBIDDEN,
        "the setting peer_channels leaves it out",
    )


def test_what_was_measured_of_all_counts_more_than_what_is_usual():
    book = Book(names=("shm", "nixl"))
    slow_shm = [("shm", 1e9), ("nixl", 6e9)]
    for name, rate in slow_shm[:1]:
        book.pairs.rates.note(name, rate, 100.0, is_near=True)
    assert planned(book.pairs.plan(NEAR, offer_of("shm", "nixl"), 100.0)) == ["shm", "nixl"]
    for name, rate in slow_shm[1:]:
        book.pairs.rates.note(name, rate, 100.0, is_near=True)
    assert planned(book.pairs.plan(NEAR, offer_of("shm", "nixl"), 100.0)) == ["nixl", "shm"]
    assert planned(book.pairs.plan(NEAR, offer_of("shm", "nixl"), 1000.0)) == ["shm", "nixl"]


def test_what_the_peer_measured_counts_where_we_have_not():
    book = Book(names=("shm", "nixl"))
    channels = (
        *offer_of("shm", measured=(MeasuredRate(is_near=True, bytes_per_s=10**9),)).channels,
        *offer_of("nixl", measured=(MeasuredRate(is_near=True, bytes_per_s=6 * 10**9),)).channels,
    )
    offer = RankOffer(rank=0, channels=channels)
    assert planned(book.pairs.plan(NEAR, offer, 100.0)) == ["nixl", "shm"]
    assert planned(book.pairs.plan(FAR, offer, 100.0)) == ["nixl", "shm"]


def test_our_offers_tell_what_we_measured_and_are_the_same_while_little_changes():
    rates = Book().pairs.rates
    offers = offer_of("shm", "nixl").channels
    assert rates.told(offers)[0] is offers[0]
    rates.note("shm", 5e9, 100.0, is_near=True)
    told = rates.told(offers)
    assert told[0].measured == (MeasuredRate(is_near=True, bytes_per_s=5 * 10**9),)
    assert told[1] is offers[1]
    rates.note("shm", 5.5e9, 101.0, is_near=True)
    assert rates.told(told)[0] is told[0]
    rates.note("shm", 7e9, 102.0, is_near=True)
    assert rates.told(told)[0].measured[0].bytes_per_s == 7 * 10**9


def test_a_channel_that_does_not_connect_is_demoted_where_another_does():
    book = Book()
    book.broken.add("shm")
    assert book.greet() == "nixl"
    assert book.counters["channel_demoted_shm"] == 1
    assert book.state("shm") == (ChannelState.DEMOTED, "shm: no answer", 5000)
    assert book.pairs.take_notes()[0] == ("a: nixl instead of shm for 5 s: shm: no answer", True)
    assert book.pairs.take_notes() == []


def test_where_nothing_works_no_channel_is_to_blame():
    book = Book()
    book.broken.update(NAMES)
    assert book.greet() == ""
    assert not any(name.startswith("channel_demoted") for name in book.counters)
    book.broken.clear()
    assert book.greet() == "shm"


def test_a_refusal_lasts_as_long_as_the_peer_and_is_no_demotion():
    book = Book()
    book.refusing.add("shm")
    assert book.greet() == "nixl"
    assert not any(name.startswith("channel_demoted") for name in book.counters)
    assert book.state("shm")[:2] == (ChannelState.REFUSED, "shm: host differs")
    book.refusing.clear()
    assert not book.retry(after_s=1e6)
    assert book.greet() == "nixl"
    restarted = Holder(instance="a", incarnation=4, address=NEAR.address, host="h")
    assert book.greet(restarted) == "shm"


def test_a_channel_that_breaks_makes_room_for_the_next_and_comes_back():
    book = Book()
    assert book.greet() == "shm"
    assert book.fail("shm")
    assert book.view().channel == ""
    assert book.greet() == "nixl"  # shm would connect, but its reads fail
    assert book.counters["channel_failed_shm"] == book.counters["channel_demoted_shm"] == 1
    assert book.state("shm")[1] == "shm: no more bytes"
    assert not book.pairs.is_retry_due(book.now_s + 4.9)
    assert not book.retry(after_s=4.9)
    assert book.retry(after_s=0.2)
    assert book.view().channel == "shm"
    assert book.counters["channel_recovered_shm"] == 1
    assert book.state("shm") == (ChannelState.USED, "", 0)
    assert book.state("nixl") == (ChannelState.SPARE, "shm serves", 0)


def test_a_channel_that_stays_broken_is_tried_less_and_less():
    book = Book()
    book.broken.add("shm")
    book.greet()
    for wait_s in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
        assert not book.retry(after_s=wait_s - 1)
        assert book.retry(after_s=1.0)
        assert book.view().channel == "nixl"
    assert book.counters["channel_demoted_shm"] == 9


def test_reads_that_fail_late_over_an_earlier_channel_blame_nobody():
    book = Book()
    book.greet()
    assert book.fail("shm")
    assert book.pairs.is_stale(Path("a", "shm"))
    assert not book.fail("shm")
    book.greet()
    assert not book.fail("shm")
    assert not book.pairs.is_stale(Path("a", "nixl"))
    assert book.view().channel == "nixl"
    assert book.counters["channel_failed_shm"] == 1


def test_the_only_channel_has_no_alternative():
    book = Book(names=("nixl",))
    book.greet()
    assert not book.fail("nixl")
    assert book.greet() == "nixl"
    assert book.counters["channel_demoted_nixl"] == 0


def test_a_slower_channel_that_failed_is_not_tried_beside_a_faster_one():
    book = Book()
    book.broken.add("shm")
    book.greet()
    book.fail("nixl")
    book.broken.clear()
    book.now_s += 6
    assert book.greet() == "shm"
    assert book.state("nixl")[0] is ChannelState.DEMOTED
    assert not book.retry(after_s=1000.0)


def test_a_retry_under_way_is_not_made_twice_and_ends_with_a_restart():
    book = Book()
    book.broken.add("shm")
    book.greet()
    assert book.pairs.retry("a", book.now_s + 6) is not None
    assert book.pairs.retry("a", book.now_s + 6) is None
    restarted = Holder(instance="a", incarnation=4, address=NEAR.address, host="h")
    book.broken.clear()
    assert book.greet(restarted) == "shm"
    book.pairs.on_trials(NEAR, [Trial("shm", Verdict.FAILED, "late")], "", book.now_s)
    assert book.state("shm") == (ChannelState.USED, "", 0)


def test_a_slow_transport_is_counted_and_told_once():
    theirs = ProcessPlace(boot="b", pid_namespace="2", network_namespace="3", user=0)
    seen = []

    def why_slow(channel: str, transport: str, place: ProcessPlace | None) -> str:
        seen.append((channel, transport, place))
        return "another PID namespace"

    book = Book(names=("nixl",), why_slow=why_slow)
    offer = RankOffer(rank=0, channels=offer_of("nixl").channels, place=theirs)
    book.greet(offer=offer)
    book.greet(offer=offer)
    assert seen[0] == ("nixl", "cma", theirs)
    assert book.counters["channel_slow"] == 1
    assert book.view().slow == "another PID namespace"
    notes = book.pairs.take_notes()
    assert notes == [("a: nixl moves bytes over cma: another PID namespace", True)]


@pytest.mark.parametrize(
    ("absent", "offered", "reason"),
    [
        ((("nixl", "not installed"),), NAMES, "not installed"),
        ((), ("shm", "tcp"), "a does not offer it"),
    ],
)
def test_a_channel_that_one_side_lacks_is_shown_with_the_side(absent, offered, reason):
    names = tuple(name for name in NAMES if name not in dict(absent))
    book = Book(names=names, absent=absent)
    book.greet(offer=offer_of(*offered))
    assert book.state("nixl")[:2] == (ChannelState.ABSENT, reason)


def test_a_stranger_has_no_view_and_nothing_to_retry():
    book = Book()
    assert book.pairs.view("b", None, 0.0) is None
    assert book.pairs.retry("b", 1e9) is None
    assert book.pairs.used("b") == ("", "unknown")
