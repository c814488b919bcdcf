"""`rtsr verify IN OUT`: is everything of the input in the output? Run at the end of every job, too.

Reads both files independently of the code that wrote them: packets for time and copied streams, decoded pictures at a
few moments for what they show.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import cv2
import numpy as np

from rtsr.errors import SourceError
from rtsr.sinks.copy import SAME_LANGUAGE, StreamPlan, copy_tags
from rtsr.sources.file import main_video, open_input

MOMENTS = 6  # pictures compared; each costs a seek and a few decoded frames
AFTER_KEY = 5  # frames: far enough to see predicted pictures too, near enough not to decode a whole segment at HR
_AVI_SLACK = Fraction(1, 10)  # AVI has no pts: its reader guesses how far pictures are reordered
# Downscaled output against input. Luma: 30 and more when right, under 15 for another picture. Chroma is smoother.
_SAME_LUMA_DB, _SAME_CHROMA_DB = 20.0, 25.0


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


@dataclass(slots=True)
class _Stream:
    """One stream's packets: times in seconds, exact; digest over all payloads.

    resolution: a tick of its clock. slack: how far the container's reader may guess beside. keys: pts of keyframes.
    """

    kind: str
    index: int
    pts: list[Fraction]
    digest: str
    resolution: Fraction
    slack: Fraction
    metadata: dict[str, str]
    disposition: int
    keys: list[Fraction] = field(default_factory=list)


def verify(
    source: Path,
    output: Path,
    plans: list[StreamPlan] | None = None,
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> Verdict:
    """Compare an upscaled file with its input. plans: what was meant for each stream; None expects all to be there.

    start, end: the trim of the job, in seconds. Raises SourceError when one of the files cannot be opened.
    """
    verdict = Verdict()
    before, after = _read(source, start, end), _read(output, None, None)
    _compare_pictures_stated(source, output, verdict)
    video_in, video_out = before.pop(0), after.pop(0)
    _compare_times(video_in, video_out, start, verdict)
    kept = {plan.index for plan in plans if plan.action == "copy"} if plans is not None else None
    wanted = [s for s in before if kept is None or s.index in kept]
    _compare_copies(wanted, after, video_in, video_out, start, verdict)
    if not verdict.findings:
        _compare_moments(source, output, video_in.pts, video_out, verdict)
    return verdict


def _read(path: Path, start: Fraction | None, end: Fraction | None) -> list[_Stream]:
    """All streams' packets within the trim; the main video first."""
    with open_input(path) as container:
        main = main_video(container, path)
        streams: dict[int, _Stream] = {}
        digests: dict[int, Any] = {}
        for stream in container.streams:
            streams[stream.index] = _Stream(
                stream.type or "unknown",
                stream.index,
                [],
                "",
                Fraction(stream.time_base or 1),
                _AVI_SLACK if container.format.name == "avi" else Fraction(0),
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
                if time is not None:
                    streams[packet.stream.index].pts.append(time)
                    if is_video and packet.is_keyframe:
                        streams[packet.stream.index].keys.append(time)
                if not is_video:
                    digests[packet.stream.index].update(_payload(packet))
        except av.error.FFmpegError as error:
            raise SourceError(f"{path}: reading failed: {error.strerror}") from error
        for index, stream in streams.items():
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


def _compare_pictures_stated(source: Path, output: Path, verdict: Verdict) -> None:
    """Size, aspect, rotation, depth and colour, as the first picture of each file has them."""
    first, second = _first_picture(source), _first_picture(output)
    (a, sar_a), (b, sar_b) = first, second
    scale = Fraction(b.width, a.width)
    verdict.facts["size"] = [[a.width, a.height], [b.width, b.height]]
    verdict.expect(
        scale == Fraction(b.height, a.height) and scale.denominator == 1,
        f"{b.width}x{b.height} is no whole multiple of {a.width}x{a.height}",
    )
    depth = [picture.format.components[0].bits for picture in (a, b)]
    verdict.expect(depth[1] >= depth[0], f"depth went from {depth[0]} to {depth[1]} bits")
    verdict.expect((sar_a or 1) == (sar_b or 1), f"sample aspect ratio went from {sar_a} to {sar_b}")
    for name in ("rotation", "colorspace", "color_primaries", "color_trc", "color_range"):
        was, now = int(getattr(a, name)), int(getattr(b, name))
        if name == "color_range" and {was, now} == {0, 1}:
            continue  # unsaid means limited: HEVC, VP9, AV1 always say it, H.264 does only beside another tag
        verdict.expect(was == now, f"{name.replace('_', ' ')} went from {was} to {now}")


def _first_picture(path: Path) -> tuple[av.VideoFrame, Fraction | None]:
    with open_input(path) as container:
        stream = main_video(container, path)
        for packet in container.demux(stream):
            try:
                for picture in packet.decode():
                    ratio = stream.codec_context.sample_aspect_ratio
                    return picture, Fraction(ratio) if ratio else None  # type: ignore[return-value]
            except av.error.InvalidDataError:
                continue
    raise SourceError(f"{path}: no picture can be decoded")


def _compare_times(before: _Stream, after: _Stream, start: Fraction | None, verdict: Verdict) -> None:
    verdict.facts["frames"] = [len(before.pts), len(after.pts)]
    if len(before.pts) != len(after.pts):
        verdict.findings.append(f"the input has {len(before.pts)} frames, the output {len(after.pts)}")
        return
    if not before.pts:
        return
    # A container that begins its own clock elsewhere (MPEG-TS) moves all streams alike; that is checked below.
    shift = after.pts[0] - before.pts[0]
    worst = max(abs(b - a - shift) for a, b in zip(before.pts, after.pts, strict=True))
    tolerance = _tolerance(before, after)
    verdict.facts["worst_pts_error_s"] = float(worst)
    verdict.expect(worst <= tolerance, f"frames are shown up to {float(worst) * 1e3:.3f} ms off")
    if start is None:
        verdict.facts["start_moved_s"] = float(shift)


def _tolerance(before: _Stream, after: _Stream) -> Fraction:
    """What the coarser clock of two containers must round: exact where one divides the other."""
    rounds = (before.resolution / after.resolution).denominator != 1
    return before.slack + after.slack + (after.resolution if rounds else 0)


def _compare_copies(
    before: list[_Stream],
    after: list[_Stream],
    video_in: _Stream,
    video_out: _Stream,
    start: Fraction | None,
    verdict: Verdict,
) -> None:
    left = list(after)
    verdict.facts["copied_streams"] = len(before)
    for stream in before:
        label = f"stream {stream.index} ({stream.kind})"
        match = next((s for s in left if s.kind == stream.kind and s.digest == stream.digest), None)
        if match is None:
            verdict.findings.append(f"{label}: no stream of the output has the same packets")
            continue
        left.remove(match)
        if stream.pts and match.pts and video_in.pts and video_out.pts:
            offset_in = stream.pts[0] - video_in.pts[0]
            offset_out = match.pts[0] - video_out.pts[0]
            drift = abs(offset_out - offset_in)
            allowed = _tolerance(stream, match) + _tolerance(video_in, video_out)
            if not (start is not None and stream.kind == "subtitle"):  # one that began before the cut now begins at it
                verdict.expect(drift <= allowed, f"{label} moved {float(drift) * 1e3:.3f} ms against the picture")
        tags: dict[str, str] = {}
        kept: dict[str, str] = {}
        copy_tags(stream.metadata, tags)
        copy_tags(match.metadata, kept)
        for key in ("language", "title"):
            was, now = (SAME_LANGUAGE.get(each.get(key, "und"), each.get(key, "und")) for each in (tags, kept))
            verdict.expect(was == now, f"{label}: {key} went from {was!r} to {now!r}")


def _compare_moments(source: Path, output: Path, pts_in: list[Fraction], after: _Stream, verdict: Verdict) -> None:
    """Compare pictures at a few moments: black, frozen, shifted or recoloured output does not pass."""
    if not pts_in:
        return
    pts_out = after.pts
    evenly = (round(i * (len(pts_in) - 1) / max(MOMENTS - 1, 1)) for i in range(MOMENTS))
    near = {_near_keyframe(pick, pts_out, after.keys) for pick in evenly}
    picks = sorted(near | {len(pts_in) - 1})  # the last frame too, wherever its keyframe is: a film frozen midway
    lowest = float("inf")
    for pick in picks:
        moment = pts_in[pick]
        a, b = _picture_at(source, moment), _picture_at(output, pts_out[pick])
        if a is None or b is None:
            verdict.findings.append(f"no picture can be decoded at {float(moment):.3f} s")
            continue
        likeness = [_likeness(p, q) for p, q in zip(a, b, strict=False)]
        lowest = min(lowest, *likeness)
        for plane, db in zip(("luma", "U", "V"), likeness, strict=False):
            wanted = _SAME_LUMA_DB if plane == "luma" else _SAME_CHROMA_DB
            sentence = f"the picture at {float(moment):.3f} s differs from the input's in its {plane} ({db:.1f} dB)"
            verdict.expect(db >= wanted, sentence)
    verdict.facts["moments"] = len(picks)
    verdict.facts["lowest_likeness_db"] = round(lowest, 2)


def _near_keyframe(pick: int, pts: list[Fraction], keys: list[Fraction]) -> int:
    """A frame at or before the picked one that decodes soon: at most AFTER_KEY frames behind its keyframe."""
    key = max((bisect_left(pts, k) for k in keys if k <= pts[pick]), default=pick)
    return min(pick, key + AFTER_KEY)


def _picture_at(path: Path, moment: Fraction) -> list[np.ndarray] | None:
    """Planes as 8 bits of the picture shown at a moment, luma (H, W) first; None if nothing decodes there."""
    with open_input(path) as container:
        stream = main_video(container, path)
        stream.thread_type = "AUTO"
        time_base = Fraction(stream.time_base or 1)
        if container.format.name != "mpegts":  # which seeks to where it likes
            container.seek(int(moment / time_base), stream=stream, backward=True)
        last: av.VideoFrame | None = None
        for packet in container.demux(stream):
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                continue
            for picture in pictures:
                last = picture  # type: ignore[assignment]
                if picture.pts is None or picture.pts * time_base >= moment:
                    return _planes8(last)  # type: ignore[arg-type]
        return _planes8(last) if last else None


def _planes8(picture: av.VideoFrame) -> list[np.ndarray]:
    shift = picture.format.components[0].bits - 8
    planes = [np.from_dlpack(plane) for plane in picture.planes]
    return [(np.asarray(plane, np.int32) >> shift).astype(np.uint8) if shift else plane for plane in planes]


def _likeness(small: np.ndarray, large: np.ndarray) -> float:
    """PSNR in dB of a plane against a larger one brought down to its size."""
    same_size = cv2.resize(large, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    mse = float(np.mean((same_size.astype(np.float32) - small.astype(np.float32)) ** 2))
    return float(10 * np.log10(255**2 / max(mse, 1e-9)))
