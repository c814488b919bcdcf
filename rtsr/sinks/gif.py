"""A film's segments as an animated GIF: one palette for the whole of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.filter

from rtsr.errors import SinkError
from rtsr.frames import VideoSpec
from rtsr.journal import Journal
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.media import ffmpeg_path

_TICK = Fraction(1, 100)  # GIF's clock


def render_gif(journal: Journal, output: Path, spec: VideoSpec, size: tuple[int, int], origin: int) -> None:
    """Write `output` from a job's lossless segments.

    size: (width, height). origin: pts, in spec.time_base, that becomes zero.

    Times are rounded to hundredths of a second, which is all that GIF has. Raises SinkError.
    """
    with says_what_failed(output):
        palette = _palette(_pictures(journal, spec, origin), spec.pixels.alpha)
        with av.open(ffmpeg_path(output), "w", format="gif") as container:
            stream = container.add_stream("gif", rate=spec.rate or 25)
            stream.codec_context.time_base = _TICK
            stream.pix_fmt = "pal8"
            last = -1
            stream.width, stream.height = size
            for picture in _painted(_pictures(journal, spec, origin), palette):
                assert picture.pts is not None and picture.time_base is not None
                last = max(round(picture.pts * picture.time_base / _TICK), last + 1)
                picture.pts, picture.time_base = last, _TICK
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))


def _pictures(journal: Journal, spec: VideoSpec, origin: int) -> Iterator[av.VideoFrame]:
    """All pictures of the film, at their pts in spec.time_base."""
    for segment in journal.segments:
        with av.open(ffmpeg_path(journal.folder / segment.file)) as container:
            stream = container.streams.video[0]
            for picture in container.decode(stream):
                assert picture.pts is not None and stream.time_base is not None
                seconds = picture.pts * stream.time_base + (segment.first_pts - origin) * spec.time_base
                picture.pts, picture.time_base = round(seconds / spec.time_base), spec.time_base
                yield picture


def _palette(pictures: Iterable[av.VideoFrame], alpha: bool) -> av.VideoFrame:
    """The 256 colours that serve all pictures best."""
    graph: av.filter.Graph | None = None
    for picture in pictures:
        if graph is None:
            graph = av.filter.Graph()
            options = f"stats_mode=diff:reserve_transparent={int(alpha)}"
            graph.link_nodes(_buffer(graph, picture), graph.add("palettegen", options), graph.add("buffersink"))
            graph.configure()
        graph.push(picture)
    if graph is None:
        raise SinkError("no picture to make a GIF of")
    graph.push(None)
    return graph.pull()  # type: ignore[return-value]


def _painted(pictures: Iterable[av.VideoFrame], palette: av.VideoFrame) -> Iterator[av.VideoFrame]:
    """Pictures in the colours of the palette."""
    graph: av.filter.Graph | None = None
    for picture in pictures:
        if graph is None:
            graph = av.filter.Graph()
            paint = graph.add("paletteuse", "dither=sierra2_4a:diff_mode=rectangle")
            _buffer(graph, picture).link_to(paint, 0, 0)
            _buffer(graph, palette, picture.time_base).link_to(paint, 0, 1)
            paint.link_to(graph.add("buffersink"))
            graph.configure()
            palette.pts = picture.pts
            graph.push(palette, at=1)
            graph.push(None, at=1)
        graph.push(picture, at=0)
        yield from _ready(graph)
    if graph is not None:
        graph.push(None, at=0)
        yield from _ready(graph)


def _buffer(
    graph: av.filter.Graph, like: av.VideoFrame, time_base: Fraction | None = None
) -> av.filter.context.FilterContext:
    return graph.add_buffer(
        width=like.width, height=like.height, format=like.format, time_base=time_base or like.time_base
    )


def _ready(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.pull()  # type: ignore[misc]
        except (av.error.BlockingIOError, av.error.EOFError):
            return
