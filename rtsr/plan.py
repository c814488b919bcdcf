"""`rtsr plan`, `rtsr upscale --dry-run`: what a job would do and take, from a few frames that are really processed."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

import av

from rtsr import pipeline
from rtsr.disk import copied_bytes, free_bytes
from rtsr.frames import Frame, FrameBatch, VideoSpec
from rtsr.memory import memory_needed
from rtsr.options import Options
from rtsr.preparation import Job, expected_frames, prepared
from rtsr.sinks.nvenc import gpu_of
from rtsr.sinks.video import EncodedVideo
from rtsr.sources.cuts import SEGMENT_S
from rtsr.sources.file import FileSource

SAMPLE_FRAMES = 48
WARM_UP = 12  # frames until every thread has its memory and the encoder's queue is full
SAMPLE_AT = 0.4  # of the film: past the titles


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job would do. streams: `index kind codec: action, reason`. fps, time_s, video_mb: estimated from
    sampled_frames; None where the input does not say how long it is. memory_mb, disk_mb: at the peak."""

    input: str
    output: str
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    pixels: str
    engine: str
    backend: str
    encoder: str
    encoder_options: dict[str, str]
    streams: list[str]
    notices: list[str]
    frames: int | None
    duration_s: float | None
    sampled_frames: int
    fps: float
    realtime_factor: float | None
    time_s: float | None
    video_mb: float | None
    copied_mb: float
    memory_mb: float
    disk_mb: float | None
    disk_free_mb: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def make_plan(input: str | os.PathLike[str], output: str | os.PathLike[str], options: Options) -> Plan:
    """Decide everything as `upscale` would, process a few frames into memory, write nothing. Raises what it raises."""
    heard: list[str] = []
    with prepared(input, output, options, heard.append) as job:
        spec, (start, end) = job.source.spec, options.trim
        frames = expected_frames(spec, start, end)
        sample = _Sample(job)
        fps = sample.run()
        rate = float(spec.rate) if spec.rate else None
        seconds = frames / rate if frames and rate else None
        video = sample.bytes_of(frames, rate) if frames else None
        share = seconds / float(spec.duration) if seconds and spec.duration else 1.0
        copied = copied_bytes(job.source.path, min(share, 1.0)) if any(p.action == "copy" for p in job.plans) else 0
        return Plan(
            input=str(job.source.path),
            output=str(job.output),
            input_size=(spec.width, spec.height),
            output_size=job.size,
            pixels=f"{spec.pixels} -> {job.encoder.pixels}",
            engine=job.engine.name,
            backend=job.engine.backend,
            encoder=job.encoder.name,
            encoder_options=job.encoder.options,
            streams=[f"{p.index} {p.kind} {p.codec}: {p.action}{f', {p.reason}' * bool(p.reason)}" for p in job.plans],
            notices=[*heard, *job.notices],
            frames=frames,
            duration_s=seconds,
            sampled_frames=sample.frames,
            fps=round(fps, 2),
            realtime_factor=round(fps / rate, 3) if rate else None,
            time_s=round(frames / fps, 1) if frames else None,
            video_mb=_megabytes(video),
            copied_mb=_megabytes(copied) or 0.0,
            memory_mb=_megabytes(memory_needed(spec, job.size, job.encoder, job.engine)) or 0.0,
            disk_mb=_megabytes(2 * video + copied) if video is not None else None,
            disk_free_mb=_megabytes(free_bytes(job.output.parent)) or 0.0,
        )


class _Sample:
    """A few frames from the midst of the film, through the job's own engine and encoder into memory."""

    def __init__(self, job: Job):
        self._job = job
        self._file = io.BytesIO()
        self._video: EncodedVideo | None = None
        self._warm_at = 0.0
        self.frames = 0

    def run(self) -> float:
        """Frames a second once everything is warm."""
        job, (start, end) = self._job, self._job.options.trim
        middle = _middle(job.source.spec, start, end)
        with closing(FileSource(job.source.path, middle, end, job.options.deinterlace)) as source:
            pipeline.run(_First(source), job.engine, self)
        self.finish()
        warm = self.frames - WARM_UP if self.frames > 2 * WARM_UP else self.frames
        return warm / max(time.perf_counter() - self._warm_at, 1e-9)

    def write(self, batch: FrameBatch) -> None:
        job = self._job
        for frame in batch.frames():
            if self._video is None:
                fmt, gpu = job.encoder.segment_format, gpu_of(frame, job.encoder, job.size)
                self._video = EncodedVideo(self._file, fmt, job.source.spec, job.size, job.encoder, frame.pts, gpu)
                self._warm_at = time.perf_counter()
            if self.frames == WARM_UP:
                self._warm_at = time.perf_counter()
            self._video.write(frame)
            self.frames += 1

    def finish(self) -> None:
        if self._video is not None:
            self._video.finish()

    def close(self) -> None:
        pass

    def bytes_of(self, frames: int, rate: float | None) -> int:
        """What a film of so many frames takes: one keyframe in each segment, the others as large as here."""
        self._file.seek(0)
        with av.open(self._file, "r") as container:
            sizes = [(packet.size, packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
        keys = [size for size, is_key in sizes if is_key]
        others = [size for size, is_key in sizes if not is_key]
        if not others:
            return round(sum(keys) / max(len(keys), 1) * frames)
        in_segment = max(round((rate or 25) * SEGMENT_S), 1)
        segments = -(-frames // in_segment)
        return round(segments * sum(keys) / len(keys) + (frames - segments) * sum(others) / len(others))


class _First:
    """The first frames of a source."""

    damage: tuple[str, ...] = ()

    def __init__(self, source: FileSource):
        self._source = source
        self.spec = source.spec

    def frames(self) -> Iterator[Frame]:
        return islice(self._source.frames(), SAMPLE_FRAMES)

    def close(self) -> None:
        self._source.close()


def _middle(spec: VideoSpec, start: Fraction | None, end: Fraction | None) -> Fraction | None:
    """Where to sample; the begin of the trim where the film does not say how long it is."""
    last = end if spec.duration is None else min(end or spec.duration, spec.duration)
    if last is None or (spec.frames is not None and spec.frames < 4 * SAMPLE_FRAMES):
        return start
    begin = start or Fraction(0)
    return begin + (last - begin) * Fraction(SAMPLE_AT).limit_denominator(100)


def _megabytes(count: int | None) -> float | None:
    return None if count is None else round(count / 1e6, 1)
