"""`rtsr upscale`: one film in, the same film larger out, or a sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtsr import pipeline
from rtsr.backends import Engine, EngineChoice
from rtsr.backends.switching import maker, open_for_job
from rtsr.backends.tiling import TilingEngine
from rtsr.device_workers import Hooks, Work, encode_on_devices
from rtsr.devices import check_backend
from rtsr.disk import DiskWatch, copied_bytes, estimate, require_room
from rtsr.errors import ConfigError, IncompleteError
from rtsr.frames import VideoSpec
from rtsr.journal import Journal
from rtsr.memory import available_bytes, memory_needed, parts_to_fit
from rtsr.options import Options
from rtsr.pixels import PixelFormat
from rtsr.segment_board import SegmentBoard
from rtsr.segment_worker import SegmentJob
from rtsr.sinks.codecs import container_format
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.file import FileSink
from rtsr.sinks.plans import StreamPlan, plan_streams, require_all_kept
from rtsr.sinks.trial import lost_tags
from rtsr.sources.cuts import find_cuts, segment_slot, trim_origin
from rtsr.sources.file import FileSource
from rtsr.sources.findings import Findings
from rtsr.sources.media import Media, picture_numbers
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
class Job:
    """An opened job: everything it needs, checked; nothing is written yet. notices: what a user should know of it.

    keeps_tags: whether the output holds all chapters, tags, languages and titles. choice: what the engine was opened
    by, with the backend that it took. made_by: see Segment.engine, of a pts.
    """

    source: FileSource
    engine: Engine
    choice: EngineChoice
    encoder: Encoder
    plans: list[StreamPlan]
    output: Path
    size: tuple[int, int]
    options: Options
    notices: list[str]
    keeps_tags: bool
    made_by: Callable[[int], str]

    def identity(self) -> dict[str, Any]:
        """What must be the same for an interrupted job to go on."""
        start, end = self.options.trim
        return {
            "version": 2,
            "input": self.source.path.fingerprint(),
            "engine": [self.engine.name, self.engine.sha256],
            "size": list(self.size),
            "encoder": [self.encoder.name, self.encoder.pix_fmt, self.encoder.bitrate, self.encoder.options],
            "trim": [str(start), str(end)],
            "audio": self.options.audio,
            "deinterlace": self.options.deinterlace,
        }

    def segment_job(self, workers: int) -> SegmentJob:
        """What others need to make segments of this job. workers: how many share a machine."""
        options, (start, end) = self.options, self.options.trim
        engine = self.engine.name, self.engine.sha256
        alpha = _keeps_alpha(options)
        return SegmentJob(
            self.source.path,
            start,
            end,
            options.deinterlace,
            alpha,
            self.choice,
            engine,
            self.encoder,
            self.size,
            workers,
        )

    def require_room(self) -> list[str]:
        """A notice if the disk may become full. Raises ConfigError when the film cannot fit."""
        spec, (start, end) = self.source.spec, self.options.trim
        frames = expected_frames(spec, start, end)
        if not frames or not spec.rate:
            return []
        seconds = frames / spec.rate
        share = min(float(seconds / spec.duration), 1.0) if spec.duration else 1.0
        whole = estimate(self.encoder, self.size, frames, float(seconds), copied_bytes(self.source.path, share))
        tight = require_room(self.output, whole)
        return [tight] if tight else []


@contextmanager
def prepared(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Options,
    notice: Callable[[str], None] = lambda sentence: None,
    building: Callable[[float], None] = lambda share: None,
) -> Iterator[Job]:
    """Open what a job needs and decide everything that can be decided before the first frame.

    notice gets what the engine has to say while it works; building: see upscale(). Raises ConfigError, SourceError or
    EngineError.
    """
    media, output_path = Media(os.fspath(input), options.rate), Path(output)
    options.encoding.check(output_path)
    start, end = options.trim
    with closing(FileSource(media, start, end, options.deinterlace, _keeps_alpha(options))) as source:
        _check_output(media, output_path, options.overwrite)
        spec = source.spec
        scale, size = options.scale_and_size(spec)
        encoder = options.encoding.resolve(output_path, spec)
        plans = plan_streams(media, container_format(output_path), options.audio)
        notices = require_all_kept(media, plans, options.drop_unsupported, options.audio)
        tags = lost_tags(media, plans, container_format(output_path))
        tags = [f"{what}, which {output_path.suffix} does not hold" for what in tags]
        notices += _require_nothing_lost([*encoder.losses, *source.lost_beside, *tags], options.drop_unsupported)
        notices += encoder.notices
        if options.deinterlace == "on":
            notices.append("every frame is deinterlaced (bwdif), whether it is interlaced or not")
        elif source.is_interlaced and options.deinterlace == "auto":
            notices.append("the video is interlaced and is deinterlaced (bwdif); --deinterlace off leaves it as it is")
        choice = options.choice(scale, spec)
        origin = trim_origin(start, spec.time_base)
        shared = len(options.devices) > 1 or options.cluster is not None  # segments of one engine
        wait = options.wait_for_engine or shared
        if options.devices:
            options.devices[0].claim()
        opened = open_for_job(
            choice, spec, lambda pts: segment_slot(pts, spec.time_base, origin), wait, notice, building
        )
        room = available_bytes()
        choice = replace(choice, backend=opened.backend)
        check_backend(options.devices, opened.backend)
        parts = parts_to_fit(opened, spec, room)
        with closing(TilingEngine(opened, notice, parts)) as engine:
            if engine.gpu is not None and (why_not := source.decode_on_gpu(engine.gpu)):
                notices.append(f"the video is decoded on the CPU, not on the GPU: {why_not}")
            needed = memory_needed(spec, size, encoder, engine)
            if room is not None and needed > room:
                notices.append(f"the job may need {needed >> 20} MB of memory and {room >> 20} MB are free")
            if parts:
                how = "one at a time" if parts == 1 else f"in {parts} tiles each"
                notices.append(f"memory is short: frames are done {how}")
            if options.backend == "auto":
                what = f"backend {engine.backend}, engine {engine.name}: the fastest that opens on this machine"
                notices.insert(0, what)
            made_by = maker(opened)
            yield Job(source, engine, choice, encoder, plans, output_path, size, options, notices, not tags, made_by)


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


def _keeps_alpha(options: Options) -> bool:
    return bool((pixels := PixelFormat.of(options.encoding.pix_fmt or "")) and pixels.alpha)


def _require_nothing_lost(losses: list[str], drop_unsupported: bool) -> list[str]:
    """Raise ConfigError for what the output would lack, unless that was asked for; else a notice for each."""
    if losses and not drop_unsupported:
        raise ConfigError(
            f"the output would lose {'; '.join(losses)}. Nothing was done: choose another output or --pix-fmt, or pass "
            "--drop-unsupported to go on without"
        )
    return [f"left out: {loss}" for loss in losses]


def _check_output(media: Media, output: Path, overwrite: bool) -> None:
    source = Path(media.name)
    for name in (output, output.with_name(output.name + ".part")):
        if not media.is_url and name.exists() and source.exists() and name.samefile(source):
            raise ConfigError(f"{name} is the input itself; choose another output")
    if container_format(output) == "image2":
        if "%" not in output.name:
            raise ConfigError(f"output {output}: numbered pictures need a number in their name, as frame_%05d.png")
        if media.is_pictures and source.resolve() == output.resolve():
            raise ConfigError(f"{output} is the input itself; choose another output")
        is_ours = output.with_name(output.name + ".rtsr").exists()  # an interrupted job's
        if not overwrite and not is_ours and output.parent.is_dir() and (numbers := picture_numbers(output)):
            raise ConfigError(f"{len(numbers)} pictures {output} exist already; pass --overwrite to replace them")
    if output.exists():
        if output.is_dir():
            raise ConfigError(f"output {output} is a folder; name a file in it")
        if not overwrite:
            raise ConfigError(f"{output} exists already; pass --overwrite to replace it")
    if not output.parent.is_dir():
        raise ConfigError(f"the output's folder {output.parent} does not exist")
    if not os.access(output.parent, os.W_OK):
        raise ConfigError(f"the output's folder {output.parent} is not writable")


def expected_frames(spec: VideoSpec, begin: Fraction | None, finish: Fraction | None) -> int | None:
    """Frames that the job will have done at its end, as far as the input says."""
    if spec.duration is None:
        return spec.frames
    whole = float(spec.duration)
    last = whole if finish is None else min(whole, float(finish))
    part = max(last - float(begin or 0), 0.0)
    if spec.frames is None:
        return round(part * spec.rate) if spec.rate else None
    return round(spec.frames * part / whole) if whole else spec.frames
