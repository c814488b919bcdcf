"""`rtsr benchmark`: what decode, infer and encode cost on their own, and what the whole pipeline makes of it.

docs/PERFORMANCE.md describes the method.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from rtsr.backends import EngineChoice, open_engine
from rtsr.bench_machine import machine, versions
from rtsr.bench_stages import CLIP, RATE, Cost, MainJob, make_clip, median_cost
from rtsr.errors import ConfigError
from rtsr.sinks.encoding import Encoding
from rtsr.threads import usable_cores

SIZE = "640x360"
FASTEST = Encoding("libx264", preset="ultrafast")
OVERLAPPED = 0.9  # below this efficiency it is not the stages' costs that explain the speed
DISTURBED = 0.1  # cores: from here on other programs' use of the machine shows in the figures


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured, and on what. Costs are medians over the rounds.

    fps: of the whole pipeline, file to file. limit_fps: what the stages' costs allow. efficiency: fps / limit_fps.
    realtime_factor: fps / source_fps, None if the clip states no rate. whole_ms: the cost of a frame in the pipeline,
    its CPU time being that of all stages. p50_ms, p95_ms: from one frame written to the next. peak_rss_mb: of the
    pipeline without what the benchmark itself holds, 10**6 bytes. other_cores: how many cores other programs kept busy
    while the pipeline ran, None where that cannot be known; every tenth of a core is missing in fps and efficiency.
    baseline: one row per network and runtime, None if not asked for.
    """

    input: str
    size: str
    output_size: str
    scale: int
    model: str
    degradation: str
    detail: float
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
    other_cores: float | None
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
    detail: float | None = None,
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
    choice = EngineChoice(scale, model, degradation, backend, detail=detail)
    width, height = _parse_size(size or SIZE)
    if size is not None and input is not None:
        raise ConfigError("--size is for the clip that the benchmark makes; leave it out with --input")
    if frames < 2 or rounds < 1:
        raise ConfigError(f"a benchmark needs at least 2 frames and 1 round, not {frames} and {rounds}")
    if baseline:
        _require("onnx", "onnxruntime")
    with (
        tempfile.TemporaryDirectory(prefix="rtsr-benchmark-") as folder,
        closing(open_engine(choice, notice)) as engine,
    ):
        output = Path(folder, "output.mkv")
        encoding.check(output)
        clip = input or Path(folder, "clip.mp4")
        if input is None:
            notice("making a clip")
            make_clip(clip, width, height, frames)
        done = MainJob(clip, frames, engine, encoding, output).measure(rounds, notice)
        encoder = encoding.resolve(output, done.spec)
        rows = None
        if baseline:
            from rtsr.baselines import measure_baselines  # not before: its libraries would count as our memory

            rows = measure_baselines(engine, done.held, rounds, notice)
    costs = {
        "decode": median_cost(done.decode),
        "infer": median_cost(done.infer),
        "encode": median_cost(done.encode),
    }
    whole = median_cost(done.whole)
    fps, limit = 1e3 / whole.wall_ms, limit_fps(costs, usable_cores())
    spec = done.spec
    source_fps = float(spec.rate) if spec.rate else None
    p50_ms, p95_ms = np.percentile(done.intervals_ms, (50, 95)).tolist()
    return Benchmark(
        input=input.name if input else f"made: panning zone plate with grain, {RATE} fps, H.264 crf {CLIP.crf}",
        size=f"{spec.width}x{spec.height}",
        output_size=f"{spec.width * scale}x{spec.height * scale}",
        scale=scale,
        model=model,
        degradation=degradation,
        detail=choice.share,
        engine=engine.name,
        engine_sha256=engine.sha256 or None,
        backend=engine.backend,
        encoder={"codec": encoder.name, **encoder.options},
        frames=done.frames,
        rounds=rounds,
        source_fps=source_fps,
        decode_ms=costs["decode"],
        infer_ms=costs["infer"],
        encode_ms=costs["encode"],
        whole_ms=whole,
        fps=fps,
        limit_fps=limit,
        efficiency=fps / limit,
        realtime_factor=fps / source_fps if source_fps else None,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        peak_rss_mb=done.peak_rss_mb,
        other_cores=median(done.other_cores) if done.other_cores else None,
        bottleneck=name_bottleneck(costs, fps / limit, usable_cores(), _remedies(model, engine.backend, encoding)),
        machine=machine(),
        versions=versions(),
        command=_command(input or size or SIZE, choice, frames, encoding, baseline),
        baseline=rows,
    )


def limit_fps(costs: Mapping[str, Cost], cores: int) -> float:
    """Frames/s if the stages overlapped perfectly: every core busy with them, or the slowest of them never waiting."""
    by_cores = cores * 1e3 / sum(cost.cpu_ms for cost in costs.values())
    by_slowest = 1e3 / max(cost.wall_ms for cost in costs.values())
    return min(by_cores, by_slowest)


def name_bottleneck(costs: Mapping[str, Cost], efficiency: float, cores: int, remedies: Mapping[str, str]) -> str:
    """One sentence: what limits the speed, and what would help."""
    total = sum(cost.cpu_ms for cost in costs.values())
    slowest = max(costs, key=lambda stage: costs[stage].wall_ms)
    dearest = max(costs, key=lambda stage: costs[stage].cpu_ms)
    if costs[slowest].wall_ms > total / cores:
        cause = f"{slowest} alone takes {costs[slowest].wall_ms:.1f} ms a frame and cannot use all {cores} cores"
        remedy = remedies[slowest]
    else:
        cause = f"{dearest} takes {costs[dearest].cpu_ms / total:.0%} of the CPU time"
        remedy = remedies[dearest]
    if efficiency < OVERLAPPED:
        cause += f", and {1 - efficiency:.0%} of the speed is lost to waiting or to other programs on this machine"
    return f"{cause}: {remedy}"


def print_table(result: Benchmark, console: Console) -> None:
    """The result for people."""
    encoder = " ".join(value if key == "codec" else f"{key} {value}" for key, value in result.encoder.items())
    console.print(f"{result.size} -> {result.output_size} with {result.engine} ({result.backend}) and {encoder}")
    console.print(f"on {result.machine['cores']} cores of {result.machine['cpu']}, {result.frames} frames a round")
    table = Table("a frame costs", box=SIMPLE)
    for heading in ("CPU ms", "wall ms", "share"):
        table.add_column(heading, justify="right")
    stages = {"decode": result.decode_ms, "infer": result.infer_ms, "encode": result.encode_ms}
    total = sum(cost.cpu_ms for cost in stages.values())
    for stage, cost in stages.items():
        table.add_row(stage, f"{cost.cpu_ms:.2f}", f"{cost.wall_ms:.2f}", f"{cost.cpu_ms / total:.0%}")
    table.add_section()
    table.add_row("all together", f"{result.whole_ms.cpu_ms:.2f}", f"{result.whole_ms.wall_ms:.2f}", "")
    console.print(table)
    pace = "" if result.realtime_factor is None else f", {result.realtime_factor:.2f} x real time"
    console.print(
        f"{result.fps:.1f} fps{pace}; the costs allow {result.limit_fps:.1f} on {result.machine['cores']} cores "
        f"(efficiency {result.efficiency:.2f})"
    )
    memory = "" if result.peak_rss_mb is None else f"; peak memory {result.peak_rss_mb:.0f} MB"
    console.print(f"frame to frame p50 {result.p50_ms:.1f} ms, p95 {result.p95_ms:.1f} ms{memory}")
    console.print(result.bottleneck)
    if result.other_cores is not None and result.other_cores >= DISTURBED:
        console.print(
            f"Other programs kept {result.other_cores:.1f} cores busy meanwhile: stop them and measure again."
        )
    if result.baseline is not None:
        console.print(_baseline_table(result.baseline))


def _baseline_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(Column("enlarging alone", no_wrap=True), "runtime", "planes", box=SIMPLE)
    for heading in ("CPU ms", "fps", "CPU / ours"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = f"{row['cpu_ms']:.1f}", f"{row['fps']:.1f}", f"{row['cpu_ratio']:.2f}"
        table.add_row(row["network"], row["runtime"], row["planes"], *figures)
    return table


def _require(*packages: str) -> None:
    if missing := [package for package in packages if find_spec(package) is None]:
        raise ConfigError(
            f"--baseline builds and runs other networks, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install {' '.join(missing)}"
        )


def _parse_size(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
    if match is None:
        raise ConfigError(f"--size {size!r} is not a size; write it as 640x360")
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2 or min(width, height) < 32 or max(width, height) > 8192:
        raise ConfigError(f"--size {size}: width and height must be even and lie between 32 and 8192")
    return width, height


def _remedies(model: str, backend: str, encoding: Encoding) -> dict[str, str]:
    """What would make each stage cheaper, in the words of the command line."""
    if backend == "onnxruntime":
        infer = "--backend openvino is faster on most CPUs"
    elif backend != "reference" and model in ("balanced", "fast"):
        infer = f"--model {'fast' if model == 'balanced' else 'nano'} costs less"
    else:
        infer = "only more cores, a GPU or a smaller --scale help"
    if encoding.codec in (None, "libx264") and encoding.preset == "ultrafast":
        encode = "only more cores, a GPU's encoder (--codec h264_nvenc) or a smaller --scale help"
    else:
        encode = "--codec libx264 --preset ultrafast costs least"
    return {"decode": "more cores help, or an input in a simpler codec", "infer": infer, "encode": encode}


def _command(clip: Path | str, choice: EngineChoice, frames: int, encoding: Encoding, baseline: bool) -> str:
    """The command line that measures the same again; an input by its name alone."""
    words = ["rtsr", "benchmark", *(("--input", clip.name) if isinstance(clip, Path) else ("--size", clip))]
    for name in ("scale", "model", "backend", "degradation", "detail"):
        if (value := getattr(choice, name)) is not None:
            words += [f"--{name}", str(value)]
    words += ["--frames", str(frames)]
    for name in ("codec", "crf", "preset"):
        if (value := getattr(encoding, name)) is not None:
            words += [f"--{name}", str(value)]
    return shlex.join(words + ["--baseline"] * baseline)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value
