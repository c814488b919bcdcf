"""Interpolation as an engine: the floor of every comparison, and the exact double of every test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2

from rtsr.backends import inference_error
from rtsr.backends.phases import enlarge, enlarge_chroma
from rtsr.errors import ConfigError
from rtsr.frames import ChromaSiting, FrameBatch

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
        # Repeated samples stay where they are; shifted ones would be new values.
        placed = replace(batch, siting=ChromaSiting.CENTER) if self.name == "nearest" else batch
        try:
            y = enlarge(batch.y, height, width, self.scale, self._flag, batch.pixels.white)
            return batch.with_planes(y, enlarge_chroma(placed, self.scale, self._flag))
        except (MemoryError, cv2.error) as error:
            raise inference_error(self, batch, error) from error

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return map(self.infer, batches)

    def close(self) -> None:
        pass
