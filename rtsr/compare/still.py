"""A still picture as a film of one frame."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from rtsr.frames import ColorTags, Frame, VideoSpec
from rtsr.pictures.read import read_picture
from rtsr.pixels import PixelFormat

_FULL = 2  # FFmpeg's AVColorRange
_TIME_BASE = Fraction(1, 25)


class StillSource:
    """Upright RGB of 8 bits, gray as three equal planes; what is transparent lies over mid-grey.

    kind: of its samples, for people. Raises SourceError or ConfigError.
    """

    damage: tuple[str, ...] = ()

    def __init__(self, path: Path):
        picture = read_picture(path)
        self.kind, self.icc = picture.kind, picture.metadata.icc
        self.notices = tuple(f"{what} is left out" for what in picture.losses)
        if picture.has_alpha:
            self.notices += ("what is transparent is shown over grey",)
        rgb = _eight_bits(_opaque(picture.upright(), picture.has_alpha))
        rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
        self._planes = np.ascontiguousarray(rgb[..., (1, 2, 0)].transpose(2, 0, 1))  # G, B, R
        pixels = PixelFormat("rgb", 8, (0, 0))
        height, width = rgb.shape[:2]
        self.spec = VideoSpec(width, height, _TIME_BASE, frames=1, pixels=pixels, color=ColorTags(0, range=_FULL))

    def frames(self) -> Iterator[Frame]:
        empty = np.empty((0, *self._planes.shape[1:]), self._planes.dtype)
        yield Frame(self._planes, empty, 0, _TIME_BASE, 1, pixels=self.spec.pixels)

    def close(self) -> None:
        pass


def _opaque(pixels: np.ndarray, has_alpha: bool) -> np.ndarray:
    """(H, W, C) without alpha: mixed with mid-grey by it."""
    if not has_alpha:
        return pixels
    white = np.iinfo(pixels.dtype).max
    alpha = pixels[..., -1:].astype(np.float32) / white
    return np.rint(pixels[..., :-1] * alpha + white / 2 * (1 - alpha)).astype(pixels.dtype)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Rounded; FFmpeg's scaler would dither."""
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)
