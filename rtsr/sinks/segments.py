"""A film as closed-GOP segments: what is finished stays finished, whatever happens next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rtsr.frames import Frame, FrameBatch, VideoSpec
from rtsr.journal import Journal, Segment, sha256_of
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.nvenc import gpu_of
from rtsr.sinks.video import EncodedVideo
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.cuts import segment_slot


def segment_file(index: int, encoder: Encoder) -> str:
    """The name of a segment's file."""
    return f"{index:06d}.{encoder.segment_format}"


class SegmentFile:
    """One segment on its way to the disk. first: its first frame, to be written next. Raises SinkError, ConfigError."""

    def __init__(self, path: Path, spec: VideoSpec, size: tuple[int, int], encoder: Encoder, first: Frame):
        self._path, self._first_pts = path, first.pts
        self._last: tuple[int, int] = (0, 0)  # pts and duration
        self._frames = 0
        with says_what_failed(path):
            gpu = gpu_of(first, encoder, size)
            self._video = EncodedVideo(path, encoder.segment_format, spec, size, encoder, first.pts, gpu)

    def write(self, frame: Frame) -> None:
        with says_what_failed(self._path):
            self._video.write(frame)
        self._last = frame.pts, frame.duration
        self._frames += 1

    def finish(self, index: int, clean: bool, made_by: Callable[[int], str]) -> Segment:
        """Complete the file, on disk. index, clean: see Segment. made_by: what made the frame of a pts."""
        with says_what_failed(self._path):
            self._video.finish()
            with self._path.open("rb+") as file:
                os.fsync(file.fileno())
            return Segment(
                file=self._path.name,
                index=index,
                frames=self._frames,
                first_pts=self._first_pts,
                last_pts=self._last[0],
                last_duration=self._last[1],
                size=self._path.stat().st_size,
                sha256=sha256_of(self._path),
                clean=clean,
                engine=made_by(self._first_pts),
            )

    def abandon(self) -> None:
        """Leave nothing."""
        self._video.abandon()
        self._path.unlink(missing_ok=True)


class SegmentWriter:
    """Encodes frames into segments of SEGMENT_S seconds and notes each finished one in the journal.

    Where a segment ends depends on the frames' pts alone, so that a job that was interrupted, or that many work on,
    cuts where an undisturbed one does. origin: pts at which the film begins. is_clean: asked at the end of each
    segment; see Segment.clean. before_segment: called before each one, what it raises ends the job. made_by: see
    Segment.engine, of a pts. One thread at a time. Raises SinkError.
    """

    def __init__(
        self,
        journal: Journal,
        spec: VideoSpec,
        size: tuple[int, int],
        encoder: Encoder,
        is_clean: Callable[[], bool],
        origin: int = 0,
        before_segment: Callable[[], None] = lambda: None,
        made_by: Callable[[int], str] = lambda pts: "",
    ):
        self._journal = journal
        self._spec, self._size, self._encoder = spec, size, encoder
        self._is_clean = is_clean
        self._origin = origin
        self._before_segment, self._made_by = before_segment, made_by
        self._segment: SegmentFile | None = None
        self._slot = 0

    def write(self, batch: FrameBatch) -> None:
        for frame in batch.frames():
            slot = segment_slot(frame.pts, self._spec.time_base, self._origin)
            if self._segment is None or slot != self._slot:
                self.finish()
                self._before_segment()
                path = self._journal.folder / segment_file(len(self._journal.segments), self._encoder)
                self._segment = SegmentFile(path, self._spec, self._size, self._encoder, frame)
                self._slot = slot
            self._segment.write(frame)

    def finish(self) -> None:
        """Complete the segment in work."""
        if self._segment is not None:
            self._journal.add(self._segment.finish(len(self._journal.segments), self._is_clean(), self._made_by))
            self._segment = None

    def close(self) -> None:
        """Drop the segment in work."""
        if self._segment is not None:
            self._segment.abandon()
            self._segment = None
