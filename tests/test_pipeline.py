"""pipeline.run(): every frame goes through, or the one error that stopped it comes out and no thread stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import decoded, planes_of
from conftest import rtsr_threads

from rtsr import pipeline
from rtsr.backends.reference import ReferenceEngine
from rtsr.errors import EngineError, SinkError, SourceError
from rtsr.frames import Frame, FrameBatch
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sinks.null import NullSink
from rtsr.sources.synthetic import SyntheticSource

FRAMES = 20
Act = Callable[[int], None]  # called with a frame's number before the stage works on it


def nothing(number: int) -> None:
    pass


def fail_at(number: int, error: BaseException) -> Act:
    def act(current: int) -> None:
        if current == number:
            raise error

    return act


def wait_each_time(seconds: float) -> Act:
    return lambda number: time.sleep(seconds)


class Source(SyntheticSource):
    def __init__(self, act: Act = nothing):
        super().__init__(32, 24, FRAMES)
        self.act = act

    def frames(self) -> Iterator[Frame]:
        for frame in super().frames():
            self.act(frame.pts)
            yield frame


class Engine(ReferenceEngine):
    def __init__(self, act: Act = nothing):
        super().__init__(2, "nearest")
        self.act = act

    def infer(self, batch: FrameBatch) -> FrameBatch:
        self.act(batch.pts[0])
        return super().infer(batch)


class Sink(NullSink):
    def __init__(self, act: Act = nothing):
        super().__init__()
        self.act = act
        self.pts: list[int] = []

    def write(self, batch: FrameBatch) -> None:
        self.act(batch.pts[0])
        super().write(batch)
        self.pts += batch.pts


@pytest.mark.parametrize("batch_size", [1, 3, 20, 64])
def test_every_frame_arrives_in_order(batch_size: int) -> None:
    sink = Sink()
    stats = pipeline.run(Source(), Engine(), sink, batch_size=batch_size)
    assert sink.pts == list(range(FRAMES))
    assert (stats.decoded, stats.written) == (FRAMES, FRAMES)


def test_pixels_arrive_at_the_right_time() -> None:
    """The planes belong to their pts: compared with the source read on its own."""
    arrived = {}

    class Keeping(NullSink):
        def write(self, batch: FrameBatch) -> None:
            arrived[batch.pts[0]] = batch.y[0, 0].copy()

    pipeline.run(Source(), Engine(), Keeping())
    for frame in SyntheticSource(32, 24, FRAMES).frames():
        np.testing.assert_array_equal(arrived[frame.pts], frame.y[0].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("at", [0, 9, FRAMES - 1], ids=["first", "middle", "last"])
@pytest.mark.parametrize("stage", ["source", "engine", "sink"])
def test_an_error_is_raised_once_and_loses_no_frame_before_it(stage: str, at: int) -> None:
    error = {"source": SourceError, "engine": EngineError, "sink": SinkError}[stage](f"{stage} broke at {at}")
    acts = {stage: fail_at(at, error)}
    sink = Sink(acts.get("sink", nothing))
    with pytest.raises(type(error)) as caught:
        pipeline.run(Source(acts.get("source", nothing)), Engine(acts.get("engine", nothing)), sink)
    assert caught.value is error
    assert sink.pts == list(range(at))
    assert rtsr_threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), ZeroDivisionError()], ids=repr)
@pytest.mark.parametrize("stage", ["source", "engine", "sink"])
def test_errors_of_any_kind_come_out(stage: str, error: BaseException) -> None:
    acts = {stage: fail_at(5, error)}
    with pytest.raises(type(error)) as caught:
        pipeline.run(
            Source(acts.get("source", nothing)), Engine(acts.get("engine", nothing)), Sink(acts.get("sink", nothing))
        )
    assert caught.value is error
    assert rtsr_threads() == []


def test_an_interrupt_between_two_frames_stops_the_threads() -> None:
    """What Ctrl-C does: it is raised in the caller's thread, wherever that is."""

    def interrupt(stats: object) -> None:
        raise KeyboardInterrupt

    sink = Sink()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(Source(), Engine(), sink, progress=interrupt)
    assert sink.pts == [0]
    assert rtsr_threads() == []


@pytest.mark.parametrize("slow", ["source", "engine", "sink"])
def test_a_slow_stage_holds_the_others_up_but_nothing_gets_lost(slow: str) -> None:
    acts = {slow: wait_each_time(0.005)}
    sink = Sink(acts.get("sink", nothing))
    pipeline.run(Source(acts.get("source", nothing)), Engine(acts.get("engine", nothing)), sink)
    assert sink.pts == list(range(FRAMES))


@pytest.mark.parametrize("slow", ["source", "engine", "sink"])
@pytest.mark.parametrize("broken", ["source", "engine", "sink"])
def test_an_error_beside_a_slow_stage_ends_everything(slow: str, broken: str) -> None:
    class Broken(Exception):
        pass

    def act(stage: str) -> Act:
        wait = wait_each_time(0.005 if stage == slow else 0)
        fail = fail_at(7, Broken()) if stage == broken else nothing
        return lambda number: (wait(number), fail(number))[1]

    sink = Sink(act("sink"))
    with pytest.raises(Broken):
        pipeline.run(Source(act("source")), Engine(act("engine")), sink)
    assert sink.pts == list(range(7))
    assert rtsr_threads() == []


def test_a_source_does_not_run_far_ahead_of_a_stopped_sink() -> None:
    """Memory stays flat however long the film: queues are bounded."""
    decoded_when_written = []
    source = Source(act=lambda number: progress.append(number))
    progress: list[int] = []
    sink = Sink(act=lambda number: (time.sleep(0.01), decoded_when_written.append(len(progress) - number))[0])
    pipeline.run(source, Engine(), sink)
    # each of two queues holds DEPTH, and every stage one in its hands
    assert max(decoded_when_written) <= 2 * pipeline.DEPTH + 4


def test_a_failing_engine_leaves_no_file(tmp_path: Path) -> None:
    source = Source()
    sink = FileSink(tmp_path / "out.mkv", source.spec, 2, Encoding("ffv1"))
    with pytest.raises(EngineError):
        try:
            pipeline.run(source, Engine(fail_at(9, EngineError("broke"))), sink)
            sink.finish()
        finally:
            sink.close()
    assert list(tmp_path.iterdir()) == []


def test_the_real_parts_together_are_exact(tmp_path: Path) -> None:
    source = Source()
    sink = FileSink(tmp_path / "out.mkv", source.spec, 2, Encoding("ffv1"))
    pipeline.run(source, Engine(), sink)
    sink.finish()
    frames = decoded(tmp_path / "out.mkv")
    for frame, original in zip(frames, SyntheticSource(32, 24, FRAMES).frames(), strict=True):
        np.testing.assert_array_equal(planes_of(frame)[0], original.y[0].repeat(2, 0).repeat(2, 1))


def test_progress_is_told_after_every_batch() -> None:
    told: list[tuple[int, float]] = []
    pipeline.run(
        Source(),
        Engine(),
        Sink(),
        batch_size=8,
        progress=lambda stats: told.append((stats.written, stats.last_seconds)),
    )
    rate = 24
    assert told == [(8, 8 / rate), (16, 16 / rate), (20, 20 / rate)]
