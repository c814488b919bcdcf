"""RGB generators: what they start as, their size, batch norms folded, ICNR, discriminators."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from training.discriminators import build_discriminator  # noqa: E402
from training.generators import MobileSR, RRDBLite, RRDBNet, SRResNet, ThinRRDBNet  # noqa: E402
from training.generators.layers import Interpolation, fold_batch_norms, icnr_  # noqa: E402
from training.rgb_export import macs_per_lr_pixel  # noqa: E402

SMALL = {
    "mobilenet": lambda scale: MobileSR(scale, width=8, blocks=2),
    "srresnet": lambda scale: SRResNet(scale, width=8, blocks=2),
    "rrdb": lambda scale: RRDBNet(scale, width=8, growth=4, blocks=1),
    "lite": lambda scale: RRDBLite(scale, width=8, growth=4, blocks=1),
    "thin": lambda scale: ThinRRDBNet(scale, width=8, growth=8, blocks=1),
}


def shaken(G: nn.Module) -> nn.Module:
    """Every parameter and batch norm statistic off its initial value, as after training."""
    torch.manual_seed(0)
    for tensor in (*G.parameters(), *(b for b in G.buffers() if b.is_floating_point() and b.ndim == 1)):
        tensor.data.add_(0.1 * torch.rand_like(tensor))
    return G


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", SMALL)
def test_untrained_net_is_an_interpolation(name: str, scale: int) -> None:
    x = torch.rand(2, 3, 9, 11)
    sr = SMALL[name](scale).eval()(x)
    assert sr.shape == (2, 3, 9 * scale, 11 * scale)
    expected = nn.functional.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
    torch.testing.assert_close(sr, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet", "srresnet", "lite"])
def test_folding_batch_norms_changes_nothing(name: str) -> None:
    G = shaken(SMALL[name](4)).eval()
    folded = fold_batch_norms(G)
    assert any(isinstance(m, nn.BatchNorm2d) for m in G.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    x = torch.rand(1, 3, 12, 12)
    torch.testing.assert_close(folded(x), G(x), atol=1e-5, rtol=1e-5)


def test_icnr_starts_without_a_checkerboard() -> None:
    conv = nn.Conv2d(6, 5 * 9, 3, padding=1, bias=False)
    icnr_(conv.weight, 3)
    large = nn.PixelShuffle(3)(conv(torch.rand(1, 6, 7, 7)))
    blocks = large.unfold(2, 3, 3).unfold(3, 3, 3)
    torch.testing.assert_close(blocks, blocks[..., :1, :1].expand_as(blocks))
    assert conv.weight.std() > 0


def test_published_sizes() -> None:
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in {
        "srresnet": SRResNet(), "esrgan": RRDBNet(), "lite": RRDBLite(), "thin": ThinRRDBNet(),
    }.items()}  # fmt: skip
    assert count["srresnet"] == pytest.approx(1.55e6, rel=0.01)  # SRGAN's
    assert count["esrgan"] == pytest.approx(16.7e6, rel=0.01)  # ESRGAN's
    assert count["lite"] * 4 < 5e6  # bytes
    assert count["esrgan"] > 300 * count["thin"]


def test_macs_are_counted_at_every_size() -> None:
    """SRResNet by hand: 9x9 head, 33 3x3 convolutions at LR, 64 -> 256 at LR and at 2x, 9x9 tail at 4x, the skip."""
    body = 81 * 3 * 64 + 33 * 9 * 64 * 64 + 9 * 64 * 256 * (1 + 4) + 16 * 81 * 64 * 3
    assert macs_per_lr_pixel(SRResNet().eval()) == body


def test_interpolation_keeps_flat_colours_up_to_the_border() -> None:
    flat = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(1, 3, 6, 6)
    torch.testing.assert_close(Interpolation(4)(flat), flat.repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "shape"), [("vgg", (2, 1)), ("unet", (2, 1, 48, 48))])
def test_discriminators(kind: str, shape: tuple[int, ...], channels: int) -> None:
    D = build_discriminator(kind, channels, 8)
    logits, features = D(torch.rand(2, channels, 48, 48))
    assert logits.shape == shape
    assert len(features) >= 4
    if kind == "unet":  # spectral norm: no layer stretches by more than one, once its power iteration has settled
        D.eval()
        for module in D.modules():
            if hasattr(module, "parametrizations"):
                assert torch.linalg.matrix_norm(module.weight.flatten(1), 2) < 2
