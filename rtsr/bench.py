"""`rtsr benchmark`: what decode, infer and encode cost on their own, and what the whole pipeline makes of it.

docs/PERFORMANCE.md describes the method. Stages and pipeline take turns within one run, because a shared machine
drifts by more between two runs than most changes gain.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rtsr import pipeline
from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.bench_machine import machine, peak_rss_mb, reset_peak_rss, usable_cores, versions
from rtsr.errors import ConfigError, SourceError
from rtsr.frames import Frame, FrameBatch, VideoSpec, batched
from rtsr.manifest import installed_engines
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource
from rtsr.sources.synthetic import SyntheticSource

SIZE = "640x360"
RATE = 24  # frames per second of the clip made here
CLIP = Encoding("libx264", 23, "medium")  # how films of this size usually come
FASTEST = Encoding("libx264", preset="ultrafast")
GRAIN = 3.0  # standard deviation in code values; brings the clip's bit rate and the encoder's cost among real clips'
HELD = 24  # frames kept in memory to measure infer and encode on: 130 MB at 2560x1440


@dataclass(frozen=True, slots=True)
class Cost:
    """What one frame takes: CPU-milliseconds of all threads of this process, and milliseconds on the clock."""

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, and on what. Costs are medians over the rounds.

    fps: of the whole pipeline, file to file. limit_fps: what the costs allow if the stages overlapped perfectly.
    efficiency: fps / limit_fps. realtime_factor: fps / source_fps. p50_ms, p95_ms: time between frames written.
    pipeline_ms: the cost of a frame in the whole pipeline. peak_rss_mb: of the pipeline alone, 10**6 bytes.
    """

    input: str
    size: tuple[int, int]
    output_size: tuple[int, int]
    scale: int
    model: str
    degradation: str
    engine: str
    engine_sha256: str | None
    backend: str
    codec: str
    codec_options: dict[str, str]
    frames: int
    rounds: int
    source_fps: float | None
    decode_ms: Cost
    infer_ms: Cost
    encode_ms: Cost
    pipeline_ms: Cost
    fps: float
    limit_fps: float
    efficiency: float
    realtime_factor: float | None
    p50_ms: float
    p95_ms: float
    peak_rss_mb: float | None
    bottleneck: str
    machine: dict[str, Any]
    versions: dict[str, str]
    command: str
    baseline: list[dict[str, Any]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: plain types, figures rounded to what they are worth."""
        return _rounded(asdict(self))


def benchmark(
    *,
    size: str | None = None,
    scale: int = 4,
    model: str = "balanced",
    backend: str = "auto",
    degradation: str = "stream",
    frames: int = 240,
    rounds: int = 3,
    input: Path | None = None,
    encoding: Encoding = FASTEST,
    baseline: bool = False,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Benchmark:
    """Measure one engine on one size of video.

    size: WxH of a clip made for the purpose (640x360 if None); with an input clip its own size counts. frames: how
    many of the clip each round takes, fewer if it has fewer. baseline: also measure what else a user would pick.
    notice gets one sentence whenever something is begun that takes seconds.

    Raises ConfigError before anything is measured, else what the parts raise.
    """
    choice = EngineChoice(scale, model, degradation, backend)
    width, height = _parse_size(size or SIZE)
    if frames < 2 or rounds < 1:
        raise ConfigError("a benchmark needs at least 2 frames and 1 round")
    if input is not None and size is not None:
        raise ConfigError("--size is for the clip that the benchmark makes itself; leave it out with --input")
    if baseline:
        from rtsr import baselines  # onnx and onnxruntime load only when asked for

        baselines.require()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rtsr-benchmark-")))
        codec, _, codec_options = encoding.resolve(folder / "out.mkv")
        engine = stack.enter_context(contextlib.closing(open_engine(choice)))
        clip = input or make_clip(folder / "clip.mp4", width, height, frames)
        job = Job(clip, engine, frames, encoding, folder / "out.mkv")
        figures = job.measure(rounds, notice)
        rows = None
        if baseline:
            rows = baselines.measure(engine, job.held(), rounds, notice)
    costs = {"decode": figures.decode, "infer": figures.infer, "encode": figures.encode}
    limit = limit_fps(list(costs.values()), usable_cores())
    spec, rate = figures.spec, float(figures.spec.rate) if figures.spec.rate else None
    return Benchmark(
        input=input.name if input else f"made: zone plate with grain, {RATE} fps, H.264 crf {CLIP.crf}",
        size=(spec.width, spec.height),
        output_size=(spec.width * scale, spec.height * scale),
        scale=scale,
        model=model,
        degradation=degradation,
        engine=engine.name,
        engine_sha256=next((e.sha256 for e in installed_engines() if e.name == engine.name), None),
        backend=engine.backend,
        codec=codec,
        codec_options=codec_options,
        frames=figures.frames,
        rounds=rounds,
        source_fps=rate,
        decode_ms=figures.decode,
        infer_ms=figures.infer,
        encode_ms=figures.encode,
        pipeline_ms=figures.pipeline,
        fps=1e3 / figures.pipeline.wall_ms,
        limit_fps=limit,
        efficiency=1e3 / figures.pipeline.wall_ms / limit,
        realtime_factor=1e3 / figures.pipeline.wall_ms / rate if rate else None,
        p50_ms=_percentile(figures.intervals_ms, 50),
        p95_ms=_percentile(figures.intervals_ms, 95),
        peak_rss_mb=figures.peak_rss_mb,
        bottleneck=bottleneck(costs, usable_cores(), 1e3 / figures.pipeline.wall_ms, model, engine.backend, encoding),
        machine=machine(),
        versions=versions(),
        command=_command(size, input, choice, frames, encoding, baseline),
        baseline=rows,
    )
