"""Which channel serves each pair of us and a holder, and why not a better one.

A channel that fails while another works is demoted for that pair: not used for a while that
doubles, then tried again, beside the one that serves meanwhile. No I/O, no clock, no threads.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, assert_never

from p2p.backend.channel_rates import ChannelRates
from p2p.backend.pair import NEVER_S, Pair, PairRules
from p2p.backend.pair_view import view_of
from p2p.backend.speeds import Speeds
from p2p.backend.trials import Attempt, DialPlan, Path, Trial, Verdict
from p2p.channel.typical import best_rate, typical_rate
from p2p.wire.messages import Holder, PairView, RankOffer

_BACKOFF_MAX_S = 300.0
_FAR_BETTER = 2.0  # rates within this factor are equal: load makes as much of a difference
_FORGIVEN_AFTER = 10.0  # so many times its last demotion a channel must serve to start anew


class Note(NamedTuple):
    """Something to log; a warning wants to be acted on."""

    text: str
    is_warning: bool


class Pairs:
    """All holders that were dialled, and the channels to them.

    Args:
        rules: what decides.
        counters: of the instance.

    Attributes:
        rates: what the channels have brought.
    """

    def __init__(self, rules: PairRules, counters: Counter[str]) -> None:
        self.rules = rules
        self.rates = ChannelRates()
        self._counters = counters
        self._pairs: dict[str, Pair] = {}
        self._notes: list[Note] = []
        self._next_retry_s = NEVER_S

    # ------------------------------------------------------------------ what to try

    def plan(self, holder: Holder, rank: RankOffer, now_s: float) -> DialPlan:
        """Returns what to try with a holder at first contact, or when it is greeted again."""
        pair = self._pairs.get(holder.instance)
        if pair is None or pair.holder.incarnation != holder.incarnation:
            pair = self._pairs[holder.instance] = Pair(holder, {})
        pair.holder = holder
        pair.place = rank.place
        pair.offers = {offer.channel: offer for offer in rank.channels}
        pair.is_retrying = False
        names, is_forced = self.rules.allowed(holder.instance)
        common = [name for name in names if name in pair.offers]
        if not common:
            theirs = ", ".join(pair.offers)
            problem = f"offers no channel that we may use ({', '.join(names)}), only {theirs}"
            return DialPlan((), is_forced, problem=problem)
        open_ = [name for name in common if not pair.standing(name).is_refused]
        if not open_:
            reasons = "; ".join(pair.standing(name).reason for name in common)
            return DialPlan((), is_forced, problem=reasons)
        attempts = self._attempts(pair, open_, now_s)
        if not is_forced:
            attempts.sort(key=lambda attempt: -attempt.expected)
        attempts.sort(key=lambda attempt: attempt.is_last_resort)
        return DialPlan(tuple(attempts), is_forced)

    def is_retry_due(self, now_s: float) -> bool:
        """Returns whether some demoted channel may be tried again. One comparison."""
        return now_s >= self._next_retry_s

    def retry(self, instance: str, now_s: float) -> tuple[Holder, DialPlan] | None:
        """Returns whom to dial over which better channels once more; None if none is due."""
        pair = self._pairs.get(instance)
        if pair is None or not pair.used or pair.is_retrying:
            return None
        due = [name for name in self._demoted(pair) if now_s >= pair.standing(name).retry_at_s]
        if not due:
            return None
        pair.is_retrying = True
        self._set_alarm()
        _, is_forced = self.rules.allowed(instance)
        *better, serving = self._attempts(pair, [*due, pair.used], now_s)
        at_least = serving.measured or typical_rate(pair.used, pair.transport)
        plan = DialPlan(
            tuple(better), is_forced, is_retry=True, at_least=0.0 if is_forced else at_least
        )
        return pair.holder, plan

    # ------------------------------------------------------------------ how it went

    def on_trials(self, holder: Holder, trials: Sequence[Trial], chosen: str, now_s: float) -> None:
        """Channels were tried with a holder; ``chosen`` is empty if none is to be taken."""
        pair = self._pair_of(holder)
        if pair is None:
            return
        pair.is_retrying = False
        serving = chosen or pair.used
        for trial in trials:
            self._on_trial(pair, trial, serving, now_s)
        for name, standing in pair.standings.items():
            if standing.is_suspect and name != chosen and serving:
                self._demote(pair, name, serving, now_s)
            standing.is_suspect = False
        self._set_alarm()

    def on_linked(
        self, holder: Holder, channel: str, trials: Sequence[Trial], now_s: float
    ) -> None:
        """A channel that was tried serves a pair from now on."""
        pair = self._pair_of(holder)
        if pair is None:
            return
        trial = next(trial for trial in trials if trial.channel == channel)
        if pair.used and pair.used != trial.channel:
            self._note(f"{holder.instance}: {trial.channel} instead of {pair.used}")
        pair.used = pair.last = trial.channel
        pair.transport = trial.transport
        pair.latency_s, pair.since_s = trial.latency_s, now_s
        slow = self.rules.why_slow(trial.channel, trial.transport, pair.place)
        if slow and slow != pair.slow:
            self._counters["channel_slow"] += 1
            text = f"{holder.instance}: {trial.channel} moves bytes over {trial.transport}: {slow}"
            self._notes.append(Note(text, is_warning=True))
        pair.slow = slow
        self._set_alarm()

    def is_stale(self, path: Path | None) -> bool:
        """Returns whether a pair has left a channel since."""
        pair = None if path is None else self._pairs.get(path.instance)
        return pair is not None and path is not None and pair.used != path.channel

    def on_failure(self, path: Path, reason: str, now_s: float) -> bool:
        """A read over a channel failed; returns whether another one may be tried at once."""
        instance, channel = path.instance, path.channel
        pair = self._pairs.get(instance)
        if pair is None or pair.used != channel:
            return False
        standing = pair.standing(channel)
        standing.is_suspect, standing.reason = True, f"{channel}: {reason}"
        if now_s > pair.since_s + _FORGIVEN_AFTER * standing.backoff_s:
            standing.backoff_s = 0.0
        pair.used = ""
        self._counters[f"channel_failed_{channel}"] += 1
        names, _ = self.rules.allowed(instance)
        return any(
            name in pair.offers and name != channel and not pair.standing(name).is_refused
            for name in names
        )

    def used(self, instance: str) -> tuple[str, str]:
        """Returns the channel and transport that serve a holder, or served it last."""
        pair = self._pairs.get(instance)
        return (pair.last, pair.transport) if pair is not None else ("", "unknown")

    def note_rate(self, instance: str, bytes_per_s: float | None, now_s: float) -> None:
        """A fetch has ended; so fast were reads from a holder lately, if that was measured."""
        pair = self._pairs.get(instance)
        if pair is not None and pair.used and bytes_per_s:
            is_near = self.rules.is_near(pair.holder)
            self.rates.note(pair.used, bytes_per_s, now_s, is_near=is_near)

    def take_notes(self) -> list[Note]:
        """Returns what to log since the last call."""
        if not self._notes:
            return []
        notes, self._notes = self._notes, []
        return notes

    def view(self, instance: str, bytes_per_s: float | None, now_s: float) -> PairView | None:
        """Returns how we stand with a holder; None for a stranger."""
        pair = self._pairs.get(instance)
        return None if pair is None else view_of(pair, self.rules, bytes_per_s, now_s)

    def views(self, speeds: Speeds, now_s: float) -> list[PairView]:
        """Returns how we stand with every holder that was dialled."""
        return [
            view_of(pair, self.rules, speeds.standing(name, now_s).bytes_per_s, now_s)
            for name, pair in self._pairs.items()
        ]

    # ------------------------------------------------------------------ parts

    def _pair_of(self, holder: Holder) -> Pair | None:
        pair = self._pairs.get(holder.instance)
        if pair is None or pair.holder.incarnation != holder.incarnation:
            return None
        return pair

    def _attempts(self, pair: Pair, names: Sequence[str], now_s: float) -> list[Attempt]:
        is_near = self.rules.is_near(pair.holder)
        attempts = []
        for name, rate in zip(names, self._measured(pair, names, now_s), strict=True):
            standing = pair.standing(name)
            is_demoted = standing.is_demoted and now_s < standing.retry_at_s
            attempts.append(
                Attempt(
                    offer=pair.offers[name],
                    expected=rate or best_rate(name, is_near=is_near),
                    measured=rate,
                    is_last_resort=standing.is_suspect or is_demoted,
                )
            )
        return attempts

    def _measured(self, pair: Pair, names: Sequence[str], now_s: float) -> list[float]:
        """Returns what channels have brought; zeros unless all are known and one is far better."""
        is_near = self.rules.is_near(pair.holder)
        rates = [self.rates.known(pair.offers[name], now_s, is_near=is_near) for name in names]
        if not all(rates) or max(rates) < _FAR_BETTER * min(rates):
            return [0.0] * len(rates)
        return rates

    def _demoted(self, pair: Pair) -> list[str]:
        """Returns demoted channels that would serve rather than the one that does."""
        names, is_forced = self.rules.allowed(pair.holder.instance)
        common = [name for name in names if name in pair.offers]
        is_near = self.rules.is_near(pair.holder)
        if not is_forced:
            serving = typical_rate(pair.used, pair.transport)
            common = [name for name in common if best_rate(name, is_near=is_near) > serving]
        elif pair.used in common:
            common = common[: common.index(pair.used)]
        return [name for name in common if pair.standing(name).is_demoted]

    def _on_trial(self, pair: Pair, trial: Trial, serving: str, now_s: float) -> None:
        standing = pair.standing(trial.channel)
        match trial.verdict:
            case Verdict.REFUSED:
                standing.is_refused, standing.reason = True, trial.reason
                standing.retry_at_s = NEVER_S
                self._note(f"{pair.holder.instance}: not over {trial.reason}")
            case Verdict.FAILED:
                standing.reason = trial.reason
                standing.is_suspect = False
                if serving:
                    self._demote(pair, trial.channel, serving, now_s)
            case Verdict.WORKS:
                self._works_again(pair, trial.channel)
            case _:
                assert_never(trial.verdict)

    def _demote(self, pair: Pair, channel: str, serving: str, now_s: float) -> None:
        standing = pair.standing(channel)
        standing.backoff_s = min(
            max(standing.backoff_s * 2, self.rules.retry_s), max(_BACKOFF_MAX_S, self.rules.retry_s)
        )
        standing.retry_at_s = now_s + standing.backoff_s
        self._counters[f"channel_demoted_{channel}"] += 1
        text = (
            f"{pair.holder.instance}: {serving} instead of {channel} for {standing.backoff_s:g} s: "
            f"{standing.reason}"
        )
        self._notes.append(Note(text, is_warning=True))

    def _works_again(self, pair: Pair, channel: str) -> None:
        standing = pair.standing(channel)
        if standing.is_demoted:
            self._counters[f"channel_recovered_{channel}"] += 1
            self._note(f"{pair.holder.instance}: {channel} works again")
        standing.retry_at_s = NEVER_S
        standing.reason = ""
        standing.is_suspect = False

    def _note(self, text: str) -> None:
        self._notes.append(Note(text, is_warning=False))

    def _set_alarm(self) -> None:
        """Finds out when the next demoted channel of a pair in use is due."""
        self._next_retry_s = min(
            (
                pair.standing(name).retry_at_s
                for pair in self._pairs.values()
                if pair.used and not pair.is_retrying
                for name in self._demoted(pair)
            ),
            default=NEVER_S,
        )
