"""The engines of one scale, from quick to good, opened and compiled ahead of need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.backends.switching import at_work, open_for_job
from rtsr.errors import ConfigError, RtsrError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.live.stream import TIME_BASE
from rtsr.manifest import installed_engines

_LONG_S = 3.0  # to wait without a word
_TRIES = 3  # inferences timed when a tier is made ready
Opener = Callable[[tuple[int, int], Callable[[Engine], None]], Engine]  # see open_live()


class Tier:
    """One engine. cost_ms: of one frame, as last seen; infinite until it is ready for this size of picture."""

    def __init__(self, name: str, open_it: Opener):
        self.name = name
        self.cost_ms = float("inf")
        self.first_cost_ms = float("inf")  # when made ready: what to compare tiers by before both have worked
        self._open_it = open_it
        self._engine: Engine | None = None
        self._size: tuple[int, int] | None = None
        self._lock = threading.Lock()  # an engine works for one thread at a time

    @property
    def backend(self) -> str:
        """Which one works now; empty before it is opened."""
        return at_work(self._engine).backend if self._engine is not None else ""

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
            self._engine = self._engine or self._open_it(size, lambda better: self._time(better, size))
            self._time(at_work(self._engine), size)
            self._size = size

    def _time(self, engine: Engine, size: tuple[int, int]) -> None:
        """Compile, and note what a picture of (height, width) costs."""
        height, width = size
        gray = np.full((1, 1, height, width), 128, np.uint8)
        batch = FrameBatch(gray, np.full((1, 2, -(-height // 2), -(-width // 2)), 128, np.uint8), (0,), TIME_BASE)
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
                self._engine.close()
            self._engine, self._size = None, None


def ladder(choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> list[Tier]:
    """The chosen model and all that are quicker at its scale, quickest first. notice: gets what engines have to say.
    Raises ConfigError."""
    if choice.backend == "reference":
        return [Tier("bicubic", lambda size, ready: open_engine(choice))]
    names = quick_tiers(choice.scale, choice.degradation)
    # What is none of these is an RGB generator, above all others; or nothing, which opening it tells.
    chosen = names[: names.index(choice.model) + 1] if choice.model in names else [*names, choice.model]
    return [Tier(name, _opener(replace(choice, model=name), notice)) for name in chosen]


def quick_tiers(scale: int, degradation: str) -> list[str]:
    """Tiers with an int8 engine, quickest first: those that can be had at the rate of a camera."""
    engines = [e for e in installed_engines() if e.scale == scale and e.degradation == degradation]
    engines = [e for e in engines if e.precision == "int8" and e.output == "phases" and e.end == "fidelity"]
    return list(dict.fromkeys(e.tier for e in sorted(engines, key=lambda e: (e.macs_per_lr_pixel, e.tier))))


def why_no_detail(tiers: Sequence[str]) -> str:
    """Why there is no dial between fidelity and detail for these tiers, and what there is instead."""
    known = sorted({engine.tier for engine in installed_engines() if engine.end == "detail"})
    if any(tier.endswith("-detail") for tier in tiers):
        return "this is the detail end itself; there is no dial between the two"
    if not known:
        return "no detail engine is installed; the picture is the faithful one"
    fitting = next((tier for tier in tiers if tier in known), None)
    if fitting:
        return f"there is no dial, but --model {fitting}-detail begins with the detail end"
    return f"these tiers have no detail end; --model {known[0]}-detail is one"


def _opener(choice: EngineChoice, notice: Callable[[str], None]) -> Opener:
    return lambda size, ready: open_live(choice, size, notice, ready)


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

    A tier that fails to open is left out, with a notice. Raises ConfigError or EngineError if the first one does.
    """

    def __init__(self, tiers: Sequence[Tier], size: tuple[int, int], notice: Callable[[str], None]):
        self.all = list(tiers)
        self._notice = notice
        self._size = size
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
            for tier in reversed(self.all):
                if self._stopping:
                    return
                try:
                    tier.prepare(self._size)
                except RtsrError as error:
                    self._notice(f"tier {tier.name} is left out: {error}")
