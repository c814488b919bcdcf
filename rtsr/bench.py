"""`rtsr benchmark`: what decode, infer and encode cost on their own, and what the whole pipeline makes of it.

docs/PERFORMANCE.md describes the method.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rtsr.backends import EngineChoice, open_engine
from rtsr.bench_machine import machine, usable_cores, versions
from rtsr.bench_stages import CLIP, RATE, Cost, MainJob, Rounds, make_clip, median_cost
from rtsr.errors import ConfigError
from rtsr.manifest import installed_engines
from rtsr.sinks.encoding import Encoding

SIZE = "640x360"
FASTEST = Encoding("libx264", preset="ultrafast")
WELL_OVERLAPPED = 0.9  # below this efficiency the stages' costs do not explain the speed


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, and on what. Costs are medians over the rounds.

    fps: of the whole pipeline, file to file. limit_fps: what the stages' costs allow. efficiency: fps / limit_fps.
    realtime_factor: fps / source_fps, None if the clip states no rate. whole_ms: the pipeline's cost, in CPU time of
    all stages together. p50_ms, p95_ms: from one frame written to the next. peak_rss_mb: of the pipeline without what
    the benchmark itself holds, 10**6 bytes. baseline: one row per network and runtime, None if not asked for.
    """

    input: str
    size: str
    output_size: str
    scale: int
    model: str
    degradation: str
    engine: str
    engine_sha256: str | None
    backend: str
    encoder: dict[str, str]
    frames: int
    rounds: int
    source_fps: float | None
    decode_ms: Cost
    infer_ms: Cost
    encode_ms: Cost
    whole_ms: Cost
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
    baseline: list[dict[str, Any]] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; figures rounded to three decimals."""
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

    size: WxH of the clip made for it, 640x360 if None; an input clip brings its own. frames: how many of the clip a
    round takes, fewer if it has fewer. baseline: also measure what else a user would pick. notice gets a sentence
    whenever something that takes seconds begins. Raises ConfigError before any work, else what the parts raise.
    """
    choice = EngineChoice(scale, model, degradation, backend)
    width, height = _parse_size(size or SIZE)
    if size is not None and input is not None:
        raise ConfigError("--size is for the clip that the benchmark makes; leave it out with --input")
    if frames < 2 or rounds < 1:
        raise ConfigError(f"a benchmark needs at least 2 frames and 1 round, not {frames} and {rounds}")
    with tempfile.TemporaryDirectory(prefix="rtsr-benchmark-") as folder, closing(open_engine(choice)) as engine:
        output = Path(folder, "output.mkv")
        codec, _, options = encoding.resolve(output)
        if baseline:
            from rtsr.baselines import open_baselines  # onnx and onnxruntime load only when asked for
        clip = input or Path(folder, "clip.mp4")
        if input is None:
            make_clip(clip, width, height, frames)
        rounds_done = MainJob(clip, frames, engine, encoding, output).measure(rounds, notice)
        rows = measure_baselines(engine, rounds_done.held, rounds, notice) if baseline else None
    ...
