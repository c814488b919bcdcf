"""What a person sees while a job runs: a live bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

from rtsr.job import Progress as Moment
from rtsr.job import Report
from rtsr.manifest import Manifest
from rtsr.plan import Plan

LINE_EVERY_S = 5.0
_UNITS = (("_s", " s"), ("_db", " dB"))  # that end the name of a fact


class Display:
    """Quiet: says nothing. The base of the two that do."""

    def progress(self, moment: Moment) -> None:
        pass

    def notice(self, sentence: str) -> None:
        pass

    def building(self, share: float) -> None:
        """Of TensorRT's plan, which the film waits for."""

    def finished(self, report: Report) -> None:
        pass


class Lines(Display):
    """For logs: one line every few seconds."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def progress(self, moment: Moment) -> None:
        now = time.perf_counter()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            print(describe(moment), file=sys.stderr, flush=True)

    def notice(self, sentence: str) -> None:
        print(f"note: {sentence}", file=sys.stderr, flush=True)

    def finished(self, report: Report) -> None:
        print(summary(report), file=sys.stderr, flush=True)


class Bar(Display):
    """For terminals: one line that stays in place."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self._console, self._bar = console, bar
        self._task = bar.add_task("upscale", total=None, detail="starting")

    def progress(self, moment: Moment) -> None:
        done = moment.before + moment.stats.written
        self._bar.update(self._task, total=moment.expected, completed=done, detail=describe(moment, percent=False))

    def building(self, share: float) -> None:
        self._bar.update(self._task, total=1, completed=share, detail="building TensorRT's plan")

    def notice(self, sentence: str) -> None:
        self._console.print(f"[dim]{sentence}[/dim]", highlight=False)

    def finished(self, report: Report) -> None:
        self._bar.update(self._task, total=report.frames_out, completed=report.frames_out, detail="done")
        self._bar.stop()
        self._console.print(summary(report), highlight=False)


@contextmanager
def show_progress(quiet: bool) -> Iterator[Display]:
    """The display that fits: none, a bar, or lines."""
    console = Console(stderr=True)
    if quiet:
        yield Display()
    elif console.is_terminal:
        columns = (BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.fields[detail]}"))
        with Progress(*columns, console=console, refresh_per_second=4) as bar:
            yield Bar(console, bar)
    else:
        yield Lines()


@contextmanager
def show_share(what: str) -> Iterator[Callable[[float], None]]:
    """A bar for one piece of work, which is told the share that is done; a line where there is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        print(what, file=sys.stderr, flush=True)
        yield lambda share: None
        return
    with Progress(BarColumn(bar_width=24), TaskProgressColumn(), TextColumn(what), console=console) as bar:
        task = bar.add_task(what, total=1)
        yield lambda share: bar.update(task, completed=share)


def describe(moment: Moment, percent: bool = True) -> str:
    """`41 %  38.2 fps  1.59x real time  ETA 0:12  slowest: encode`, as far as the input tells."""
    stats = moment.stats
    elapsed = max(stats.elapsed_s, 1e-9)
    parts = []
    left = max(moment.expected - moment.before - stats.written, 0) if moment.expected else None
    share = 1 - left / moment.expected if moment.expected and left is not None else None
    if percent:
        parts.append(f"{share:4.0%}" if share is not None else f"{stats.written} frames")
    parts.append(f"{stats.written / elapsed:.1f} fps")
    if moment.film_s > 0:
        parts.append(f"{moment.film_s / elapsed:.2f}x real time")
    if left is not None and stats.written:
        parts.append(f"ETA {clock_time(elapsed * left / stats.written)}")
    if moment.by_device:
        parts.append("frames: " + ", ".join(f"{name} {frames}" for name, frames in moment.by_device))
    parts.append(f"slowest: {stats.slowest.name}")
    return "  ".join(parts)


def summary(report: Report) -> str:
    width, height = report.output_size
    speed = f", {report.realtime_factor:.2f}x real time" if report.realtime_factor else ""
    return (
        f"{report.output}: {report.frames_out} frames of {width}x{height} in {clock_time(report.wall_s)} "
        f"({report.fps:.1f} fps{speed}; slowest: {report.slowest_stage})"
    )


def clock_time(seconds: float) -> str:
    """`1:02:03`, `2:03` or `0:07`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def engines_table(engines: list[Manifest]) -> None:
    """Print the installed engines with their measured figures (PSNR-Y in dB), on stdout."""
    table = Table(box=None, pad_edge=False)  # a line of it has to fit into 80 columns
    table.add_column("engine", no_wrap=True)  # tier, scale, degradation, precision: the name has them all
    table.add_column("detail", no_wrap=True)
    for column in ("MACs/px", "Set5", "Set14", "BSD100"):
        table.add_column(column, justify="right", no_wrap=True)
    for engine in engines:
        psnr = engine.quality.get("psnr_y") or {}
        figures = (f"{psnr[name]:.2f}" if name in psnr else "-" for name in ("Set5", "Set14", "BSD100"))
        table.add_row(
            engine.name,
            _dial([each for each in engines if each.kind == engine.kind]),
            f"{engine.macs_per_lr_pixel / 1000:.1f} K",
            *figures,
        )
    Console().print(table)


def _dial(siblings: list[Manifest]) -> str:
    """What --detail can be: `0 - 1` for float engines with both ends, the steps of int8 ones; `-` for a single end."""
    found = sorted(engine.detail for engine in siblings)
    if len(found) == 1:
        return "-"
    if len(found) > 3:
        return f"{len(found)} steps"
    return (", " if siblings[0].precision == "int8" else " - ").join(f"{detail:g}" for detail in found)


def print_plan(plan: Plan) -> None:
    """What a job would do, on stdout."""
    size = "{}x{} -> {}x{}".format(*plan.input_size, *plan.output_size)
    options = " ".join(f"{key}={value}" for key, value in plan.encoder_options.items())
    length = f"{plan.frames} frames, {clock_time(plan.duration_s or 0)}" if plan.frames else "not told by the input"
    realtime = f", {plan.realtime_factor:.2f}x real time" if plan.realtime_factor else ""
    rows = [
        ("input", plan.input),
        ("output", plan.output),
        ("picture", f"{size}, {plan.pixels}"),
        ("engine", f"{plan.engine} under {plan.backend}"),
        ("encoder", f"{plan.encoder} {options}"),
        *(("stream" if i == 0 else "", stream) for i, stream in enumerate(plan.streams)),
        ("length", length),
        ("speed", f"{plan.fps:.1f} fps{realtime} ({plan.sampled_frames} frames tried)"),
        ("time", clock_time(plan.time_s) if plan.time_s is not None else "unknown"),
        ("size", f"{(plan.video_mb or 0) + plan.copied_mb:.1f} MB" if plan.video_mb is not None else "unknown"),
        ("disk", f"{plan.disk_mb} MB while it works, {plan.disk_free_mb:.0f} MB free" if plan.disk_mb else "unknown"),
        ("memory", f"{plan.memory_mb:.0f} MB"),
        *(("note" if i == 0 else "", note) for i, note in enumerate(plan.notices)),
    ]
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    Console().print(table, markup=False, highlight=False)


def facts_line(facts: dict[str, Any]) -> str:
    """`size 320x180 -> 1280x720, frames 96, copied streams 1`: what rtsr verify compared, before and after."""

    def words(value: Any) -> str:
        if isinstance(value, list) and value and all(isinstance(part, int) for part in value):
            return "x".join(map(str, value))
        return str(value)

    parts = []
    for name, value in facts.items():
        pair = value if isinstance(value, list) and len(value) == 2 else [value]
        told = list(dict.fromkeys(words(part) for part in pair))
        name, unit = next(((name.removesuffix(end), unit) for end, unit in _UNITS if name.endswith(end)), (name, ""))
        parts.append(f"{name.replace('_', ' ')} {' -> '.join(told)}{unit}")
    return ", ".join(parts)
