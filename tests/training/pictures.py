"""Pictures made by a seed, for tests that need something to degrade and to learn."""

import cv2
import numpy as np


def drawing(seed: int, size: int = 160) -> np.ndarray:
    """An RGB picture with edges, lines and soft gradients: something a net can learn to sharpen."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size, size, 3), np.uint8)
    picture[:] = np.linspace(40, 200, size, dtype=np.uint8)[:, None, None]
    for _ in range(30):
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        a, b = (tuple(int(v) for v in rng.integers(0, size, 2)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.circle(picture, a, int(rng.integers(4, 30)), colour, -1, cv2.LINE_AA)
        else:
            cv2.line(picture, a, b, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
    return picture
