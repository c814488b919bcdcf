"""Between PyAV's pictures and live frames: 8-bit 4:2:0, even sizes, limited range, a matrix that is always told."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from rtsr.frames import ColorTags, Frame

MATRIX_709, MATRIX_601, MATRIX_2020 = 1, 5, 9  # FFmpeg's AVColorSpace
# AVColorSpace -> swscale's matrix
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_HD_LINES = 720  # from here on, video that does not tell its matrix means BT.709


def matrix_of(colorspace: int, height: int) -> int:
    """swscale's number of a matrix; where none is told, what players assume."""
    return _MATRICES.get(colorspace, MATRIX_709 if height >= _HD_LINES else MATRIX_601)


class LivePictures:
    """Takes decoded pictures of any format apart. One thread at a time."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()  # one for all: each keeps its own scaler

    def planes(self, picture: av.VideoFrame) -> tuple[np.ndarray, np.ndarray]:
        """y (1, H, W), uv (2, H/2, W/2), uint8, upright, H and W even: an odd last row or column is cut.

        They may be views on the decoder's memory.
        """
        if picture.format.name != "yuv420p" or int(picture.color_range) == ColorRange.JPEG:
            picture = self._converted(picture)
        y, u, v = (np.from_dlpack(plane) for plane in picture.planes)
        height, width = picture.height // 2 * 2, picture.width // 2 * 2
        y = y[None, :height, :width]
        uv = np.stack([u[: height // 2, : width // 2], v[: height // 2, : width // 2]])
        if turns := round(picture.rotation / 90) % 4:
            y, uv = (np.ascontiguousarray(np.rot90(planes, turns, (1, 2))) for planes in (y, uv))
        return y, uv

    def color(self, picture: av.VideoFrame) -> ColorTags:
        """The tags of the planes that come of a picture like this."""
        if picture.format.is_rgb or picture.format.name == "pal8":
            return ColorTags(MATRIX_709, 1, 1, 1)
        matrix = matrix_of(int(picture.colorspace), picture.height)
        return ColorTags(matrix, int(picture.color_primaries), int(picture.color_trc), 1)

    def _converted(self, picture: av.VideoFrame) -> av.VideoFrame:
        matrix = self.color(picture).colorspace
        name = picture.format.name
        full = picture.format.is_rgb or "yuvj" in name or int(picture.color_range) == ColorRange.JPEG
        return self._reformatter.reformat(
            picture,
            format="yuv420p",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )


class ScreenPictures:
    """Makes BGR of frames, for screens and PNG files. One thread at a time."""

    def __init__(self, color: ColorTags) -> None:
        self._matrix = color.colorspace
        self._reformatter = VideoReformatter()

    def bgr(self, frame: Frame, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8, full range; of another size (width, height) if that is given. A new array."""
        picture = av.VideoFrame.from_dlpack(
            tuple(np.ascontiguousarray(plane) for plane in (frame.y[0], *frame.uv)), format="yuv420p"
        )
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
