"""When to connect again to what broke off: soon, then ever more rarely, and not for ever."""

from __future__ import annotations

BACK_OFF_S = (0.5, 1, 2, 4, 8, 10)  # before each attempt; the last one repeats
_STEADY_S = 10.0  # a connection that lasted this long was good: the count of attempts begins anew


class Reconnect:
    """Counts attempts in a row, `most` of them."""

    def __init__(self, most: int):
        self._most, self._made = most, 0

    def next(self, lasted_s: float) -> float | None:
        """Seconds to wait before the next attempt, given how long the last connection lasted (0 for an attempt that
        failed); None when that was enough."""
        if lasted_s > _STEADY_S:
            self._made = 0
        if self._made >= self._most:
            return None
        self._made += 1
        return BACK_OFF_S[min(self._made, len(BACK_OFF_S)) - 1]

    def announcement(self, failure: object, pause_s: float) -> str:
        return f"{failure}; connecting again in {pause_s:g} s ({self._made} of {self._most})"

    def resignation(self, failure: object) -> str:
        after = f"; {self._made} attempts to connect again failed" if self._made else ""
        return f"{failure}{after}"
