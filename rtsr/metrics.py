"""PSNR and SSIM on luma the way the papers measure them: BT.601, a border of `scale` pixels shaved."""

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.float64]  # code values of 8 bits; with fractions where a sample had more


def rgb_to_y(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB or (H, W) grey uint8 -> (H, W) luma 16..235 (BT.601), rounded as MATLAB's rgb2ycbcr does."""
    if rgb.ndim == 2:
        rgb = np.repeat(rgb[..., None], 3, axis=2)
    y = rgb.astype(np.float32) @ np.array([65.481, 128.553, 24.966], np.float32) / 255 + 16
    return np.floor(y + 0.5).astype(np.uint8)


def psnr(a: Plane, b: Plane, border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB of two (H, W) pictures, peak 255, `border` pixels shaved from each side."""
    error = np.mean((shave(a, border).astype(np.float64) - shave(b, border)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(a: Plane, b: Plane, border: int = 0) -> float:
    """Structural similarity of two (H, W) pictures (Wang et al. 2004): 11x11 Gaussian, sigma 1.5, valid windows."""
    x, y = (shave(p, border).astype(np.float64) for p in (a, b))

    def mean(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return cv2.GaussianBlur(p, (11, 11), 1.5)[5:-5, 5:-5].astype(np.float64)

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))


def shave(picture: Plane, border: int) -> Plane:
    """Cut `border` pixels off each side."""
    height, width = picture.shape
    return picture[border : height - border, border : width - border]
