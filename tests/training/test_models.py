"""The ladder: fused equals unfused, untrained equals its interpolation."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.models import TIERS, build, interpolate, run_fused  # noqa: E402


def shaken(tier: str, scale: int):
    """A generator whose every parameter is off its initial value, as after training."""
    torch.manual_seed(0)
    G = build(tier, scale)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return G


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("tier", TIERS)
def test_fused_equals_unfused(tier: str, scale: int) -> None:
    G = shaken(tier, scale).double()
    y = torch.rand(2, 1, 20, 27).double()
    with torch.no_grad():  # the skip is summed in float32
        torch.testing.assert_close(run_fused(G.fuse(), y).float(), G(y).float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_untrained_net_is_bilinear(scale: int) -> None:
    y = np.random.default_rng(0).integers(0, 256, (24, 31)).astype(np.uint8)
    with torch.no_grad():
        sr = build("nano", scale)(torch.from_numpy(y)[None, None] / 255)
    sr = torch.pixel_shuffle(sr, scale)[0, 0].numpy() * 255
    expected = cv2.resize(y.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    inner = slice(scale, -scale)  # the outermost LR pixels see zero padding until the net has learnt it
    np.testing.assert_allclose(sr[inner, inner], np.asarray(expected)[inner, inner], atol=1e-2)


def test_interpolate_is_a_convolution() -> None:
    y, kernel = torch.rand(2, 1, 9, 7), torch.rand(16, 1, 3, 3)
    torch.testing.assert_close(interpolate(y, kernel), torch.nn.functional.conv2d(y, kernel, padding=1))


def test_every_hidden_layer_carries_y() -> None:
    y = torch.rand(1, 1, 12, 12)
    x = y
    with torch.no_grad():
        for weight, bias in shaken("fast", 4).fuse()[:-1]:
            x = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
            assert torch.equal(x[:, :1], y)


def test_macs_are_those_of_the_layers() -> None:
    for tier, shape in TIERS.items():
        assert shape.macs(4) == sum(layer.weight.numel() for layer in build(tier, 4).fuse())
    assert TIERS["nano"].macs(4) <= 5_000
    assert TIERS["fast"].macs(4) <= 20_000
    assert TIERS["balanced"].macs(4) <= 110_000
