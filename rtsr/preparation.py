"""Everything about a job that can be decided before its first frame, and what it then is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtsr.backends import Engine, EngineChoice
from rtsr.backends.switching import maker, open_for_job
from rtsr.backends.tiling import TilingEngine
from rtsr.devices import check_backend
from rtsr.disk import copied_bytes, estimate, require_room
from rtsr.encode_on_gpu import leaves_on_gpu
from rtsr.errors import ConfigError
from rtsr.frames import VideoSpec
from rtsr.memory import available_bytes, memory_needed, parts_to_fit
from rtsr.options import Options
from rtsr.pixels import PixelFormat
from rtsr.segment_worker import SegmentJob
from rtsr.sinks.codecs import container_format
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.plans import StreamPlan, plan_streams, require_all_kept
from rtsr.sinks.trial import lost_tags
from rtsr.sources.cuts import segment_slot, trim_origin
from rtsr.sources.file import FileSource
from rtsr.sources.media import Media, picture_numbers


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
            if why_not := leaves_on_gpu(engine, encoder, spec, size):
                notices.append(f"{encoder.name} gets its pictures through memory, not on the GPU: {why_not}")
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
