"""A film as closed-GOP segments: what is finished stays finished, whatever happens next."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rtsr.frames import FrameBatch, VideoSpec
from rtsr.journal import Journal, Segment, sha256_of
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.video import EncodedVideo
from rtsr.sinks.writing import says_what_failed

SEGMENT_S = 10  # what a kill costs at most; each restart of the encoder costs one keyframe


class SegmentWriter:
    """Encodes frames into segments of SEGMENT_S seconds and notes each finished one in the journal.

    Where a segment ends depends on the frames' pts alone, so that a job that was interrupted cuts where an undisturbed
    one does. origin: pts at which the film begins. is_clean: asked at the end of each segment; see Segment.clean.
    before_segment: called before each one, what it raises ends the job. One thread at a time. Raises SinkError.
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
    ):
        self._journal = journal
        self._spec, self._size, self._encoder = spec, size, encoder
        self._is_clean = is_clean
        self._origin = origin
        self._before_segment = before_segment
        self._video: EncodedVideo | None = None
        self._first_pts: int | None = None  # of the segment in work
        self._last: tuple[int, int] = (0, 0)  # pts and duration
        self._frames = 0

    def write(self, batch: FrameBatch) -> None:
        for frame in batch.frames():
            if self._first_pts is not None and self._number(frame.pts) != self._number(self._first_pts):
                self._close_segment()
            if self._video is None:
                self._before_segment()
            with says_what_failed(self._path):
                if self._video is None:
                    self._video = EncodedVideo(
                        self._path, self._encoder.segment_format, self._spec, self._size, self._encoder, frame.pts
                    )
                self._video.write(frame)
            if self._first_pts is None:
                self._first_pts = frame.pts
            self._last = frame.pts, frame.duration
            self._frames += 1

    def finish(self) -> None:
        if self._video is not None:
            self._close_segment()

    def close(self) -> None:
        """Drop the segment in work."""
        if self._video is not None:
            self._video.abandon()
            self._video = None
            self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self._journal.folder / f"{len(self._journal.segments):06d}.{self._encoder.segment_format}"

    def _number(self, pts: int) -> int:
        return (pts - self._origin) * self._spec.time_base // SEGMENT_S

    def _close_segment(self) -> None:
        assert self._video is not None and self._first_pts is not None
        path = self._path
        with says_what_failed(path):
            self._video.finish()
            self._video = None
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            self._journal.add(
                Segment(
                    file=path.name,
                    frames=self._frames,
                    first_pts=self._first_pts,
                    last_pts=self._last[0],
                    last_duration=self._last[1],
                    size=path.stat().st_size,
                    sha256=sha256_of(path),
                    clean=self._is_clean(),
                )
            )
        self._first_pts, self._frames = None, 0
