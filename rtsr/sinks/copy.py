"""The streams that are not upscaled: copied packet by packet, so that nothing about them can change; or converted,
where the container has no place for them or where that was asked for."""

from __future__ import annotations

import heapq
import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.container
import av.error
import av.stream

from rtsr.errors import ConfigError
from rtsr.sinks.audio import AUDIO_ENCODERS, COPY, USUAL, EncodedTrack, add_audio
from rtsr.sinks.codecs import CONTAINERS, MPEGTS_CODECS
from rtsr.sinks.subtitles import LOST, add_subtitles, conversion, lost_with, packets_of, read_cues
from rtsr.sources.media import Input, is_cover, main_video, open_input

# Tags that describe the old file's making; the muxer writes its own.
_STALE_TAGS = {"encoder", "software", "major_brand", "minor_version", "compatible_brands", "duration"}
# Of packets that are no longer there: mkvmerge's statistics, and what Matroska says of each track.
_STALE_STREAM_TAGS = ("bps", "number_of_", "_statistics_", "duration")
_NEVER = "1970-01-01T00:00:00"  # the zero of a clock, which mp4 does not write
_TIMECODE = "timecode"
# Languages with two ISO 639-2 codes, bibliographic -> terminological, and QuickTime's own spelling of Swedish.
SAME_LANGUAGE = {
    **{"ger": "deu", "dut": "nld", "gre": "ell", "ice": "isl", "chi": "zho", "alb": "sqi", "mac": "mkd", "arm": "hye"},
    **{"geo": "kat", "tib": "bod", "bur": "mya", "may": "msa", "wel": "cym", "baq": "eus", "sve": "swe"},
    **{"fre": "fra", "rum": "ron", "cze": "ces", "slo": "slk", "per": "fas"},
}
# Of those, QuickTime has these in the first spelling, all others in the second; FFmpeg writes `und` for the rest.
_MOV_FIRST = set("ger dut gre ice chi alb mac arm geo tib bur may wel baq sve".split())  # noqa: SIM905
_FINEST_CLOCK = 7_200_000  # ticks a second; a multiple of 90 kHz, 48 kHz and 24, 25, 30 frames a second
# Matroska keeps covers as attachments of these names.
_COVER_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
# The container tags for which mp4 has a place that every player reads. Others need its key-value atom (mdta).
_MP4_TAGS = {
    *("title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping"),
    *("lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "episode_sort"),
    *("season_number", "media_type", "hd_video", "compilation", "track", "disc", "tmpo", "creation_time", "timecode"),
}


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What happens to one stream of the input.

    action: `upscale`, `copy`, `remake` (the muxer makes it from a tag), `convert` (to the codec `target`), `omit` (left
    out as asked) or `drop` (left out for want of a place); reason says why for the last four.
    """

    index: int
    kind: str
    codec: str
    action: str
    reason: str = ""
    target: str = ""

    def __str__(self) -> str:
        return f"stream {self.index} ({self.kind}, {self.codec})"


def plan_streams(path: Input, container_format: str, audio: str | None = COPY) -> list[StreamPlan]:
    """Decide for every stream of a file what the output container can do with it, by trying its header.

    audio: what sound is to be encoded with, one of AUDIO_ENCODERS; None for no sound. Raises SourceError.
    """
    with open_input(path) as container:
        main = main_video(container, path)
        plans = []
        for stream in container.streams:
            codec = stream.codec_context.name if stream.codec_context else _title(stream)
            kind = stream.type or "unknown"
            if stream.index == main.index:
                plans.append(StreamPlan(stream.index, kind, codec, "upscale"))
            elif kind == "data" and _TIMECODE in main.metadata and _TIMECODE in stream.metadata:
                plans.append(StreamPlan(stream.index, kind, _TIMECODE, "remake", "from the timecode tag"))
            elif kind == "data" and _is_chapter_track(stream, container):
                plans.append(StreamPlan(stream.index, kind, "chapters", "remake", "from the chapters"))
            elif stream.discard == av.stream.Discard.all:
                reason = "FFmpeg sets it aside, for its packets have no usable times"
                plans.append(StreamPlan(stream.index, kind, codec, "drop", reason))
            elif kind == "audio":
                plans.append(_plan_sound(stream, codec, container_format, audio))
            elif refusal := _refusal(stream, container_format):
                plans.append(_plan_misfit(stream, kind, codec, container_format, refusal))
            else:
                plans.append(StreamPlan(stream.index, kind, codec, "copy"))
        return plans


def _plan_sound(stream: Any, codec: str, container_format: str, audio: str | None) -> StreamPlan:
    if audio is None:
        return StreamPlan(stream.index, "audio", codec, "omit", "as asked")
    if refusal := _refusal(stream, container_format, audio):
        usual = USUAL.get(container_format) if audio == COPY and stream.codec_context is not None else None
        if usual and not _refusal(stream, container_format, usual):
            refusal += f"; --audio-codec {usual} converts it"
        return StreamPlan(stream.index, "audio", codec, "drop", refusal)
    if audio == COPY:
        return StreamPlan(stream.index, "audio", codec, "copy")
    return StreamPlan(stream.index, "audio", codec, "convert", "as asked", audio)


def _plan_misfit(stream: Any, kind: str, codec: str, container_format: str, refusal: str) -> StreamPlan:
    """Text whose packaging alone does not fit is converted; anything else would lose too much."""
    name = _codec_name(stream)
    if kind == "subtitle" and (target := conversion(name, container_format)):
        return StreamPlan(stream.index, kind, codec, "convert", f"{container_format} holds no {name}", target)
    if lost := LOST.get(name):
        refusal = f"{container_format} cannot hold it, and converting it would lose {lost}"
    return StreamPlan(stream.index, kind, codec, "drop", refusal)


def _is_chapter_track(stream: Any, container: av.container.InputContainer) -> bool:
    """mp4 and mov keep chapter titles in a text track, which FFmpeg shows both as chapters and as a data stream."""
    chapters = container.chapters()
    return bool(chapters) and stream.codec_context is None and stream.frames == len(chapters)


def _title(stream: Any) -> str:
    """What its maker called a stream of no known codec."""
    title = stream.metadata.get("title") or stream.metadata.get("handler_name") or ""
    return "".join(character for character in title if character.isprintable()).strip() or "unknown codec"


def _refusal(stream: Any, container_format: str, audio: str = COPY) -> str:
    """Why a container cannot hold a stream; empty if it can. Writes a header with this stream alone into memory.

    audio: what a sound stream is to be encoded with.
    """
    if stream.type == "audio" and stream.codec_context is None:
        return "its codec is unknown to FFmpeg"
    if is_cover(stream) and container_format not in ("matroska", "mp4", "mov"):
        return f"{container_format} holds no cover pictures"
    name = _codec_name(stream) if audio == COPY else av.Codec(AUDIO_ENCODERS[audio].name, "w").canonical_name
    if container_format == "avi" and name == "flac":  # its header is written, its packets are refused
        return f"avi cannot hold {'it' if audio == COPY else audio}"
    if container_format == "mpegts" and name not in MPEGTS_CODECS:
        return f"mpegts cannot hold {'it' if audio == COPY else audio}"
    output = av.open(io.BytesIO(), "w", format=container_format)
    try:
        if stream.type == "attachment":
            if container_format not in ("matroska", "webm"):
                return f"{container_format} holds no attachments"
            return ""
        if audio == COPY:
            output.add_stream_from_template(stream, opaque=True)
        else:
            add_audio(output, stream, audio)
        output.start_encoding()
    except ConfigError as error:
        return str(error)
    except (ValueError, LookupError, OSError) as error:  # FFmpegError derives from these, by cause
        return f"{container_format} cannot hold {'it' if audio == COPY else audio} ({error})"
    return ""


def _mov_language(code: str) -> str:
    """A language code in the spelling that FFmpeg's mov muxer knows."""
    code = SAME_LANGUAGE.get(code, code)
    return next((first for first in _MOV_FIRST if SAME_LANGUAGE[first] == code), code)


def _only_packet(path: Input, index: int) -> bytes:
    """The payload of a stream's first packet: a cover picture."""
    with open_input(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                return bytes(packet)
    return b""


def _codec_name(stream: Any) -> str:
    """The codec's own name, where a decoder may have another (av1: libdav1d)."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else ""


class CopiedStreams:
    """Feeds the streams beside the picture into an output, abreast of the video.

    Opens the input anew, with the video discarded, so that a badly interleaved file costs no memory.
    start, end: seconds on the container's clock; what lies outside is left out and the rest moves to zero.
    copied: packets by stream. damage: what could not be decoded of sound that is converted, complete after until(None).
    notices: what else a user should know.
    """

    def __init__(
        self,
        path: Input,
        output: av.container.OutputContainer,
        plans: list[StreamPlan],
        start: Fraction | None,
        end: Fraction | None,
    ):
        self._path = path
        self._input = open_input(path)
        self._decoded = open_input(path)
        self._output = output
        self._start, self._end = start, end
        self._streams: dict[int, Any] = {}
        self._tracks: dict[int, EncodedTrack] = {}
        self.copied: dict[int, int] = {}
        self.damage: list[str] = []
        self.notices: list[str] = []
        wanted = {plan.index: plan for plan in plans if plan.action in ("copy", "convert")}
        for stream in self._input.streams:
            plan = wanted.get(stream.index)
            if plan is None or plan.action == "convert":
                stream.discard = av.stream.Discard.all
            if plan is None:
                continue
            if (added := self._add(stream, plan)) is not None:
                self.copied[stream.index] = 0
                self._streams[stream.index] = added
            else:
                stream.discard = av.stream.Discard.all
        text = {plan.index: plan.target for plan in wanted.values() if plan.target and plan.kind == "subtitle"}
        feeds = [self._demux(), self._encode(), *self._convert(text)]
        self._packets = heapq.merge(*feeds, key=lambda feed: feed[0])
        self._next = next(self._packets, None)
        copy_tags(self._input.metadata, output.metadata)
        output.set_chapters(moved_chapters(self._input.chapters(), start, end))

    def _add(self, stream: Any, plan: StreamPlan) -> Any:
        """The output's stream for one of the input; None for a cover that was written as a Matroska attachment."""
        if is_cover(stream) and self._output.format.name == "matroska":
            picture = _only_packet(self._path, stream.index)
            name, mime = _COVER_TYPES.get(_codec_name(stream), ("cover.jpg", "image/jpeg"))
            added = self._output.add_attachment(stream.metadata.get("filename", name), mime, picture)
            copy_tags({k: v for k, v in stream.metadata.items() if k not in ("filename", "mimetype")}, added.metadata)
            return None
        tags = dict(stream.metadata)
        if plan.action == "convert":
            tags = {key: value for key, value in tags.items() if not key.lower().startswith(_STALE_STREAM_TAGS)}
        if plan.action == "copy":
            added = self._output.add_stream_from_template(stream, opaque=True)
        elif plan.kind == "subtitle":
            added = add_subtitles(self._output, plan.target)
        else:
            added = add_audio(self._output, stream, plan.target)
            source = self._decoded.streams[stream.index]
            self._tracks[stream.index] = EncodedTrack(source, added, self._output.format.name, self._start, self._end)
        copy_tags(tags, added.metadata)
        if self._output.format.name == "mov" and (language := stream.metadata.get("language")):
            added.metadata["language"] = _mov_language(language)
        if stream.type != "attachment":
            added.disposition = stream.disposition
        return added

    def until(self, seconds: Fraction | None) -> None:
        """Mux every packet due before `seconds` on the output's clock; all that are left for None."""
        while self._next is not None and (seconds is None or self._next[0] < seconds):
            _, index, packet = self._next
            packet.stream = self._streams[index]
            self._output.mux(packet)
            self.copied[index] += 1
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._input.close()
        self._decoded.close()

    def _convert(self, targets: dict[int, str]) -> list[Iterator[tuple[Fraction, int, Any]]]:
        """The lines of each stream of text that is converted. They are few, and known whole when the work begins."""
        feeds = []
        for index, cues in read_cues(self._path, targets, self._start, self._end).items():
            if lost := lost_with(cues, targets[index]):
                self.notices.append(f"stream {index} (subtitle): {lost}")
            feeds.append(_dated(index, packets_of(cues, targets[index])))
        return feeds

    def _encode(self) -> Iterator[tuple[Fraction, int, Any]]:
        """Packets of the sound that is converted."""
        for stream in self._decoded.streams:
            if stream.index not in self._tracks:
                stream.discard = av.stream.Discard.all
        if not self._tracks:
            return
        try:
            for packet in self._decoded.demux([self._decoded.streams[index] for index in self._tracks]):
                if packet.size:
                    index = packet.stream.index
                    yield from _dated(index, self._tracks[index].feed(packet))
        except av.error.InvalidDataError as error:
            self.damage.append(f"reading the sound stopped early: {error.strerror}")
        for index, track in self._tracks.items():
            yield from _dated(index, track.finish())
            self.damage += [track.damage] if track.damage else []
            self.notices += track.notices

    def _demux(self) -> Iterator[tuple[Fraction, int, Any]]:
        """Packets to copy with the time each is due and their stream, moved to the trim's start."""
        copied = [stream for stream in self._input.streams if stream.index in self._streams]
        streams = [stream for stream in copied if stream.discard != av.stream.Discard.all]
        if not any(stream.type != "attachment" for stream in streams):
            return
        offset = self._start or Fraction(0)
        last: dict[int, int] = {}
        repaired: Counter[int] = Counter()
        for packet in self._input.demux(streams):
            if packet.size == 0:  # the demuxer's end mark; a missing dts does not mean that
                continue
            time_base = packet.time_base
            assert time_base is not None, "a demuxed packet has its stream's time base"
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and not self._keeps(packet, stamp * time_base, time_base):
                continue
            if offset:
                shift = round(offset / time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                if packet.stream.type == "subtitle" and packet.pts is not None and packet.pts < 0:
                    # shown at the cut: it begins there and ends when it ended
                    packet.duration = (packet.duration or 0) + packet.pts
                    packet.pts = packet.dts = 0
            index = packet.stream.index
            if packet.dts is not None and packet.dts <= last.get(index, packet.dts - 1):
                # No muxer takes times that do not rise, in its own clock: none is coarser than a millisecond.
                packet.dts = last[index] + math.ceil(Fraction(1, 1000) / time_base)
                packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                repaired[index] += 1
            if packet.dts is not None:
                last[index] = packet.dts
            due = packet.dts if packet.dts is not None else packet.pts
            yield (Fraction(0) if due is None else due * time_base), index, packet
        for index, count in repaired.items():
            self.notices.append(f"{count} packets of stream {index} had times that do not rise; they were put in order")

    def _keeps(self, packet: Any, begin: Fraction, time_base: Fraction) -> bool:
        """Whether a packet lies in the trim. A sound frame counts by its begin, a subtitle by its whole time."""
        if self._end is not None and begin >= self._end:
            return False
        if self._start is None:
            return True
        if packet.stream.type == "subtitle":
            return begin + (packet.duration or 0) * time_base > self._start
        return begin >= self._start


def _dated(index: int, packets: Iterator[Any]) -> Iterator[tuple[Fraction, int, Any]]:
    for packet in packets:
        due = packet.dts if packet.dts is not None else packet.pts
        yield (due or 0) * Fraction(packet.time_base), index, packet


def same_language(one: str | None, other: str | None) -> bool:
    """Whether two codes mean one language; none at all is `und`."""
    one, other = one or "und", other or "und"
    return SAME_LANGUAGE.get(one, one) == SAME_LANGUAGE.get(other, other)


def copy_tags(source: dict[str, str], target: dict[str, str]) -> None:
    """Copy metadata, but for the tags that only describe how the old file was made."""
    tags = {key: value for key, value in source.items() if key.lower() not in _STALE_TAGS}
    if "creation_time" in tags:  # FFmpeg 9 joins the header's and the key-value atom's with a semicolon
        tags["creation_time"] = tags["creation_time"].partition(";")[0]
        if tags["creation_time"].startswith(_NEVER):
            del tags["creation_time"]
    if "name" in tags and "title" not in tags:
        tags["title"] = tags.pop("name")  # FFmpeg reads an mp4 track's title as `name` and writes it from `title`
    target.update(tags)


def muxer_options(container_format: str, copy_from: Input | None) -> dict[str, str]:
    """Options that make the muxer keep every container tag of a file, and the moment at which each stream begins."""
    if container_format not in ("mp4", "mov") or copy_from is None:
        return {}
    with open_input(copy_from) as container:
        tags = {key.lower() for key in container.metadata}
        clocks = [Fraction(stream.time_base).denominator for stream in container.streams if stream.time_base]
    # Edit lists, which say when each stream begins, count in the movie's own clock: milliseconds unless told otherwise.
    options = {"movie_timescale": str(min(math.lcm(*clocks), _FINEST_CLOCK))}
    if tags - _MP4_TAGS - _STALE_TAGS:
        options["movflags"] = "+use_metadata_tags"
    return options


def moved_chapters(chapters: list[Any], start: Fraction | None, end: Fraction | None) -> list[Any]:
    """PyAV's chapters within a trim, on the output's clock."""
    moved = []
    for chapter in chapters:
        time_base = chapter["time_base"]
        first = round(start / time_base) if start else 0
        last = round(end / time_base) if end is not None else chapter["end"]
        if chapter["end"] <= first or chapter["start"] >= last:
            continue
        begin, finish = max(chapter["start"], first) - first, min(chapter["end"], last) - first
        moved.append({**chapter, "start": begin, "end": finish})
    return moved


def require_all_kept(
    path: Input, plans: list[StreamPlan], drop_unsupported: bool, audio: str | None = COPY
) -> list[str]:
    """Raise ConfigError for streams the container cannot hold, unless dropping them was asked for.

    audio: as for plan_streams(). Returns one notice for each stream that is converted or left out.
    """
    dropped = [plan for plan in plans if plan.action == "drop"]
    if dropped and not drop_unsupported:
        what = "; ".join(f"{plan}: {plan.reason}" for plan in dropped)
        roomier = [suffix for suffix in (".mkv", ".mov") if _holds_all(path, CONTAINERS[suffix], audio)]
        other = f"name an output that ends in {' or '.join(roomier)}, which holds all, or " if roomier else ""
        them = "it" if len(dropped) == 1 else "them"
        raise ConfigError(f"{what}. Nothing was done: {other}pass --drop-unsupported to leave {them} out")
    notices = [f"{plan} is converted to {plan.target}: {plan.reason}" for plan in plans if plan.action == "convert"]
    notices += [f"{plan} is left out: {plan.reason}" for plan in plans if plan.action in ("drop", "omit")]
    if audio != COPY and not any(plan.kind == "audio" for plan in plans):
        option = "--no-audio" if audio is None else f"--audio-codec {audio}"
        notices.append(f"{option} has nothing to do: {path} has no sound")
    return notices


def _holds_all(path: Input, container_format: str, audio: str | None) -> bool:
    return all(plan.action != "drop" for plan in plan_streams(path, container_format, audio))
