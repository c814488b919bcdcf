"""imresize and the evaluator against the standard files: the proof that all PSNR figures mean what papers mean."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from rtsr.metrics import psnr, ssim
from training.evaluate import measure_sets
from training.resize import imresize
from training.upscalers import open_upscaler


@pytest.mark.parametrize("name", ["Set5", "Set14", "BSD100"])
def test_lr_files_are_reproduced_bit_by_bit(benchmark_sets: Path, name: str) -> None:
    for scale in (2, 3, 4):
        for file in sorted((benchmark_sets / name / f"LRx{scale}").glob("*.png"))[:14]:
            lr = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            hr = cv2.imread(str(benchmark_sets / name / "HR" / file.name), cv2.IMREAD_UNCHANGED)
            assert lr is not None and hr is not None
            hr = hr[: lr.shape[0] * scale, : lr.shape[1] * scale]
            np.testing.assert_array_equal(imresize(hr.astype(np.uint8), 1 / scale), lr, err_msg=str(file))


def test_bicubic_has_the_published_psnr(benchmark_sets: Path) -> None:
    found = measure_sets(open_upscaler("bicubic:4"), benchmark_sets)["psnr_y"]
    assert found == pytest.approx({"Set5": 28.43, "Set14": 26.09, "BSD100": 25.96}, abs=0.03)


def test_resize_keeps_flat_pictures_and_rounds_sizes_up() -> None:
    flat = np.full((21, 30, 3), 77, np.uint8)
    small = imresize(flat, 1 / 4)
    assert small.shape == (6, 8, 3)
    assert (small == 77).all()


def test_metrics_by_hand() -> None:
    a = np.zeros((32, 32), np.uint8)
    assert psnr(a, a + 16) == pytest.approx(20 * np.log10(255 / 16))
    assert psnr(a, a) == float("inf")
    b = a.copy()
    b[0] = 255  # only the border differs
    assert psnr(a, b, border=1) == float("inf")
    assert ssim(a, a) == pytest.approx(1)
    # two flat pictures: only the luminance term is left
    c1 = 2.55**2
    assert ssim(a + 100, a + 120) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1))
