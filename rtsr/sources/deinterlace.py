"""Interlaced pictures into progressive ones, at the rate and the times that they have."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import av
import av.error
import av.filter
from av.video.reformatter import VideoReformatter

from rtsr.sources.nvdec import downloaded, planar_name

MODES = ("auto", "on", "off")


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded picture with what the decoder said of it. packets: read so far."""

    picture: av.VideoFrame
    pts: int | None
    duration: int
    is_corrupt: bool
    is_interlaced: bool
    packets: int


def deinterlaced(decoded: Iterable[Decoded], mode: str) -> Iterator[Decoded]:
    """One picture out for each one in, with its pts: bwdif (Weston's three-field filter and yadif's edges).

    mode `auto`: interlaced pictures only, others pass untouched; `on`: all; `off`: none. A picture depends on its two
    neighbours and nothing else, so that decoding may begin anywhere before them.
    """
    graph: av.filter.Graph | None = None
    download = VideoReformatter()
    waiting: deque[Decoded | None] = deque()
    before: Decoded | None = None  # the picture that passed last
    shape = None
    for item in decoded:
        picture = item.picture
        if (planar_name(picture), picture.width, picture.height) != shape:
            yield from _drain(graph, waiting, mode)
            graph, before, shape = None, None, (planar_name(picture), picture.width, picture.height)
        if graph is None and (mode == "on" or (mode == "auto" and item.is_interlaced)):
            graph = _bwdif(downloaded(picture, download))
            if before is not None:  # only to be a neighbour
                waiting.append(None)
                graph.push(downloaded(before.picture, download))
        if graph is None:
            yield item
            before = item
            continue
        waiting.append(item)
        graph.push(downloaded(picture, download))
        yield from _ready(graph, waiting, mode)
    yield from _drain(graph, waiting, mode)


def _bwdif(picture: av.VideoFrame) -> av.filter.Graph:
    """Filters all it is given: told to leave some alone it would treat the first of the others in its own way."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
    )
    graph.link_nodes(
        source, graph.add("bwdif", "mode=send_frame:parity=auto:deint=all"), graph.add("buffersink")
    ).configure()
    return graph


def _ready(graph: av.filter.Graph, waiting: deque[Decoded | None], mode: str) -> Iterator[Decoded]:
    while True:
        try:
            picture = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if (item := waiting.popleft()) is not None:
            yield replace(item, picture=picture) if mode == "on" or item.is_interlaced else item


def _drain(graph: av.filter.Graph | None, waiting: deque[Decoded | None], mode: str) -> Iterator[Decoded]:
    if graph is not None:
        graph.push(None)
        yield from _ready(graph, waiting, mode)
