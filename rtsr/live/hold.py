"""Which tier a frame goes through: the one that was asked for by hand, or the best that holds the rate."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rtsr.live.summary import Switch
from rtsr.live.tiers import Tier, Tiers

_GAP_WATCH_S = 1.0  # after a switch


@dataclass(frozen=True, slots=True)
class Hold:
    """The rate to hold. on: whether tiers change for it at all; fps: frames a second, None for the source's own."""

    on: bool = True
    fps: float | None = None


class TierChoice:
    """Chooses among tiers frame by frame, and keeps what it changed. Begins with the last, the best.

    choose() and finished() in one thread; pin() in any.
    """

    def __init__(self, tiers: Tiers, hold: Hold):
        self.switches: list[Switch] = []
        self._tiers, self._hold = tiers, hold
        self._place = len(tiers.all) - 1
        self._holder = RateHolder(len(tiers.all))
        self._pinned: int | None = None
        self._begun = self._last = time.monotonic()

    @property
    def current(self) -> Tier:
        """The tier of the last frame."""
        return self._tiers.all[self._place]

    @property
    def pinned(self) -> str | None:
        """The tier that pin() asked for; None while the rate decides."""
        return None if self._pinned is None else self._tiers.all[self._pinned].name

    def pin(self, name: str | None) -> None:
        """A tier by name; None gives the choice back to the rate. Raises ConfigError."""
        self._pinned = None if name is None else self._tiers.named(name)

    def begin(self, now: float) -> None:
        """From here on times of switches and gaps are counted."""
        self._begun = self._last = now

    def choose(self, size: tuple[int, int], source_fps: float) -> Tier:
        """The tier for a picture of this (height, width); never one that is still to compile, unless all are."""
        self._tiers.make_ready(size)
        tiers = self._tiers.all
        if self._pinned is not None:
            wanted = self._pinned
        else:
            wanted = self._holding(size, source_fps) if self._hold.on else len(tiers) - 1
        if wanted != self._place and tiers[wanted].is_ready(size):
            self.switches.append(Switch(time.monotonic() - self._begun, self.current.name, tiers[wanted].name))
            self._place = wanted
        return self.current

    def finished(self, now: float) -> None:
        """A frame is upscaled: how long the pause before it was counts against a switch."""
        if self.switches and now - self._begun - self.switches[-1].at_s <= _GAP_WATCH_S:
            self.switches[-1].gap_ms = max(self.switches[-1].gap_ms, 1e3 * (now - self._last))
        self._last = now

    def target(self, source_fps: float) -> float | None:
        """Frames a second to hold: what was asked for, but no more than the source gives; None if tiers stay."""
        return min(self._hold.fps or source_fps, source_fps) if self._hold.on else None

    def _holding(self, size: tuple[int, int], source_fps: float) -> int:
        tiers, place = self._tiers.all, self._place
        here = tiers[place]
        up = tiers[min(place + 1, len(tiers) - 1)]
        next_ms = here.cost_ms * up.first_cost_ms / here.first_cost_ms
        if self._holder.place != place:
            self._holder.start_from(place)
        target = self.target(source_fps) or source_fps
        return self._holder.decide(time.monotonic(), here.cost_ms, next_ms, target, up.is_ready(size))


class RateHolder:
    """Decides which tier to use: down when the rate does not hold, up again when a better one would, with hysteresis.

    places: how many tiers there are, 0 the quickest; begins with the last. One thread at a time.
    """

    DOWN_AFTER_S = 0.7  # of frames that come too slowly
    UP_AFTER_S = 3.0  # of room enough for the next tier
    TOO_SLOW = 0.95  # of the rate asked for
    ROOM = 0.75  # of a frame's time that the next tier may take
    FAILED_S = 10.0  # a step up that did not hold this long doubles UP_AFTER_S
    LONGEST_S = 120.0

    def __init__(self, places: int):
        self.place = self._top = places - 1
        self._up_after_s = self.UP_AFTER_S
        self._slow_since: float | None = None
        self._room_since: float | None = None
        self._went_up: float | None = None

    def decide(self, now: float, cost_ms: float, next_cost_ms: float, target_fps: float, next_is_ready: bool) -> int:
        """The place to use from here on.

        cost_ms: what a frame takes now, all work of its thread; next_cost_ms: what it would in the next better tier;
        target_fps: to hold, at most what the source gives.
        """
        interval_ms = 1e3 / target_fps
        slow = cost_ms * self.TOO_SLOW > interval_ms
        room = self.place < self._top and next_is_ready and next_cost_ms < self.ROOM * interval_ms
        self._slow_since = (self._slow_since or now) if slow else None
        self._room_since = (self._room_since or now) if room and not slow else None
        if self._slow_since is not None and now - self._slow_since >= self.DOWN_AFTER_S and self.place > 0:
            self.place -= 1
            if self._went_up is not None and now - self._went_up < self.FAILED_S:
                self._up_after_s = min(2 * self._up_after_s, self.LONGEST_S)
            self._slow_since = self._room_since = self._went_up = None
        elif self._room_since is not None and now - self._room_since >= self._up_after_s:
            self.place += 1
            self._slow_since = self._room_since = None
            self._went_up = now
        elif self._went_up is not None and now - self._went_up >= self.FAILED_S:
            self._up_after_s, self._went_up = self.UP_AFTER_S, None
        return self.place

    def start_from(self, place: int) -> None:
        """Go on from a place that somebody else chose."""
        self.place = place
        self._slow_since = self._room_since = self._went_up = None
