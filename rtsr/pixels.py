"""Pixel formats as planes: what a sample is, how coarse chroma lies, what there is besides."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

# FFmpeg's chroma names -> log2 of how many luma pixels share a sample, (across, down).
_CHROMA = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_NAME = re.compile(r"(?:yuv(?P<ya>a?)(?P<chroma>4\d\d)p|(?P<gray>gray|ya)|gbr(?P<ga>a?)p)(?P<bits>9|1[0246]|8)?(le)?")
# Formats that hold the same samples as a planar one, in another order: swscale takes them apart without loss.
_REPACKED = {
    **{"nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv24": "yuv444p", "nv42": "yuv444p"},
    **{"nv20le": "yuv422p10le", "p010le": "yuv420p10le", "p012le": "yuv420p12le", "p016le": "yuv420p16le"},
    **{"p210le": "yuv422p10le", "p212le": "yuv422p12le", "p216le": "yuv422p16le", "p410le": "yuv444p10le"},
    **{"y210le": "yuv422p10le", "y212le": "yuv422p12le", "yuyv422": "yuv422p", "uyvy422": "yuv422p"},
    **{"yvyu422": "yuv422p", "xv30le": "yuv444p10le", "vuyx": "yuv444p", "vuya": "yuva444p"},
    **{"rgb24": "gbrp", "bgr24": "gbrp", "rgb0": "gbrp", "bgr0": "gbrp", "0rgb": "gbrp", "0bgr": "gbrp"},
    **{"rgba": "gbrap", "bgra": "gbrap", "argb": "gbrap", "abgr": "gbrap", "pal8": "gbrap"},
    **{"rgb48le": "gbrp16le", "rgb48be": "gbrp16le", "bgr48le": "gbrp16le", "bgr48be": "gbrp16le"},
    **{"rgba64le": "gbrap16le", "rgba64be": "gbrap16le", "bgra64le": "gbrap16le", "bgra64be": "gbrap16le"},
    **{"x2rgb10le": "gbrp10le", "x2bgr10le": "gbrp10le", "rgb565le": "gbrp", "rgb555le": "gbrp", "rgb555be": "gbrp"},
    **{"rgb8": "gbrp", "bgr8": "gbrp", "rgb4_byte": "gbrp", "bgr4_byte": "gbrp", "monow": "gray", "monob": "gray"},
}


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """A planar format. family: `yuv`, `gray` or `rgb`; bits: of a sample; chroma: log2 of how many luma pixels share a
    chroma sample, (across, down), (0, 0) for gray and rgb."""

    family: str = "yuv"
    bits: int = 8
    chroma: tuple[int, int] = (1, 1)
    alpha: bool = False

    @classmethod
    def of(cls, name: str) -> PixelFormat | None:
        """The format whose samples FFmpeg's pixel format `name` holds; None if no planes of integers can hold them.

        The order of a packed format and full range (`yuvj420p`, which the range tag says as well) make no difference.
        """
        planar = _REPACKED.get(name, name).replace("yuvj", "yuv").removesuffix("be")
        match = _NAME.fullmatch(planar)
        if match is None:
            return None
        bits = int(match["bits"] or 8)
        if match["gray"]:
            return cls("gray", bits, (0, 0), match["gray"] == "ya")
        if match["chroma"]:
            return cls("yuv", bits, _CHROMA[match["chroma"]], bool(match["ya"])) if match["chroma"] in _CHROMA else None
        return cls("rgb", bits, (0, 0), bool(match["ga"]))

    @property
    def name(self) -> str:
        """FFmpeg's name; gray with alpha is packed there, everything else planar."""
        depth = "" if self.bits == 8 else f"{self.bits}le"
        if self.family == "gray":
            return f"ya{depth or '8'}" if self.alpha else f"gray{depth}"
        if self.family == "rgb":
            return f"gbr{'a' * self.alpha}p{depth}"
        chroma = next(name for name, shifts in _CHROMA.items() if shifts == self.chroma)
        return f"yuv{'a' * self.alpha}{chroma}p{depth}"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def white(self) -> int:
        """The largest code value."""
        return (1 << self.bits) - 1

    @property
    def full_planes(self) -> int:
        """Planes of the picture's own size: luma, or G, B and R; then alpha."""
        return (3 if self.family == "rgb" else 1) + self.alpha

    @property
    def chroma_planes(self) -> int:
        return 2 if self.family == "yuv" else 0

    def chroma_size(self, height: int, width: int) -> tuple[int, int]:
        """Size of a chroma plane, rounded up as FFmpeg does for odd sizes."""
        across, down = self.chroma
        return -(-height >> down), -(-width >> across)

    def without_alpha(self) -> PixelFormat:
        return replace(self, alpha=False)

    def holds(self, other: PixelFormat) -> bool:
        """Whether pictures in another format lose nothing in this one. RGB and YUV do not hold each other."""
        family = self.family == other.family or (self.family, other.family) == ("yuv", "gray")
        finer = other.family != "yuv" or all(a <= b for a, b in zip(self.chroma, other.chroma, strict=True))
        return family and finer and self.bits >= other.bits and self.alpha >= other.alpha

    def __str__(self) -> str:
        """For people: `10-bit 4:2:0`, `8-bit RGB with alpha`."""
        across, down = self.chroma
        kind = {"gray": "gray", "rgb": "RGB"}.get(self.family) or {
            shifts: ":".join(name) for name, shifts in _CHROMA.items()
        }[across, down]
        return f"{self.bits}-bit {kind}{' with alpha' * self.alpha}"


YUV420P = PixelFormat()
