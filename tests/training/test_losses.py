"""Every loss against a value computed by hand, and against what it is for."""

import math

import pytest

torch = pytest.importorskip("torch")

from training import losses  # noqa: E402

A = torch.tensor([[[[0.0, 1.0], [0.5, 0.25]]]])
B = torch.tensor([[[[0.0, 0.5], [0.5, 0.75]]]])


def test_pixel_losses_by_hand() -> None:
    assert losses.l1(A, B).item() == pytest.approx(0.25)
    assert losses.mse(A, B).item() == pytest.approx(0.125)
    expected = (2 * 1e-3 + 2 * math.sqrt(0.25 + 1e-6)) / 4
    assert losses.charbonnier(A, B).item() == pytest.approx(expected)
    assert losses.teacher_output(A, B).item() == pytest.approx(0.25)
    assert losses.stability(A, B).item() == pytest.approx(0.25)


def test_fft_by_hand() -> None:
    """A difference of 0.5 at one pixel of 2x2 has a flat spectrum: 0.25 in each of the 2x2 half-spectrum's reals."""
    other = A.clone()
    other[0, 0, 0, 0] += 0.5
    assert losses.fft(A, other).item() == pytest.approx(0.25 / 2)  # the imaginary parts are zero
    assert losses.fft(A, A).item() == 0


def test_total_variation_by_hand() -> None:
    assert losses.total_variation(A).item() == pytest.approx((0.5 + 0.75) / 2 + (1.0 + 0.25) / 2)
    assert losses.total_variation(torch.full((1, 3, 8, 8), 0.3)).item() == 0


def test_content_and_style_weigh_layers() -> None:
    fake, real = {"a": A, "b": A}, {"a": B, "b": A}
    assert losses.content(fake, real, {"a": 2, "b": 1}).item() == pytest.approx(0.5)
    # gram of A: (0 + 1 + .25 + .0625) / 4; of B: (0 + .25 + .25 + .5625) / 4
    assert losses.style(fake, real, {"a": 1, "b": 1}).item() == pytest.approx((1.3125 - 1.0625) / 4)


def test_style_ignores_where_things_are() -> None:
    x = torch.rand(1, 4, 6, 6)
    moved = x.flip(-1).roll(2, -2)
    assert losses.style({"a": x}, {"a": moved}, {"a": 1}).item() == pytest.approx(0, abs=1e-6)
    assert losses.content({"a": x}, {"a": moved}, {"a": 1}).item() > 0.1


@pytest.mark.parametrize("kind", losses.ADVERSARIES)
def test_adversaries_pull_in_opposite_directions(kind: str) -> None:
    loss_G, loss_D = losses.ADVERSARIES[kind]
    fake = torch.zeros(4, 1, requires_grad=True)
    real = torch.zeros(4, 1, requires_grad=True)
    (down_G,) = torch.autograd.grad(loss_G(fake, real), fake)
    down_fake, down_real = torch.autograd.grad(loss_D(fake, real), (fake, real))
    assert (down_G < 0).all()  # G wants its logit to rise
    assert (down_fake > 0).all()
    assert (down_real < 0).all()


def test_adversarial_values_by_hand() -> None:
    zero = torch.zeros(3, 1)
    assert losses.generator_vanilla(zero, zero).item() == pytest.approx(math.log(2))
    assert losses.discriminator_vanilla(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.discriminator_hinge(zero, zero).item() == pytest.approx(2)
    assert losses.discriminator_hinge(zero - 1, zero + 1).item() == 0
    assert losses.generator_hinge(zero + 3, zero).item() == -3
    for loss in (losses.generator_relativistic, losses.discriminator_relativistic):
        assert loss(zero + 5, zero + 5).item() == pytest.approx(math.log(2))  # only the difference counts


def test_ldl_blames_where_the_average_net_is_better() -> None:
    torch.manual_seed(0)
    hr = torch.rand(1, 3, 16, 16)
    sr = hr.clone()
    sr[..., 4:8, 4:8] += 0.3 * torch.randn(1, 3, 4, 4)
    weights = losses.artifact_map(sr, hr, hr)
    assert weights[..., 5, 5].item() > 0
    assert weights[..., 12:, 12:].abs().max().item() == pytest.approx(0, abs=1e-7)
    assert losses.artifact_map(sr, hr + 1, hr).abs().max().item() == 0  # the average net is worse: G is let alone
    assert losses.ldl(sr, hr, hr).item() > 0


def test_feature_matching_holds_the_real_side_fixed() -> None:
    fake, real = torch.ones(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    loss = losses.feature_matching([fake, fake], [real, real])
    assert loss.item() == 1
    loss.backward()
    assert fake.grad is not None
    assert real.grad is None


def test_affinity_needs_no_equal_channels_and_no_scale() -> None:
    student = torch.rand(2, 8, 5, 5)
    assert losses.teacher_features(student, torch.cat([student, student], 1) * 7).item() == pytest.approx(0, abs=1e-6)
    assert losses.teacher_features(student, torch.rand(2, 16, 5, 5)).item() > 0.01


def test_temporal_is_zero_for_what_moves_with_the_truth() -> None:
    big = torch.rand(1, 3, 12, 12)
    a, b = big[..., :10, :10], big[..., 1:11, 2:12]
    assert losses.temporal(a, b, a, b, (1, 2)).item() == 0
    offset = losses.temporal(a + 0.1, b + 0.1, a, b, (1, 2))
    assert offset.item() == pytest.approx(0, abs=1e-6)  # a steady error does not flicker
    assert losses.temporal(a, b + 0.1, a, b, (1, 2)).item() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_grid_sees_what_repeats_and_nothing_else(scale: int) -> None:
    """By hand: one pixel of a cell 0.25 brighter lies 0.25 * (1 - 1/s^2) over the mean, the others 0.25 / s^2 below."""
    side, share = 16 * scale, 1 / scale**2
    hr = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(0))
    repeating = hr.clone()
    repeating[..., ::scale, ::scale] += 0.25
    expected = 0.25 * (share * (1 - share) + (1 - share) * share)
    assert losses.grid(repeating, hr, scale).item() == pytest.approx(expected, rel=1e-4)
    assert losses.grid(hr, hr, scale).item() == 0
    assert losses.grid(hr + 0.1, hr, scale).item() == pytest.approx(0, abs=1e-6)  # brighter everywhere: no grid
    strewn = hr.clone()
    strewn.view(-1)[:: scale**2 + 1] += 0.25  # as much energy, in another phase of each cell
    assert losses.grid(strewn, hr, scale).item() < losses.grid(repeating, hr, scale).item() / 3
