"""What benchmarks/gpu.py measures: all rows, listed before anything is run, so that none goes missing unsaid."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from rtsr.manifest import installed_engines

TIERS = ("nano", "fast", "balanced", "quality")
SWEPT = "balanced"  # the tier whose batches are swept
BATCHES = (1, 2, 4, 8)
GPU_BACKENDS = ("tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt")
CPU_BACKENDS = ("openvino", "onnxruntime")
SINKS = ("null", "x264 ultrafast", "nvenc")
ON_GPU = "nvdec to nvenc"  # decoded, enlarged and encoded where the pictures lie


@dataclass(frozen=True, slots=True)
class Job:
    """Pictures of width x height, enlarged by a tier's engine."""

    tier: str
    width: int
    height: int
    scale: int

    def __str__(self) -> str:
        return f"{self.tier} {self.height}p x{self.scale}"

    @property
    def degradation(self) -> str:
        """Of the engine that is measured: clean where a tier has no other. The nets differ in their weights alone."""
        engines = installed_engines()
        has_stream = any((e.tier, e.scale, e.degradation) == (self.tier, self.scale, "stream") for e in engines)
        return "stream" if has_stream else "clean"


@dataclass(slots=True)
class Row:
    """One measurement. part: which process makes it; a part that dies takes no other with it. missing: why there are
    no figures. figures: names end in their unit."""

    part: str
    what: str
    job: Job | None = None
    batch: int = 1
    graphs: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    missing: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def all_rows(device: str, quick: bool) -> list[Row]:
    """Every row for `cuda` or `cpu`, in the order of measuring: what the others are compared with comes first."""
    sizes = ((64, 48, 4), (96, 64, 2)) if quick else ((640, 360, 4), (1280, 720, 3), (1920, 1080, 2))
    tiers = ("fast",) if quick else TIERS
    jobs = [Job(tier, *size) for size in sizes for tier in reversed(tiers)]
    swept = tiers[0] if quick else SWEPT
    rows = [Row("ceilings", what) for what in ("copy", "upload", "download", "matrix")]
    backends = GPU_BACKENDS if device == "cuda" else CPU_BACKENDS
    for backend in backends:
        batches = [(job, n) for job in jobs for n in BATCHES[: 2 if quick else 4] if n == 1 or job.tier == swept]
        graphs = (True, False) if device == "cuda" else (None,)
        rows += [Row(backend, "engine", job, n, g) for job, n in batches for g in graphs if g is not False or n == 1]
        rows += [Row(backend, "same frames", job) for job in jobs if job.tier == swept]
        rows += [Row(backend, "FP16 against FP32", job) for job in jobs if device == "cuda"]
    rows += [Row("torch eager", "net", job) for job in jobs]
    sinks = (*SINKS, ON_GPU) if device == "cuda" else SINKS
    rows += [Row(f"pipeline {backend}", sink, job) for backend in backends for job in jobs for sink in sinks]
    rows += [Row("encoder alone", sink, job) for job in jobs if job.tier == swept for sink in SINKS[1:]]
    rows += [Row("torch compiled", "net", job) for job in jobs]  # last: each takes its time to compile
    for row in rows:
        row.missing = no_engine(row.job, device) if row.job else ""
    return rows


def no_engine(job: Job, device: str = "cuda") -> str:
    """Why a job cannot be done at all; empty if it can. GPUs run graphs made of the float engines with whole planes."""
    kind = ("float", "planes") if device == "cuda" else ("int8", "phases")
    engines = [engine for engine in installed_engines() if (engine.precision, engine.output) == kind and not engine.rgb]
    scales = sorted({each.scale for each in engines if each.tier == job.tier})
    if not scales:
        return f"there is no engine of tier {job.tier}"
    if job.scale not in scales:
        return f"{job.tier} has no engine for x{job.scale}, it has {', '.join(f'x{s}' for s in scales)}"
    return ""
