"""Degradations: the seed decides everything, and nothing moves the picture."""

from functools import partial

import numpy as np
import pytest
from pictures import drawing

pytest.importorskip("torch")

from rtsr.metrics import rgb_to_y
from training import codecs
from training import degradations as d

OPS = {
    "blur": partial(d.blur, chance=1),
    "sinc": partial(d.sinc, chance=1),
    "noise": partial(d.noise, chance=1),
    "poisson": partial(d.poisson, chance=1),
    "rescale": partial(d.rescale, chance=1),
    "jpegs": partial(d.jpegs, chance=1),
    "shrink": partial(d.shrink_randomly, scale=4),
    **{codec: partial(codecs.encode, shares={codec: 1.0}) for codec in codecs.QUALITIES},
}


def clip(colour: bool, frames: int = 3) -> np.ndarray:
    pictures = [drawing(i, 96) for i in range(frames)]
    return np.stack(pictures if colour else [rgb_to_y(picture) for picture in pictures])


@pytest.mark.parametrize("colour", [False, True], ids=["luma", "rgb"])
@pytest.mark.parametrize("name", OPS)
def test_same_seed_same_pixels_and_the_input_stays(name: str, colour: bool) -> None:
    given = clip(colour)
    before = given.copy()
    first, again = (OPS[name](given, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(given, before)
    assert first.dtype == np.uint8
    assert first.ndim == given.ndim
    other = OPS[name](given, np.random.default_rng(6))
    assert other.shape != given.shape or not np.array_equal(other, given), "it does something"


def test_sinc_rings_and_keeps_the_mean() -> None:
    step = np.full((1, 64, 64), 60, np.uint8)
    step[..., 32:] = 190
    rung = d.sinc(step, np.random.default_rng(0), chance=1)
    assert rung.max() > 195
    assert abs(rung.mean() - step.mean()) < 1


def test_bessel_function() -> None:
    np.testing.assert_allclose(d.bessel_j1(np.array([0, 1, 5, 20.0])), [0, 0.4400506, -0.3275791, 0.0668331], atol=1e-6)


def test_shot_noise_grows_with_the_light() -> None:
    dark, light = (np.full((1, 96, 96), level, np.uint8) for level in (20, 200))
    spread = [d.poisson(x, np.random.default_rng(0), chance=1).std() for x in (dark, light)]
    assert 2 < spread[1] / spread[0] < 4.5  # the root of ten


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kernel", [*d.KERNELS, "area", "lanczos"])
def test_kernels_keep_flat_pictures_and_positions(kernel: str, scale: int) -> None:
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8) * 2, (96, 96)).copy()
    small = d.shrink(ramp, scale, kernel)
    positions = ((np.arange(96 // scale) + 0.5) * scale - 0.5) * 2
    assert np.abs(small[8, 6:-6] - positions[6:-6]).max() <= 1  # nearest may be half an HR pixel off
    np.testing.assert_array_equal(d.shrink(np.full((48, 48, 3), 77, np.uint8), scale, kernel), 77)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("seed", range(12))
def test_shrinking_keeps_positions(scale: int, seed: int) -> None:
    """A ramp stays the same ramp at LR positions; nearest may be half an HR pixel off."""
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8) * 2, (1, 96, 96)).copy()
    small = d.shrink_randomly(ramp, np.random.default_rng(seed), scale)[0]
    positions = ((np.arange(96 // scale) + 0.5) * scale - 0.5) * 2
    assert np.abs(small[8, 4:-4] - positions[4:-4]).max() <= 1


@pytest.mark.parametrize("codec", codecs.QUALITIES)
def test_encode_is_a_real_encode(codec: str) -> None:
    given = np.stack([rgb_to_y(drawing(1, 96))] * 4)
    fine, coarse = (codecs.decode(codecs.coded(given, codec, quality)) for quality in codecs.QUALITIES[codec])
    assert fine.shape == given.shape
    error = [np.abs(x.astype(int) - given).mean() for x in (fine, coarse)]
    assert 0 < error[0] < error[1]


def test_pan_moves_evenly_inside_the_picture() -> None:
    picture = np.arange(80 * 80, dtype=np.int64).reshape(80, 80) % 251
    for seed in range(20):
        clip = d.pan(picture.astype(np.uint8), 5, 48, np.random.default_rng(seed))
        assert clip.shape == (5, 48, 48)


@pytest.mark.parametrize("colour", [False, True], ids=["luma", "rgb"])
@pytest.mark.parametrize("profile", ["stream", "wild"])
def test_coded_pairs_belong_together(profile: str, colour: bool) -> None:
    pictures = [drawing(i, 192) if colour else rgb_to_y(drawing(i, 192)) for i in range(5)]
    pairs = d.coded_pairs(pictures, 2, np.random.default_rng(1), profile, columns=2, rows=2)
    assert len(pairs) == 5
    for hr, lr in pairs:
        assert hr.shape == (lr.shape[0] * 2, lr.shape[1] * 2, *lr.shape[2:])
        small = d.shrink(hr, 2, "bicubic")
        assert np.corrcoef(small.ravel(), lr.ravel())[0, 1] > (0.9 if profile == "stream" else 0.7)
