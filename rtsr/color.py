"""Which matrix lies between YUV and RGB, where a video tells it and where it does not: one rule for all of rtsr."""

from __future__ import annotations

MATRIX_709, MATRIX_601, MATRIX_2020 = 1, 5, 9  # FFmpeg's AVColorSpace
HD_LINES = 720  # from here on, video that does not tell its matrix means BT.709, as players take it
# FFmpeg's AVColorSpace -> the names and numbers of swscale's matrices.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# swscale's matrix -> its kr and kb.
WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)
}  # fmt: skip


def matrix_of(colorspace: int, lines: int) -> int:
    """swscale's number of a matrix; where none is told, what players assume.

    lines: the height of the video that came in. An enlarged one still means what the small one meant.
    """
    return _MATRICES.get(colorspace, MATRIX_709 if lines >= HD_LINES else MATRIX_601)
