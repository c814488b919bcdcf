"""Interpolation as an engine: the floor of every comparison, and the exact double of every test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2

from rtsr.backends.phases import enlarge, resite
from rtsr.errors import ConfigError
from rtsr.frames import FrameBatch, chroma_size

INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


class ReferenceEngine:
    """Plain interpolation of all three planes, 8 to 16 bits; `nearest` repeats code values exactly."""

    backend = "reference"
    sha256 = ""

    def __init__(self, scale: int, interpolation: str = "bicubic"):
        if interpolation not in INTERPOLATIONS:
            raise ConfigError(f"unknown interpolation {interpolation!r}; known: {', '.join(INTERPOLATIONS)}")
        self.name = interpolation
        self.scale = scale
        self._flag = INTERPOLATIONS[interpolation]

    def infer(self, batch: FrameBatch) -> FrameBatch:
        height, width = (side * self.scale for side in batch.size)
        y = enlarge(batch.y, height, width, self.scale, self._flag, batch.bits)
        uv = batch.uv if self.name == "nearest" else resite(batch.uv, batch.siting, self.scale)
        uv = enlarge(uv, *chroma_size(height, width), self.scale, self._flag, batch.bits)
        return batch.with_planes(y, uv)

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return map(self.infer, batches)

    def close(self) -> None:
        pass
