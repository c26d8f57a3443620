"""Goes through the channels that may be tried with a peer, until nothing better can come.

No I/O, no clock, no threads.
"""

from p2p.backend.trials import Attempt, DialPlan, Trial, Verdict


class Search:
    """What was tried of a plan, and what is to be tried next.

    What a channel brings is known once it is connected: over NIXL, TCP brings less than other
    channels do, RDMA more. So the search goes on while the next one may be faster than the best.

    Args:
        plan: what to try.

    Attributes:
        trials: what was tried.
        chosen: the fastest channel that works; empty if none does, or none is fast enough.
    """

    def __init__(self, plan: DialPlan) -> None:
        self.trials: list[Trial] = []
        self.chosen = ""
        self._plan = plan
        self._rate = plan.at_least

    @property
    def problem(self) -> str:
        """Why no channel was chosen; empty if one was."""
        if self.chosen:
            return ""
        reasons = [trial.reason for trial in self.trials if trial.reason]
        return self._plan.problem or "; ".join(reasons)

    def next_attempt(self) -> Attempt | None:
        """Returns what to try next; None when the search is over."""
        left = self._plan.attempts[len(self.trials) :]
        if not left or (self.chosen and not self._may_be_faster(left[0])):
            return None
        return left[0]

    def on_trial(self, trial: Trial) -> None:
        """The next attempt was made."""
        self.trials.append(trial)
        if trial.verdict is Verdict.WORKS and trial.rate > self._rate:
            self.chosen, self._rate = trial.channel, trial.rate

    def _may_be_faster(self, attempt: Attempt) -> bool:
        if self._plan.is_forced or attempt.is_last_resort:
            return False
        return attempt.expected > self._rate
