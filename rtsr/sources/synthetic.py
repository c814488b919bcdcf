"""Moving pictures made by arithmetic: for benchmarks, demos and tests that need no file."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from rtsr.frames import Frame, VideoSpec


class SyntheticSource:
    """A zone plate that pans over a colour ramp: moving detail of every spatial frequency, 8 bits, limited range."""

    damage: tuple[str, ...] = ()

    def __init__(self, width: int = 640, height: int = 360, frames: int = 240, rate: int = 24):
        self.spec = VideoSpec(width, height, Fraction(1, rate), Fraction(rate), frames, Fraction(frames, rate))
        margin = 64
        yy, xx = np.mgrid[0 : height + margin, 0 : width + margin].astype(np.float32)
        radius = np.hypot(yy - height / 2, xx - width / 2)
        plate = 0.5 + 0.5 * np.cos(radius**2 * (np.pi / (2.5 * max(height, width))))
        self._luma = np.round(40 + 160 * plate).astype(np.uint8)
        h, w = self.spec.pixels.chroma_size(height, width)
        ramp_u = np.broadcast_to(np.linspace(60, 196, w + margin), (h, w + margin))
        ramp_v = np.broadcast_to(np.linspace(60, 196, h)[:, None], (h, w + margin))
        self._chroma = np.round(np.stack([ramp_u, ramp_v])).astype(np.uint8)
        self._margin = margin

    def frames(self) -> Iterator[Frame]:
        spec = self.spec
        h, w = spec.pixels.chroma_size(spec.height, spec.width)
        for i in range(spec.frames or 0):
            dy, dx = (abs((k * i) % (2 * self._margin) - self._margin) for k in (1, 3))
            yield Frame(
                self._luma[None, dy : dy + spec.height, dx : dx + spec.width],
                self._chroma[:, :, dx : dx + w][:, :h],
                i,
                spec.time_base,
                1,
            )

    def close(self) -> None:
        pass
