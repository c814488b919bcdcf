"""Frames of a video file, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream
import av.video.stream
import numpy as np

from rtsr.errors import ConfigError, SourceError
from rtsr.frames import ChromaSiting, ColorTags, Frame, VideoSpec

# FFmpeg's name -> bits a sample. The yuvj names are yuv420p with full range, which the range tag says as well.
PIX_FMTS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}
# A tag in a wrong encoding is no reason to lose a film. PyAV 19 no longer has the option, and no longer fails.
_TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
# FFmpeg's AVChromaLocation; frames tell it from PyAV 19 on. 0 is unspecified.
_SITINGS = {1: ChromaSiting.LEFT, 2: ChromaSiting.CENTER, 3: ChromaSiting.TOPLEFT}
# Containers with an index that seeks to a keyframe at or before the target; MPEG-TS can land after it.
_SEEKABLE = {"mov", "mp4", "matroska", "webm"}
# Containers that state their real duration, so that a file cut short shows.
_STATED_DURATION = {"mov", "mp4", "matroska", "webm", "flv", "avi"}


class FileSource:
    """The main video stream of a file, from `start` (seconds, inclusive) to `end` (exclusive).

    Raises SourceError if the file cannot be opened or holds no video, ConfigError for a pixel format that the planes
    contract cannot carry.
    """

    def __init__(self, path: Path, start: Fraction | None = None, end: Fraction | None = None):
        self.path = path
        self._start, self._end = start, end
        self._after: int | None = None
        self._may_seek = True
        self._container, self._stream = self._open()
        try:
            self.spec = self._read_spec(self._decode_first())
        except BaseException:
            self._container.close()
            raise
        self._undecodable: list[float] = []
        self._corrupt = self._repaired = 0
        self._cut_short: str | None = None

    @property
    def damage(self) -> list[str]:
        sentences = []
        if self._undecodable:
            when = ", ".join(f"{t:.3f} s" for t in self._undecodable[:5])
            sentences.append(f"{len(self._undecodable)} packets did not decode (near {when})")
        if self._corrupt:
            sentences.append(f"{self._corrupt} frames were decoded from damaged data")
        if self._cut_short:
            sentences.append(self._cut_short)
        return sentences

    @property
    def is_clean(self) -> bool:
        """Whether nothing so far needed repair or was lost."""
        return not (self._undecodable or self._corrupt or self._repaired)

    @property
    def notices(self) -> list[str]:
        """What had to be mended without losing anything."""
        if not self._repaired:
            return []
        return [f"{self._repaired} frames had no usable timestamp; theirs were continued from the frame before"]

    def resume(self, after_pts: int, may_seek: bool) -> None:
        """Let frames() begin with the first frame behind after_pts. may_seek: False decodes all that comes before, so
        that repairs and damage there are found again."""
        self._after, self._may_seek = after_pts, may_seek

    def frames(self) -> Iterator[Frame]:
        last: Frame | None = None
        previous: tuple[int, int] | None = None
        packets = 0
        for picture, packets in self._decode():  # noqa: B007 - the count of the last round is used below
            pts, duration = self._timestamp(picture, previous)
            previous = pts, duration
            seconds = pts * self.spec.time_base
            if self._start is not None and seconds < self._start:
                continue
            if self._end is not None and seconds >= self._end:
                break
            self._corrupt += picture.is_corrupt  # before the resumed part too: an earlier run's damage is damage still
            if self._after is not None and pts <= self._after:
                continue
            if last is not None:
                yield replace(last, duration=pts - last.pts)
            last = self._frame(picture, pts, duration)
        if last is not None:
            last = replace(last, duration=self._rest(last))
            yield last
        self._check_end(last, packets)

    def close(self) -> None:
        self._container.close()

    def _open(self) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        container = open_input(self.path)
        try:
            stream = main_video(container, self.path)
        except BaseException:
            container.close()
            raise
        stream.thread_type = "AUTO"
        for other in container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all  # the sink copies them with a demuxer of its own
        return container, stream

    def _decode_first(self) -> av.VideoFrame:
        """The first picture: only it tells size, pixel format and colour for every container."""
        try:
            for packet in self._container.demux(self._stream):
                try:
                    for picture in packet.decode():
                        return picture  # type: ignore[return-value]
                except av.error.InvalidDataError:
                    continue  # counted when frames() comes by again
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.path}: reading failed: {error.strerror or error}") from error
        raise SourceError(f"{self.path}: no picture of its video stream can be decoded")

    def _read_spec(self, picture: av.VideoFrame) -> VideoSpec:
        stream = self._stream
        if picture.format.name not in PIX_FMTS:
            raise ConfigError(
                f"{self.path}: pixel format {picture.format.name} is not supported yet; "
                f"supported are {', '.join(PIX_FMTS)}"
            )
        context = stream.codec_context
        time_base = stream.time_base
        assert time_base is not None, "a demuxed stream has a time base"
        duration = stream.duration * time_base if stream.duration else None
        if duration is None and self._container.duration:
            duration = Fraction(self._container.duration, av.time_base)
        return VideoSpec(
            width=picture.width,
            height=picture.height,
            time_base=Fraction(time_base),
            rate=Fraction(stream.guessed_rate) if stream.guessed_rate else None,
            frames=stream.frames or None,
            duration=Fraction(duration) if duration else None,
            bits=PIX_FMTS[picture.format.name],
            sample_aspect_ratio=Fraction(context.sample_aspect_ratio) if context.sample_aspect_ratio else None,
            rotation=picture.rotation,
            color=ColorTags(
                int(picture.colorspace), int(picture.color_primaries), int(picture.color_trc), int(picture.color_range)
            ),
            siting=_SITINGS.get(int(getattr(picture, "chroma_location", 0) or 0)),
        )

    def _decode(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """Every picture from the start of the trim on, with the number of packets read so far."""
        # The first picture has been taken out already, and not every container can seek back to its start.
        self._container.close()
        self._container, self._stream = self._open()
        target = int(self._start / self.spec.time_base) if self._start else None
        if self._after is not None and self._may_seek:
            target = self._after
        if target is not None and _SEEKABLE & set(self._container.format.name.split(",")):
            self._container.seek(target, stream=self._stream, backward=True)
        packets = 0
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0
                try:
                    pictures = packet.decode()
                except av.error.InvalidDataError:
                    self._undecodable.append(float((packet.pts or packet.dts or 0) * self.spec.time_base))
                    continue
                for picture in pictures:
                    yield picture, packets  # type: ignore[misc]
        except av.error.InvalidDataError as error:
            self._cut_short = f"reading stopped after {packets} packets: {error.strerror}"
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.path}: reading failed after {packets} packets: {error.strerror}") from error

    def _timestamp(self, picture: av.VideoFrame, previous: tuple[int, int] | None) -> tuple[int, int]:
        """pts and duration of a picture; a missing or repeated pts is continued from the frame before."""
        duration = picture.duration or 0
        pts = picture.pts
        if previous is None:
            return (0 if pts is None else pts), duration
        if pts is None or pts <= previous[0]:
            step = previous[1] or (int(1 / (self.spec.rate * self.spec.time_base)) if self.spec.rate else 1)
            pts = previous[0] + max(step, 1)
            self._repaired += 1
        return pts, duration

    def _rest(self, last: Frame) -> int:
        """How long the last frame is shown: to the end of the stream or the trim, where that is known."""
        if self._end is not None:
            return min(last.duration, int(self._end / self.spec.time_base) - last.pts)
        if self._stream.duration:
            whole = (self._stream.start_time or 0) + self._stream.duration - last.pts
            return whole if whole > 0 else last.duration
        return last.duration

    def _frame(self, picture: av.VideoFrame, pts: int, duration: int) -> Frame:
        spec = self.spec
        if (picture.width, picture.height) != (spec.width, spec.height):
            raise SourceError(
                f"{self.path}: the picture changes from {spec.width}x{spec.height} to "
                f"{picture.width}x{picture.height} at {float(pts * spec.time_base):.3f} s, which is not supported yet"
            )
        if PIX_FMTS.get(picture.format.name) != spec.bits:
            raise SourceError(
                f"{self.path}: the pixel format changes to {picture.format.name} at {float(pts * spec.time_base):.3f} s"
            )
        y, u, v = (np.from_dlpack(plane) for plane in picture.planes)
        return Frame(y, np.stack([u, v]), pts, spec.time_base, duration, spec.siting or ChromaSiting.LEFT, spec.bits)

    def _check_end(self, last: Frame | None, packets: int) -> None:
        """Tell a file that was cut short: fewer packets or less time than its own header states."""
        if last is None:
            if self._after is not None:
                return  # all had been done before
            raise SourceError(f"{self.path}: no frame lies between --start and --end")
        if self._cut_short or self._start is not None or self._end is not None:
            return
        if self._after is not None and self._may_seek:
            packets = count_packets(self.path)
        if self.spec.frames and packets < self.spec.frames:
            self._cut_short = f"the file ends early: its header states {self.spec.frames} frames, {packets} are there"
            return
        formats = set(self._container.format.name.split(","))
        if not self.spec.frames and formats & _STATED_DURATION and self._container.duration:
            stated = Fraction(self._container.duration + (self._container.start_time or 0), av.time_base)
            missing = float(stated - (last.pts + last.duration) * last.time_base)
            if missing > 1.0 and missing > 0.02 * float(stated):
                self._cut_short = f"the file ends {missing:.1f} s before the duration that its header states"


def open_input(path: Path) -> av.container.InputContainer:
    """Open a media file for reading. Raises SourceError in one sentence."""
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if path.is_dir():
        raise SourceError(f"{path}: is a folder, not a video file")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty (zero bytes)")
    try:
        return av.open(ffmpeg_path(path), **_TOLERANT)
    except av.error.FFmpegError as error:
        raise SourceError(f"{path}: not a video file that FFmpeg can open ({error.strerror or error})") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error


def ffmpeg_path(path: Path) -> str:
    """A local path as FFmpeg takes it, whatever its name: `12:30 talk.mkv` is no protocol."""
    return f"file:{path}"


def main_video(container: av.container.InputContainer, path: Path) -> av.video.stream.VideoStream:
    """The stream to upscale: the first video stream that is not a cover picture. Raises SourceError."""
    for stream in container.streams.video:
        if not is_cover(stream):
            if stream.codec_context is None:
                raise SourceError(f"{path}: its video codec is unknown to FFmpeg")
            return stream
    raise SourceError(f"{path}: has no video stream (it holds {_kinds(container)})")


def count_packets(path: Path) -> int:
    """Packets of the main video stream, without decoding. Raises SourceError."""
    with open_input(path) as container:
        stream = main_video(container, path)
        try:
            return sum(packet.size > 0 for packet in container.demux(stream))
        except av.error.FFmpegError as error:
            raise SourceError(f"{path}: reading failed: {error.strerror}") from error


def is_cover(stream: Any) -> bool:
    """Whether a stream is a picture for the file's icon, not a film."""
    return stream.type == "video" and bool(stream.disposition & av.stream.Disposition.attached_pic)


def _kinds(container: av.container.InputContainer) -> str:
    kinds = [stream.type or "unknown" for stream in container.streams]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "no streams at all"
