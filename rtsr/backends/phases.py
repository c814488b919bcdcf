"""From what a `phases` engine gives to planes: luma interleaved, chroma enlarged.

An engine's graph ends before the pixel shuffle, because inference runtimes do it an order of magnitude slower than
one strided copy of scale-byte words: 0.4 ms against OpenVINO's 13 for 2560x1440 (docs/ARCHITECTURE.md).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from rtsr.frames import ChromaSiting, FrameBatch
from rtsr.pixels import YUV420P, PixelFormat

# A row of `scale` neighbouring output pixels is one word; numpy copies words of 2, 4 and 8 bytes natively.
_WORDS = {2: np.dtype(np.uint16), 3: np.dtype("V3"), 4: np.dtype(np.uint32), 6: np.dtype("V6"), 8: np.dtype(np.uint64)}


# Pixels mirrored around the frame before inference. Convolutions see zeros beyond their input, which would darken the
# rim of a bright picture by up to 34 code values. Costs 7 % more at 640x360. Mirrored rims come out up to 0.09 dB
# better on Set14 than repeated ones.
BORDER = 8


def bordered_shape(y: np.ndarray) -> list[int]:
    """Shape of y (N, C, H, W) as the net sees it: each plane a picture of its own, with its border."""
    n, channels, height, width = y.shape
    return [n * channels, 1, height + 2 * BORDER, width + 2 * BORDER]


def fill_bordered(target: np.ndarray, y: np.ndarray) -> None:
    """Copy y (N, C, H, W) into the middle of target (N*C, 1, ...) and mirror its rim around it, the outermost pixels
    included."""
    b = BORDER
    y = y.reshape(-1, 1, *y.shape[2:])
    if min(y.shape[2:]) < b:
        target[:] = np.pad(y, ((0, 0), (0, 0), (b, b), (b, b)), mode="symmetric")
        return
    target[..., b:-b, b:-b] = y
    target[..., :b, b:-b] = y[..., b - 1 :: -1, :]
    target[..., -b:, b:-b] = y[..., : -b - 1 : -1, :]
    target[..., :b] = target[..., 2 * b - 1 : b - 1 : -1]
    target[..., -b:] = target[..., -b - 1 : -2 * b - 1 : -1]


def interleave(phases: np.ndarray, scale: int, planes: int = 1) -> np.ndarray:
    """Pixel shuffle of what lies within the border: (N*C, H + 2 * BORDER, W + 2 * BORDER, scale*scale), uint8 or
    uint16 -> (N, C, scale*H, scale*W), a new array. planes: C.

    Phase i * scale + j of LR pixel (h, w) is HR pixel (h * scale + i, w * scale + j), as torch's pixel_shuffle.
    """
    n, height, width = phases.shape[0], phases.shape[1] - 2 * BORDER, phases.shape[2] - 2 * BORDER
    y = np.empty((n // planes, planes, height * scale, width * scale), phases.dtype)
    word = _WORDS[scale * phases.itemsize]
    words = np.ascontiguousarray(phases).view(word)[:, BORDER:-BORDER, BORDER:-BORDER]  # (N*C, H, W, scale)
    y.view(word).reshape(n, height, scale, width)[:] = words.transpose(0, 1, 3, 2)
    return y


def enlarge(
    planes: np.ndarray, height: int, width: int, scale: int, interpolation: int, white: int = 255
) -> np.ndarray:
    """Resize planes (N, C, h, w) by an integer scale and cut them to (N, C, height, width); dtype is kept.

    The cut matters for the chroma of odd-sized video, whose planes are rounded up. interpolation: an OpenCV flag.
    white: the largest code value; OpenCV's overshoot stops at the dtype's.
    """
    n, channels, h, w = planes.shape
    out = np.empty((n, channels, height, width), planes.dtype)
    exact = (height, width) == (h * scale, w * scale)
    for i in range(n):
        for c in range(channels):
            if exact:
                cv2.resize(planes[i, c], (width, height), dst=out[i, c], interpolation=interpolation)
            else:
                large = cv2.resize(planes[i, c], (w * scale, h * scale), interpolation=interpolation)
                out[i, c] = large[:height, :width]
    if white < np.iinfo(planes.dtype).max:
        np.minimum(out, white, out=out)
    return out


def enlarge_chroma(batch: FrameBatch, scale: int, interpolation: int = cv2.INTER_CUBIC) -> np.ndarray:
    """The batch's uv (N, K, h, w), scale times larger and in its place; cut as the larger picture's format says."""
    height, width = batch.pixels.chroma_size(*(side * scale for side in batch.size))
    if not batch.pixels.chroma_planes:
        return np.empty((len(batch), 0, height, width), batch.uv.dtype)
    uv = resite(batch.uv, batch.siting, scale, batch.pixels)
    return enlarge(uv, height, width, scale, interpolation, batch.pixels.white)


def resite(uv: np.ndarray, siting: ChromaSiting, scale: int, pixels: PixelFormat = YUV420P) -> np.ndarray:
    """Move small chroma planes (N, 2, h, w) so that enlarging them about their centre puts each sample in its place.

    A sample that lies on a luma pixel of the small picture must lie on one of the large picture too; about the centre
    it would land up to 1.5 luma pixels beside it at x4. Worth 0.35 dB of chroma (docs/ARCHITECTURE.md), costs 0.05 ms.
    """
    along, down = shift_kernels(siting, scale, pixels)
    if len(along) == len(down) == 1:
        return uv
    out = np.empty(uv.shape, uv.dtype)
    for source, target in zip(uv.reshape(-1, *uv.shape[2:]), out.reshape(-1, *uv.shape[2:]), strict=True):
        cv2.sepFilter2D(source, -1, along, down, dst=target, borderType=cv2.BORDER_REPLICATE)
    return np.minimum(out, pixels.white, out=out) if pixels.bits not in (8, 16) else out


def shift_kernels(siting: ChromaSiting, scale: int, pixels: PixelFormat) -> tuple[np.ndarray, np.ndarray]:
    """The taps along a row and down a column that move chroma so; a single one where there is nothing to do."""
    along, down = (
        _shift_kernel(scale, shared) if first else _shift_kernel(scale, 0)
        for first, shared in zip(siting.value, pixels.chroma, strict=True)
    )
    return along, down


@lru_cache
def _shift_kernel(scale: int, shared: int) -> np.ndarray:
    """Lanczos-3 taps that read a signal further on by (1 - 1/f) (1 - 1/scale) / 2 samples, f = 2**shared luma pixels
    to a sample: 1/4 - 1/(4 scale) where two share one, nothing (a single tap) where each has its own."""
    by = (1 - 2.0**-shared) * (1 - 1 / scale) / 2
    if by == 0:
        return np.ones(1, np.float32)
    at = np.arange(-3, 4) - by
    taps = np.where(abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)
    return (taps / taps.sum()).astype(np.float32)
