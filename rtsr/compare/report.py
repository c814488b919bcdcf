"""What a comparison found, as a table for people and as one JSON document for programs (docs/COMPARE.md)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from rtsr.compare.comparison import Comparison
from rtsr.compare.measure import DIGITS, TITLES, UNITS, Figures
from rtsr.display import clock_time


def as_dict(found: Comparison) -> dict[str, Any]:
    """Plain types for JSON; equal pictures, whose PSNR is infinite, have null there."""
    canvas, figures = found.canvas, found.figures
    measured = None
    if figures is not None:
        measured = {
            "against": figures.truth,
            "every": figures.every,
            "border": canvas.border,
            "luma": "stored" if canvas.stored_luma else "of RGB",
            "vmaf_binary": figures.vmaf_binary or None,
            "summary": figures.summary(),
            "seconds": figures.seconds,
            "series": {
                role: {name: [_finite(value) for value in values] for name, values in series.items()}
                for role, series in figures.series.items()
            },
        }
    return {
        "films": found.films,
        "size": list(canvas.size),
        "moments": found.moments,
        "figures": measured,
        "notices": found.notices,
        "output": found.output,
    }


def print_report(found: Comparison, console: Console) -> None:
    """Films, then figures. Notices were told on the way."""
    are_films = any(film["fps"] or film["duration_s"] for film in found.films)
    films = Table(Column(), Column("file", overflow="fold"), box=None, padding=(0, 1), pad_edge=False)
    for heading in ("size", "fps", "length") if are_films else ("size",):
        films.add_column(heading, justify="right", no_wrap=True)
    films.add_column("pixels")
    for film in found.films:
        seconds = film["duration_s"]
        length = "" if seconds is None else clock_time(seconds) if seconds >= 60 else f"{seconds:.1f} s"
        moving = (f"{film['fps']:g}" if film["fps"] else "", length) if are_films else ()
        films.add_row(film["role"], film["file"], f"{film['width']}x{film['height']}", *moving, film["pixels"])
    console.print(films, markup=False, highlight=False)
    if found.figures is not None:
        console.print()
        console.print(_figures_table(found.figures), markup=False, highlight=False)
        console.print(_how(found), markup=False, highlight=False)
    if found.output:
        console.print(
            f"{found.output} shows {found.moments} moments" if found.figures is None else f"see {found.output}"
        )


def _figures_table(figures: Figures) -> Table:
    table = Table(Column(f"against {figures.truth}"), box=None, padding=(0, 2), pad_edge=False)
    summary, is_film = figures.summary(), len(figures.seconds) > 1
    for role in figures.series:
        for heading in (f"{role}: mean", "lowest") if is_film else (role,):
            table.add_column(heading, justify="right", no_wrap=True)
    for name in figures.metrics:
        cells = []
        for role in figures.series:
            found = summary[role][name]
            cells.append(_said(name, found["mean"]))
            cells += [_lowest(name, found)] if is_film else []
        table.add_row(f"{TITLES[name]} {UNITS[name]}".strip(), *cells)
    return table


def _said(name: str, value: float | None) -> str:
    return "equal" if value is None else f"{value:.{DIGITS[name]}f}"


def _lowest(name: str, found: dict[str, Any]) -> str:
    if found["lowest"] is None:
        return ""
    equal = f", {found['equal_frames']} equal" if found["equal_frames"] else ""
    return f"{_said(name, found['lowest'])} at {found['lowest_at_s']:.2f} s{equal}"


def _how(found: Comparison) -> str:
    """How it was measured, in one line."""
    figures, canvas = found.figures, found.canvas
    assert figures is not None, "told only of what was measured"
    width, height = canvas.size
    luma = "" if canvas.stored_luma else ", luma of RGB"
    binary = f", VMAF by {Path(figures.vmaf_binary).name}" if figures.vmaf_binary else ""
    frames = f"{len(figures.seconds)} of {found.moments} common frames " if found.moments > 1 else ""
    return f"{frames}measured at {width}x{height} less {canvas.border} pixels at each side{luma}{binary}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
