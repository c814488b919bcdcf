"""`rtsr upscale`: one file in, the same film larger out, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtsr import pipeline
from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.errors import ConfigError, IncompleteError
from rtsr.frames import VideoSpec
from rtsr.journal import Journal, fingerprint
from rtsr.sinks.copy import StreamPlan, plan_streams, require_all_kept
from rtsr.sinks.encoding import Encoder, Encoding, container_format
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource
from rtsr.stats import PipelineStats
from rtsr.verify import verify


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
    """A moment of a running job. before: frames that an earlier run had done. expected: frames in all, None when the
    input does not say. film_s: seconds of film done in this run."""

    stats: PipelineStats
    before: int
    expected: int | None
    film_s: float


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
    restart: bool = False,
    progress: Callable[[Progress], None] = lambda moment: None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Report:
    """Upscale a video file; audio, subtitles, chapters, tags and timestamps go through unchanged.

    start, end: seconds, a trim that cuts picture and sound alike. progress is called after each frame; notice gets
    what a user should know before and during the work, one sentence each. An interrupted job is continued by the same
    call; restart begins anew.

    Raises ConfigError for what cannot work (before anything is written), SourceError, EngineError or SinkError when a
    part fails (nothing is left under the output's name), IncompleteError when frames of the input could not be
    decoded or the finished file does not pass `verify`: what there is lies in `<output>.part` then.
    """
    source_path, output_path = Path(input), Path(output)
    EngineChoice(scale, model, degradation, backend)  # wrong names stop here, before the input is read
    encoding = encoding or Encoding()
    encoder = encoding.resolve(output_path)
    begin, finish = _trim(start, end)
    with closing(FileSource(source_path, begin, finish)) as source:
        _check_output(source_path, output_path, overwrite)
        plans = plan_streams(source_path, container_format(output_path))
        notices = require_all_kept(source_path, plans, drop_unsupported)
        with closing(open_engine(EngineChoice(scale, model, degradation, backend, source.spec.bits))) as engine:
            if backend == "auto":
                notice(f"backend {engine.backend}, engine {engine.name}: the fastest that opens on this machine")
            for sentence in notices:
                notice(sentence)
            identity = _identity(source_path, engine, scale, encoder, begin, finish)
            with Journal(output_path, identity, restart) as journal:
                work = _Work(source, engine, encoding, journal, output_path, plans, begin, finish)
                report = work.run(progress, notice)
    report.notices[:0] = notices
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    """An opened job: everything it needs, checked."""

    source: FileSource
    engine: Engine
    encoding: Encoding
    journal: Journal
    output: Path
    plans: list[StreamPlan]
    start: Fraction | None
    end: Fraction | None

    def run(self, progress: Callable[[Progress], None], notice: Callable[[str], None]) -> Report:
        """Upscale what the journal does not have yet, join, verify, rename."""
        source, journal = self.source, self.journal
        before, begun_s = journal.frames, float(self.start or 0)
        if journal.segments:
            last = journal.segments[-1]
            source.resume(last.last_pts, last.clean)
            begun_s = float(self._done_until())
            notice(f"going on after {before} frames that an earlier run has finished")
        expected = _expected(source.spec, self.start, self.end)
        sink = FileSink(
            self.output,
            source.spec,
            self.engine.scale,
            self.encoding,
            copy_from=source.path,
            plans=self.plans,
            start=self.start,
            end=self.end,
            journal=journal,
            is_clean=lambda: source.is_clean,
        )
        with closing(sink):
            stats = pipeline.run(
                source,
                self.engine,
                sink,
                progress=lambda stats: progress(Progress(stats, before, expected, stats.last_seconds - begun_s)),
            )
            for sentence in source.notices:
                notice(sentence)
            part = sink.join()
            film_s = float(self._done_until() - journal.segments[0].first_pts * source.spec.time_base)
            frames = sink.frames
            self._check(sink, part, before + stats.decoded - frames)
            sink.publish()
        return self._report(stats, frames, film_s, sink.packets_copied)

    def _check(self, sink: FileSink, part: Path, missing: int) -> None:
        """Raise IncompleteError, and keep the part, for a result that lacks anything."""
        if what := self.source.damage:
            fault = f"{self.source.path} is damaged"
        elif missing:
            fault, what = f"{part} is not whole", [f"{missing} frames were decoded and not written"]
        elif what := verify(self.source.path, part, self.plans, self.start, self.end).findings:
            fault = f"{part} does not match {self.source.path}"
        else:
            return
        sink.leave_part()
        raise IncompleteError(
            f"{fault}: {'; '.join(what)}. All that could be done is in {part}; rename it if it is enough"
        )

    def _done_until(self) -> Fraction:
        """The moment of the film, in seconds, up to which segments are finished."""
        last = self.journal.segments[-1]
        return (last.last_pts + last.last_duration) * self.source.spec.time_base

    def _report(self, stats: PipelineStats, frames: int, film_s: float, copied: int) -> Report:
        spec, scale, wall = self.source.spec, self.engine.scale, stats.elapsed_s
        share = stats.written / frames if frames else 0.0
        return Report(
            input=str(self.source.path),
            output=str(self.output),
            engine=self.engine.name,
            backend=self.engine.backend,
            input_size=(spec.width, spec.height),
            output_size=(spec.width * scale, spec.height * scale),
            frames_in=frames - stats.written + stats.decoded,
            frames_out=frames,
            packets_copied=copied,
            wall_s=round(wall, 3),
            fps=round(stats.written / wall, 2),
            realtime_factor=round(film_s * share / wall, 3) if film_s > 0 else None,
            stage_ms={clock.name: round(clock.ms_per_item, 3) for clock in stats.stages},
            slowest_stage=stats.slowest.name,
            notices=self.source.notices,
        )


def _identity(
    source: Path, engine: Engine, scale: int, encoder: Encoder, start: Fraction | None, end: Fraction | None
) -> dict[str, Any]:
    """What must be the same for an interrupted job to go on."""
    return {
        "version": 1,
        "input": fingerprint(source),
        "engine": [engine.name, engine.sha256],
        "scale": scale,
        "encoder": [encoder.name, encoder.options],
        "trim": [str(start), str(end)],
    }


def _trim(start: Fraction | float | None, end: Fraction | float | None) -> tuple[Fraction | None, Fraction | None]:
    begin = Fraction(start).limit_denominator(1_000_000) if start else None
    finish = Fraction(end).limit_denominator(1_000_000) if end is not None else None
    if begin is not None and begin < 0:
        raise ConfigError(f"--start {float(begin)} is negative")
    if finish is not None and finish <= (begin or 0):
        raise ConfigError(f"--end {float(finish)} must be later than --start {float(begin or 0)}")
    return begin, finish


def _check_output(source: Path, output: Path, overwrite: bool) -> None:
    for name in (output, output.with_name(output.name + ".part")):
        if name.exists() and name.samefile(source):
            raise ConfigError(f"{name} is the input itself; choose another output")
    if output.exists():
        if output.is_dir():
            raise ConfigError(f"output {output} is a folder; name a file in it")
        if not overwrite:
            raise ConfigError(f"{output} exists already; pass --overwrite to replace it")
    if not output.parent.is_dir():
        raise ConfigError(f"the output's folder {output.parent} does not exist")
    if not os.access(output.parent, os.W_OK):
        raise ConfigError(f"the output's folder {output.parent} is not writable")


def _expected(spec: VideoSpec, begin: Fraction | None, finish: Fraction | None) -> int | None:
    """Frames that the job will have done at its end, as far as the input says."""
    if spec.duration is None:
        return spec.frames
    whole = float(spec.duration)
    last = whole if finish is None else min(whole, float(finish))
    part = max(last - float(begin or 0), 0.0)
    if spec.frames is None:
        return round(part * spec.rate) if spec.rate else None
    return round(spec.frames * part / whole) if whole else spec.frames
