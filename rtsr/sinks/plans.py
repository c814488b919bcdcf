"""What becomes of each stream beside the picture: decided, and said, before anything is written."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import av
import av.container
import av.stream

from rtsr.errors import ConfigError
from rtsr.sinks.audio import AUDIO_ENCODERS, COPY, USUAL, add_audio
from rtsr.sinks.codecs import CONTAINERS, MPEGTS_CODECS
from rtsr.sinks.subtitles import LOST, conversion
from rtsr.sources.media import Input, is_cover, main_video, open_input

_TIMECODE = "timecode"


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
    name = codec_name(stream)
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
    name = codec_name(stream) if audio == COPY else av.Codec(AUDIO_ENCODERS[audio].name, "w").canonical_name
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


def codec_name(stream: Any) -> str:
    """The codec's own name, where a decoder may have another (av1: libdav1d)."""
    return stream.codec_context.codec.canonical_name if stream.codec_context else ""
