"""Where a film can be cut so that each part is decoded by itself, exactly: found by reading packets, decoding none."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby, zip_longest

import av
import av.error
import av.stream
import numpy as np

from rtsr.errors import SourceError
from rtsr.sources.media import Input, main_video, open_input

SEGMENT_S = 10  # what a kill costs at most; each restart of the encoder costs one keyframe
# Codecs whose keyframes a decoder can begin at. Left out: those that draw upon an older canvas (gif, apng, qtrle,
# screen codecs), and those that FFmpeg only skips into.
_RESTARTABLE = {
    *("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "theora"),
    *("prores", "dnxhd", "ffv1", "mjpeg", "png", "tiff", "bmp", "webp", "rawvideo", "v210"),
    *("huffyuv", "ffvhuff", "utvideo", "cfhd", "jpeg2000"),
}
_LEAD = 2  # frames decoded ahead of a part: a deinterlaced picture depends on the one before it


@dataclass(frozen=True, slots=True)
class Key:
    """The packet at which decoding begins: how many of its stream come before it, and what tells it after a seek."""

    index: int
    pts: int
    dts: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Cut:
    """One part of a film. index: of its segment; key: where to begin decoding; pts: of each of its frames, rising,
    in the stream's time base; end: pts of the first frame behind it, None where the film or the trim ends."""

    index: int
    key: Key
    pts: tuple[int, ...]
    end: int | None

    @property
    def begin(self) -> int:
        return self.pts[0]

    def holds(self, pts: int | None) -> bool:
        return pts is not None and self.begin <= pts and (self.end is None or pts < self.end)


@dataclass(frozen=True, slots=True)
class Cuts:
    """All parts in order. packets: of the whole stream. why_not: the reason, if the film cannot be cut; parts is
    empty then."""

    parts: tuple[Cut, ...] = ()
    packets: int = 0
    why_not: str = ""


def segment_slot(pts: int, time_base: Fraction, origin: int = 0) -> int:
    """Frames of one slot make a segment. origin: pts at which the film begins."""
    return (pts - origin) * time_base // SEGMENT_S


def trim_origin(start: Fraction | None, time_base: Fraction) -> int:
    """The pts at which a trimmed film begins."""
    return round(start / time_base) if start else 0


def find_cuts(media: Input, start: Fraction | None = None, end: Fraction | None = None) -> Cuts:
    """Cut the main video of an input, trimmed to start..end seconds, at the segments' boundaries.

    Reads every packet once and decodes none. Each part begins to be decoded at a keyframe that has some frames before
    the part, and behind which all of the part's frames come in decoding order. Raises SourceError if reading fails.
    """
    packets: list[_Packet] = []
    with open_input(media) as container:
        stream = main_video(container, media)
        codec = stream.codec_context.codec.canonical_name
        if codec not in _RESTARTABLE:
            return Cuts(why_not=f"{codec} video cannot be decoded from its midst")
        for other in container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        time_base = Fraction(stream.time_base or 1)
        try:
            for packet in container.demux(stream):
                if packet.size:
                    kind = packet.is_keyframe, bool(packet.is_discard), bool(packet.is_corrupt)
                    packets.append(_Packet(packet.pts, packet.dts, packet.size, *kind))
        except av.error.InvalidDataError:
            return Cuts(why_not="the file is damaged")  # told with all details by whoever decodes it
        except av.error.FFmpegError as error:
            raise SourceError(f"{media}: reading failed: {error.strerror or error}") from error
    return _cut(packets, time_base, start, end)


def picture_digest(y: np.ndarray, uv: np.ndarray) -> str:
    """What tells one picture from another: the parts on both sides of a cut must have decoded the same."""
    digest = hashlib.sha256(y.tobytes())
    digest.update(uv.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    size: int
    is_key: bool
    is_hidden: bool
    is_corrupt: bool


def _cut(packets: list[_Packet], time_base: Fraction, start: Fraction | None, end: Fraction | None) -> Cuts:
    if any(packet.is_corrupt for packet in packets):
        return Cuts(why_not="the file is damaged")
    all_pts = [(packet.pts, i) for i, packet in enumerate(packets) if packet.pts is not None]
    times = Counter(pts for pts, _ in all_pts)
    if len(all_pts) < len(packets) or len(times) < len(all_pts):
        return Cuts(why_not="not every picture has a time of its own")
    shown = sorted((pts, i) for pts, i in all_pts if not packets[i].is_hidden)
    kept = [
        (pts, i)
        for pts, i in shown
        if (start is None or pts * time_base >= start) and (end is None or pts * time_base < end)
    ]
    origin = trim_origin(start, time_base)
    groups = [list(group) for _, group in groupby(kept, lambda frame: segment_slot(frame[0], time_base, origin))]
    keys = [i for i, packet in enumerate(packets) if packet.is_key]
    parts = []
    for index, (group, behind) in enumerate(zip_longest(groups, groups[1:])):
        at = bisect_left(shown, group[0])
        lead = shown[max(at - _LEAD, 0) : at]
        key = _key(packets, keys, [*lead, *group])
        pts = tuple(pts for pts, _ in group)
        parts.append(Cut(index, key, pts, behind[0][0] if behind else None))
    return Cuts(tuple(parts), len(packets))


def _key(packets: list[_Packet], keys: list[int], frames: list[tuple[int, int]]) -> Key:
    """The last keyframe from which all of these frames, (pts, packet) rising by pts, can be decoded.

    A keyframe is followed in decoding order by frames that may be shown before it and refer to what is before it (an
    open GOP), so that it must be shown no later than the first of the frames too.
    """
    first_pts, first_packet = frames[0][0], min(i for _, i in frames)
    at = bisect_right(keys, first_packet)
    key = next((i for i in reversed(keys[:at]) if (packets[i].pts or 0) <= first_pts), 0)
    packet = packets[key]
    assert packet.pts is not None, "checked for all"
    return Key(key, packet.pts, packet.dts, packet.size)
