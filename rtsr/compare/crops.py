"""One picture: the places where two films differ most, cut out and set side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rtsr.compare.films import Canvas, Fitting
from rtsr.compare.lettering import Lettering
from rtsr.compare.moments import Moment
from rtsr.display import clock_time
from rtsr.errors import ConfigError
from rtsr.sinks.writing import says_what_failed

_SHARE = 5  # a crop is this part of the picture's width
_SHAPE = (3, 2)  # width to height
_TILE = 480  # pixels, about: how wide a crop is shown
_GAP, _BACK = 8, 0

Place = tuple[int, int, int, int]  # left, top, width, height


class CropSheet:
    """Collects crops, a row for each moment, a column for each film.

    place: where to cut; None: wherever A and B differ most at that moment. labels: of the columns.
    Raises ConfigError for a place outside of the picture.
    """

    def __init__(
        self,
        output: Path,
        fittings: Sequence[Fitting],
        canvas: Canvas,
        labels: Sequence[str],
        place: Place | None,
        is_still: bool,
    ):
        self._output, self._fittings, self._labels, self._place = output, fittings, labels, place
        width, height = canvas.size
        if place and (place[0] + place[2] > width or place[1] + place[3] > height or min(place[2:]) < 4):
            raise ConfigError(f"--crop {place[2]}x{place[3]}+{place[0]}+{place[1]} is not within {width}x{height}")
        self._is_still = is_still
        self.notices: list[str] = []
        self._rows: list[tuple[str, list[np.ndarray]]] = []

    def add(self, moment: Moment) -> None:
        pictures = [fitting.bgr(frame) for fitting, frame in zip(self._fittings, moment.frames, strict=True)]
        left, top, width, height = self._place or where_most_differs(pictures[0], pictures[1])
        crops = [picture[top : top + height, left : left + width] for picture in pictures]
        larger = max(round(_TILE / width), 1)
        crops = [crop.repeat(larger, 0).repeat(larger, 1) for crop in crops]
        self._rows.append(
            (f"{clock_time(float(moment.seconds))}, {width}x{height}+{left}+{top}, {larger} times", crops)
        )

    def finish(self) -> None:
        """Write the PNG. Raises SinkError."""
        letters = Lettering(18)
        columns = len(self._labels)
        widths = [max(crops[i].shape[1] for _, crops in self._rows) for i in range(columns)]
        sheet = [_row([letters.box(label, w) for label, w in zip(self._labels, widths, strict=True)], widths)]
        for what, crops in self._rows:
            sheet += [_row(crops, widths), _row([letters.box(what, sum(widths))], [sum(widths) + _GAP * (columns - 1)])]
        ok, data = cv2.imencode(".png", np.vstack(sheet))
        part = self._output.with_name(self._output.name + ".part")
        with says_what_failed(self._output):
            if not ok:
                raise OSError("its pictures are too large for one PNG")
            part.write_bytes(data.tobytes())
            part.replace(self._output)

    def close(self) -> None:
        pass


def where_most_differs(a: np.ndarray, b: np.ndarray) -> Place:
    """The place of a fifth of the picture (H, W, 3) in which a and b differ most; its middle if they are equal."""
    height, width = a.shape[:2]
    wide = min(max(width // _SHARE, min(width, 96)), width)
    high = min(wide * _SHAPE[1] // _SHAPE[0], height)
    difference = cv2.absdiff(a, b).astype(np.float32).sum(axis=2) ** 2
    # Box sums: difference at the place of each window's upper left corner.
    sums = cv2.boxFilter(difference, -1, (wide, high), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    sums = sums[: height - high + 1, : width - wide + 1]
    if not difference.any():
        return (width - wide) // 2, (height - high) // 2, wide, high
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(left), int(top), wide, high


def _row(tiles: Sequence[np.ndarray], widths: Sequence[int]) -> np.ndarray:
    """Tiles (h, w, 3) beside each other in columns of these widths."""
    height = max(tile.shape[0] for tile in tiles)
    row = np.full((height + _GAP, sum(widths) + _GAP * (len(widths) + 1), 3), _BACK, np.uint8)
    left = _GAP
    for tile, width in zip(tiles, widths, strict=True):
        row[: tile.shape[0], left : left + tile.shape[1]] = tile
        left += width + _GAP
    return row
