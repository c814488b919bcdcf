"""What a still picture is: its samples, and what lies beside them in its file."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rtsr.pictures import formats
from rtsr.pictures.exif import orientation


@dataclass(frozen=True, slots=True)
class Metadata:
    """All byte strings are as in the file, without its own framing; empty where there is nothing.

    exif: a TIFF structure (`II*` or `MM*`). density: pixels per inch, (x, y). text: of PNG's text chunks. segments: of
    a JPEG, (marker, payload). iptc: of a TIFF, (tag, value). color: PNG chunks, (name, data).
    """

    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    density: tuple[float, float] | None = None
    text: tuple[tuple[str, str], ...] = ()
    comment: bytes = b""
    segments: tuple[tuple[int, bytes], ...] = ()
    iptc: tuple[tuple[int, bytes], ...] = ()
    color: tuple[tuple[bytes, bytes], ...] = ()

    def parts(self) -> dict[str, object]:
        """What there is, by the names in formats.py."""
        named = {
            formats.ICC: self.icc,
            formats.EXIF: self.exif,
            formats.XMP: self.xmp,
            formats.DENSITY: self.density,
            formats.TEXT: self.text,
            formats.COMMENT: self.comment,
            formats.SEGMENTS: self.segments,
            formats.IPTC: self.iptc,
            formats.COLOR: self.color,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class JpegCoding:
    """How a JPEG was compressed. tables: quantisation, in the order of its components; sampling: 0 is 4:4:4, 1 4:2:2,
    2 4:2:0, -1 anything else."""

    tables: tuple[tuple[int, ...], ...]
    sampling: int
    progressive: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """pixels (H, W, C), uint8 or uint16: gray, gray and alpha, RGB, or RGB and alpha (not premultiplied), as stored:
    the EXIF orientation is not applied. losses: what reading it could not carry; notices: what changed without a loss.

    lossless: whether its file keeps every sample.
    """

    pixels: np.ndarray
    metadata: Metadata = field(default_factory=Metadata)
    jpeg: JpegCoding | None = None
    lossless: bool = True
    losses: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def is_gray(self) -> bool:
        return self.pixels.shape[2] < 3

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[2] in (2, 4)

    @property
    def bits(self) -> int:
        return 8 * self.pixels.itemsize

    @property
    def kind(self) -> str:
        """For people: `16-bit RGB with alpha`."""
        return f"{self.bits}-bit {'gray' if self.is_gray else 'RGB'}{' with alpha' * self.has_alpha}"

    def upright(self) -> np.ndarray:
        """The pixels turned as the EXIF orientation says, (H, W, C)."""
        return turned(self.pixels, orientation(self.metadata.exif))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8, to (H, W, C)."""
    if orientation >= 5:  # rows are columns
        pixels = pixels.transpose(1, 0, 2)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.ascontiguousarray(np.flip(pixels, flips)) if flips or orientation >= 5 else pixels
