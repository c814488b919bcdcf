"""Films for torture: any pixel format, any container, whatever streams beside. More odd than clips.py, less exact.

Every picture carries its number (see clips.draw), under a gradient that uses all bits of the format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import numpy as np
from clips import BITS, BLOCK, FRAME_DURATION, NO_DISPOSITION, UNTAGGED, Attachment, Chapter, Disposition, read_number

WIDTH, HEIGHT, FRAMES, RATE = 96, 64, 24, 24
X264 = {"preset": "veryfast", "crf": "12", "g": "12", "bf": "2"}
INTERLACED_DCT, INTERLACED_ME = 1 << 18, 1 << 29  # codec flags


@dataclass(frozen=True)
class Pictures:
    """A video stream. pts: in time_base, one for each of `frames` pictures; None counts. color: FFmpeg's numbers for
    matrix, primaries, transfer, range. interlaced: "tt" or "bb". flags: of the codec context, added to it.
    first: the number in the first picture."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    width: int = WIDTH
    height: int = HEIGHT
    frames: int = FRAMES
    rate: Fraction = Fraction(RATE)
    time_base: Fraction | None = None
    pts: Sequence[int] | None = None
    options: dict[str, str] = field(default_factory=lambda: dict(X264))
    color: tuple[int, int, int, int] = UNTAGGED
    sample_aspect_ratio: Fraction | None = None
    rotation: int = 0
    interlaced: str = ""
    flags: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    disposition: Disposition = Disposition.default
    first: int = 0


@dataclass(frozen=True)
class Sound:
    """A tone that rises. start: seconds; layout: FFmpeg's name."""

    codec: str = "aac"
    seconds: Fraction = Fraction(1)
    start: Fraction = Fraction(0)
    rate: int = 48000
    layout: str = "stereo"
    metadata: dict[str, str] = field(default_factory=dict)
    disposition: Disposition = Disposition.default


@dataclass(frozen=True)
class Titles:
    """Subtitles as ready packets: (begin ms, end ms, payload)."""

    codec: str
    lines: Sequence[tuple[int, int, bytes]]
    metadata: dict[str, str] = field(default_factory=dict)
    disposition: Disposition = NO_DISPOSITION


def write_film(
    path: Path,
    *streams: Pictures | Sound | Titles,
    fmt: str | None = None,
    mux_options: dict[str, str] | None = None,
    chapters: Iterable[Chapter] = (),
    attachments: Iterable[Attachment] = (),
    cover: bool = False,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write one file with these streams in this order; the container follows from the suffix unless fmt names it."""
    with av.open(f"file:{path}", "w", format=fmt, options=mux_options or {}) as container:
        container.metadata.update(metadata or {})
        container.set_chapters([chapter.as_dict(i) for i, chapter in enumerate(chapters)])
        feeds = [_feed(container, stream) for stream in streams]
        if cover:
            feeds.append(_cover(container))
        for attachment in attachments:
            container.add_attachment(attachment.name, attachment.mimetype, attachment.data)
        for feed in feeds:
            next(feed)  # all streams exist before the first packet
        for feed in feeds:
            for packet in feed:
                container.mux(packet)
    return path


def _feed(container: av.container.OutputContainer, stream: Pictures | Sound | Titles) -> Iterator[Any]:
    match stream:
        case Pictures():
            return _pictures(container, stream)
        case Sound():
            return _sound(container, stream)
        case Titles():
            return _titles(container, stream)


def _pictures(container: av.container.OutputContainer, video: Pictures) -> Iterator[Any]:
    stream: Any = container.add_stream(video.codec, rate=video.rate, options=dict(video.options))
    prepare(stream.codec_context, video)
    if video.rotation:
        stream.set_display_rotation(video.rotation)
    stream.metadata.update(video.metadata)
    if video.disposition != Disposition.default:
        stream.disposition = video.disposition
    yield None
    for frame in drawn_frames(video):
        yield from stream.encode(frame)
    yield from stream.encode(None)


def prepare(context: Any, video: Pictures) -> None:
    """Set an encoder up for a video."""
    context.width, context.height, context.pix_fmt = video.width, video.height, video.pix_fmt
    context.time_base = video.time_base or 1 / video.rate
    context.flags |= FRAME_DURATION | video.flags
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = video.color
    if video.sample_aspect_ratio:
        context.sample_aspect_ratio = video.sample_aspect_ratio
    if video.interlaced:
        context.flags |= INTERLACED_DCT | INTERLACED_ME


def drawn_frames(video: Pictures) -> Iterator[av.VideoFrame]:
    """The pictures to encode, with their times."""
    time_base = video.time_base or 1 / video.rate
    step = int(1 / video.rate / time_base)
    stamps = video.pts if video.pts is not None else [i * step for i in range(video.frames)]
    pictures: Iterable[av.VideoFrame] = (
        drawn(video.first + i, video.width, video.height, video.pix_fmt, video.color) for i in range(len(stamps))
    )
    if video.interlaced:
        pictures = woven(video, len(stamps))
    for i, (picture, stamp) in enumerate(zip(pictures, stamps, strict=True)):
        picture.pts, picture.time_base = stamp, time_base
        following = stamps[i + 1] if i + 1 < len(stamps) else stamp + step
        picture.duration = max(following - stamp, 0)
        picture.pict_type = 0
        yield picture


def drawn(
    number: int, width: int, height: int, pix_fmt: str, color: tuple[int, int, int, int] = UNTAGGED
) -> av.VideoFrame:
    """A picture with its number in white and black blocks above a moving gradient, in any pixel format."""
    yy, xx = np.mgrid[0:height, 0:width]
    y = (60 << 8) + (2 * xx + 3 * yy + 5 * number) % 120 * 256 + (37 * xx + 91 * yy) % 256
    for bit in range(BITS):
        y[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = (235 if number >> bit & 1 else 16) << 8
    u, v = (90 + (xx // 2 + number) % 60) << 8, (100 + (yy // 2 + 2 * number) % 60) << 8
    alpha = 65535 - (xx * 65535 // (2 * width))  # from opaque to half, left to right
    frame = av.VideoFrame(width, height, "yuva444p16le")
    for plane, values in zip(frame.planes, (y, u, v, alpha), strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, :width] = values
        plane.update(rows.tobytes())
    matrix = {1: "ITU709", 9: "BT2020"}.get(color[0], "ITU601")
    full = "JPEG" if color[3] == 2 or pix_fmt.startswith("yuvj") else "MPEG"
    made = frame.reformat(
        format=pix_fmt,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range="MPEG",
        dst_color_range=full,
        interpolation="BICUBIC",
    )
    made.colorspace, made.color_primaries, made.color_trc, made.color_range = color
    return made


def woven(video: Pictures, count: int) -> Iterator[av.VideoFrame]:
    """Interlaced pictures: the moment that is shown first in one field, the next moment in the other. The lines of the
    number are of one moment, so that it stays readable."""
    top_first = video.interlaced == "tt"
    graph = filtered("setfield", video, "tff" if top_first else "bff")
    for i in range(count):
        first, second, number = (
            drawn(n, video.width, video.height, video.pix_fmt, video.color) for n in (2 * i, 2 * i + 1, video.first + i)
        )
        picture = fields(first, second) if top_first else fields(second, first)
        graph.push(fields(number, number, picture, BLOCK))
        made: Any = graph.pull()
        yield made


def fields(
    top: av.VideoFrame, bottom: av.VideoFrame, below: av.VideoFrame | None = None, lines: int | None = None
) -> av.VideoFrame:
    """A picture of the lines 0, 2, 4 ... of one and 1, 3, 5 ... of another, 8 bits. below: what is shown from luma
    line `lines` on."""
    made = av.VideoFrame(top.width, top.height, top.format.name)
    for index, plane in enumerate(made.planes):
        rows, others = _rows(top, index).copy(), _rows(bottom, index)
        rows[1::2] = others[1::2]
        if below is not None and lines is not None:
            begin = lines if index == 0 else 0
            rows[begin:] = _rows(below, index)[begin:]
        plane.update(rows.tobytes())
    made.colorspace, made.color_primaries = top.colorspace, top.color_primaries
    made.color_trc, made.color_range = top.color_trc, top.color_range
    return made


def _rows(frame: av.VideoFrame, index: int) -> np.ndarray:
    plane = frame.planes[index]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)


def filtered(name: str, video: Pictures, arguments: str) -> av.filter.Graph:
    """A filter graph of one filter for such pictures."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=video.width,
        height=video.height,
        format=av.VideoFormat(video.pix_fmt),
        time_base=video.time_base or 1 / video.rate,
    )
    graph.link_nodes(source, graph.add(name, arguments), graph.add("buffersink")).configure()
    return graph


def _sound(container: av.container.OutputContainer, sound: Sound) -> Iterator[Any]:
    stream: Any = container.add_stream(sound.codec, rate=sound.rate, options={"strict": "experimental", "b": "128k"})
    stream.codec_context.layout = sound.layout
    stream.metadata.update(sound.metadata)
    stream.disposition = sound.disposition
    yield None
    count = int(sound.seconds * sound.rate)
    t = np.arange(count) / sound.rate
    wave = (12000 * np.sin(2 * np.pi * (300 + 200 * t) * t)).astype(np.int16)
    channels = stream.codec_context.layout.nb_channels
    frame = av.AudioFrame.from_ndarray(np.repeat(wave, channels)[None], format="s16", layout=sound.layout)
    frame.sample_rate, frame.time_base = sound.rate, Fraction(1, sound.rate)
    frame.pts = int(sound.start * sound.rate)
    yield from stream.encode(frame)
    yield from stream.encode(None)


def _titles(container: av.container.OutputContainer, titles: Titles) -> Iterator[Any]:
    stream: Any = container.add_mux_stream(titles.codec)
    stream.metadata.update(titles.metadata)
    stream.disposition = titles.disposition
    yield None
    for begin, end, data in titles.lines:
        packet = av.Packet(data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = begin
        packet.duration = end - begin
        yield packet


def _cover(container: av.container.OutputContainer) -> Iterator[Any]:
    stream: Any = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    yield None
    frame = drawn(5, 64, 32, "yuvj420p").reformat(width=32)
    frame.pts = 0
    yield from stream.encode(frame)
    yield from stream.encode(None)


def encoded(video: Pictures) -> tuple[Any, list[av.Packet]]:
    """An encoder's context and packets, in no container: for streams that no muxer would write by itself."""
    context: Any = av.CodecContext.create(video.codec, "w")
    prepare(context, video)
    context.options = dict(video.options)
    packets = [packet for frame in drawn_frames(video) for packet in context.encode(frame)]
    return context, [*packets, *context.encode(None)]


def number_in(frame: av.VideoFrame, scale: int = 1) -> int:
    """The number that was drawn into a picture which was then made `scale` times larger."""
    gray = frame.reformat(format="gray")
    plane = gray.planes[0]
    return read_number(np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : gray.width], scale)
