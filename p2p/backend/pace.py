"""Whether a fetch pays, and whether it will be in time. No I/O, no clock, no threads."""

from p2p.backend.fetch_context import FetchContext

_LOOK_AT = (0.25, 0.5, 0.75)  # of the budget: then it is seen whether the rest is in time


class Pace:
    """The speed of one fetch, compared with its deadline and with the engine's prefill."""

    def __init__(self, context: FetchContext) -> None:
        self._context = context
        self._looks_s = [context.started_s + share * context.budget_s for share in _LOOK_AT]

    def compute_s(self, now_s: float) -> float | None:
        """Returns how long the engine computes what is missing; None if that is no question."""
        core = self._context.desk.instance
        tokens_per_s = core.prefill.value(now_s)
        if self._context.limits.pull != "auto" or tokens_per_s is None:
            return None
        return self._num_missing * core.identity.layout.chunk_tokens / tokens_per_s

    def is_slow(self, instance: str, now_s: float) -> bool:
        """Returns whether one holder alone is known to be slower than computing."""
        desk, compute_s = self._context.desk, self.compute_s(now_s)
        if compute_s is None:
            return False
        rate = desk.book.speeds.standing(instance, now_s).bytes_per_s
        return rate is not None and self._num_missing * desk.instance.chunk_bytes / rate > compute_s

    def deadlines_s(self) -> list[float]:
        """Returns when `is_behind` wants to be asked."""
        return self._looks_s[:1]

    def is_behind(self, now_s: float) -> bool:
        """Returns true, a few times, if the rest will not be there in time at this speed."""
        if not self._looks_s or now_s < self._looks_s[0]:
            return False
        self._looks_s = [look_s for look_s in self._looks_s if look_s > now_s]
        elapsed_s, left_s = now_s - self._context.started_s, self._context.deadline_s - now_s
        return elapsed_s * self._num_missing > left_s * max(self._context.num_arrived, 0.5)

    @property
    def _num_missing(self) -> int:
        return self._context.chunks.end - self._context.chunks.first
