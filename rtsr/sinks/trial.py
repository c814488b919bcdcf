"""What a container does not keep of chapters, tags, languages and titles, found by writing a little of the film."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import av.container
import av.error

from rtsr.errors import ConfigError
from rtsr.sinks.copy import CopiedStreams
from rtsr.sinks.plans import StreamPlan
from rtsr.sinks.tags import copy_tags, muxer_options, same_language
from rtsr.sources.media import Input, open_input

_TRIED_S = Fraction(2)
# A codec that each container holds, for the video stream without which some write nothing.
_VIDEO = {"mpegts": "mpeg2video", "webm": "libvpx-vp9"}
_SIDE = 32  # pixels


def lost_tags(path: Input, plans: list[StreamPlan], container_format: str) -> list[str]:
    """One phrase for everything of that kind the container would lose. plans: what becomes of each stream.

    Raises SourceError, ConfigError for packets that the container refuses.
    """
    with open_input(path) as source:
        chapters = source.chapters()
        tags: dict[str, str] = {}
        copy_tags(source.metadata, tags)
        kept = {plan.index for plan in plans if plan.action in ("copy", "convert")}
        streams = [(s.index, s.type, dict(s.metadata)) for s in source.streams if s.index in kept]
    if container_format in ("gif", "image2"):
        return _phrases(chapters, tags, [])
    with _written(path, plans, container_format) as result:
        found = {key.lower() for key in result.metadata}
        missing = {key: value for key, value in tags.items() if key.lower() not in found}
        lost = _phrases(chapters if len(result.chapters()) < len(chapters) else [], missing, [])
        for kind in ("audio", "subtitle"):
            written = [dict(s.metadata) for s in result.streams if s.type == kind]
            wanted = [(index, metadata) for index, k, metadata in streams if k == kind]
            for (index, before), after in zip(wanted, written, strict=False):
                lost += [f"the {key} of stream {index} ({value})" for key, value in _differing(before, after)]
    return lost


def _written(path: Input, plans: list[StreamPlan], container_format: str) -> av.container.InputContainer:
    """The first seconds of all streams but the picture, in memory."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format=container_format, options=muxer_options(container_format, path)) as container:
            _write(path, plans, container)
    except av.error.FFmpegError as error:
        raise ConfigError(f"{path}: {container_format} does not take its packets ({error.strerror})") from error
    file.seek(0)
    return av.open(file, "r", format=_reader(container_format))


def _write(path: Input, plans: list[StreamPlan], container: av.container.OutputContainer) -> None:
    video: Any = container.add_stream(_VIDEO.get(container.format.name, "mpeg4"), rate=25)
    video.width = video.height = _SIDE
    video.pix_fmt = "yuv420p"
    copied = CopiedStreams(path, container, plans, None, None)
    picture = av.VideoFrame(_SIDE, _SIDE, "yuv420p")
    for plane in picture.planes:
        plane.update(bytes(plane.buffer_size))
    picture.pts = 0
    try:
        for packet in (*video.encode(picture), *video.encode(None)):
            container.mux(packet)
        copied.until(_TRIED_S)
    finally:
        copied.close()


def _reader(container_format: str) -> str:
    return {"mp4": "mov", "webm": "matroska"}.get(container_format, container_format)


def _differing(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str]]:
    """Language and title, where they went."""
    tags: dict[str, str] = {}
    kept: dict[str, str] = {}
    copy_tags(before, tags)
    copy_tags(after, kept)
    found = []
    if not same_language(tags.get("language"), kept.get("language")):
        found.append(("language", tags.get("language", "")))
    if tags.get("title") and tags["title"] != kept.get("title"):
        found.append(("title", tags["title"]))
    return found


def _phrases(chapters: list[Any], tags: dict[str, str], streams: list[str]) -> list[str]:
    phrases = [f"{len(chapters)} chapters"] if chapters else []
    if tags:
        phrases.append(f"the tags {', '.join(sorted(tags))}" if len(tags) > 1 else f"the tag {next(iter(tags))}")
    return phrases + streams
