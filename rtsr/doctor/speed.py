"""Which tier keeps up here: the benchmark's measures in a short form, for a few sizes and both ends of the ladder."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtsr.backends import EngineChoice, open_engine
from rtsr.bench import FASTEST, limit_fps
from rtsr.bench_machine import machine_cpu_s
from rtsr.bench_stages import Cost, MainJob, cost_of, make_clip, to_and_fro
from rtsr.doctor.check import Check
from rtsr.sources.file import FileSource
from rtsr.threads import usable_cores

SIZES = ((640, 360), (1280, 720))
SCALES = (2, 4)
MODELS = ("fast", "balanced", "nano")  # in the order in which they are measured, while there is time
RATES = (24, 30, 60)
_LADDER = ("nano", "fast", "balanced")
_BUDGET_S = 8.0
_ROUND_S = 0.3  # of inference, about, for each row
_OVERLAP = 0.9  # of what the costs allow, the pipeline makes at least this (docs/PERFORMANCE.md)
_DISTURBED = 0.3  # cores that other programs keep busy, from which on the figures are too low
_CLIP_FRAMES = 8
_ENCODED = 12  # frames


@dataclass(frozen=True, slots=True)
class Row:
    """One tier on one size. infer_ms, decode_ms, encode_ms: wall clock for a frame, each stage alone.

    fps: what the whole should make of it, file to file, with the encoder at its quickest. keeps: the highest of RATES
    that it holds, 0 if none.
    """

    model: str
    scale: int
    size: str
    infer_ms: float
    decode_ms: float
    encode_ms: float
    fps: float
    keeps: int


def look() -> list[Check]:
    """One check: the rows, and sentences about what to choose."""
    begun, cpu_before, own_before = time.perf_counter(), machine_cpu_s(), time.process_time()
    rows, left_out = measure(begun + _BUDGET_S)
    wall = time.perf_counter() - begun
    busy = None
    if cpu_before is not None and (cpu_after := machine_cpu_s()) is not None:
        busy = max(cpu_after - cpu_before - (time.process_time() - own_before), 0.0) / wall
    advice = advise(rows)
    if busy is not None and busy > _DISTURBED:
        advice.append(f"other programs kept {busy:.1f} cores busy meanwhile: stop them and run `rtsr doctor` again")
    if left_out:
        whole = len(rows) + len(left_out)
        advice.append(f"{len(left_out)} of {whole} not measured for want of time; `rtsr benchmark` takes what it needs")
    facts: dict[str, Any] = {"rows": [asdict(row) for row in rows], "advice": advice, "other_cores": busy}
    return [Check("speed", "tiers", "ok", f"{len(rows)} measured", facts=facts)]


def measure(deadline: float) -> tuple[list[Row], list[str]]:
    """Rows, and what was left out because perf_counter() passed the deadline."""
    rows, left_out = [], []
    encode: dict[tuple[int, int], Cost] = {}
    with tempfile.TemporaryDirectory(prefix="rtsr-doctor-") as folder:
        for width, height in SIZES:
            clip = Path(folder, f"{width}x{height}.mp4")
            decode: Cost | None = None
            for model in MODELS:
                for scale in SCALES:
                    if time.perf_counter() > deadline:
                        left_out.append(f"{model} x{scale} at {width}x{height}")
                        continue
                    if not clip.exists():
                        make_clip(clip, width, height, _CLIP_FRAMES)
                    with closing(open_engine(EngineChoice(scale, model))) as engine:
                        job = MainJob(clip, _CLIP_FRAMES, engine, FASTEST, Path(folder, "out.mp4"))
                        decode = decode or cost_of(job.run_decode)
                        infer = _infer_cost(job)
                        large = (width * scale, height * scale)
                        if large not in encode:
                            encode[large] = _encode_cost(job)
                    rows.append(_row(model, scale, f"{width}x{height}", infer, decode, encode[large]))
    return rows, left_out


def _infer_cost(job: MainJob) -> Cost:
    held = job.hold(_CLIP_FRAMES)
    job.run_infer(to_and_fro(held, 2))  # compiles
    once = cost_of(lambda: job.run_infer(to_and_fro(held, 2)))
    frames = min(max(round(_ROUND_S * 1e3 / once.wall_ms), 4), 24)
    return cost_of(lambda: job.run_infer(to_and_fro(held, frames)))


def _encode_cost(job: MainJob) -> Cost:
    with closing(FileSource(job.clip)) as source:
        spec = source.spec
    upscaled = list(job.engine.stream(job.hold(2)))
    return cost_of(lambda: job.run_encode(to_and_fro(upscaled, _ENCODED), spec))


def _row(model: str, scale: int, size: str, infer: Cost, decode: Cost, encode: Cost) -> Row:
    fps = _OVERLAP * limit_fps({"decode": decode, "infer": infer, "encode": encode}, usable_cores())
    keeps = max((rate for rate in RATES if rate <= fps), default=0)
    infer_ms, decode_ms, encode_ms = (round(cost.wall_ms, 2) for cost in (infer, decode, encode))
    return Row(model, scale, size, infer_ms, decode_ms, encode_ms, round(fps, 1), keeps)


def advise(rows: list[Row]) -> list[str]:
    """For each size and scale the best tier that keeps a film's rate; a sentence each, and what to pass for live."""
    sentences = []
    for size, scale in dict.fromkeys((row.size, row.scale) for row in rows):
        here = sorted((r for r in rows if (r.size, r.scale) == (size, scale)), key=lambda r: _LADDER.index(r.model))
        keeping = [row for row in here if row.keeps]
        if keeping:
            best = keeping[-1]
            sentences.append(f"{best.model} keeps {best.keeps} fps at {size} x{scale}")
        else:
            quickest = max(here, key=lambda row: row.fps)
            what = f"nothing keeps {RATES[0]} fps at {size} x{scale}"
            sentences.append(f"{what}; {quickest.model} makes {quickest.fps:.1f}")
    return sentences
