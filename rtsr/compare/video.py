"""The split-screen film: A to the left of a line that moves, B to the right of it, with A's sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from rtsr.compare.films import Canvas, Film, Fitting
from rtsr.compare.lettering import Lettering, put
from rtsr.compare.moments import Moment
from rtsr.frames import ColorTags, FrameBatch
from rtsr.pixels import PixelFormat
from rtsr.sinks.audio import COPY, USUAL
from rtsr.sinks.codecs import CODECS, CONTAINERS, container_format, preferred_codecs
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sinks.plans import StreamPlan, plan_streams

FILM_SUFFIXES = tuple(suffix for suffix, container in CONTAINERS.items() if container not in ("gif", "image2"))
SWEEP_S = 8.0  # the line goes from the middle to the right, to the left and back in this time
_REACH = 0.42  # of the width, to each side of the middle
_RGB = PixelFormat("rgb", 8, (0, 0))


def line_at(seconds: float, width: int) -> int:
    """Where the line is, in pixels from the left."""
    return round(width * (0.5 + _REACH * math.sin(2 * math.pi * seconds / SWEEP_S)))


class SplitVideo:
    """Writes moments to a film; the output appears when finish() returns. Raises ConfigError or SinkError.

    labels: what to write on A and on B. ends_early: when another film ends before A, None if none does.
    """

    def __init__(
        self,
        output: Path,
        film: Film,
        fittings: Sequence[Fitting],
        canvas: Canvas,
        labels: tuple[str, str],
        ends_early: Fraction | None,
    ):
        container = container_format(output)
        self._output, self._film, self._fittings = output, film, fittings
        self._size = canvas.size[0] // 2 * 2, canvas.size[1] // 2 * 2
        self._ends_early = ends_early
        self._plans, self.notices = _sound(film, container)
        letters = Lettering(max(round(self._size[1] / 40), 14))
        self._margin = letters.height
        self._boxes = [letters.box(label, self._size[0] // 2 - 2 * self._margin) for label in labels]
        self._sink: FileSink | None = None
        self._begun: Fraction | None = None
        self._stack = ExitStack()
        codec = preferred_codecs(output, False)[0]
        quality = None if CODECS[codec].quality is None else max(CODECS[codec].default_quality - 3, 0)
        self._encoding = Encoding(crf=quality)
        self._encoding.check(output)

    def write(self, moment: Moment) -> None:
        frame = moment.frames[0]
        if self._begun is None:
            self._begun = moment.seconds
            self._sink = self._open(moment.seconds)
        assert self._sink is not None
        a, b = (
            np.array(fitting.bgr(shown)) for fitting, shown in zip(self._fittings[:2], moment.frames[:2], strict=True)
        )
        width, height = self._size
        line = line_at(float(moment.seconds - self._begun), width)
        put(a, self._boxes[0], self._margin, self._margin)
        put(b, self._boxes[1], max(width - self._margin - self._boxes[1].shape[1], 0), self._margin)
        b[:, :line] = a[:, :line]
        thick = max(width // 640, 1)
        b[:, max(line - thick, 0) : line + thick] = 255
        planes = np.ascontiguousarray(b[:height, :width, (1, 0, 2)].transpose(2, 0, 1))[None]  # G, B, R
        empty = np.empty((1, 0, height, width), np.uint8)
        self._sink.write(FrameBatch(planes, empty, (frame.pts,), frame.time_base, (frame.duration,), pixels=_RGB))

    def finish(self) -> None:
        assert self._sink is not None, "moments were written"
        self._sink.finish()
        self.notices += self._sink.joined.notices

    def close(self) -> None:
        """Without finish() nothing is left."""
        self._stack.close()

    def _open(self, begin: Fraction) -> FileSink:
        width, height = self._size
        film, spec = self._film, self._film.spec
        spec = replace(
            spec,
            width=width,
            height=height,
            pixels=_RGB,
            rotation=0,
            sample_aspect_ratio=film.aspect if film.size == self._size else None,
            color=ColorTags(0, spec.color.primaries, spec.color.trc, 2),
            siting=None,
            hdr=None,
        )
        sink = FileSink(
            self._output,
            spec,
            1,
            self._encoding,
            copy_from=film.media if self._plans else None,
            plans=self._plans,
            start=begin if begin > 0 else None,
            end=self._ends_early,
        )
        self._stack.callback(sink.close)
        return sink


def _sound(film: Film, container: str) -> tuple[list[StreamPlan], list[str]]:
    """A's sound, copied where the container holds it, else encoded as is usual there; and what to say about it."""
    plans = [plan for plan in plan_streams(film.media, container, COPY) if plan.kind == "audio"]
    if any(plan.action == "drop" for plan in plans) and (usual := USUAL.get(container)):
        plans = [plan for plan in plan_streams(film.media, container, usual) if plan.kind == "audio"]
    kept = [plan for plan in plans if plan.action in ("copy", "convert")]
    notices = [f"{plan} of A is converted to {plan.target}" for plan in kept if plan.action == "convert"]
    return kept, notices + [f"{plan} of A is left out: {plan.reason}" for plan in plans if plan not in kept]
