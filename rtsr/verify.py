"""`rtsr verify IN OUT`: is everything of the input in the output? Run at the end of every job, too.

Reads both files independently of the code that wrote them: packets for time and copied streams, decoded pictures at a
few moments for what they show.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import Counter
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import av.container
import av.error

from rtsr.errors import SourceError
from rtsr.pixels import PixelFormat
from rtsr.sinks.plans import StreamPlan, plan_streams
from rtsr.sources.complaints import complaints
from rtsr.sources.media import Input, main_video, open_input
from rtsr.verify_container import compare_attachments, compare_container
from rtsr.verify_pictures import compare_moments, compare_stated
from rtsr.verify_streams import OPENING_PACKETS, Pair, Track, compare_streams, telling, tolerance

_AVI_SLACK = Fraction(1, 10)  # AVI has no pts: its reader guesses how far pictures are reordered
_ROOMIEST = "matroska"  # what is made anew, and so not looked for, is so in every container
_HARMLESS = "I will ignore it"  # of odd AVI headers, which many old files have; the job tells of it
_UNTIMED = Fraction(1 << 40)  # numbered pictures have no times at all


@dataclass(slots=True)
class Verdict:
    """findings: one sentence for everything that differs and should not; empty when all is well.

    facts: what was compared, and how close it was.
    """

    findings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"ok": not self.findings, **asdict(self)}

    def expect(self, condition: bool, sentence: str) -> None:
        if not condition:
            self.findings.append(sentence)


def verify(
    source: Input,
    output: Input,
    plans: list[StreamPlan] | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
    pixels: PixelFormat | None = None,
    no_audio: bool = False,
    tags: bool = True,
) -> Verdict:
    """Compare an upscaled file with its input. plans: what was meant for each stream; None expects all to be there,
    copied or converted, but for sound if no_audio. tags: whether chapters, tags, languages and titles must be, too.

    start, end: the trim of the job, in seconds. pixels: what the output was meant to have; None expects the input's.
    Raises SourceError when one of the files cannot be opened.
    """
    verdict = Verdict()
    with complaints() as heard:  # demuxers skip what they cannot read
        before = _read(source, start, end)
    verdict.findings += [f"the input is damaged: {error}" for error in heard.told() if _HARMLESS not in error]
    after = _read(output, None, None)
    compare_stated(source, output, pixels, verdict)
    video_in, video_out = before.pop(0), after.pop(0)
    _compare_times(video_in, video_out, start, verdict)
    meant = {plan.index: plan.action for plan in plans or plan_streams(source, _ROOMIEST)}
    gone = ("upscale", "remake") if plans is None else ("upscale", "remake", "omit", "drop")
    wanted = [s for s in before if meant.get(s.index) not in gone and not (no_audio and s.kind == "audio")]
    if tags:
        compare_container(source, output, start, end, verdict)
    compare_attachments(source, output, {s.index for s in wanted}, verdict)
    shift = video_out.pts[0] - video_in.pts[0] if video_in.pts and video_out.pts else Fraction(0)
    pair = Pair(source, output, start, end, shift, tolerance(video_in, video_out))
    compare_streams(pair, wanted, after, (video_in, video_out), plans, verdict, tags)
    if not verdict.findings:
        compare_moments(source, output, *_common_times(video_in, video_out, start), video_out.keys, verdict)
    return verdict


def _read(path: Input, start: Fraction | None, end: Fraction | None) -> list[Track]:
    """All streams' packets within the trim; the main video first."""
    with open_input(path) as container:
        main = main_video(container, path)
        streams: dict[int, Track] = {}
        digests: dict[int, Any] = {}
        for stream in container.streams:
            streams[stream.index] = Track(
                stream.type or "unknown",
                stream.index,
                stream.codec_context.codec.canonical_name if stream.codec_context else "",
                [],
                "",
                Fraction(stream.time_base or 1),
                {"avi": _AVI_SLACK, "image2": _UNTIMED}.get(container.format.name, Fraction(0)),
                dict(stream.metadata),
                int(stream.disposition),
            )
            digests[stream.index] = hashlib.sha256()
        try:
            for packet in container.demux():
                is_video = packet.stream.index == main.index
                if packet.size == 0 or (is_video and packet.is_discard):  # before an edit list's beginning: not shown
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                time = Fraction(stamp * packet.time_base) if stamp is not None and packet.time_base else None
                if time is not None and not _inside(packet, time, start, end):
                    continue
                streams[packet.stream.index].packets += is_video
                streams[packet.stream.index].reordered |= packet.pts != packet.dts
                if time is not None:
                    _note_time(streams[packet.stream.index], time, all_of_them=is_video)
                    if is_video and packet.is_keyframe:
                        streams[packet.stream.index].keys.append(time)
                if not is_video:
                    payload = _payload(packet)
                    digests[packet.stream.index].update(payload)
                    track = streams[packet.stream.index]
                    if telling(payload) and len(track.opening) < OPENING_PACKETS:
                        track.opening.add(hashlib.sha256(payload).digest())
        except av.error.FFmpegError as error:
            raise SourceError(f"{path}: reading failed: {error.strerror}") from error
        for index, stream in streams.items():
            stream.faults = _faults(stream.pts, stream.reordered)
            stream.pts.sort()
            stream.digest = digests[index].hexdigest()
        return [streams.pop(main.index), *streams.values()]


def _payload(packet: av.Packet) -> bytes:
    """A packet's data without the ADTS header that AAC has in MPEG-TS and nowhere else."""
    data = bytes(packet)
    context = packet.stream.codec_context
    if context is not None and context.name == "aac" and data[:1] == b"\xff" and data[1] & 0xF6 == 0xF0:
        return data[7 if data[1] & 1 else 9 :]
    return data


def _inside(packet: av.Packet, time: Fraction, start: Fraction | None, end: Fraction | None) -> bool:
    if end is not None and time >= end:
        return False
    if start is None or time >= start:
        return True
    lasts = (packet.duration or 0) * (packet.time_base or 0)
    return packet.stream.type == "subtitle" and time + lasts > start


def _compare_times(before: Track, after: Track, start: Fraction | None, verdict: Verdict) -> None:
    verdict.facts["frames"] = [before.packets, after.packets]
    if before.packets != after.packets:
        verdict.findings.append(f"the input has {before.packets} frames, the output {after.packets}")
        return
    if len(before.pts) < before.packets or not after.pts:
        return  # a raw stream has no times, numbered pictures neither
    if before.faults:
        _compare_repaired(before, after, start or Fraction(0), verdict)
        return
    # A container that begins its own clock elsewhere (MPEG-TS) moves all streams alike; that is checked below.
    shift = after.pts[0] - before.pts[0]
    worst = max(abs(b - a - shift) for a, b in zip(before.pts, after.pts, strict=True))
    allowed = tolerance(before, after)
    verdict.facts["worst_pts_error_s"] = float(worst)
    verdict.expect(worst <= allowed, f"frames are shown up to {float(worst) * 1e3:.3f} ms off")
    if start is None:
        verdict.facts["start_moved_s"] = float(shift)


def _note_time(track: Track, time: Fraction, all_of_them: bool) -> None:
    """Every time of the picture, the first and the last of other streams: a film's sound has millions."""
    if all_of_them or not track.pts:
        track.pts.append(time)
    else:
        track.pts = [min(track.pts[0], time), max(track.pts[-1], time)]


def _faults(pts: list[Fraction], reordered: bool) -> int:
    """How many times of a stream, in its packets' order, are there twice, or go back where nothing is reordered."""
    back = 0 if reordered else sum(later < earlier for earlier, later in pairwise(pts))
    return len(pts) - len(set(pts)) + back


def _compare_repaired(before: Track, after: Track, start: Fraction, verdict: Verdict) -> None:
    """Times of an input some of which had to be mended: the others must all be there."""
    slack = tolerance(before, after)
    missing = 0
    for time in dict.fromkeys(before.pts):
        at = bisect_left(after.pts, time - start - slack)
        missing += at == len(after.pts) or after.pts[at] > time - start + slack
    verdict.facts["repaired_times"] = before.faults
    verdict.expect(
        missing <= before.faults, f"{missing} times of frames are not the input's; {before.faults} were at fault"
    )


def _common_times(before: Track, after: Track, start: Fraction | None) -> tuple[list[Fraction], list[Fraction]]:
    """Times of the pictures to compare, in both files: all, but for those that had to be mended."""
    if not before.faults:
        return before.pts, after.pts
    counts = Counter(before.pts)
    there = set(after.pts)
    common = [t for t in before.pts if counts[t] == 1 and t - (start or 0) in there]
    return common, [t - (start or 0) for t in common]
