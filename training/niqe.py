"""NIQE (Mittal et al. 2013, "Making a completely blind image quality analyzer"): naturalness without a reference.

Statistics of mean-subtracted, contrast-normalised luma in patches of 96 pixels, set against those of good pictures. The
original's model of good pictures is not free; this one is fitted to the held-out training pictures by `python -m
training.niqe` (niqe.npz). Figures compare with each other, not with published ones. Lower is more natural.
"""

import argparse
import sys
from functools import lru_cache
from math import gamma
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

MODEL = Path(__file__).with_name("niqe.npz")
PATCH = 96
SHAPES = np.arange(0.2, 10, 0.001)  # candidates for a generalised Gaussian's shape


def niqe(y: NDArray[np.uint8], model: Path = MODEL) -> float:
    """Of a luma picture (H, W), both sides at least 96."""
    mean, covariance = load_model(model)
    own = features(y)
    own_mean, own_covariance = own.mean(0), np.cov(own, rowvar=False) if len(own) > 1 else np.zeros_like(covariance)
    gap = own_mean - mean
    return float(np.sqrt(gap @ np.linalg.pinv((covariance + own_covariance) / 2) @ gap))


@lru_cache
def load_model(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with np.load(file) as arrays:
        return arrays["mean"], arrays["covariance"]


def features(y: NDArray[np.uint8], sharpest: float = 0.0) -> NDArray[np.float64]:
    """(patches, 36): 18 statistics at full and at half size. sharpest: keep patches above this share of the best."""
    x = y[: y.shape[0] // PATCH * PATCH, : y.shape[1] // PATCH * PATCH].astype(np.float64)
    columns, kept = [], None
    for size in (PATCH, PATCH // 2):
        normal, contrast = normalise(x)
        patches = blocks(normal, size)
        if kept is None:
            sharpness = blocks(contrast, size).mean((1, 2))
            kept = sharpness >= sharpest * sharpness.max()
        columns.append(np.array([statistics(patch) for patch in patches[kept]]))
        x = cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float64)
    return np.concatenate(columns, axis=1)


def normalise(y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(y - local mean) / (local deviation + 1), and the deviation; 7x7 Gaussian of 7/6 pixels."""
    mean = cv2.GaussianBlur(y, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    square = cv2.GaussianBlur(y * y, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    deviation = np.sqrt(np.abs(square - mean * mean))
    return (y - mean) / (deviation + 1), deviation


def blocks(x: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(H, W) -> (patches, size, size), without overlap."""
    rows, columns = (side // size for side in x.shape)
    cut = x[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return cut.transpose(0, 2, 1, 3).reshape(-1, size, size)


def statistics(patch: NDArray[np.float64]) -> list[float]:
    """18 numbers: shape and width of the values' distribution, and of products of neighbours in four directions."""
    shape, left, right, _ = asymmetric_gaussian(patch)
    found = [shape, (left + right) / 2]
    for down, along in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right, mean = asymmetric_gaussian(patch * np.roll(patch, (down, along), axis=(0, 1)))
        found += [shape, mean, left, right]
    return found


def asymmetric_gaussian(x: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Moment fit of an asymmetric generalised Gaussian: shape, left and right scale, mean (Lasmar et al. 2009)."""
    left = np.sqrt(np.mean(x[x < 0] ** 2)) if (x < 0).any() else 1e-6
    right = np.sqrt(np.mean(x[x > 0] ** 2)) if (x > 0).any() else 1e-6
    ratio, square = left / right, max(float(np.mean(x**2)), 1e-12)
    r = np.mean(np.abs(x)) ** 2 / square * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, curve = shape_curve()
    shape = float(shapes[np.argmin((curve - r) ** 2)])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    left, right = float(left * scale), float(right * scale)
    return shape, left, right, (right - left) * gamma(2 / shape) / gamma(1 / shape)


@lru_cache
def shape_curve() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """gamma(2/a)^2 / (gamma(1/a) gamma(3/a)) over the candidates a."""
    values = [gamma(2 / a) ** 2 / (gamma(1 / a) * gamma(3 / a)) for a in SHAPES]
    return SHAPES, np.array(values)


def fit(pictures: list[NDArray[np.uint8]], file: Path = MODEL) -> None:
    """Model of good pictures from luma pictures: their patches with at least 0.75 of the best sharpness."""
    found = np.concatenate([features(y, 0.75) for y in pictures])
    np.savez(file, mean=found.mean(0), covariance=np.cov(found, rowvar=False))


def main(argv: list[str] | None = None) -> int:
    from rtsr.metrics import rgb_to_y
    from training.data import load_pictures

    p = argparse.ArgumentParser(prog="python -m training.niqe", description="Fit NIQE's model of good pictures.")
    p.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    args = p.parse_args(argv)
    fit([rgb_to_y(rgb) for split in ("val", "train") for rgb in load_pictures(args.data, split)[:125]])
    print(f"{MODEL} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
