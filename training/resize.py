"""MATLAB's `imresize`, exact to the code value: the LR images of every super-resolution paper are made with it."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def cubic(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """Keys' cubic kernel with a = -0.5 (Keys 1981), support [-2, 2]."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def resize_matrix(size_in: int, size_out: int, scale: float) -> NDArray[np.float64]:
    """Rows of weights (size_out, size_in) that resize one axis by `scale`.

    Shrinking widens the kernel by 1/scale (antialias). Taps outside the picture fall on the border pixel (replicate),
    as in the MATLAB version that made the benchmark files; newer versions mirror.
    """
    stretch = min(scale, 1.0)
    taps = int(np.ceil(4 / stretch)) + 2
    centre = (np.arange(size_out) + 0.5) / scale - 0.5
    left = np.floor(centre - 2 / stretch).astype(int)
    where = left[:, None] + np.arange(taps)
    weights = stretch * cubic(stretch * (centre[:, None] - where))
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out)[:, None], where.clip(0, size_in - 1)), weights)
    return matrix


def imresize(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """Resize (H, W) or (H, W, C) uint8 bicubically, to ceil(H * scale) x ceil(W * scale).

    Rows first, then columns, rounded and clipped to uint8 between the passes: that is what MATLAB did, and
    what reproduces the LR files of Set5, Set14 and BSD100 bit by bit.
    """
    height, width = image.shape[:2]
    rows = resize_matrix(height, int(np.ceil(height * scale)), scale)
    columns = resize_matrix(width, int(np.ceil(width * scale)), scale)
    tall = to_uint8(np.tensordot(rows, image, axes=(1, 0)))
    return to_uint8(np.moveaxis(np.tensordot(columns, tall, axes=(1, 1)), 0, 1))


def to_uint8(x: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Round half up (MATLAB's way for positive numbers) and clip to 0..255."""
    return np.floor(x + 0.5).clip(0, 255).astype(np.uint8)
