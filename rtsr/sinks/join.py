"""Segments and copied streams into the final file: packets only, nothing is encoded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.bitstream
import av.codec.codec
import av.container

from rtsr.errors import SinkError
from rtsr.frames import VideoSpec
from rtsr.journal import Journal, Segment
from rtsr.sinks.copy import CopiedStreams
from rtsr.sinks.plans import StreamPlan
from rtsr.sinks.tags import copy_tags, muxer_options
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.media import Input, ffmpeg_path, main_video, open_input

_ALPHA = "alpha_mode"


@dataclass(frozen=True, slots=True)
class Joined:
    """What join() wrote. copied: packets of other streams; damage and notices: as CopiedStreams has them."""

    copied: int = 0
    damage: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def join(
    journal: Journal,
    output: Path,
    fmt: str,
    spec: VideoSpec,
    copy_from: Input | None,
    plans: list[StreamPlan],
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Joined:
    """Write `output` (container fmt) from a job's segments and the other streams of copy_from.

    start, end: the trim in seconds; the output's clock begins at start. The video is put together by exact offsets:
    each segment begins at zero and its first pts is known. Raises SinkError.
    """
    folder, segments = journal.folder, journal.segments
    with (
        says_what_failed(output),
        av.open(ffmpeg_path(output), "w", format=fmt, options=muxer_options(fmt, copy_from)) as container,
        av.open(ffmpeg_path(folder / segments[0].file)) as first,
    ):
        template = first.streams.video[0]
        video = _video_like(container, template, spec)
        if spec.rotation:
            video.set_display_rotation(spec.rotation)
        copied = CopiedStreams(copy_from, container, plans, start, end) if copy_from else None
        if copy_from:
            with open_input(copy_from) as original:
                copy_tags(main_video(original, copy_from).metadata, video.metadata)
                video.disposition = main_video(original, copy_from).disposition
        for key in [key for key in video.metadata if key.lower() == _ALPHA]:
            del video.metadata[key]
        if _ALPHA in template.metadata:  # not a tag but what tells players to look for it
            video.metadata[_ALPHA] = template.metadata[_ALPHA]
        if fmt == "avi" and spec.rate and _is_steady(segments, spec):
            video.time_base = 1 / spec.rate  # AVI counts frames; a finer clock makes players show hundreds a second
        origin = round(start / spec.time_base) if start else 0
        last_dts: int | None = None
        for segment in segments:
            offset = (segment.first_pts - origin) * spec.time_base
            again = segment is segments[0]  # opening costs 23 ms, and the first is open
            with nullcontext(first) if again else av.open(ffmpeg_path(folder / segment.file)) as opened:
                for packet in _packets(opened, template, fmt):
                    assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
                    time_base = packet.time_base
                    shift = round(offset / time_base)
                    is_last = packet.pts * time_base == (segment.last_pts - segment.first_pts) * spec.time_base
                    if is_last and segment.last_duration:
                        packet.duration = round(segment.last_duration * spec.time_base / time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    if last_dts is not None and packet.dts <= last_dts:
                        packet.dts = last_dts + 1  # on VFR the reorder delay of neighbours can differ by a moment
                    last_dts = packet.dts
                    if copied:
                        copied.until(packet.dts * time_base)
                    packet.stream = video
                    container.mux(packet)
        if copied is None:
            return Joined()
        copied.until(None)
        copied.close()
        return Joined(sum(copied.copied.values()), copied.damage, copied.notices)


def _is_steady(segments: list[Segment], spec: VideoSpec) -> bool:
    """Whether there is one frame in each tick of the frame rate, as far as the journal tells."""
    rate = spec.rate or 0
    whole = (segments[-1].last_pts - segments[0].first_pts) * spec.time_base * rate
    return round(whole) == sum(segment.frames for segment in segments) - 1


def _video_like(container: av.container.OutputContainer, template: Any, spec: VideoSpec) -> Any:
    """The output's video stream, with the rate that mov needs to make a timecode track."""
    try:
        video = container.add_stream_from_template(template)
    except av.codec.codec.UnknownCodecError:  # AV1's decoder has another name than any encoder
        return container.add_stream_from_template(template, opaque=True)
    video.codec_context.framerate = spec.rate or 24
    return video


def _packets(segment: av.container.InputContainer, template: Any, fmt: str) -> Iterator[av.Packet]:
    """A segment's packets, as the output's container wants them."""
    stream = segment.streams.video[0]
    if stream.codec_context.extradata != template.codec_context.extradata:
        raise SinkError(f"{segment.name}: its encoder settings differ from the first segment's")
    # AVI wants start codes; MPEG-TS, which does too, puts them in by itself.
    annexb = fmt == "avi" and stream.codec_context.name in ("h264", "hevc")
    name = f"{stream.codec_context.name}_mp4toannexb"
    bitstream_filter = av.bitstream.BitStreamFilterContext(name, stream) if annexb else None
    for packet in segment.demux(stream):
        if packet.size == 0:
            continue
        yield from (bitstream_filter.filter(packet) if bitstream_filter else (packet,))
