"""Measuring the parts of the main job, each on its own and all together, on one clip."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from rtsr import pipeline
from rtsr.backends import Engine
from rtsr.bench_machine import peak_rss_mb, reset_peak_rss
from rtsr.errors import ConfigError
from rtsr.frames import Frame, FrameBatch, VideoSpec, batched
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource
from rtsr.sources.synthetic import SyntheticSource

RATE = 24  # frames per second of the clip made here
CLIP = Encoding("libx264", 23, "medium")  # x264's own defaults: how films of this size usually come
GRAIN = 3.0  # standard deviation in code values: puts bit rate and encoder cost in the middle of real clips'
HELD = 24  # frames kept in memory to measure infer and encode on: 130 MB at 2560x1440


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


def median_cost(costs: list[Cost]) -> Cost:
    return Cost(median(c.cpu_ms for c in costs), median(c.wall_ms for c in costs))


@dataclass(slots=True)
class Rounds:
    """One cost per round of every stage and of the whole; intervals_ms: between frames written, of all rounds."""

    frames: int = 0
    decode: list[Cost] = field(default_factory=list)
    infer: list[Cost] = field(default_factory=list)
    encode: list[Cost] = field(default_factory=list)
    whole: list[Cost] = field(default_factory=list)
    intervals_ms: list[float] = field(default_factory=list)
    peak_rss_mb: float | None = None


class MainJob:
    """The first `frames` frames of a clip, through an engine, into `output`; and each of the three steps alone.

    Whoever opened the engine closes it.
    """

    def __init__(self, clip: Path, frames: int, engine: Engine, encoding: Encoding, output: Path):
        self._clip, self._frames = clip, frames
        self._engine, self._encoding, self._output = engine, encoding, output
        with _closing(FileSource(clip)) as source:
            self.spec = source.spec

    def measure(self, rounds: int, notice: Callable[[str], None]) -> Rounds:
        """Warm up, then let the stages and the whole pipeline take turns, so that a machine's drift meets all."""
        result = Rounds()
        notice("warming up")
        self._run_whole(min(self._frames, HELD))
        reset_peak_rss()
        for number in range(1, rounds + 1):
            notice(f"round {number} of {rounds}")
            written: list[float] = []
            result.whole.append(cost_of(lambda: self._run_whole(self._frames, written)))
            if number == 1:  # before frames are held for the stages
                result.peak_rss_mb = peak_rss_mb()
                result.frames = len(written)
                frames = self.held_frames()
                upscaled = list(self._engine.stream(frames))
            result.intervals_ms += (np.diff(written) * 1e3).tolist()
            result.decode.append(cost_of(self._run_decode))
            result.infer.append(cost_of(lambda: self._run_infer(frames, result.frames)))
            result.encode.append(self._encode_cost(upscaled, result.frames))
        return result
