"""Degradations: the seed decides everything, and nothing moves the picture."""

from functools import partial

import numpy as np
import pytest
from pictures import drawing

pytest.importorskip("torch")

from training import degradations as d
from training.metrics import rgb_to_y

OPS = {
    "blur": partial(d.blur, chance=1),
    "noise": partial(d.noise, chance=1),
    "shrink": partial(d.shrink_randomly, scale=4),
    "bicubic": partial(d.shrink_bicubic, scale=2),
    "encode": d.encode,
}


@pytest.mark.parametrize("name", OPS)
def test_same_seed_same_pixels(name: str) -> None:
    clip = np.stack([rgb_to_y(drawing(i, 96)) for i in range(3)])
    before = clip.copy()
    first, again = (OPS[name](clip, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(clip, before)
    assert first.dtype == np.uint8


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("seed", range(12))
def test_shrinking_keeps_positions(scale: int, seed: int) -> None:
    """A ramp stays the same ramp at LR positions; nearest may be half an HR pixel off."""
    ramp = np.broadcast_to(np.arange(96, dtype=np.uint8) * 2, (1, 96, 96)).copy()
    small = d.shrink_randomly(ramp, np.random.default_rng(seed), scale)[0]
    positions = ((np.arange(96 // scale) + 0.5) * scale - 0.5) * 2
    assert np.abs(small[8, 4:-4] - positions[4:-4]).max() <= 1


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_encode_is_a_real_encode(codec: str) -> None:
    clip = np.stack([rgb_to_y(drawing(1, 96))] * 4)
    fine, coarse = (d.decode(d.coded(clip, codec, crf, "veryfast")) for crf in (10, 40))
    assert fine.shape == clip.shape
    error = [np.abs(x.astype(int) - clip).mean() for x in (fine, coarse)]
    assert error[0] < error[1]


def test_pan_moves_evenly_inside_the_picture() -> None:
    picture = np.arange(80 * 80, dtype=np.int64).reshape(80, 80) % 251
    for seed in range(20):
        clip = d.pan(picture.astype(np.uint8), 5, 48, np.random.default_rng(seed))
        assert clip.shape == (5, 48, 48)


def test_stream_pairs_belong_together() -> None:
    pictures = [rgb_to_y(drawing(i, 192)) for i in range(7)]
    pairs = d.stream_pairs(pictures, 2, np.random.default_rng(0), columns=2, rows=2)
    assert len(pairs) == 7
    for hr, lr in pairs:
        assert hr.shape == (lr.shape[0] * 2, lr.shape[1] * 2)
        small = d.shrink_bicubic(hr[None], np.random.default_rng(0), 2)[0]
        assert np.corrcoef(small.ravel(), lr.ravel())[0, 1] > 0.9
