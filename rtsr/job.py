"""`rtsr upscale`: one film in, the same film larger out, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtsr import pipeline
from rtsr.device_workers import Hooks, Work, encode_on_devices
from rtsr.disk import DiskWatch, copied_bytes
from rtsr.errors import IncompleteError
from rtsr.journal import Journal
from rtsr.options import Options
from rtsr.preparation import Job, expected_frames, prepared
from rtsr.segment_board import SegmentBoard
from rtsr.sinks.file import FileSink
from rtsr.sources.cuts import find_cuts
from rtsr.sources.findings import Findings
from rtsr.stats import PipelineStats
from rtsr.verify import verify


@dataclass(frozen=True, slots=True)
class Report:
    """What a job did. engine, backend: what it was to run on; made_by: what it ran on, in turn, see Segment.engine.
    stage_ms: wall milliseconds a frame that each stage was busy."""

    input: str
    output: str
    engine: str
    backend: str
    made_by: list[str]
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
    by_device: tuple[tuple[str, int], ...] = ()


def upscale(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    progress: Callable[[Progress], None] = lambda moment: None,
    notice: Callable[[str], None] = lambda sentence: None,
    building: Callable[[float], None] = lambda share: None,
    **named: Any,
) -> Report:
    """Upscale a film: a file, a URL or numbered pictures. Audio, subtitles, chapters, tags and times go through.

    options: see rtsr.options.Options; named: its fields, one by one instead. progress is called after each frame;
    notice gets what a user should know before and during the work, one sentence each. building gets the share that is
    done of a TensorRT plan for which the film waits. An interrupted job is continued by the same call.

    Raises ConfigError for what cannot work (before anything is written), SourceError, EngineError or SinkError when a
    part fails (nothing is left under the output's name), IncompleteError when frames of the input could not be
    decoded or the finished file does not pass `verify`: what there is lies in `<output>.part` then.
    """
    with prepared(input, output, options or Options(**named), notice, building) as job:
        for sentence in (*job.notices, *job.require_room()):
            notice(sentence)
        with Journal(job.output, job.identity(), job.options.restart) as journal:
            report = _Work(job, journal).run(progress, notice)
    report.notices[:0] = job.notices
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    """A job on its way."""

    job: Job
    journal: Journal

    def run(self, progress: Callable[[Progress], None], notice: Callable[[str], None]) -> Report:
        """Upscale what the journal does not have yet, join, verify, rename."""
        job, source, journal = self.job, self.job.source, self.journal
        start, end = job.options.trim
        expected = expected_frames(source.spec, start, end)
        disk = DiskWatch(journal, job.output, copied_bytes(source.path), expected)
        sink = FileSink(
            job.output,
            source.spec,
            job.engine.scale,
            job.options.encoding,
            size=job.size,
            copy_from=source.path,
            plans=job.plans,
            start=start,
            end=end,
            journal=journal,
            is_clean=lambda: source.is_clean,
            disk=disk,
            made_by=job.made_by,
        )
        with closing(sink):
            several = len(job.options.devices) > 1 or job.options.cluster is not None
            done = self._side_by_side(disk, expected, progress, notice) if several else None
            stats, before = done or self._in_one_go(sink, not several, expected, progress, notice)
            for sentence in source.notices:
                notice(sentence)
            part = sink.join()
            for sentence in sink.joined.notices:
                notice(sentence)
            film_s = float(self._done_until() - journal.segments[0].first_pts * source.spec.time_base)
            frames = sink.frames
            made_by = list(dict.fromkeys(segment.engine for segment in journal.segments))
            self._check(sink, part, before + stats.decoded - frames)
            sink.publish()
        return self._report(stats, frames, film_s, sink, made_by)

    def _in_one_go(
        self,
        sink: FileSink,
        may_seek: bool,
        expected: int | None,
        progress: Callable[[Progress], None],
        notice: Callable[[str], None],
    ) -> tuple[PipelineStats, int]:
        """All that is not done yet, from one decoder. Returns also the frames that had been done before.

        may_seek: False decodes what is done again, so that damage behind it shows as it would in one run.
        """
        source, journal = self.job.source, self.journal
        journal.keep_prefix()
        before, begun_s = journal.frames, float(self.job.options.trim[0] or 0)
        if journal.segments:
            last = journal.segments[-1]
            source.resume(last.last_pts, may_seek and last.clean)
            begun_s = float(self._done_until())
            notice(f"going on after {before} frames that are finished")
        stats = pipeline.run(
            source,
            self.job.engine,
            sink,
            progress=lambda stats: progress(Progress(stats, before, expected, stats.last_seconds - begun_s)),
        )
        return stats, before

    def _side_by_side(
        self,
        disk: DiskWatch,
        expected: int | None,
        progress: Callable[[Progress], None],
        notice: Callable[[str], None],
    ) -> tuple[PipelineStats, int] | None:
        """All that is not done yet, by several devices or machines; None where one must do the rest in one go."""
        job, source, journal = self.job, self.job.source, self.journal
        stats, before, found = PipelineStats(), journal.frames, dict[int, Findings]()
        cuts = find_cuts(source.path, *job.options.trim)
        if not cuts.parts:
            if cuts.why_not:
                notice(f"one device works alone: {cuts.why_not}")
            return None
        board = SegmentBoard(journal, cuts.parts, source.spec.time_base)
        if before:
            notice(f"going on with {journal.frames} frames that are finished")

        def tell(work: Work) -> None:
            stats.written = sum(frames for _, frames in work.frames)
            film_s = float(stats.written / source.spec.rate) if source.spec.rate else 0.0
            for clock, seconds in zip(stats.stages, work.stage_s, strict=True):
                clock.total_s, clock.items = seconds, stats.written
            progress(Progress(stats, before, expected, film_s, work.frames))

        hooks = Hooks(lambda result: found.update({result.index: result.found}), tell, notice, disk.before_segment)
        if cluster := job.options.cluster:
            from rtsr.cluster.share import encode_on_cluster  # Ray loads only when asked for

            encode_on_cluster(job.segment_job(1), source.spec, job.engine, board, journal.folder, cluster, hooks)
        else:
            devices = job.options.devices
            encode_on_devices(job.segment_job(len(devices)), board, journal.folder, devices, hooks)
        for segment in journal.segments:
            source.found.add(found.get(segment.index, Findings()))
        if board.stopped:
            notice(board.stopped)
            return None
        source.check_end(self._done_until(), cuts.packets)
        return stats, before

    def _check(self, sink: FileSink, part: Path, missing: int) -> None:
        """Raise IncompleteError, and keep the part, for a result that lacks anything."""
        source = self.job.source
        start, end = self.job.options.trim
        if what := source.damage + sink.joined.damage:
            fault = f"{source.path} is damaged"
        elif missing:
            fault, what = f"{part} is not whole", [f"{missing} frames were decoded and not written"]
        elif what := verify(
            source.path, part, self.job.plans, start, end, self.job.encoder.pixels, tags=self.job.keeps_tags
        ).findings:
            fault = f"{part} does not match {source.path}"
        else:
            return
        sink.leave_part()
        raise IncompleteError(
            f"{fault}: {'; '.join(what)}. All that could be done is in {part}; rename it if it is enough"
        )

    def _done_until(self) -> Fraction:
        """The moment of the film, in seconds, up to which segments are finished."""
        last = self.journal.segments[-1]
        return (last.last_pts + last.last_duration) * self.job.source.spec.time_base

    def _report(self, stats: PipelineStats, frames: int, film_s: float, sink: FileSink, made_by: list[str]) -> Report:
        job, spec, wall = self.job, self.job.source.spec, stats.elapsed_s
        share = stats.written / frames if frames else 0.0
        return Report(
            input=str(job.source.path),
            output=str(job.output),
            engine=job.engine.name,
            backend=job.engine.backend,
            made_by=made_by,
            input_size=(spec.width, spec.height),
            output_size=job.size,
            frames_in=frames - stats.written + stats.decoded,
            frames_out=frames,
            packets_copied=sink.joined.copied,
            wall_s=round(wall, 3),
            fps=round(stats.written / wall, 2),
            realtime_factor=round(film_s * share / wall, 3) if film_s > 0 else None,
            stage_ms={clock.name: round(clock.ms_per_item, 3) for clock in stats.stages},
            slowest_stage=stats.slowest.name,
            notices=[*job.source.notices, *sink.joined.notices],
        )
