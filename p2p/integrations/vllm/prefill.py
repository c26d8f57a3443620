"""How fast the engine computes prompts, from its own steps. Pure: no clock, no threads."""

from typing import NamedTuple

_LEAST_TOKENS = 32  # a step with fewer tells about its overhead
_MAX_UNDER_WAY = 16


class Measured(NamedTuple):
    """What one step took.

    Attributes:
        num_tokens: of prompts that it computed.
        seconds: that it took.
    """

    num_tokens: int
    seconds: float


class PrefillTimer:
    """Times steps that are mostly of prompts.

    A step runs from when it was scheduled, or from the end of the one before if that was later,
    to when its results are there: steps that are scheduled ahead do not count twice.
    """

    def __init__(self) -> None:
        self._begun: dict[int, tuple[int, float]] = {}
        self._last_number = 0
        self._last_end_s = float("-inf")

    def began(self, num_prompt_tokens: int, num_tokens: int, now_s: float) -> int:
        """Returns the number under which `ended` wants to hear of a step; 0 if it does not.

        Args:
            num_prompt_tokens: of prompts that the step computes.
            num_tokens: that it computes in all.
            now_s: when it was scheduled.
        """
        if num_prompt_tokens < _LEAST_TOKENS or 2 * num_prompt_tokens < num_tokens:
            return 0
        self._last_number += 1
        self._begun[self._last_number] = num_prompt_tokens, now_s
        while len(self._begun) > _MAX_UNDER_WAY:  # steps that were given up
            del self._begun[next(iter(self._begun))]
        return self._last_number

    def ended(self, number: int, now_s: float) -> Measured | None:
        """Returns what a step took; None if it is unknown or was ended before."""
        begun = self._begun.pop(number, None)
        if begun is None:
            return None
        num_tokens, scheduled_s = begun
        seconds = now_s - max(scheduled_s, self._last_end_s)
        self._last_end_s = now_s
        return Measured(num_tokens, seconds) if seconds > 0 else None
