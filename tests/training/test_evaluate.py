"""The rulers: each measures what it says, on cases whose answer is known."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import drawing

pytest.importorskip("torch")
pytest.importorskip("openvino")

from rtsr import vmaf
from rtsr.metrics import rgb_to_y
from training import clips, niqe
from training.distance import WEIGHTS, SqueezeDistance
from training.evaluate import flat_error, grid_energy, has_grid, measure_kernels, measure_sets, repeating_energy
from training.resize import imresize
from training.upscalers import Upscaler, enlarge_chroma, open_upscaler, to_planes, to_rgb


def with_luma(scale: int, luma) -> Upscaler:
    return Upscaler(scale, lambda y, uv: (luma(y), enlarge_chroma(uv, scale)))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_grid_of_one_code_value_is_found(scale: int) -> None:
    def gridded(y: np.ndarray) -> np.ndarray:
        large = imresize(y, scale)
        large[::scale, ::scale] += 2
        return large

    assert not has_grid(open_upscaler(f"bicubic:{scale}"))
    assert has_grid(with_luma(scale, gridded))
    assert flat_error(with_luma(scale, gridded)) == (2, 2)


def test_repeating_energy_by_hand() -> None:
    """A column pattern of +-1 that repeats every 4 pixels has a variance of 1, and a picture without one has none."""
    columns = np.tile(np.array([1, 1, -1, -1]), 64)
    y = (128 + np.broadcast_to(columns, (256, 256))).astype(np.uint8)
    assert repeating_energy(y, 4) == pytest.approx(1, rel=1e-6)
    assert repeating_energy(np.full((256, 256), 90, np.uint8), 4) == 0
    noise = np.random.default_rng(0).normal(128, 5, (256, 256)).astype(np.uint8)
    assert repeating_energy(noise, 4) < 0.1


def test_grid_energy_of_bicubic_is_small() -> None:
    found = grid_energy(open_upscaler("bicubic:4"))
    assert found["flat"] == 0
    assert found["gradient"] < 0.2  # two roundings, of 1/12 each


def test_planes_and_back() -> None:
    rgb = drawing(3, 64)
    y, uv = to_planes(rgb)
    assert np.abs(y.astype(int) - rgb_to_y(rgb)).max() <= 1
    assert np.abs(to_rgb(y, uv).astype(int) - rgb).max() <= 3  # rounded to 8 bits of limited range
    grey = np.full((4, 4, 3), 200, np.uint8)
    assert (to_planes(grey)[1] == 128).all()


def test_standard_figures_of_bicubic(benchmark_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published: 28.42 / 0.8104 on Set5 x4 (MATLAB); 28.41 here, with luma rounded to 8 bits between."""
    monkeypatch.setattr("training.evaluate.SETS", ("Set5",))
    found = measure_sets(open_upscaler("bicubic:4"), benchmark_sets)
    assert found["psnr_y"]["Set5"] == pytest.approx(28.42, abs=0.03)
    assert found["ssim_y"]["Set5"] == pytest.approx(0.8104, abs=1e-3)


def test_kernels_of_one_picture_set(benchmark_sets: Path) -> None:
    found = measure_kernels(open_upscaler("bicubic:4"), benchmark_sets)
    assert found["bicubic"] == pytest.approx(28.42, abs=0.05)
    assert found["nearest"] < found["bilinear"] < found["bicubic"]


def test_perceptual_distance_orders_what_eyes_order() -> None:
    if not WEIGHTS.exists():
        pytest.skip(f"the weights are not at {WEIGHTS}")
    distance, picture = SqueezeDistance(), drawing(1, 128)
    blurred = [cv2.GaussianBlur(picture, (0, 0), sigma) for sigma in (0.5, 1.5, 4)]
    found = [distance(np.asarray(x, np.uint8), picture) for x in blurred]
    assert distance(picture, picture) == 0
    assert 0 < found[0] < found[1] < found[2] < 2


def test_niqe_prefers_the_picture_to_its_ruins(benchmark_sets: Path) -> None:
    file = benchmark_sets / "BSD100" / "HR" / "img_008.png"
    y = rgb_to_y(np.asarray(cv2.imread(str(file)), np.uint8)[..., ::-1])
    rng = np.random.default_rng(0)
    blurred = np.asarray(cv2.GaussianBlur(y, (0, 0), 2.5), np.uint8)
    noisy = (y + rng.normal(0, 25, y.shape)).clip(0, 255).astype(np.uint8)
    assert niqe.niqe(y) < niqe.niqe(blurred)
    assert niqe.niqe(y) < niqe.niqe(noisy)


def test_asymmetric_gaussian_finds_what_made_the_numbers() -> None:
    x = np.random.default_rng(0).normal(0, 3, (96, 96))
    shape, left, right, mean = niqe.asymmetric_gaussian(x)
    assert shape == pytest.approx(2, abs=0.15)  # 2 is the Gaussian
    assert left == pytest.approx(3 * np.sqrt(2), rel=0.06)
    assert right == pytest.approx(left, rel=0.06)
    assert abs(mean) < 0.15


def moving(frames: int = 4, speed: int = 2) -> list[np.ndarray]:
    wide = cv2.resize(rgb_to_y(drawing(2, 240)), (300, 240))
    return [np.ascontiguousarray(wide[:, i * speed : i * speed + 240]).astype(np.uint8) for i in range(frames)]


def test_temporal_error_sees_motion_not_blur() -> None:
    truth = moving()
    still = [truth[0]] * 4
    soft = [np.asarray(cv2.GaussianBlur(frame, (0, 0), 1), np.uint8) for frame in truth]
    assert clips.temporal_error(truth, truth) == 0
    assert clips.temporal_error(still, truth) > 3 * clips.temporal_error(soft, truth)


def test_flicker_is_one_for_bicubic_and_more_for_what_amplifies_noise() -> None:
    still = rgb_to_y(drawing(2, 192))
    assert clips.flicker(lambda y: imresize(y, 2), 2, still, frames=4) == 1

    def sharpened(y: np.ndarray) -> np.ndarray:
        large = imresize(y, 2).astype(np.float32)
        return (large + 2 * (large - cv2.GaussianBlur(large, (0, 0), 1))).clip(0, 255).astype(np.uint8)

    assert clips.flicker(sharpened, 2, still, frames=4) > 1.2


def test_vmaf_of_the_truth_and_of_its_ruin() -> None:
    if not vmaf.ffmpeg():
        pytest.skip("no ffmpeg with libvmaf here; imageio-ffmpeg has one")
    truth = moving()
    ruined = [np.asarray(cv2.GaussianBlur(frame, (0, 0), 2), np.uint8) for frame in truth]
    same, worse = vmaf.measure(truth, truth), vmaf.measure(ruined, truth)
    assert same.keys() == worse.keys() == {"vmaf", "vmaf_neg"}
    assert same["vmaf_neg"] > 90
    assert worse["vmaf_neg"] < 60


def test_clip_figures(tmp_path: Path) -> None:
    from training.codecs import coded

    still = drawing(2, 240)
    clip = np.stack([np.roll(still, 2 * i, axis=1) for i in range(4)])
    (tmp_path / "clip_a.mkv").write_bytes(coded(clip, "libx264", 10))
    found = clips.measure_clips(lambda y: imresize(y, 2), 2, tmp_path)
    assert found.keys() == {"clip x264 crf23", "clip x264 crf28", "clip x265 crf28"}
    row = found["clip x264 crf23"]
    assert row["engine"] == row["bicubic"] > found["clip x264 crf28"]["bicubic"]
    assert {"engine_tof", "bicubic_tof", "lanczos_tof"} <= row.keys()
