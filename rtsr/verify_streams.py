"""Whether the streams beside the picture are in an output: packet by packet, or by what they say and how they sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import av.container
import av.error
import av.stream
import numpy as np

from rtsr.sinks.plans import StreamPlan
from rtsr.sinks.subtitles import Cue, read_cues
from rtsr.sinks.tags import copy_tags, same_language
from rtsr.sources.media import Input, open_input

if TYPE_CHECKING:
    from rtsr.verify import Verdict

OPENING_PACKETS, _TELLING_BYTES = 500, 64  # silence makes small packets that are alike in any two tracks
_SOUND_MOMENTS, _MOMENT_S, _MOMENT_RATE = 6, 1, 8000
_PREROLL_S = 1  # decoders are in tune by then
_PADDING_S, _GAP_S = Fraction(1, 10), Fraction(5, 1000)
_LOWEST_HZ = 40  # below, encoders take out what nobody hears
_MOST_LAG_S = Fraction(25, 1000)
_IN_SYNC_S = Fraction(1, 1000)
# A lossy codec: levels within 1 dB, correlation over 0.9 below 4 kHz. Another track, or silence, is far off.
_SAME_LEVEL_DB, _SAME_SOUND, _CLEARLY_BETTER = 3.0, 0.7, 0.1
_AUDIBLE, _TELLING_LEVEL = 1e-3, 5e-3  # of full scale; what is softer is coded as noise
# Encoders begin with a little silence that not every container can hide, and fill their last frame.
_LEAD_IN_S, _SHORTER_S, _LONGER_S = Fraction(6, 100), Fraction(3, 100), Fraction(1, 10)
_SAME_MOMENT_MS = 2  # text counts in milliseconds, and both its begin and its file's clock are rounded
_FULL_RATE = 48000  # the most that some codecs have


@dataclass(slots=True)
class Track:
    """One stream's packets: times in seconds, exact, of all but the picture the first and the last; digest over all.

    resolution: a tick of its clock. slack: how far the container's reader may guess beside. keys: pts of keyframes.
    packets: how many of video there are, with times or without. reordered: they are not in the order of their times.
    faults: times that do not rise. opening: digests of the first packets that are large enough to tell tracks apart.
    """

    kind: str
    index: int
    codec: str
    pts: list[Fraction]
    digest: str
    resolution: Fraction
    slack: Fraction
    metadata: dict[str, str]
    disposition: int
    keys: list[Fraction] = field(default_factory=list)
    packets: int = 0
    reordered: bool = False
    faults: int = 0
    opening: set[bytes] = field(default_factory=set)

    def __str__(self) -> str:
        return f"stream {self.index} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two files and the part of the first, in seconds, that the second should be of. shift: of the clock."""

    source: Input
    output: Input
    start: Fraction | None
    end: Fraction | None
    shift: Fraction
    tolerance: Fraction


def tolerance(before: Track, after: Track) -> Fraction:
    """What the coarser clock of two containers must round: exact where one divides the other."""
    rounds = (before.resolution / after.resolution).denominator != 1
    return before.slack + after.slack + (after.resolution if rounds else 0)


def compare_streams(
    pair: Pair,
    before: list[Track],
    after: list[Track],
    videos: tuple[Track, Track],
    plans: list[StreamPlan] | None,
    verdict: Verdict,
    tags: bool = True,
) -> None:
    """Find each of `before` in `after`. plans: what was meant for each; None accepts copies and conversions.

    tags: whether languages and titles must be there, too.
    """
    left = list(after)
    meant = {plan.index: plan.action for plan in plans or ()}
    unmatched = []
    copied = 0
    for stream in before:
        action = meant.get(stream.index, "copy or convert")
        match = next((s for s in left if s.kind == stream.kind and s.digest == stream.digest), None)
        if match is None or action == "convert":
            unmatched.append((stream, action))
            continue
        left.remove(match)
        copied += 1
        _compare_offset(stream, match, videos, pair.start, verdict)
        if tags:
            _compare_tags(stream, match, verdict)
    verdict.facts["copied_streams"] = copied
    for stream, action in unmatched:
        candidates = [s for s in left if s.kind == stream.kind and _is_conversion(stream, s, action)]
        if not candidates:
            verdict.findings.append(f"{stream}: no stream of the output has the same packets")
            continue
        match, (findings, facts) = _best_match(pair, stream, candidates)
        left.remove(match)
        verdict.findings += findings
        verdict.facts |= facts
        if tags:
            _compare_tags(stream, match, verdict)
    if unmatched:
        verdict.facts["converted_streams"] = len(unmatched)


def _is_conversion(before: Track, after: Track, action: str) -> bool:
    """Whether another stream may be this one converted, and is no copy that lacks packets."""
    if action == "copy" or before.kind not in ("audio", "subtitle"):
        return False
    return action == "convert" or before.codec != after.codec or not before.opening & after.opening


def _best_match(pair: Pair, stream: Track, candidates: list[Track]) -> tuple[Track, tuple[list[str], dict[str, Any]]]:
    """The first candidate with which all is well, else the first; with what is wrong, and facts."""
    tried: list[tuple[list[str], dict[str, Any]]] = []
    for candidate in candidates:
        facts: dict[str, Any] = {}
        tried.append((_compare_converted(pair, stream, candidate, facts), facts))
        if not tried[-1][0]:
            return candidate, tried[-1]
    return candidates[0], tried[0]


def telling(payload: bytes) -> bool:
    return len(payload) >= _TELLING_BYTES


def _compare_offset(
    before: Track, after: Track, videos: tuple[Track, Track], start: Fraction | None, verdict: Verdict
) -> None:
    video_in, video_out = videos
    if not (before.pts and after.pts and video_in.pts and video_out.pts):
        return
    drift = abs((after.pts[0] - video_out.pts[0]) - (before.pts[0] - video_in.pts[0]))
    allowed = tolerance(before, after) + tolerance(video_in, video_out)
    if not (start is not None and before.kind == "subtitle"):  # one that began before the cut now begins at it
        verdict.expect(drift <= allowed, f"{before} moved {float(drift) * 1e3:.3f} ms against the picture")


def _compare_tags(before: Track, after: Track, verdict: Verdict) -> None:
    tags: dict[str, str] = {}
    kept: dict[str, str] = {}
    copy_tags(before.metadata, tags)
    copy_tags(after.metadata, kept)
    was, now = tags.get("language", "und"), kept.get("language", "und")
    verdict.expect(same_language(was, now), f"{before}: language went from {was!r} to {now!r}")
    was, now = tags.get("title", ""), kept.get("title", "")
    verdict.expect(was == now, f"{before}: title went from {was!r} to {now!r}")


def _compare_converted(pair: Pair, before: Track, after: Track, facts: dict[str, Any]) -> list[str]:
    if before.kind == "subtitle":
        return [f"{before}: {what}" for what in _compare_text(pair, before, after)]
    return [f"{before}: {what}" for what in _compare_sound(pair, before, after, facts)]


# ---- text ----


def _compare_text(pair: Pair, before: Track, after: Track) -> Iterator[str]:
    """Each line, and when it is shown: how lines are grouped into events differs between formats."""
    was = _shown(read_cues(pair.source, [before.index], pair.start, pair.end)[before.index], Fraction(0))
    shift = pair.shift + (pair.start or 0)
    now = _shown(read_cues(pair.output, [after.index])[after.index], shift)
    missing = [line for line in was if line not in now]
    if missing:
        first = min(missing, key=lambda line: was[line][0])
        yield f"{len(missing)} of {len(was)} lines are missing, the first at {was[first][0][0] / 1e3:.3f} s: {first!r}"
    if more := [line for line in now if line not in was]:
        yield f"{len(more)} lines are not in the input, such as {more[0]!r}"
    allowed = _SAME_MOMENT_MS + float(pair.tolerance) * 1e3
    for line in was.keys() & now.keys():
        spans = list(zip(was[line], now[line], strict=False))
        off = max(max(abs(a[0] - b[0]), abs(a[1] - b[1])) for a, b in spans)
        if len(was[line]) != len(now[line]) or off > allowed:
            yield f"the line {line!r}, due at {was[line][0][0] / 1e3:.3f} s, is shown at other times ({off:.0f} ms off)"
            return


def _shown(cues: list[Cue], shift: Fraction) -> dict[str, list[tuple[float, float]]]:
    """When each line of text is on the screen, in milliseconds."""
    spans: dict[str, list[tuple[float, float]]] = {}
    moved = float(shift * 1000)
    for cue in cues:
        for line in cue.text.splitlines():
            if words := " ".join(line.split()):
                known = spans.setdefault(words, [])
                begin, end = cue.begin - moved, cue.end - moved
                if known and begin <= known[-1][1] + _SAME_MOMENT_MS:
                    begin, end = known[-1][0], max(end, known[-1][1])
                    known.pop()
                known.append((begin, end))
    return spans


# ---- sound ----


@dataclass(frozen=True, slots=True)
class _Sound:
    """begin, end: seconds from the first to the last sample that is decoded."""

    rate: int
    channels: int
    begin: Fraction
    end: Fraction


def _compare_sound(pair: Pair, before: Track, after: Track, facts: dict[str, Any]) -> Iterator[str]:
    was, now = _sound(pair.source, before), _sound(pair.output, after)
    if was is None or now is None:
        if was is not None:
            yield "none of it can be decoded in the output"
        return
    if now.channels != was.channels:
        yield f"{was.channels} channels became {now.channels}"
        return
    if now.rate < min(was.rate, _FULL_RATE):
        yield f"its rate went from {was.rate} to {now.rate} Hz"
    begin = was.begin if pair.start is None else max(was.begin, pair.start)
    end = was.end if pair.end is None else min(was.end, pair.end)
    allowed = _IN_SYNC_S + pair.tolerance + tolerance(before, after)
    late, longer = now.begin - pair.shift - begin, now.end - pair.shift - end
    facts["sound_begins_later_s"], facts["sound_is_longer_s"] = float(late), float(longer)
    if late > allowed or (late < -_LEAD_IN_S - allowed and not after.slack):
        yield f"it begins {float(late) * 1e3:+.3f} ms beside its moment"
    if not -_SHORTER_S - allowed <= longer <= _LONGER_S + allowed:
        yield f"it ends {float(longer):+.3f} s beside its moment"
    moments = [begin + (end - begin - _MOMENT_S) * Fraction(i, _SOUND_MOMENTS - 1) for i in range(_SOUND_MOMENTS)]
    for moment in sorted({max(moment, begin) for moment in moments}):
        if what := _compare_moment(pair, before, after, moment, min(moment + _MOMENT_S, end), allowed, facts):
            yield f"at {float(moment):.3f} s {what}"
            return


def _compare_moment(
    pair: Pair, before: Track, after: Track, begin: Fraction, end: Fraction, allowed: Fraction, facts: dict[str, Any]
) -> str:
    """What is wrong with the sound of a second, in words; empty if nothing."""
    was = _heard(pair.source, before, begin, end)
    now = _heard(pair.output, after, begin + pair.shift, end + pair.shift)
    most = int((_MOST_LAG_S + after.slack + before.slack) * _MOMENT_RATE)
    if was is None or was.shape[1] <= 4 * most:
        return ""
    if now is None:
        return "nothing can be decoded"
    for number, (a, b) in enumerate(zip(was, now, strict=True), 1):
        levels = [float(np.sqrt(np.mean(np.square(channel)))) for channel in (a, b)]
        loudest = max(levels)
        change_db = 20 * np.log10(max(levels[1], 1e-9) / max(levels[0], 1e-9))
        if loudest > _AUDIBLE and levels[0] > _AUDIBLE / 2 and abs(change_db) > _SAME_LEVEL_DB:
            return f"channel {number} is {change_db:+.1f} dB beside its level"
        if levels[0] <= _AUDIBLE / 2 and levels[1] > _TELLING_LEVEL:
            return f"channel {number} is silent in the input and not in the output"
        if levels[0] < _TELLING_LEVEL:
            continue
        likeness = _likeness(a[most : len(a) - most], b)
        best = int(likeness.argmax())
        lag = Fraction(best - most, _MOMENT_RATE)
        facts["lowest_sound_likeness"] = round(min(facts.get("lowest_sound_likeness", 1.0), float(likeness[best])), 3)
        if likeness[best] < _SAME_SOUND:
            return f"channel {number} sounds different (correlation {likeness[best]:.2f})"
        near = int(allowed * _MOMENT_RATE) + 1  # a tone is like itself a period later, too
        in_time = likeness[max(most - near, 0) : most + near + 1].max()
        if likeness[best] > in_time + _CLEARLY_BETTER:
            return f"it is {float(lag) * 1e3:+.2f} ms beside its moment"
    return ""


def _likeness(inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Correlation of a piece of sound with a longer one, at each place where it fits."""
    power = np.cumsum(np.concatenate([[0.0], np.square(outer, dtype=np.float64)]))
    norms = np.sqrt(np.maximum(power[len(inner) :] - power[: len(outer) - len(inner) + 1], 0))
    return np.correlate(outer, inner, "valid") / np.maximum(norms * float(np.linalg.norm(inner)), 1e-12)


def _sound(path: Input, track: Track) -> _Sound | None:
    """Where a track's sound begins and ends; None if nothing of it can be decoded."""
    if not track.pts:
        return None
    first = next(_frames(path, track, track.pts[0]), None)
    if first is None:
        return None
    time, frame = first
    end = time + Fraction(frame.samples, frame.sample_rate)
    for late, last in _frames(path, track, track.pts[-1]):
        end = late + Fraction(last.samples, last.sample_rate)
    return _Sound(frame.sample_rate, frame.layout.nb_channels, time, end)


def _frames(path: Input, track: Track, begin: Fraction) -> Iterator[tuple[Fraction, Any]]:
    """Decoded frames and their times, from a little before `begin` on."""
    with open_input(path) as container:
        stream = container.streams[track.index]
        for other in container.streams:
            if other.index != track.index:
                other.discard = av.stream.Discard.all
        from_s = begin - _PREROLL_S
        if from_s > track.pts[0] + _PREROLL_S and container.format.name != "mpegts":  # which seeks to where it likes
            container.seek(int((from_s - _PREROLL_S) * av.time_base), backward=True)
        try:
            for packet in container.demux(stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if packet.size and stamp is not None and stamp * packet.time_base < from_s:
                    continue
                try:
                    frames: Any = packet.decode()
                except av.error.FFmpegError:
                    continue
                for frame in frames:
                    if frame.pts is not None:
                        yield frame.pts * Fraction(frame.time_base), frame
        except av.error.FFmpegError:
            return  # what was read is judged


def _heard(path: Input, track: Track, begin: Fraction, end: Fraction) -> np.ndarray | None:
    """Sound from begin to end at _MOMENT_RATE, float32 (channels, samples); None if there is none."""
    length = int((end - begin) * _MOMENT_RATE)
    sound: np.ndarray | None = None
    resampler: Any = None
    position, expected = 0, begin
    for time, frame in _frames(path, track, begin):
        if time >= (end if sound is None else end + _PADDING_S):
            break
        if sound is None:
            sound = np.zeros((frame.layout.nb_channels, length), np.float32)
        elif len(sound) != frame.layout.nb_channels:  # it changes midway
            break
        if resampler is None or abs(time - expected) > _GAP_S:
            _put(sound, resampler.resample(None) if resampler is not None else [], position)
            resampler = av.AudioResampler("flt", frame.layout, _MOMENT_RATE)
            position = round((time - begin) * _MOMENT_RATE)
        expected = time + Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        try:
            position = _put(sound, resampler.resample(frame), position)
        except ValueError:  # its rate changes midway
            break
    if sound is None:
        return None
    _put(sound, resampler.resample(None) if resampler is not None else [], position)
    spectrum = np.fft.rfft(sound)
    spectrum[:, : int(_LOWEST_HZ * length / _MOMENT_RATE)] = 0
    return np.fft.irfft(spectrum, length).astype(np.float32)


def _put(sound: np.ndarray, pieces: list[Any], position: int) -> int:
    """Write pieces of sound where they belong, as far as that is inside; returns where the next one does."""
    for piece in pieces:
        # Packed, for of eight planes PyAV shows a ninth that is not there.
        samples = piece.to_ndarray().reshape(-1, len(sound)).T
        first, last = max(position, 0), min(position + samples.shape[1], sound.shape[1])
        if first < last:
            sound[:, first:last] = samples[:, first - position : last - position]
        position += samples.shape[1]
    return position
