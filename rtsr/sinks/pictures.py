"""Frames into pictures as an encoder takes them."""

from __future__ import annotations

import av
import av.video.plane
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from rtsr.color import matrix_of
from rtsr.frames import ColorTags, Frame
from rtsr.pixels import PixelFormat
from rtsr.sinks.encoding import Encoder

_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class PictureMaker:
    """Makes what an encoder takes of frames, without a copy where the encoder takes their planes as they are.

    color: the tags of the frames. lines: the height of the video before it was enlarged, which tells the matrix where
    the tags do not. size: (width, height) of the pictures to make.
    """

    def __init__(self, color: ColorTags, lines: int, encoder: Encoder, size: tuple[int, int]):
        self._color, self._lines, self._encoder, self._size = color, lines, encoder, size
        self._reformatter = VideoReformatter()  # one for all: each keeps its own scaler

    def make(self, frame: Frame) -> av.VideoFrame:
        """A picture with the frame's pixels and nothing else; time is the caller's."""
        picture = self._planar(frame)
        if picture.format.name != self._encoder.pix_fmt or (picture.width, picture.height) != self._size:
            picture = self._convert(picture, frame.pixels)
        picture.colorspace, picture.color_range = self._encoder.color.colorspace, self._encoder.color.range
        return picture

    def _planar(self, frame: Frame) -> av.VideoFrame:
        """The frame's planes as FFmpeg's planar format, without the alpha that the encoder would not keep."""
        pixels, target = frame.pixels, self._encoder.pixels
        y, uv = frame.y, frame.uv
        if pixels.alpha and not target.alpha:
            pixels, y = pixels.without_alpha(), y[:-1]
        if pixels.family == "gray":
            if pixels.alpha and target.family == "gray":
                return _copied((np.stack([y[0], y[1]], axis=-1).reshape(y.shape[1], -1),), pixels.name, y.shape[1:])
            if target.family == "yuv":  # by hand: FFmpeg's scaler takes all gray for full range
                pixels = PixelFormat("yuv", pixels.bits, target.chroma, pixels.alpha)
                neutral = np.full(pixels.chroma_size(*y.shape[1:]), 1 << (pixels.bits - 1), y.dtype)
                uv = (neutral, neutral)
        planes = (y[0], *uv, *y[1:]) if pixels.family == "yuv" else tuple(y)
        height, width = y.shape[1:]
        if height % 2 or width % 2:
            return _copied(planes, pixels.name, (height, width))
        return av.VideoFrame.from_dlpack(planes, format=pixels.name)

    def _convert(self, picture: av.VideoFrame, pixels: PixelFormat) -> av.VideoFrame:
        """Other samples, another size: one pass of FFmpeg's scaler, the matrix and the range said for both sides."""
        target = self._encoder.pixels
        source_matrix = matrix_of(self._color.colorspace, self._lines)
        told = self._encoder.color.colorspace
        matrix = matrix_of(told, self._lines) if target.family == "yuv" else source_matrix
        if pixels.family == "rgb":
            source_matrix = matrix
        resized = (picture.width, picture.height) != self._size
        return self._reformatter.reformat(
            picture,
            *self._size,
            format=self._encoder.pix_fmt,
            src_colorspace=source_matrix,
            dst_colorspace=matrix,
            src_color_range=_range(self._color, pixels),
            dst_color_range=_range(self._encoder.color, target),
            interpolation=(Interpolation.LANCZOS if resized else Interpolation.BICUBIC) | _EXACT,
            threads=1,
        )


def with_captions(picture: av.VideoFrame, carrier: av.VideoFrame) -> av.VideoFrame:
    """A copy of a picture that carries the carrier's closed captions: only FFmpeg's scaler hands them on."""
    found = carrier.reformat(picture.width, picture.height, picture.format.name, interpolation=Interpolation.POINT)
    for plane, pixels in zip(found.planes, picture.planes, strict=True):
        _fill(plane, np.from_dlpack(pixels))
    found.colorspace, found.color_range = picture.colorspace, picture.color_range
    found.pict_type = PictureType.NONE  # the input's would make the encoder's
    return found


def _range(color: ColorTags, pixels: PixelFormat) -> ColorRange:
    """FFmpeg's scaler takes all RGB for full range; other video that tells none is limited."""
    return ColorRange.JPEG if pixels.family == "rgb" or color.range == ColorRange.JPEG else ColorRange.MPEG


def _copied(planes: tuple[np.ndarray, ...], pix_fmt: str, size: tuple[int, ...]) -> av.VideoFrame:
    """A frame of its own with these planes: PyAV shares memory for planar formats of even sizes only."""
    height, width = size
    picture = av.VideoFrame(width, height, pix_fmt)
    for plane, pixels in zip(picture.planes, planes, strict=True):
        _fill(plane, pixels)
    return picture


def _fill(plane: av.video.plane.VideoPlane, pixels: np.ndarray) -> None:
    """Write (h, w) or (h, w, 2) samples into a plane, whose lines may be longer."""
    lines = pixels.reshape(len(pixels), -1)
    memory = np.frombuffer(plane, pixels.dtype)  # type: ignore[call-overload]
    memory = memory.reshape(-1, plane.line_size // pixels.itemsize)
    memory[: len(lines), : lines.shape[1]] = lines
