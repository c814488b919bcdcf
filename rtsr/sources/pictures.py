"""What a decoded picture is and holds: its format, its planes, and what travels beside them."""

from __future__ import annotations

import struct
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from rtsr.frames import HdrMetadata
from rtsr.pixels import PixelFormat

# Frame side data that no encoder here takes from us, for people. FFmpeg's names.
_BESIDE = {
    "DYNAMIC_HDR_PLUS": "HDR10+ scene data",
    "DOVI_METADATA": "Dolby Vision data",
    "DOVI_RPU_BUFFER": "Dolby Vision data",
    "DYNAMIC_HDR_VIVID": "HDR Vivid scene data",
    "STEREO3D": "the stereo 3D layout",
    "SPHERICAL": "the 360 degree projection",
}
# Picture codecs that write an alpha channel whether or not anything is transparent.
_OFTEN_OPAQUE = {"gif", "png", "apng", "webp", "bmp", "tiff"}


class PlaneReader:
    """Takes decoded pictures apart into planes of one format.

    pixels: the format that all of them become. Planar pictures of that format give views on the decoder's memory.
    """

    def __init__(self, pixels: PixelFormat):
        self._pixels = pixels
        self._reformatter = VideoReformatter()  # one for all: each keeps its own scaler

    def planes(self, picture: av.VideoFrame) -> tuple[np.ndarray, np.ndarray]:
        """y (C, H, W), uv (K, h, w); see Frame."""
        pixels = self._pixels
        if pixels.family == "gray" and pixels.alpha:
            y = self._gray_and_alpha(picture)
            return y, np.empty((0, *y.shape[1:]), y.dtype)
        if picture.format.name.replace("yuvj", "yuv") != pixels.name:
            picture = self._reformatter.reformat(picture, format=pixels.name, interpolation="BICUBIC", threads=1)
        planes = [np.from_dlpack(plane) for plane in picture.planes]
        if pixels.family == "yuv":
            y = np.stack([planes[0], planes[3]]) if pixels.alpha else planes[0][None]
            return y, np.stack(planes[1:3])
        y = planes[0][None] if len(planes) == 1 else np.stack(planes)
        return y, np.empty((0, *y.shape[1:]), y.dtype)

    def _gray_and_alpha(self, picture: av.VideoFrame) -> np.ndarray:
        """FFmpeg has gray with alpha as pairs of samples only, and its scaler would change the range."""
        pairs = np.from_dlpack(picture.planes[0])  # (H, W, 2)
        if picture.format.name.endswith("be"):
            pairs = pairs.byteswap()
        return np.ascontiguousarray(pairs.transpose(2, 0, 1))


def pixel_format(picture: av.VideoFrame, codec: str, keep_alpha: bool) -> PixelFormat | None:
    """The planes to take from pictures like this one, the first; None if they are no planes of integers.

    An alpha channel that is opaque all over counts as none where the codec always has one, unless keep_alpha.
    """
    pixels = PixelFormat.of(picture.format.name)
    if pixels and pixels.alpha and not keep_alpha and codec in _OFTEN_OPAQUE and is_opaque(picture, pixels):
        return pixels.without_alpha()
    return pixels


def is_opaque(picture: av.VideoFrame, pixels: PixelFormat) -> bool:
    """Whether alpha is at its white everywhere."""
    return bool((PlaneReader(pixels).planes(picture)[0][-1] == pixels.white).all())


def lost_beside(picture: av.VideoFrame) -> list[str]:
    """What a picture carries that cannot be carried on."""
    found = (what for kind, what in _BESIDE.items() if _side_data(picture, kind))
    return list(dict.fromkeys(found))


def captions(picture: av.VideoFrame) -> bytes:
    """The closed captions (CEA-608 and 708, as ATSC A/53 packs them) that belong to a picture; empty if none do."""
    return _side_data(picture, "A53_CC")


def captions_carrier(picture: av.VideoFrame) -> av.VideoFrame | None:
    """A tiny picture with the captions of this one, for Frame; None if it has none."""
    return picture.reformat(width=2, height=2, format="yuv420p") if captions(picture) else None


def hdr_metadata(picture: av.VideoFrame) -> HdrMetadata | None:
    """HDR10's static metadata of a picture."""
    primaries = luminance = light = None
    if data := _side_data(picture, "MASTERING_DISPLAY_METADATA"):  # AVMasteringDisplayMetadata
        *numbers, has_primaries, has_luminance = struct.unpack("=22i", data[:88])
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        ratios = [Fraction(numerator, denominator or 1) for numerator, denominator in pairs]
        if has_primaries:
            primaries = tuple(zip(ratios[0:8:2], ratios[1:8:2], strict=True))
        if has_luminance:
            luminance = ratios[8], ratios[9]
    if data := _side_data(picture, "CONTENT_LIGHT_LEVEL"):  # AVContentLightMetadata
        light = struct.unpack("=2I", data[:8])
    return HdrMetadata(primaries, luminance, light) if primaries or luminance or light else None


def _side_data(picture: av.VideoFrame, kind: str) -> bytes:
    """What travels beside a picture under FFmpeg's name `kind`; empty if nothing does.

    PyAV 18 gives nothing at all of a picture that carries a kind it has no name for (EXIF, which only still pictures
    have).
    """
    try:
        data = picture.side_data.get(kind)
    except ValueError:
        return b""
    return b"" if data is None else bytes(data)
