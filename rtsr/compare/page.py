"""One HTML file that holds a comparison whole: pictures, figures, and what moves them. It asks no network for anything.

Its look is the live page's sheet and a little more (static/page.css).
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rtsr.compare.films import Canvas, Film, Fitting
from rtsr.compare.measure import DIGITS, TITLES, UNITS, Figures
from rtsr.compare.moments import Moment
from rtsr.errors import ConfigError
from rtsr.sinks.writing import says_what_failed

LARGEST_MB = 40  # of all pictures of a page
_LOSSLESS = 101  # OpenCV's quality of WebP without loss
_QUALITIES = (_LOSSLESS, 97, 92, 85, 75)
_LEAST_LOSSLESS = 0.5  # bytes a pixel, which few pictures need less than: trying takes seconds
_LARGEST_SIDE = 16383  # of a WebP picture
_THUMBNAIL = 128  # pixels wide
_STATIC = Path(__file__).parent / "static"
_LIVE_SHEET = Path(__file__).parent.parent / "live" / "web" / "static" / "style.css"


class Page:
    """Collects moments, up to `most` of them, and writes the page. labels: what stands beside each film's name.

    Pictures are WebP without loss as long as they fit in LARGEST_MB, else of a quality that is said on the page.
    Raises ConfigError for pictures that no page holds.
    """

    def __init__(
        self,
        output: Path,
        films: Sequence[Film],
        fittings: Sequence[Fitting],
        canvas: Canvas,
        labels: Sequence[str],
        most: int,
    ):
        if max(canvas.size) > _LARGEST_SIDE:
            raise ConfigError(f"a page holds pictures of up to {_LARGEST_SIDE} pixels a side; use -o NAME.png")
        self._output, self._films, self._fittings, self._canvas = output, films, fittings, canvas
        self._labels, self._room = labels, LARGEST_MB * 1_000_000 // most
        pixels = canvas.size[0] * canvas.size[1] * len(films)
        self._quality = 0 if pixels * _LEAST_LOSSLESS < self._room else 1
        self._moments: list[dict[str, Any]] = []

    def add(self, moment: Moment) -> None:
        pictures = [fitting.bgr(frame) for fitting, frame in zip(self._fittings, moment.frames, strict=True)]
        files = self._encoded(pictures)
        width = min(_THUMBNAIL, pictures[1].shape[1])
        height = max(round(pictures[1].shape[0] * width / pictures[1].shape[1]), 1)
        small = cv2.resize(pictures[1], (width, height), interpolation=cv2.INTER_AREA)
        self._moments.append(
            {
                "seconds": float(moment.seconds),
                "pictures": [_data_uri("webp", file) for file in files],
                "thumbnail": _data_uri("jpeg", _file(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])),
            }
        )

    def _encoded(self, pictures: Sequence[np.ndarray]) -> list[bytes]:
        """All films' pictures of a moment, of one quality: a comparison must be fair. Later ones are no better."""
        while True:
            setting = [cv2.IMWRITE_WEBP_QUALITY, _QUALITIES[self._quality]]
            files = [_file(".webp", picture, setting) for picture in pictures]
            if sum(map(len, files)) <= self._room or self._quality == len(_QUALITIES) - 1:
                return files
            self._quality += 1

    def finish(self, figures: Figures, notices: Sequence[str]) -> None:
        """Write the page. Raises SinkError."""
        told = list(notices)
        if (quality := _QUALITIES[self._quality]) != _LOSSLESS:
            told.append(
                f"the pictures of this page are WebP of quality {quality}: without loss they would take more than "
                f"{LARGEST_MB} MB; fewer --frames take less. All figures are of the films themselves"
            )
        page = (_STATIC / "page.html").read_text("utf-8")
        style = _LIVE_SHEET.read_text("utf-8") + (_STATIC / "page.css").read_text("utf-8")
        title = html.escape(f"{self._films[0].name} and {self._films[1].name}")
        # `<` as an escape: a file's name cannot end the script that holds it.
        data = json.dumps(self._data(figures, told), allow_nan=False).replace("<", "\\u003c")
        parts = {"title": title, "style": style, "script": (_STATIC / "page.js").read_text("utf-8"), "data": data}
        for name, text in parts.items():  # the data last: it may hold anything
            page = page.replace(f"{{{{{name}}}}}", text)
        part = self._output.with_name(self._output.name + ".part")
        with says_what_failed(self._output):
            part.write_text(page, "utf-8")
            part.replace(self._output)

    def close(self) -> None:
        pass

    def _data(self, figures: Figures, notices: list[str]) -> dict[str, Any]:
        aspect = float(self._films[0].aspect)
        width, height = self._canvas.size
        index = {seconds: i for i, seconds in enumerate(figures.seconds)}
        return {
            "films": [
                {"role": film.role, "name": film.name, "note": label}
                for film, label in zip(self._films, self._labels, strict=True)
            ],
            "shown": [round(width * aspect), height],
            "truth": figures.truth,
            "metrics": [
                {"key": key, "title": TITLES[key], "unit": UNITS[key], "digits": DIGITS[key]} for key in figures.metrics
            ],
            "seconds": figures.seconds,
            "series": _plain(figures.series),
            "summary": figures.summary(),
            "moments": [
                {**moment, "figures": _plain(figures.at(index[moment["seconds"]]))} for moment in self._moments
            ],
            "notices": notices,
        }


def _plain(value: Any) -> Any:
    """For JSON, which has no infinity: the PSNR of equal pictures is null. Six significant digits are enough."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _file(suffix: str, picture: np.ndarray, settings: list[int]) -> bytes:
    ok, data = cv2.imencode(suffix, picture, settings)
    if not ok:
        raise RuntimeError(f"OpenCV made no {suffix} of {picture.shape}")
    return data.tobytes()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
