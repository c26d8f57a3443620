"""Fetches under random schedules: whatever happens, never wrong, never stuck, nothing left behind.

Hypothesis chooses what happens next among everything that can: answers, losses, ends of reads in
any order, damage, evictions at holders, the passing of time.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from p2p.backend.fetch_context import FetchLimits
from p2p.backend.leases import LeaseLimits
from p2p.backend.plan import PlanLimits
from tests.unit.backend.builders import CHUNK_BYTES, instance_core, prompt
from tests.unit.backend.shell import Shell

KEYS = prompt(6)
LIMITS = FetchLimits(
    num_windows=3,
    ask_timeout_s=0.2,
    plan=PlanLimits(stripe_bytes=2 * CHUNK_BYTES, max_stripes=2),
)
MAX_FETCHES = 3


class Chaos:
    """A shell of which everything is held back, and the choices that there are."""

    def __init__(self, draw, num_slots, lease_s):
        self.draw = draw
        self.shell = Shell(
            [instance_core(name, 8, limits=LeaseLimits(ttl_s=lease_s)) for name in "abc"],
            own=instance_core("r", num_slots),
            limits=LIMITS,
            silent=set("abc"),
            holds_reads=True,
            holds_verify=True,
        )
        self.fetches = []
        for core in self.shell.holders:
            self.shell.put(core, KEYS[: self.draw(st.integers(1, len(KEYS)))])

    def choices(self):
        shell = self.shell
        found = [self.pass_time, self.evict_somewhere, self.toggle_damage]
        found += [self.submit] * (len(self.fetches) < MAX_FETCHES)
        found += [self.answer] * 3 * bool(shell.unanswered)
        found += [self.lose_answer] * bool(shell.unanswered)
        found += [self.finish] * 3 * bool(shell.reads)
        found += [self.fail, self.break_off] * bool(shell.reads)
        found += [self.quiesce] * bool(shell.cancelled)
        found += [self.verify] * 3 * bool(shell.to_verify)
        return found

    def _one_of(self, things):
        return things[self.draw(st.integers(0, len(things) - 1))]

    def submit(self):
        count = self.draw(st.integers(1, len(KEYS)))
        self.fetches.append((self.shell.fetch(KEYS[:count]), KEYS[:count]))

    def answer(self):
        self.shell.answer(self._one_of(self.shell.unanswered))

    def lose_answer(self):
        self.shell.unanswered.remove(self._one_of(self.shell.unanswered))

    def finish(self):
        self.shell.finish(self._one_of(self.shell.reads))

    def fail(self):
        self.shell.fail(self._one_of(self.shell.reads))

    def break_off(self):
        self.shell.break_off(self._one_of(self.shell.reads))

    def quiesce(self):
        self.shell.quiesce(self._one_of(self.shell.cancelled))

    def verify(self):
        self.shell.verify(self._one_of(self.shell.to_verify))

    def toggle_damage(self):
        self.shell.corrupt ^= {self.draw(st.sampled_from("abc"))}

    def evict_somewhere(self):
        """A holder's pool takes other chunks, over the slots that are not lent."""
        core = self.shell.cores[self.draw(st.sampled_from("abc"))]
        core.tick(self.shell.now_s)
        self.shell.put(core, prompt(self.draw(st.integers(1, 8)), salt="other"))

    def pass_time(self):
        self.shell.advance(self.draw(st.sampled_from([0.001, 0.02, 0.1, 0.3])))

    def check(self):
        self.shell.own.slots.check_integrity()
        for fetch, keys in self.fetches:
            if fetch.outcome is not None:
                self.shell.check_delivered(fetch, keys)
            else:
                assert self.shell.now_s < fetch.deadline_s

    def end(self):
        """Only time passes, and what is under way ends."""
        shell = self.shell
        shell.advance(1.0)
        while shell.cancelled:
            shell.quiesce(shell.cancelled[0])
        while shell.to_verify:
            shell.verify(shell.to_verify[0])
        while shell.unanswered:
            shell.answer(shell.unanswered[0])
        assert not shell.reads
        self.check()
        shell.advance(10.0)  # leases whose answers were lost end by themselves
        for core in shell.holders:
            core.tick(shell.now_s)
        shell.check_nothing_left(*(fetch for fetch, _ in self.fetches))


@given(data=st.data(), num_slots=st.integers(2, 12), lease_s=st.sampled_from([0.05, 0.3, 5.0]))
@settings(max_examples=150, deadline=None)
def test_fetches_are_never_wrong_and_never_stuck_and_leave_nothing_behind(data, num_slots, lease_s):
    chaos = Chaos(data.draw, num_slots, lease_s)
    chaos.submit()
    for _ in range(data.draw(st.integers(0, 40))):
        choices = chaos.choices()
        choices[data.draw(st.integers(0, len(choices) - 1))]()
        chaos.check()
    chaos.end()
