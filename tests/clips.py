"""Test clips, written with PyAV: what a clip holds is said by the values given to write_clip().

Every picture carries its own number in its pixels (draw, read_number), so that a frame that is lost, doubled or out of
order shows whatever its timestamp says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.stream
import numpy as np

Disposition = av.stream.Disposition
NO_DISPOSITION = Disposition(0)
# Tags in a wrong encoding: PyAV 19 no longer has the option, and no longer fails.
TOLERANT: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}

FRAME_DURATION = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the encoder passes durations on instead of guessing them
BLOCK = 8  # luma pixels of one binary digit of a frame's number
BITS = 8
# 90 kHz ticks of a variable frame rate: steady, a frame left out, two close together, a long still, steady again.
VFR_PTS = (0, 3003, 6006, 12012, 13000, 16003, 40000, 43003, 46006, 49009, 52012, 90000, 93003, 96006)
# FFmpeg's numbers: (matrix, primaries, transfer, range)
BT601_LIMITED, BT601_FULL = (6, 6, 6, 1), (6, 6, 6, 2)
BT709_LIMITED, BT709_FULL = (1, 1, 1, 1), (1, 1, 1, 2)
BT2020_LIMITED, BT2020_FULL = (9, 9, 14, 1), (9, 9, 14, 2)
UNTAGGED = (2, 2, 2, 0)


def steady_pts(
    frames: int, rate: int = 24, time_base: Fraction = Fraction(1, 90000), start: int = 0
) -> tuple[int, ...]:
    step = Fraction(1, rate) / time_base
    return tuple(start + int(i * step) for i in range(frames))


@dataclass(frozen=True)
class Video:
    """color: FFmpeg's numbers for matrix, primaries, transfer, range. planes: pixels instead of numbered ones."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    width: int = 64
    height: int = 48
    pts: Sequence[int] = steady_pts(24)
    time_base: Fraction = Fraction(1, 90000)
    last_duration: int = 3750
    options: dict[str, str] = field(default_factory=lambda: {"bf": "2", "crf": "12", "preset": "veryfast"})
    color: tuple[int, int, int, int] = UNTAGGED
    sample_aspect_ratio: Fraction | None = None
    rotation: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    planes: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None


LOSSLESS = {"codec": "ffv1", "options": {"level": "3", "slicecrc": "1"}}


@dataclass(frozen=True)
class Audio:
    codec: str = "aac"
    seconds: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    rate: int = 48000
    metadata: dict[str, str] = field(default_factory=dict)
    disposition: Disposition = Disposition.default


@dataclass(frozen=True)
class Subtitles:
    """lines: begin and end in milliseconds, and the text. codec: subrip, or mov_text for mp4."""

    codec: str = "subrip"
    lines: Sequence[tuple[int, int, str]] = ((100, 400, "first line"), (500, 900, "zweite Zeile, größer"))
    metadata: dict[str, str] = field(default_factory=dict)
    disposition: Disposition = NO_DISPOSITION


@dataclass(frozen=True)
class Attachment:
    name: str = "Font.ttf"
    mimetype: str = "application/x-truetype-font"
    data: bytes = bytes(range(256)) * 5


@dataclass(frozen=True)
class Chapter:
    start_ms: int
    end_ms: int
    title: str

    def as_dict(self, number: int) -> Any:
        times = {"start": self.start_ms, "end": self.end_ms, "time_base": Fraction(1, 1000)}
        return {"id": number, **times, "metadata": {"title": self.title}}


def write_clip(
    path: Path,
    video: Video | None = Video(),
    *,
    audio: Iterable[Audio] = (),
    subtitles: Iterable[Subtitles] = (),
    chapters: Iterable[Chapter] = (),
    attachments: Iterable[Attachment] = (),
    cover: bool = False,
    metadata: dict[str, str] | None = None,
    mux_options: dict[str, str] | None = None,
) -> Path:
    """Write one media file; the container follows from the suffix."""
    with av.open(str(path), "w", options=mux_options or {}) as container:
        container.metadata.update(metadata or {})
        container.set_chapters([chapter.as_dict(i) for i, chapter in enumerate(chapters)])
        feeds = [] if video is None else [_video_packets(container, video)]
        feeds += [_audio_packets(container, track) for track in audio]
        feeds += [_subtitle_packets(container, track) for track in subtitles]
        if cover:
            feeds.append(_cover_packets(container))
        for attachment in attachments:
            container.add_attachment(attachment.name, attachment.mimetype, attachment.data)
        for feed in feeds:
            next(feed)  # all streams exist before the first packet
        for feed in feeds:
            for packet in feed:
                container.mux(packet)
    return path


def _video_packets(container: av.container.OutputContainer, video: Video) -> Iterator[Any]:
    stream: Any = container.add_stream(video.codec, rate=24, options=dict(video.options))
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = video.width, video.height, video.pix_fmt
    context.time_base = video.time_base
    context.flags |= FRAME_DURATION
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = video.color
    if video.sample_aspect_ratio:
        context.sample_aspect_ratio = video.sample_aspect_ratio
    if video.rotation:
        stream.set_display_rotation(video.rotation)
    stream.metadata.update(video.metadata)
    yield None
    for i, pts in enumerate(video.pts):
        planes = video.planes[i] if video.planes else draw(i, video.width, video.height, video.pix_fmt)
        frame = picture(planes, video.pix_fmt)
        frame.colorspace, frame.color_range = video.color[0], video.color[3]
        frame.pts, frame.time_base = pts, video.time_base
        frame.duration = video.pts[i + 1] - pts if i + 1 < len(video.pts) else video.last_duration
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _audio_packets(container: av.container.OutputContainer, audio: Audio) -> Iterator[Any]:
    stream: Any = container.add_stream(audio.codec, rate=audio.rate, options={"strict": "experimental"})
    stream.codec_context.layout = "stereo"
    stream.metadata.update(audio.metadata)
    stream.disposition = audio.disposition
    yield None
    count = int(audio.seconds * audio.rate)
    t = np.arange(count) / audio.rate
    wave = (12000 * np.sin(2 * np.pi * (300 + 200 * t) * t)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.time_base = audio.rate, Fraction(1, audio.rate)
    frame.pts = int(audio.start * audio.rate)
    yield from stream.encode(frame)
    yield from stream.encode(None)


def _subtitle_packets(container: av.container.OutputContainer, subtitles: Subtitles) -> Iterator[Any]:
    stream: Any = container.add_mux_stream(subtitles.codec)
    stream.metadata.update(subtitles.metadata)
    stream.disposition = subtitles.disposition
    yield None
    for begin, end, text in subtitles.lines:
        data = text.encode()
        packet = av.Packet(len(data).to_bytes(2, "big") + data if subtitles.codec == "mov_text" else data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = begin
        packet.duration = end - begin
        yield packet


def _cover_packets(container: av.container.OutputContainer) -> Iterator[Any]:
    stream: Any = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    yield None
    frame = picture(draw(5, 32, 32, "yuv420p"), "yuvj420p")
    frame.pts = 0
    yield from stream.encode(frame)
    yield from stream.encode(None)


def jpeg(planes: Sequence[np.ndarray]) -> bytes:
    """A JPEG file of 4:2:0 planes."""
    height, width = planes[0].shape
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    return b"".join(bytes(p) for p in [*encoder.encode(picture(planes, "yuvj420p")), *encoder.encode(None)])


# ---- pixels ----


def picture(planes: Sequence[np.ndarray], pix_fmt: str) -> av.VideoFrame:
    """A frame of planar YUV from numpy planes, copied row by row."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        data = np.ascontiguousarray(values).view(np.uint8)
        rows[:, : data.shape[1]] = data
        plane.update(rows)
    return frame


def planes_of(frame: av.VideoFrame) -> list[np.ndarray]:
    """The planes of a planar frame as numpy arrays, without the padding."""
    dtype = np.dtype(np.uint16 if frame.format.name.endswith("le") else np.uint8)
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        found.append(rows[:, : plane.width * dtype.itemsize].copy().view(dtype))
    return found


def draw(number: int, width: int, height: int, pix_fmt: str = "yuv420p") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A gradient that moves, under a row of black and white blocks that spell `number` in binary."""
    yy, xx = np.mgrid[0:height, 0:width]
    y = 60 + (2 * xx + 3 * yy + 5 * number) % 120
    for bit in range(BITS):
        y[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    h, w = (height + 1) // 2, (width + 1) // 2
    cy, cx = np.mgrid[0:h, 0:w]
    u, v = 90 + (cx + number) % 60, 100 + (cy + 2 * number) % 60
    if "10le" in pix_fmt:
        return tuple((plane * 4).astype(np.uint16) for plane in (y, u, v))  # type: ignore[return-value]
    return tuple(plane.astype(np.uint8) for plane in (y, u, v))  # type: ignore[return-value]


def read_number(y: np.ndarray, scale: int = 1) -> int:
    """The number that draw() put into a luma plane which was then made `scale` times larger."""
    middle = 126 * (4 if y.dtype == np.uint16 else 1)
    size, inset = BLOCK * scale, BLOCK * scale // 4
    number = 0
    for bit in range(BITS):
        block = y[inset : size - inset, bit * size + inset : (bit + 1) * size - inset]
        number |= int(block.mean() > middle) << bit
    return number


# ---- damage ----


def cut(path: Path, source: Path, share: float) -> Path:
    """The first `share` of a file's bytes."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def corrupt_packets(path: Path, source: Path, numbers: Sequence[int]) -> Path:
    """Copy the video of a file packet by packet, with the payload of some overwritten with noise."""
    noise = np.random.default_rng(7)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for i, packet in enumerate(p for p in old.demux(old.streams.video[0]) if p.size):
            if i in numbers:
                data = bytearray(bytes(packet))
                data[len(data) // 4 :] = noise.bytes(len(data) - len(data) // 4)
                damaged = av.Packet(bytes(data))
                damaged.pts, damaged.dts, damaged.duration = packet.pts, packet.dts, packet.duration
                damaged.time_base, damaged.is_keyframe = packet.time_base, packet.is_keyframe
                packet = damaged
            packet.stream = stream
            new.mux(packet)
    return path


# ---- reading back ----


def decoded(path: Path) -> list[av.VideoFrame]:
    """All pictures of the main video stream."""
    with av.open(str(path), **TOLERANT) as container:
        return list(container.decode(main_video(container)))


def main_video(container: Any) -> Any:
    return next(s for s in container.streams.video if not s.disposition & Disposition.attached_pic)


def times(path: Path) -> list[Fraction]:
    """Presentation times of all pictures, exactly, in seconds."""
    return [Fraction(f.pts) * Fraction(f.time_base) for f in decoded(path)]


@dataclass(frozen=True)
class StoredPacket:
    data: bytes
    pts: Fraction | None
    dts: Fraction | None
    duration: Fraction


def packets(path: Path, kind: str, number: int = 0) -> list[StoredPacket]:
    """Packets of the number-th stream of a kind, with times in seconds."""
    with av.open(str(path), **TOLERANT) as container:
        stream = [s for s in container.streams if s.type == kind][number]
        return [
            StoredPacket(
                bytes(p),
                None if p.pts is None else p.pts * Fraction(p.time_base),
                None if p.dts is None else p.dts * Fraction(p.time_base),
                (p.duration or 0) * Fraction(p.time_base),
            )
            for p in container.demux(stream)
            if p.size
        ]


def chapters(path: Path) -> list[Chapter]:
    with av.open(str(path)) as container:
        found = []
        for mark in container.chapters():
            start, end = (round(mark[key] * Fraction(mark["time_base"]) * 1000) for key in ("start", "end"))
            found.append(Chapter(start, end, mark["metadata"].get("title", "")))
        return found
