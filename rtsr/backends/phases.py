"""From what a `phases` engine gives to planes: luma interleaved, chroma enlarged.

An engine's graph ends before the pixel shuffle, because inference runtimes do it an order of magnitude slower than
one strided copy of scale-byte words: 0.4 ms against OpenVINO's 13 for 2560x1440 (docs/ARCHITECTURE.md).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from rtsr.frames import ChromaSiting, FrameBatch, chroma_size

# A row of `scale` neighbouring output pixels is one word; numpy copies words of 2, 4 and 8 bytes natively.
_WORDS = {2: np.dtype(np.uint16), 3: np.dtype("V3"), 4: np.dtype(np.uint32), 6: np.dtype("V6"), 8: np.dtype(np.uint64)}


# Pixels mirrored around the frame before inference. Convolutions see zeros beyond their input, which would darken the
# rim of a bright picture by up to 34 code values. Costs 7 % more at 640x360. Mirrored rims come out up to 0.09 dB
# better on Set14 than repeated ones.
BORDER = 8


def bordered_shape(y: np.ndarray) -> list[int]:
    """Shape of y (N, 1, H, W) with its border."""
    n, channels, height, width = y.shape
    return [n, channels, height + 2 * BORDER, width + 2 * BORDER]


def fill_bordered(target: np.ndarray, y: np.ndarray) -> None:
    """Copy y (N, 1, H, W) into the middle of target and mirror its rim around it, the outermost pixels included."""
    b = BORDER
    if min(y.shape[2:]) < b:
        target[:] = np.pad(y, ((0, 0), (0, 0), (b, b), (b, b)), mode="symmetric")
        return
    target[..., b:-b, b:-b] = y
    target[..., :b, b:-b] = y[..., b - 1 :: -1, :]
    target[..., -b:, b:-b] = y[..., : -b - 1 : -1, :]
    target[..., :b] = target[..., 2 * b - 1 : b - 1 : -1]
    target[..., -b:] = target[..., -b - 1 : -2 * b - 1 : -1]


def interleave(phases: np.ndarray, scale: int) -> np.ndarray:
    """Pixel shuffle of what lies within the border: (N, H + 2 * BORDER, W + 2 * BORDER, scale*scale), uint8 or uint16
    -> (N, 1, scale*H, scale*W), a new array.

    Phase i * scale + j of LR pixel (h, w) is HR pixel (h * scale + i, w * scale + j), as torch's pixel_shuffle.
    """
    n, height, width = phases.shape[0], phases.shape[1] - 2 * BORDER, phases.shape[2] - 2 * BORDER
    y = np.empty((n, 1, height * scale, width * scale), phases.dtype)
    word = _WORDS[scale * phases.itemsize]
    words = np.ascontiguousarray(phases).view(word)[:, BORDER:-BORDER, BORDER:-BORDER]  # (N, H, W, scale)
    y.view(word).reshape(n, height, scale, width)[:] = words.transpose(0, 1, 3, 2)
    return y


def enlarge(planes: np.ndarray, height: int, width: int, scale: int, interpolation: int, bits: int = 8) -> np.ndarray:
    """Resize planes (N, C, h, w) by an integer scale and cut them to (N, C, height, width); dtype is kept.

    The cut matters for the chroma of odd-sized video, whose planes are rounded up. interpolation: an OpenCV flag.
    bits: depth of a sample; OpenCV's overshoot stops at the dtype's white, not at this one's.
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
    if bits > 8:
        np.minimum(out, (1 << bits) - 1, out=out)
    return out


def enlarge_chroma(batch: FrameBatch, scale: int) -> np.ndarray:
    """The batch's uv, scale times larger by cubic interpolation: (N, 2, ceil(sH/2), ceil(sW/2))."""
    height, width = batch.size
    uv = resite(batch.uv, batch.siting, scale)
    return enlarge(uv, *chroma_size(height * scale, width * scale), scale, cv2.INTER_CUBIC, batch.bits)


def resite(uv: np.ndarray, siting: ChromaSiting, scale: int) -> np.ndarray:
    """Move small chroma planes (N, 2, h, w) so that enlarging them about their centre puts each sample in its place.

    A sample that lies on a luma pixel of the small picture must lie on one of the large picture too; about the centre
    it would land up to 1.5 luma pixels beside it at x4. Worth 0.35 dB of chroma (docs/ARCHITECTURE.md), costs 0.05 ms.
    """
    along, down = (_shift_kernel(scale) if first else np.ones(1, np.float32) for first in siting.value)
    if siting is ChromaSiting.CENTER:
        return uv
    out = np.empty(uv.shape, uv.dtype)
    for source, target in zip(uv.reshape(-1, *uv.shape[2:]), out.reshape(-1, *uv.shape[2:]), strict=True):
        cv2.sepFilter2D(source, -1, along, down, dst=target, borderType=cv2.BORDER_REPLICATE)
    return out


@lru_cache
def _shift_kernel(scale: int) -> np.ndarray:
    """Lanczos-3 taps that read a signal 1/4 - 1/(4 scale) samples further on."""
    at = np.arange(-3, 4) - (1 / 4 - 1 / (4 * scale))
    taps = np.where(abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)
    return (taps / taps.sum()).astype(np.float32)
