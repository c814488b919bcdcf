"""The main job measured: decode, infer and encode each on its own, and the whole pipeline, on one clip."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from rtsr import pipeline
from rtsr.backends import Engine
from rtsr.bench_machine import machine_cpu_s, peak_rss_mb, reset_peak_rss
from rtsr.errors import ConfigError
from rtsr.frames import Frame, FrameBatch, VideoSpec, batched
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource
from rtsr.sources.synthetic import SyntheticSource

RATE = 24  # frames per second of the clip made here
CLIP = Encoding("libx264", 23, "medium")  # x264's own defaults: how films of this size usually come
GRAIN = 3.0  # standard deviation in code values: puts bit rate and encoder's cost in the middle of real clips'
HELD = 12  # frames kept in memory to measure infer and encode on: 66 MB at 2560x1440
RESULTS_ALIVE = 8  # of infer at any time, as in the pipeline's queues: overwriting one hot buffer would flatter it
WARM_UP = 24  # frames


@dataclass(frozen=True, slots=True)
class Cost:
    """What one frame takes: CPU-milliseconds of all threads of this process, and milliseconds on the clock."""

    cpu_ms: float
    wall_ms: float


def cost_of(work: Callable[[], int]) -> Cost:
    """Run `work`, which returns how many frames it did, and share its time out among them."""
    wall, cpu = time.perf_counter(), time.process_time()
    frames = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Cost(cpu * 1e3 / frames, wall * 1e3 / frames)


def median_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(median(c.cpu_ms for c in costs), median(c.wall_ms for c in costs))


@dataclass(slots=True)
class Rounds:
    """One cost per round for each stage and for the whole pipeline. frames: of one round.

    intervals_ms: between a frame written and the next, of all rounds. other_cores: how many cores other programs kept
    busy while the whole pipeline ran, for each round; empty where that cannot be known. peak_rss_mb: of the pipeline,
    before any frame was held. held: decoded frames, for measuring other engines on the same pictures.
    """

    spec: VideoSpec
    whole: list[Cost] = field(default_factory=list)
    decode: list[Cost] = field(default_factory=list)
    infer: list[Cost] = field(default_factory=list)
    encode: list[Cost] = field(default_factory=list)
    intervals_ms: list[float] = field(default_factory=list)
    other_cores: list[float] = field(default_factory=list)
    frames: int = 0
    held: list[FrameBatch] = field(default_factory=list)
    peak_rss_mb: float | None = None


@dataclass(frozen=True, slots=True)
class MainJob:
    """The first `frames` frames of a clip through an engine into a file. Whoever opened the engine closes it."""

    clip: Path
    frames: int
    engine: Engine
    encoding: Encoding
    output: Path

    def measure(self, rounds: int, notice: Callable[[str], None]) -> Rounds:
        """Warm up, then let the stages and the whole take turns: a machine that drifts then drifts for all alike.

        Raises ConfigError for a clip of one frame, else what the parts raise.
        """
        with closing(FileSource(self.clip)) as source:
            result = Rounds(source.spec)
        notice("warming up")
        self.run_whole(min(self.frames, WARM_UP))
        reset_peak_rss()
        notice(f"round 1 of {rounds}")
        self._add_whole(result)
        result.peak_rss_mb = peak_rss_mb()
        if result.frames < 2:
            raise ConfigError(f"{self.clip} holds a single frame; a benchmark needs at least 2")
        result.held = self.hold(result.frames)
        upscaled = list(self.engine.stream(result.held))
        for number in range(1, rounds + 1):
            if number > 1:
                notice(f"round {number} of {rounds}")
                self._add_whole(result)
            result.decode.append(cost_of(self.run_decode))
            result.infer.append(cost_of(lambda: self.run_infer(to_and_fro(result.held, result.frames))))
            result.encode.append(cost_of(lambda: self.run_encode(to_and_fro(upscaled, result.frames), result.spec)))
        return result

    def _add_whole(self, result: Rounds) -> None:
        written: list[float] = []
        before = machine_cpu_s()
        cost = cost_of(lambda: self.run_whole(self.frames, written))
        after = machine_cpu_s()
        result.whole.append(cost)
        result.frames = len(written)
        result.intervals_ms += (np.diff(written) * 1e3).tolist()
        if before is not None and after is not None:
            all_ms = (after - before) * 1e3 / result.frames
            result.other_cores.append(max(all_ms - cost.cpu_ms, 0.0) / cost.wall_ms)

    def run_whole(self, frames: int, written: list[float] | None = None) -> int:
        """File to file, as `rtsr upscale` does it, opening and closing included. written gets perf_counter() times."""
        times = [] if written is None else written
        with closing(FileSource(self.clip)) as source, closing(self._sink(source.spec)) as sink:
            first = FirstFrames(source, frames)
            pipeline.run(first, self.engine, sink, progress=lambda stats: times.append(time.perf_counter()))
            sink.finish()
        return len(times)

    def run_decode(self) -> int:
        with closing(FileSource(self.clip)) as source:
            return sum(1 for _ in FirstFrames(source, self.frames).frames())

    def run_infer(self, batches: Iterable[FrameBatch]) -> int:
        alive: deque[FrameBatch] = deque(maxlen=RESULTS_ALIVE)
        frames = 0
        for batch in self.engine.stream(batches):
            alive.append(batch)
            frames += len(batch)
        return frames

    def run_encode(self, batches: Iterable[FrameBatch], spec: VideoSpec) -> int:
        frames = 0
        with closing(self._sink(spec)) as sink:
            for batch in batches:
                sink.write(batch)
                frames += len(batch)
            sink.finish()
        return frames

    def hold(self, frames: int) -> list[FrameBatch]:
        """Up to HELD frames in a row, from the middle of the clip: its first are often black."""
        count = min(frames, HELD)
        first = (frames - count) // 2
        with closing(FileSource(self.clip)) as source:
            return list(islice(batched(source.frames(), 1), first, first + count))

    def _sink(self, spec: VideoSpec) -> FileSink:
        return FileSink(self.output, spec, self.engine.scale, self.encoding)


class FirstFrames:
    """The first `count` frames of a source, which stays its opener's to close."""

    def __init__(self, source: FileSource, count: int):
        self.spec = source.spec
        self._source, self._count = source, count

    @property
    def damage(self) -> Sequence[str]:
        return self._source.damage

    def frames(self) -> Iterator[Frame]:
        return islice(self._source.frames(), self._count)

    def close(self) -> None:
        pass


def to_and_fro(batches: Sequence[FrameBatch], count: int) -> Iterator[FrameBatch]:
    """`count` batches of one frame each: forwards, backwards, forwards..., with rising pts.

    Long runs from few frames in memory, without the scene cut that starting over would give the encoder.
    """
    step = batches[1].pts[0] - batches[0].pts[0] if len(batches) > 1 else 1
    period = max(2 * len(batches) - 2, 1)
    for i in range(count):
        position = i % period
        yield dataclasses.replace(batches[min(position, period - position)], pts=(i * step,))


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """A panning zone plate with grain, as H.264. width, height: even."""
    source = SyntheticSource(width, height, frames, RATE)
    with closing(FileSink(path, source.spec, 1, CLIP)) as sink:
        for batch in batched(_with_grain(source.frames()), 1):
            sink.write(batch)
        sink.finish()


def _with_grain(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Film grain: noise two pixels wide on the luma, another piece of it on every frame."""
    rng = np.random.default_rng(0)
    noise: np.ndarray | None = None
    for frame in frames:
        height, width = frame.y.shape[1:]
        if noise is None:
            white = rng.standard_normal((height + 65, width + 65))
            noise = np.round(GRAIN / 2 * (white[1:, 1:] + white[1:, :-1] + white[:-1, 1:] + white[:-1, :-1]))
        top, left = rng.integers(0, 64, 2)
        y = np.clip(frame.y + noise[top : top + height, left : left + width], 16, 235).astype(np.uint8)
        yield dataclasses.replace(frame, y=y)
