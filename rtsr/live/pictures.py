"""Between PyAV's pictures and live frames: 8-bit 4:2:0, even sizes, limited range, a matrix that is always told."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from rtsr.color import MATRIX_601, MATRIX_709, matrix_of
from rtsr.frames import ColorTags, Frame

_UNTOLD = 2  # AVColorSpace's unspecified


def av_picture(frame: Frame) -> av.VideoFrame:
    """The frame as FFmpeg takes it; shares the frame's memory where it can."""
    # NumPy lends no read-only memory, as a decoder's is.
    planes = tuple(np.require(plane, requirements=["C", "W"]) for plane in (frame.y[0], *frame.uv))
    return av.VideoFrame.from_dlpack(planes, format="yuv420p")


class LivePictures:
    """Takes decoded pictures of any format apart. One thread at a time.

    All planes are of the first picture's matrix. is_camera: what tells none is BT.601 at any size, as USB cameras mean
    it; else it is BT.709 from 720 lines on.
    """

    def __init__(self, is_camera: bool = False) -> None:
        self._is_camera = is_camera
        self._matrix: int | None = None  # of all planes
        self._reformatter = VideoReformatter()  # one for all: each keeps its own scaler

    def planes(self, picture: av.VideoFrame) -> tuple[np.ndarray, np.ndarray]:
        """y (1, H, W), uv (2, H/2, W/2), uint8, upright, H and W even: an odd last row or column is cut.

        They may be views on the decoder's memory.
        """
        matrix = self._matrix_of(picture)
        self._matrix = self._matrix or matrix
        if described(picture) is not None or matrix != self._matrix:
            picture = self._converted(picture, matrix, self._matrix)
        y, u, v = (np.from_dlpack(plane) for plane in picture.planes)
        height, width = picture.height // 2 * 2, picture.width // 2 * 2
        y = y[None, :height, :width]
        uv = np.stack([u[: height // 2, : width // 2], v[: height // 2, : width // 2]])
        if turns := round(picture.rotation / 90) % 4:
            y, uv = (np.ascontiguousarray(np.rot90(planes, turns, (1, 2))) for planes in (y, uv))
        return y, uv

    def color(self, picture: av.VideoFrame) -> ColorTags:
        """The tags of the planes that come of a picture like this."""
        matrix = self._matrix or self._matrix_of(picture)
        if _is_rgb(picture):
            return ColorTags(matrix, 1, 1, 1)
        return ColorTags(matrix, int(picture.color_primaries), int(picture.color_trc), 1)

    def _matrix_of(self, picture: av.VideoFrame) -> int:
        if _is_rgb(picture):
            return MATRIX_709
        told = int(picture.colorspace)
        return MATRIX_601 if self._is_camera and told == _UNTOLD else matrix_of(told, picture.height)

    def _converted(self, picture: av.VideoFrame, matrix: int, wanted: int) -> av.VideoFrame:
        return self._reformatter.reformat(
            picture,
            format="yuv420p",
            src_colorspace=matrix,
            dst_colorspace=wanted,
            src_color_range=ColorRange.JPEG if _is_full(picture) else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
            threads=1,
        )


def described(picture: av.VideoFrame) -> str | None:
    """The picture's format in words, if it must be converted: `yuv422p of full range`; None for 8-bit 4:2:0."""
    name = picture.format.name
    if name == "yuv420p" and not _is_full(picture):
        return None
    return f"{name} of full range" if _is_full(picture) and not _is_rgb(picture) else name


def _is_rgb(picture: av.VideoFrame) -> bool:
    return picture.format.is_rgb or picture.format.name == "pal8"


def _is_full(picture: av.VideoFrame) -> bool:
    """Whether black is 0. FFmpeg's scaler takes all gray for that."""
    name = picture.format.name
    return _is_rgb(picture) or name.startswith(("yuvj", "gray")) or int(picture.color_range) == ColorRange.JPEG


class ScreenPictures:
    """Makes BGR of frames, for screens and PNG files. One thread at a time."""

    def __init__(self, color: ColorTags) -> None:
        self._matrix = color.colorspace
        self._reformatter = VideoReformatter()

    def bgr(self, frame: Frame, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8, full range; of another size (width, height) if that is given. A new array."""
        picture = av_picture(frame)
        width, height = size or (picture.width, picture.height)
        made = self._reformatter.reformat(
            picture,
            width,
            height,
            format="bgr24",
            src_colorspace=matrix_of(self._matrix, picture.height),
            dst_colorspace=matrix_of(self._matrix, picture.height),
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BILINEAR if size is None else Interpolation.BICUBIC,
            threads=1,
        )
        return np.ascontiguousarray(made.to_ndarray())
