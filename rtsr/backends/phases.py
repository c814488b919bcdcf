"""From what a `phases` engine gives to planes: luma interleaved, chroma enlarged.

An engine's graph ends before the pixel shuffle, because inference runtimes do it an order of magnitude slower than
one strided copy of scale-byte words: 0.4 ms against OpenVINO's 13 for 2560x1440 (docs/ARCHITECTURE.md).
"""

from __future__ import annotations

import cv2
import numpy as np

from rtsr.frames import FrameBatch, chroma_size

# A row of `scale` neighbouring output pixels is one word; numpy copies words of 2 and 4 bytes natively.
_WORDS = {2: np.dtype(np.uint16), 3: np.dtype("V3"), 4: np.dtype(np.uint32)}


def interleave(phases: np.ndarray, scale: int) -> np.ndarray:
    """Pixel shuffle: uint8 (N, H, W, scale*scale) -> (N, 1, scale*H, scale*W), a new array.

    Phase i * scale + j of LR pixel (h, w) is HR pixel (h * scale + i, w * scale + j), as torch's pixel_shuffle.
    """
    n, height, width, _ = phases.shape
    y = np.empty((n, 1, height * scale, width * scale), np.uint8)
    words = np.ascontiguousarray(phases).view(_WORDS[scale])  # (N, H, W, scale)
    y.view(_WORDS[scale]).reshape(n, height, scale, width)[:] = words.transpose(0, 1, 3, 2)
    return y


def enlarge(planes: np.ndarray, height: int, width: int, scale: int, interpolation: int) -> np.ndarray:
    """Resize planes (N, C, h, w) by an integer scale and cut them to (N, C, height, width); dtype is kept.

    The cut matters for the chroma of odd-sized video, whose planes are rounded up. interpolation: an OpenCV flag.
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
    return out


def enlarge_chroma(batch: FrameBatch, scale: int) -> np.ndarray:
    """The batch's uv, scale times larger by cubic interpolation: (N, 2, ceil(sH/2), ceil(sW/2))."""
    height, width = batch.size
    return enlarge(batch.uv, *chroma_size(height * scale, width * scale), scale, cv2.INTER_CUBIC)
