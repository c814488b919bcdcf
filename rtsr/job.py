"""`rtsr upscale`: one file in, the same film larger out, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtsr import pipeline
from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.errors import ConfigError, IncompleteError
from rtsr.frames import VideoSpec
from rtsr.sinks.copy import plan_streams, require_all_kept
from rtsr.sinks.encoding import Encoding, container_format
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource
from rtsr.stats import PipelineStats


@dataclass(frozen=True, slots=True)
class Report:
    """What a job did. stage_ms: wall milliseconds a frame that each stage was busy."""

    input: str
    output: str
    engine: str
    backend: str
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    frames_in: int
    frames_out: int
    packets_copied: int
    wall_s: float
    fps: float
    realtime_factor: float | None
    stage_ms: dict[str, float]
    slowest_stage: str
    notices: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a running job. expected: frames in all, None when the input does not say. seconds: film time done."""

    stats: PipelineStats
    spec: VideoSpec
    expected: int | None
    seconds: float
    duration: float | None


def upscale(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    scale: int = 4,
    model: str = "balanced",
    backend: str = "auto",
    degradation: str = "stream",
    encoding: Encoding | None = None,
    start: Fraction | float | None = None,
    end: Fraction | float | None = None,
    overwrite: bool = False,
    drop_unsupported: bool = False,
    progress: Callable[[Progress], None] = lambda moment: None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Report:
    """Upscale a video file; audio, subtitles, chapters, tags and timestamps go through unchanged.

    start, end: seconds, a trim that cuts picture and sound alike. progress is called after each frame; notice gets
    what a user should know before and during the work, one sentence each.

    Raises ConfigError for what cannot work (before anything is written), SourceError, EngineError or SinkError when a
    part fails (nothing is left under the output's name), IncompleteError when frames of the input could not be
    decoded: all others are in `<output>.part` then.
    """
    source_path, output_path = Path(input), Path(output)
    choice = EngineChoice(scale, model, degradation, backend)
    encoding = encoding or Encoding()
    encoding.resolve(output_path)
    begin, finish = _trim(start, end)
    source = FileSource(source_path, begin, finish)
    try:
        _check_output(source_path, output_path, overwrite)
        plans = plan_streams(source_path, container_format(output_path))
        notices = require_all_kept(source_path, plans, drop_unsupported)
        engine = open_engine(choice)
        try:
            _check_depth(source.spec, engine)
            for sentence in notices:
                notice(sentence)
            if choice.backend == "auto":
                notice(f"backend {engine.backend}, engine {engine.name}: the fastest that opens on this machine")
            sink = FileSink(
                output_path, source.spec, scale, encoding, copy_from=source_path, plans=plans, start=begin, end=finish
            )
            try:
                expected, duration = _expected(source.spec, begin, finish)
                stats = pipeline.run(
                    source,
                    engine,
                    sink,
                    progress=lambda stats: progress(
                        Progress(stats, source.spec, expected, stats.last_seconds - float(begin or 0), duration)
                    ),
                )
                notices += source.notices
                for sentence in source.notices:
                    notice(sentence)
                if source.damage or stats.written != stats.decoded:
                    sink.keep_part()
                    raise IncompleteError(_what_is_missing(source, stats, sink))
                sink.finish()
            finally:
                sink.close()
        finally:
            engine.close()
    finally:
        source.close()
    spec, wall = source.spec, stats.elapsed_s
    film_s = stats.last_seconds - float(begin or 0)
    return Report(
        input=str(source_path),
        output=str(output_path),
        engine=engine.name,
        backend=engine.backend,
        input_size=(spec.width, spec.height),
        output_size=(spec.width * scale, spec.height * scale),
        frames_in=stats.decoded,
        frames_out=stats.written,
        packets_copied=sink.packets_copied,
        wall_s=round(wall, 3),
        fps=round(stats.written / wall, 2),
        realtime_factor=round(film_s / wall, 3) if film_s > 0 else None,
        stage_ms={clock.name: round(clock.ms_per_item, 3) for clock in stats.stages},
        slowest_stage=stats.slowest.name,
        notices=notices,
    )


def _trim(start: Fraction | float | None, end: Fraction | float | None) -> tuple[Fraction | None, Fraction | None]:
    begin = Fraction(start).limit_denominator(1_000_000) if start else None
    finish = Fraction(end).limit_denominator(1_000_000) if end is not None else None
    if begin is not None and begin < 0:
        raise ConfigError(f"--start {float(begin)} is negative")
    if finish is not None and finish <= (begin or 0):
        raise ConfigError(f"--end {float(finish)} must be later than --start {float(begin or 0)}")
    return begin, finish


def _check_output(source: Path, output: Path, overwrite: bool) -> None:
    if output.exists():
        if output.samefile(source):
            raise ConfigError(f"{output} is the input itself; choose another output")
        if output.is_dir():
            raise ConfigError(f"output {output} is a folder; name a file in it")
        if not overwrite:
            raise ConfigError(f"{output} exists already; pass --overwrite to replace it")
    if not output.parent.is_dir():
        raise ConfigError(f"the output's folder {output.parent} does not exist")
    if not os.access(output.parent, os.W_OK):
        raise ConfigError(f"the output's folder {output.parent} is not writable")


def _check_depth(spec: VideoSpec, engine: Engine) -> None:
    if spec.bits > 8 and engine.backend != "reference":
        raise ConfigError(
            f"the input has {spec.bits} bits a sample, and engine {engine.name} takes 8; nothing was done, because "
            "rounding it to 8 would lose what the file has"
        )


def _expected(spec: VideoSpec, begin: Fraction | None, finish: Fraction | None) -> tuple[int | None, float | None]:
    """Frames and seconds that the job will have done at its end, as far as the input says."""
    if spec.duration is None:
        return spec.frames, None
    whole = float(spec.duration)
    last = whole if finish is None else min(whole, float(finish))
    part = max(last - float(begin or 0), 0.0)
    if spec.frames is None:
        return (round(part * spec.rate) if spec.rate else None), part
    return round(spec.frames * part / whole) if whole else spec.frames, part


def _what_is_missing(source: FileSource, stats: PipelineStats, sink: FileSink) -> str:
    what = list(source.damage)
    if stats.written != stats.decoded:
        what.append(f"{stats.decoded} frames were decoded and {stats.written} written")
    return (
        f"{source.path} is damaged: {'; '.join(what)}. "
        f"The {stats.written} frames that could be upscaled are in {sink.part}; rename it if they are enough"
    )
