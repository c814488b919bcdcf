"""One segment of a job, made from the input alone: what several devices or machines do side by side.

    cuts = find_cuts(media, start, end)                  # once, by whoever shares the work out: reads packets only
    if cuts.why_not: ...                                 # this input must be decoded in one go
    job = SegmentJob(...)                                # picklable, as all of its parts and the result
    result = encode_segment(job, cut, folder)            # anywhere, in any order, as often as one likes: same bytes

    with SegmentEncoder(job) as encoder:                 # the same with the engine opened once for many cuts
        result = encoder.encode(cut, folder, progress)

The file lies in `folder` under the name `result.segment.file` then, complete and on disk; it appears under that name
only when it is whole. `rtsr.segment_board.SegmentBoard` decides what to hand out next and what to accept of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from rtsr import pipeline
from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.tiling import TilingEngine
from rtsr.encode_on_gpu import leaves_on_gpu
from rtsr.errors import ConfigError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.journal import Segment
from rtsr.memory import available_bytes, parts_to_fit
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.segments import SegmentFile, segment_file
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.cuts import Cut
from rtsr.sources.file import FileSource
from rtsr.sources.findings import Findings
from rtsr.sources.media import Media
from rtsr.stats import PipelineStats


@dataclass(frozen=True, slots=True)
class SegmentJob:
    """What all segments of a job have in common.

    choice: with the backend named, not `auto`: all must be made by one. engine: name and sha256 of the engine that
    the job began with. start, end: the trim in seconds. size: (width, height) of the output. workers: how many share
    this machine's memory.
    """

    input: Media
    start: Fraction | None
    end: Fraction | None
    deinterlace: str
    keep_alpha: bool
    choice: EngineChoice
    engine: tuple[str, str]
    encoder: Encoder
    size: tuple[int, int]
    workers: int = 1

    @property
    def made_by(self) -> str:
        """As Segment.engine."""
        return f"{self.choice.backend} {self.engine[0]}"


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """A segment whose file is complete on disk; None where the part needed repair, or was not decoded to the frames
    that its packets promise: whoever decodes from the film's start on must see to it.

    found: of the input, in this part. stage_s: seconds that decode, infer and encode were busy. notices: what the
    engine had to say.
    """

    index: int
    segment: Segment | None
    found: Findings
    stage_s: tuple[float, float, float]
    wall_s: float
    notices: tuple[str, ...] = ()


class SegmentEncoder:
    """A decoder, an engine and an encoder for segments of one job. Opens the engine; the rest is made for each segment.

    Raises ConfigError, EngineError; EngineError also where another engine would be used than the job began with.
    """

    def __init__(self, job: SegmentJob):
        self._job = job
        self._notices: list[str] = []
        self._engine: TilingEngine | None = None

    def encode(
        self, cut: Cut, folder: Path, progress: Callable[[PipelineStats], None] = lambda stats: None
    ) -> SegmentResult:
        """Make one segment's file in `folder`. progress is called after each frame.

        Raises what the parts of a job raise. Nothing is left of a segment that was not finished but, after a kill, a
        file whose name ends in `.tmp`.
        """
        job = self._job
        begun = time.perf_counter()
        final = folder / segment_file(cut.index, job.encoder)
        with closing(FileSource(job.input, job.start, job.end, job.deinterlace, job.keep_alpha)) as source:
            source.only(cut)
            sink = _OneSegment(final.with_name(f"{final.name}.{os.getpid()}.tmp"), source.spec, job)
            with closing(sink):
                engine = self.opened(source.spec)
                if engine.gpu is not None:
                    source.decode_on_gpu(engine.gpu)  # the job has said why, where that does not go
                stats = pipeline.run(source, engine, sink, progress=progress)
                segment = None
                if source.is_clean and tuple(sink.pts) == cut.pts:
                    sink.finish()
                    segment = sink.publish(cut.index, final, source.part_pictures)
        notices, self._notices = tuple(self._notices), []
        return SegmentResult(
            index=cut.index,
            segment=segment,
            found=source.found,
            stage_s=(stats.decode.busy_s, stats.infer.busy_s, stats.encode.busy_s),
            wall_s=time.perf_counter() - begun,
            notices=notices,
        )

    def close(self) -> None:
        """Free the engine. Safe to call twice."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def __enter__(self) -> SegmentEncoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def opened(self, spec: VideoSpec) -> TilingEngine:
        """The engine, for a video like this. Raises ConfigError, EngineError."""
        if self._engine is None:
            opened = open_engine(self._job.choice)
            if (opened.name, opened.sha256) != self._job.engine:
                raise ConfigError(
                    f"the job was begun with engine {self._job.engine[0]}, and here {opened.name} is what opens "
                    f"(sha256 {opened.sha256[:12]} instead of {self._job.engine[1][:12]}); install the same engines"
                )
            room = available_bytes()
            parts = parts_to_fit(opened, spec, room // self._job.workers if room is not None else None)
            self._engine = TilingEngine(opened, self._notices.append, parts)
            leaves_on_gpu(self._engine, self._job.encoder, spec, self._job.size)  # the job has said why, where not
        return self._engine


def encode_segment(job: SegmentJob, cut: Cut, folder: Path) -> SegmentResult:
    """Make one segment's file in `folder`, with an engine opened for it alone. See SegmentEncoder."""
    with SegmentEncoder(job) as encoder:
        return encoder.encode(cut, folder)


class _OneSegment:
    """Frames into one segment's file, which bears the name `path` until it is whole."""

    def __init__(self, path: Path, spec: VideoSpec, job: SegmentJob):
        self.pts: list[int] = []
        self._path, self._spec, self._job = path, spec, job
        self._file: SegmentFile | None = None
        self._segment: Segment | None = None

    def write(self, batch: FrameBatch) -> None:
        for frame in batch.frames():
            if self._file is None:
                self._file = SegmentFile(self._path, self._spec, self._job.size, self._job.encoder, frame)
            self._file.write(frame)
            self.pts.append(frame.pts)

    def finish(self) -> None:
        assert self._file is not None, "a cut has a frame"
        self._segment, self._file = self._file.finish(0, True, lambda pts: self._job.made_by), None

    def publish(self, index: int, final: Path, pictures: tuple[str, str]) -> Segment:
        """Give the finished file its name."""
        assert self._segment is not None, "finish() comes first"
        with says_what_failed(final):
            self._path.replace(final)
        first, following = pictures
        return replace(self._segment, file=final.name, index=index, first_picture=first, next_picture=following)

    def close(self) -> None:
        if self._file is not None:
            self._file.abandon()
            self._file = None
