"""The engines of one scale, from quick to good, opened and compiled ahead of need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.backends.switching import at_work, open_for_job
from rtsr.detail import models_with_detail, nearest_to
from rtsr.errors import ConfigError, RtsrError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.live.stream import TIME_BASE
from rtsr.manifest import installed_engines

_LONG_S = 3.0  # to wait without a word
_TRIES = 3  # inferences timed when a tier is made ready
# Of a share of detail, 0..1; the rest as in open_live().
Opener = Callable[[float, tuple[int, int], Callable[[Engine], None]], Engine]


class Tier:
    """One engine. cost_ms: of one frame, as last seen; infinite until it is ready for this size of picture.

    asked: the share of detail to open it with, 0..1. no_detail: why it has no dial, empty where it has one.
    """

    def __init__(self, name: str, open_it: Opener, asked: float = 0.0, no_detail: str = ""):
        self.name = name
        self.cost_ms = float("inf")
        self.first_cost_ms = float("inf")  # when made ready: what to compare tiers by before both have worked
        self.no_detail = no_detail
        self._open_it, self.asked = open_it, asked
        self._shares: dict[str, float] = {}  # of detail, by the sha256 of what works or stands by
        self._engine: Engine | None = None
        self._worked: tuple[str, float | None] | None = None  # backend and detail of a closed one, for the summary
        self._size: tuple[int, int] | None = None
        self._lock = threading.Lock()  # an engine works for one thread at a time

    @property
    def backend(self) -> str:
        """Which one works now, or did when it was closed; empty before it is opened."""
        if self._engine is not None:
            return at_work(self._engine).backend
        return self._worked[0] if self._worked else ""

    @property
    def detail(self) -> float | None:
        """The share in use, of several steps perhaps the nearest to what was asked for; None without a dial."""
        if self.no_detail:
            return None
        engine = self._engine
        if engine is not None:
            return self._shares.get(at_work(engine).sha256, self.asked)
        return self._worked[1] if self._worked else self.asked

    def is_ready(self, size: tuple[int, int]) -> bool:
        """Whether a picture of this (height, width) would be upscaled without anything to wait for."""
        return self._size == size

    def prepare(self, size: tuple[int, int]) -> None:
        """Open and compile for pictures of (height, width), and time it. Raises ConfigError or EngineError."""
        with self._lock:
            if self._size == size:
                return
            if self._engine is not None and self._engine.backend == "tensorrt":
                self._engine.close()  # another size is another plan
                self._engine = None
            if self._engine is None:
                self._engine = self._opened(self.asked, size)
                self._shares = _shares(self._engine, self.asked)
            self._time(at_work(self._engine), size)
            self._size = size

    def turn(self, detail: float, size: tuple[int, int]) -> None:
        """Go on with the engine of another share of detail, 0..1, for pictures of (height, width).

        It is opened and compiled while the one in use works, and takes its place between two frames. Nothing happens
        without a dial, or where what is in use is the nearest that can be had. Raises ConfigError or EngineError; the
        one in use stays then.
        """
        engine = self._engine
        if self.no_detail or engine is None or _shares(engine, detail) == self._shares:
            return
        engine = self._opened(detail, size)
        try:
            at_work(engine).infer(_gray(size))  # compiles
        except BaseException:
            engine.close()
            raise
        shares = _shares(engine, detail)
        with self._lock:
            engine, self._engine = self._engine, engine
            self.asked, self._shares, self._size = detail, shares, size
        if engine is not None:
            engine.close()

    def _opened(self, detail: float, size: tuple[int, int]) -> Engine:
        return self._open_it(detail, size, lambda better: self._time(better, size))

    def _time(self, engine: Engine, size: tuple[int, int]) -> None:
        """Compile, and note what a picture of (height, width) costs."""
        batch = _gray(size)
        engine.infer(batch)  # compiles
        costs = []
        for _ in range(_TRIES):
            begun = time.perf_counter()
            engine.infer(batch)
            costs.append(1e3 * (time.perf_counter() - begun))
        self.cost_ms = self.first_cost_ms = min(costs)

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
                self._worked = self.backend, self.detail
                self._engine.close()
            self._engine, self._size = None, None


def _gray(size: tuple[int, int]) -> FrameBatch:
    height, width = size
    y, uv = (
        np.full((1, 1, height, width), 128, np.uint8),
        np.full((1, 2, -(-height // 2), -(-width // 2)), 128, np.uint8),
    )
    return FrameBatch(y, uv, (0,), TIME_BASE)


def _shares(engine: Engine, detail: float) -> dict[str, float]:
    """What opens where `detail` is asked for of an engine, and of those that it hands its work to."""
    return {each.sha256: nearest_to(each.sha256, detail) for each in getattr(engine, "engines", (engine,))}


def ladder(choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> list[Tier]:
    """The chosen model and all that are quicker at its scale, quickest first. notice: gets what engines have to say.

    choice.share is where the dial begins; tiers that have none are faithful. Raises ConfigError.
    """
    if choice.backend == "reference":
        return [Tier("bicubic", lambda detail, size, ready: open_engine(choice), 0, "interpolation has no detail end")]
    names, chosen = quick_tiers(choice.scale, choice.degradation), choice.generator
    # What is none of these is an RGB generator, above all others; or nothing, which opening it tells.
    names = names[: names.index(chosen) + 1] if chosen in names else [*names, chosen]
    tiers = []
    for name in names:
        why = why_no_detail(name, choice.scale, choice.degradation)
        asked = 0.0 if why and name != chosen else choice.share  # of the chosen one the opening tells that it has none
        tiers.append(Tier(name, _opener(replace(choice, model=name, detail=None), notice), asked, why))
    return tiers


def quick_tiers(scale: int, degradation: str) -> list[str]:
    """Tiers with an int8 engine, quickest first: those that can be had at the rate of a camera."""
    engines = [e for e in installed_engines() if e.scale == scale and e.degradation == degradation]
    engines = [e for e in engines if e.precision == "int8" and e.output == "phases" and e.end == "fidelity"]
    return list(dict.fromkeys(e.tier for e in sorted(engines, key=lambda e: (e.macs_per_lr_pixel, e.tier))))


def why_no_detail(tier: str, scale: int, degradation: str) -> str:
    """Why there is no dial between fidelity and detail for a tier; empty where there is one."""
    engines = [e for e in installed_engines() if e.tier == tier and e.scale == scale]
    ends = {e.detail > 0 for e in engines if e.rgb or e.degradation == degradation}
    return "" if len(ends) == 2 else f"{tier} x{scale} has no detail end; {models_with_detail()}"


def _opener(choice: EngineChoice, notice: Callable[[str], None]) -> Opener:
    return lambda detail, size, ready: open_live(replace(choice, detail=detail), size, notice, ready)


def open_live(
    choice: EngineChoice,
    size: tuple[int, int],
    notice: Callable[[str], None] = lambda sentence: None,
    ready: Callable[[Engine], None] = lambda engine: None,
) -> Engine:
    """An engine for 8-bit 4:2:0 pictures of (height, width) that works at once: while TensorRT builds a plan, the best
    one for CPUs does, up to any frame. ready: see open_for_job(). Raises ConfigError, EngineError."""
    height, width = size
    return open_for_job(choice, VideoSpec(width, height, TIME_BASE), lambda pts: pts, False, notice, ready=ready)


class Tiers:
    """Tiers and the thread that makes them ready, the best one first; the opening waits for that one.

    detail: the share that was asked for last. A tier that fails to open is left out, with a notice. Raises ConfigError
    or EngineError if the first one does.
    """

    def __init__(self, tiers: Sequence[Tier], size: tuple[int, int], notice: Callable[[str], None]):
        self.all = list(tiers)
        self._notice = notice
        self._size = size
        self.detail, self._ahead = self.all[-1].asked, self.all[-1]
        self._wanted, self._first = threading.Event(), threading.Event()
        self._wanted.set()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="rtsr-tiers", daemon=True)
        self._thread.start()
        # A compilation in this thread would hear no Ctrl-C.
        if not self._first.wait(_LONG_S):
            notice(f"compiling {self.all[-1].name} for {size[1]}x{size[0]} pictures takes its time")
            self._first.wait()
        if self._error is not None:
            self.close()
            raise self._error

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

    def turn(self, detail: float, ahead: Tier) -> None:
        """From now on engines of this share of detail, 0..1; `ahead` before the other tiers."""
        self.detail, self._ahead = detail, ahead
        self._wanted.set()

    def stop(self) -> None:
        """Begin no compilation any more; the one in work goes on to its end."""
        self._stopping = True
        self._wanted.set()

    def close(self) -> None:
        """Free all engines."""
        self.stop()
        self._thread.join()
        for tier in self.all:
            tier.close()

    def _work(self) -> None:
        try:
            self.all[-1].prepare(self._size)
        except BaseException as error:  # raised by the opening, whatever it is
            self._error = error
            return
        finally:
            self._first.set()
        while True:
            self._wanted.wait()
            self._wanted.clear()
            for tier in [self._ahead, *(tier for tier in reversed(self.all) if tier is not self._ahead)]:
                if self._stopping:
                    return
                self._make(tier)
                if self._wanted.is_set():
                    break  # what is asked for now comes before what no longer is

    def _make(self, tier: Tier) -> None:
        was_ready = tier.is_ready(self._size)
        try:
            tier.prepare(self._size)
            tier.turn(self.detail, self._size)
        except RtsrError as error:
            self._notice(f"tier {tier.name} {'stays as it is' if was_ready else 'is left out'}: {error}")
