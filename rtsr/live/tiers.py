"""The engines of one scale, from quick to good: opened ahead of need, and chosen so that the rate holds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.errors import ConfigError, RtsrError
from rtsr.frames import FrameBatch
from rtsr.live.stream import TIME_BASE
from rtsr.manifest import installed_engines

_TRIES = 3  # inferences timed when a tier is made ready


class Tier:
    """One engine. cost_ms: of one frame, as last seen; infinite until it is ready for this size of picture."""

    def __init__(self, name: str, open_it: Callable[[], Engine]):
        self.name, self.backend = name, ""
        self.cost_ms = float("inf")
        self.first_cost_ms = float("inf")  # when made ready: what to compare tiers by before both have worked
        self._open_it, self._engine = open_it, None
        self._size: tuple[int, int] | None = None
        self._lock = threading.Lock()  # an engine works for one thread at a time

    def is_ready(self, size: tuple[int, int]) -> bool:
        """Whether a picture of this (height, width) would be upscaled without anything to wait for."""
        return self._size == size

    def prepare(self, size: tuple[int, int]) -> None:
        """Open and compile for pictures of (height, width), and time it. Raises ConfigError or EngineError."""
        with self._lock:
            if self._size == size:
                return
            self._engine = self._engine or self._open_it()
            self.backend = self._engine.backend
            height, width = size
            gray = np.full((1, 1, height, width), 128, np.uint8)
            batch = FrameBatch(gray, np.full((1, 2, height // 2, width // 2), 128, np.uint8), (0,), TIME_BASE)
            self._engine.infer(batch)  # compiles
            costs = []
            for _ in range(_TRIES):
                begun = time.perf_counter()
                self._engine.infer(batch)
                costs.append(1e3 * (time.perf_counter() - begun))
            self.cost_ms = self.first_cost_ms = min(costs)
            self._size = size

    def infer(self, batch: FrameBatch) -> FrameBatch:
        """Upscale one frame; prepares first where that was not done. Raises EngineError."""
        if not self.is_ready(batch.size):
            self.prepare(batch.size)
        with self._lock:
            assert self._engine is not None, "prepare() opened it"
            begun = time.perf_counter()
            result = self._engine.infer(batch)
            self.cost_ms += 0.1 * (1e3 * (time.perf_counter() - begun) - self.cost_ms)
            return result

    def close(self) -> None:
        with self._lock:
            if self._engine is not None:
                self._engine.close()
            self._engine, self._size = None, None


def ladder(choice: EngineChoice) -> list[Tier]:
    """The chosen model and all that are quicker at its scale, quickest first. Raises ConfigError."""
    if choice.backend == "reference":
        return [Tier("bicubic", lambda: open_engine(choice))]
    engines = [e for e in installed_engines() if e.scale == choice.scale and e.degradation == choice.degradation]
    engines = [e for e in engines if e.precision == "int8" and e.output == "phases" and e.end == "fidelity"]
    chosen = next((e for e in engines if e.tier == choice.model), None)
    most = chosen.macs_per_lr_pixel if chosen else float("inf")
    names = [e.tier for e in sorted(engines, key=lambda e: e.macs_per_lr_pixel) if e.macs_per_lr_pixel <= most]
    if chosen is None:
        names.append(choice.model)  # an RGB generator, above all others; or none, which opening it tells
    return [Tier(name, _opener(choice, name)) for name in dict.fromkeys(names)]


def _opener(choice: EngineChoice, name: str) -> Callable[[], Engine]:
    from dataclasses import replace

    return lambda: open_engine(replace(choice, model=name))


class Tiers:
    """Tiers and the thread that makes them ready: the one in use at once, the others in the background.

    A tier that fails to open is left out, with a notice. Raises ConfigError or EngineError if the first one does.
    """

    def __init__(self, tiers: Sequence[Tier], size: tuple[int, int], notice: Callable[[str], None]):
        self.all = list(tiers)
        self._notice = notice
        self._size = size
        self._wanted = threading.Event()
        self._closing = False
        tiers[-1].prepare(size)
        self._wanted.set()
        self._thread = threading.Thread(target=self._work, name="rtsr-tiers", daemon=True)
        self._thread.start()

    def named(self, name: str) -> int:
        """Place of a tier. Raises ConfigError."""
        for i, tier in enumerate(self.all):
            if tier.name == name:
                return i
        raise ConfigError(f"no tier {name!r}; there are {', '.join(tier.name for tier in self.all)}")

    def make_ready(self, size: tuple[int, int]) -> None:
        """From now on pictures have this (height, width)."""
        if size != self._size:
            self._size = size
            self._wanted.set()

    def close(self) -> None:
        """Free all engines."""
        self._closing = True
        self._wanted.set()
        self._thread.join()
        for tier in self.all:
            tier.close()

    def _work(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            for tier in reversed(self.all):
                if self._closing:
                    return
                try:
                    tier.prepare(self._size)
                except RtsrError as error:
                    self._notice(f"tier {tier.name} is left out: {error}")


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
