"""Working at once while a better engine is being built: it takes over where a segment begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain

from rtsr.backends import Engine, EngineChoice, open_cpu_engine, open_engine, open_without_tensorrt
from rtsr.errors import EngineError, RtsrError
from rtsr.frames import ChromaSiting, FrameBatch, VideoSpec


class SwitchingEngine:
    """Two engines in turn: `first` until `better` is ready, then that, from the start of a segment on.

    Each segment is so made by one engine whole. name, sha256 and backend are the better one's: what the job is meant
    to run on; made_by() tells what it really ran on. get_ready: makes `better` fit to work, in a thread that this
    owns; it gets an event that is set when nobody waits any more. slot: which segment a pts belongs to.
    must: whether what get_ready raises ends the job, at the next batch; else notice gets it and `first` goes on.
    Batches of several frames may reach over a segment's end; then the first frame's counts. One thread at a time.
    """

    def __init__(
        self,
        first: Engine,
        better: Engine,
        get_ready: Callable[[threading.Event], None],
        slot: Callable[[int], int],
        notice: Callable[[str], None] = lambda sentence: None,
        must: bool = False,
    ):
        self.name, self.sha256 = better.name, better.sha256
        self.backend, self.scale = better.backend, better.scale
        self._first, self._better = first, better
        self._get_ready, self._slot, self._notice, self._must = get_ready, slot, notice, must
        self._last_slot: int | None = None
        self._switched_at: int | None = None  # pts
        self._error: BaseException | None = None
        self.engines = first, better  # both hold memory
        self._is_ready, self._not_wanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="rtsr-build", daemon=True)
        self._thread.start()

    def infer(self, batch: FrameBatch) -> FrameBatch:
        self._advance(batch)
        return self.at_work.infer(batch)

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        upstream, held = iter(batches), list[FrameBatch]()

        def before_switch() -> Iterator[FrameBatch]:
            for batch in upstream:
                self._advance(batch)
                if self._switched_at is not None:
                    held.append(batch)
                    return
                yield batch

        if self._switched_at is None:
            results = self._first.stream(before_switch())
            try:
                yield from results
            finally:
                if close := getattr(results, "close", None):
                    close()
        yield from self._better.stream(chain(held, upstream))

    def close(self) -> None:
        """Give up the building, if it still goes on, and free both. Safe to call twice."""
        self._not_wanted.set()
        self._thread.join()
        self._first.close()
        self._better.close()

    @property
    def at_work(self) -> Engine:
        """Which of the two the next frame of this segment goes to."""
        return self._first if self._switched_at is None else self._better

    def made_by(self, pts: int) -> str:
        """Backend and engine that a frame was made by."""
        is_better = self._switched_at is not None and pts >= self._switched_at
        return described(self._better if is_better else self._first)

    def _work(self) -> None:
        try:
            self._get_ready(self._not_wanted)
            self._is_ready.set()
        except BaseException as error:  # raised, or told, in the thread that runs the engine
            self._error = error

    def _advance(self, batch: FrameBatch) -> None:
        """Switch if this batch begins a segment and the better engine is ready."""
        slot = self._slot(batch.pts[0])
        begins, self._last_slot = slot != self._last_slot, slot
        if self._switched_at is not None:
            return
        if (error := self._error) is not None:
            self._error = None
            if self._must or not isinstance(error, RtsrError):
                raise error
            self._notice(f"going on with {self._first.backend}: {error}")
        if begins and self._is_ready.is_set():
            self._notice(f"{described(self._better)} takes over from {described(self._first)} at {batch.seconds:.3f} s")
            self._switched_at = batch.pts[0]


def described(engine: Engine) -> str:
    """`openvino fast-x4-stream-int8`: what a segment's line in the journal says."""
    return f"{engine.backend} {engine.name}"


def at_work(engine: Engine) -> Engine:
    """What a frame goes to now: the engine itself, or one of two."""
    return engine.at_work if isinstance(engine, SwitchingEngine) else engine


def maker(engine: Engine) -> Callable[[int], str]:
    """What tells of a pts which backend and engine made it."""
    return engine.made_by if isinstance(engine, SwitchingEngine) else lambda pts: described(engine)


def open_for_job(
    choice: EngineChoice,
    spec: VideoSpec,
    slot: Callable[[int], int],
    wait: bool,
    notice: Callable[[str], None],
    building: Callable[[float], None] = lambda share: None,
    ready: Callable[[Engine], None] = lambda engine: None,
) -> Engine:
    """open_engine(), and for TensorRT what becomes of a film whose plan is not built yet.

    It is built before the first frame if `wait`, or if that takes no more than a second; else while the best engine
    for CPUs works. building: gets the share that is done while the film waits. ready: called with the engine once its
    plan is there, in the thread that built it, if that takes over later. Raises ConfigError, EngineError.
    """
    opened = open_engine(choice, notice)
    if opened.backend != "tensorrt":
        return opened
    from rtsr.backends.gpu_graph import Picture
    from rtsr.backends.trt import TensorRtEngine

    assert isinstance(opened, TensorRtEngine)
    picture = Picture(spec.height, spec.width, opened.scale, spec.pixels, spec.siting or ChromaSiting.LEFT)
    try:
        if opened.is_ready(picture):
            return opened
        if wait or opened.builds_quickly:
            notice(f"building {opened.package}'s plan of {opened.name} for {spec.width}x{spec.height}")
            opened.make_plan(picture, progress=building)
            return opened
        first = open_cpu_engine(replace(choice, backend="auto"), notice)
    except EngineError as error:
        opened.close()
        if choice.backend != "auto":
            raise
        notice(f"backend tensorrt is not used: {error}")
        return open_without_tensorrt(choice, notice)
    except BaseException:
        opened.close()
        raise
    notice(f"{described(first)} works while {opened.package} builds its plan, which then takes over")

    def get_ready(not_wanted: threading.Event) -> None:
        opened.make_plan(picture, cancelled=not_wanted)
        ready(opened)

    return SwitchingEngine(
        first,
        opened,
        get_ready,
        slot,
        notice,
        must=choice.backend != "auto",
    )
