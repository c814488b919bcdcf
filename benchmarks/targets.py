"""What the rows of benchmarks/gpu.py have to reach on an H200: each met, missed, or not measured and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.rows import GPU_BACKENDS, Row

_AS_FAST = 0.97  # of the encoder alone: two measurements of one thing differ by as much
Figure = Callable[[dict[str, Any]], float | bool | None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row against one target. figure: None where the row has none, and missing says why."""

    target: str
    row: str
    figure: float | bool | None
    met: bool | None
    missing: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def verdicts(rows: list[Row]) -> list[Verdict]:
    """All targets, of every row that one is set for. add_shares() must have been there."""
    return [verdict for target in _TARGETS for verdict in target(rows)]


def _engine(rows: list[Row]) -> Iterator[Verdict]:
    what = "quality 360p x4: 40 % of the matrix rate, or the byte roofline"
    for row in rows:
        if row.what == "engine" and row.job and (row.job.tier, row.job.height, row.batch) == ("quality", 360, 1):
            yield _least(what, row, _reached, 1)


def _reached(figures: dict[str, Any]) -> float | None:
    """Of the nearer of both bounds; None without the ceilings."""
    shares = [figures[name] / part for name, part in (("flop_share", 0.4), ("byte_share", 1.0)) if name in figures]
    return max(shares, default=None)


def _torch(rows: list[Row]) -> Iterator[Verdict]:
    for part, least in (("torch eager", 2.5), ("torch compiled", 1.3)):
        for row in rows:
            if row.part == part:
                yield _least(f"{least} times as fast as {part}", row, _against_torch, least)


def _against_torch(figures: dict[str, Any]) -> float | None:
    return max((figures[name] for name in (f"times_{each}" for each in GPU_BACKENDS) if name in figures), default=None)


def _pipeline(rows: list[Row]) -> Iterator[Verdict]:
    alone = {row.job: row.figures.get("fps") for row in rows if row.part == "encoder alone" and "x264" in row.what}
    for row in rows:
        if not row.part.startswith("pipeline") or row.job is None:
            continue
        if row.what == "null":
            yield _least("pipeline: 90 % of the engine alone", row, lambda f: f.get("share_of_engine_alone"), 0.9)
            yield _least("pipeline: GPU busy 90 %", row, lambda f: f.get("gpu_busy_share"), 0.9)
        if (row.job.tier, row.job.height) != ("balanced", 1080):
            continue
        if row.what == "null":
            yield _least("balanced 1080p x2: 300 frames/s", row, lambda f: f.get("fps"), 300)
        elif row.what == "x264 ultrafast":
            bound = alone.get(row.job)
            share: Figure = lambda f, bound=bound: f["fps"] / bound if bound else None  # noqa: E731
            yield _least("balanced 1080p x2: as fast as x264 alone", row, share, _AS_FAST)


def _correctness(rows: list[Row]) -> Iterator[Verdict]:
    for row in rows:
        if row.what == "FP16 against FP32":
            change: Figure = lambda f: 0.01 - abs(f["psnr_y_change_db"])  # noqa: E731
            yield _least("FP16 changes PSNR-Y by 0.01 dB at most (what is left)", row, change, 0)
        elif row.what == "same frames":
            yield _least("the same frames in batches of 1, 2, 4, 8", row, lambda f: f.get("same_for_batches"), 1)
            yield _least("the same frames without CUDA graphs", row, lambda f: f.get("same_without_graphs"), 1)


_TARGETS: tuple[Callable[[list[Row]], Iterator[Verdict]], ...] = (_engine, _torch, _pipeline, _correctness)


def _least(target: str, row: Row, figure: Figure, least: float) -> Verdict:
    name = f"{row.part}, {row.what}, {row.job}" + (
        "" if row.graphs is None else f", graphs {'on' * row.graphs or 'off'}"
    )
    if not row.figures:
        return Verdict(target, name, None, None, row.missing or "not measured")
    found = figure(row.figures)
    if found is None:
        return Verdict(target, name, None, None, "what it is compared with was not measured")
    return Verdict(target, name, found, found >= least)
