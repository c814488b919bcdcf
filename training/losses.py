"""The terms of the generators' and discriminators' losses, one function each.

Pictures are (N, C, H, W) float32 in [0, 1]; every function gives a scalar tensor. Weights live in the recipes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute error (Zhao et al. 2017, arXiv:1511.08861)."""
    return F.l1_loss(sr, hr)


def charbonnier(sr: Tensor, hr: Tensor, eps: float = 1e-3) -> Tensor:
    """sqrt(error**2 + eps**2), L1 that is smooth at zero (LapSRN, Lai et al. 2017, arXiv:1710.01992)."""
    return torch.sqrt((sr - hr) ** 2 + eps**2).mean()


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared error: the PSNR itself (SRCNN, Dong et al. 2014, arXiv:1501.00092)."""
    return F.mse_loss(sr, hr)


def fft(sr: Tensor, hr: Tensor) -> Tensor:
    """L1 between the spectra (MIMO-UNet, Cho et al. 2021, arXiv:2108.05054; SAFMN): weighs fine detail up."""
    return torch.view_as_real(torch.fft.rfft2(sr, norm="ortho") - torch.fft.rfft2(hr, norm="ortho")).abs().mean()


def total_variation(sr: Tensor) -> Tensor:
    """Mean absolute difference of neighbours along both axes (Rudin et al. 1992; Johnson et al. 2016, 1603.08155)."""
    return (sr[..., 1:, :] - sr[..., :-1, :]).abs().mean() + (sr[..., 1:] - sr[..., :-1]).abs().mean()


def content(fake: dict[str, Tensor], real: dict[str, Tensor], layers: dict[str, float]) -> Tensor:
    """L1 between backbone features, each layer with its weight (SRGAN, arXiv:1609.04802; L1 as in ESRGAN, 1809.00219).

    fake, real: features by layer name, (N, C, h, w). SRGAN squares the difference; L1 is what ESRGAN and LDL use.
    """
    terms = [weight * F.l1_loss(fake[name].float(), real[name].float()) for name, weight in layers.items()]
    return torch.stack(terms).sum()


def gram(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, C): how channels go together, wherever in the picture."""
    flat = features.float().flatten(2)
    return flat @ flat.mT / flat.shape[2]


def style(fake: dict[str, Tensor], real: dict[str, Tensor], layers: dict[str, float]) -> Tensor:
    """L1 between Gram matrices (Gatys et al. 2015, arXiv:1508.06576; for super-resolution EnhanceNet, 1612.07919)."""
    pairs = [(weight, gram(fake[name]), gram(real[name])) for name, weight in layers.items()]
    return torch.stack([weight * F.l1_loss(a, b) for weight, a, b in pairs]).sum()


def generator_vanilla(fake: Tensor, real: Tensor) -> Tensor:
    """-log D(fake) (Goodfellow et al. 2014, arXiv:1406.2661, the non-saturating form). Logits of any shape."""
    return F.softplus(-fake).mean()


def discriminator_vanilla(fake: Tensor, real: Tensor) -> Tensor:
    """-log D(real) - log(1 - D(fake)) (Goodfellow et al. 2014)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_hinge(fake: Tensor, real: Tensor) -> Tensor:
    """-D(fake) (Lim and Ye 2017, arXiv:1705.02894)."""
    return -fake.mean()


def discriminator_hinge(fake: Tensor, real: Tensor) -> Tensor:
    """Push real above 1 and fake below -1 (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_relativistic(fake: Tensor, real: Tensor) -> Tensor:
    """Fake should look more real than the average real, and real less so (ESRGAN eq. 3; 1807.00734)."""
    return (F.softplus(real - fake.mean()).mean() + F.softplus(-(fake - real.mean())).mean()) / 2


def discriminator_relativistic(fake: Tensor, real: Tensor) -> Tensor:
    """Real should look more real than the average fake (ESRGAN eq. 2; Jolicoeur-Martineau 2018, arXiv:1807.00734)."""
    return (F.softplus(-(real - fake.mean())).mean() + F.softplus(fake - real.mean()).mean()) / 2


ADVERSARIES = {
    "vanilla": (generator_vanilla, discriminator_vanilla),
    "hinge": (generator_hinge, discriminator_hinge),
    "relativistic": (generator_relativistic, discriminator_relativistic),
}


def artifact_map(sr: Tensor, ema: Tensor, hr: Tensor, window: int = 7) -> Tensor:
    """Where a GAN invents: LDL's weights (N, 1, H, W) (Liang et al. 2022, arXiv:2203.09195, eq. 2 to 5). No gradient.

    Local variance of the error, times the global one (power 1/5), zero where the averaged net `ema` is further off.
    """
    with torch.no_grad():
        error, error_ema = ((hr - x).abs().sum(1, keepdim=True) for x in (sr, ema))
        residual = hr - sr
        padded = F.pad(residual, [window // 2] * 4, mode="reflect")
        mean, square = F.avg_pool2d(padded, window, 1), F.avg_pool2d(padded**2, window, 1)
        local = (square - mean**2).clamp(min=0).sum(1, keepdim=True) * window**2 / (window**2 - 1)
        overall = residual.var(dim=(1, 2, 3), keepdim=True) ** 0.2
        return overall * local * (error >= error_ema)


def ldl(sr: Tensor, ema: Tensor, hr: Tensor) -> Tensor:
    """L1 where the artifact map says so (LDL, arXiv:2203.09195, eq. 6)."""
    return (artifact_map(sr, ema, hr) * (sr - hr)).abs().mean()


def feature_matching(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """L1 between the discriminator's own hidden features (pix2pixHD, Wang et al. 2018, arXiv:1711.11585)."""
    return torch.stack([F.l1_loss(a, b.detach()) for a, b in zip(fake, real, strict=True)]).mean()


def teacher_output(sr: Tensor, teacher: Tensor) -> Tensor:
    """L1 to what the teacher made of the same LR (Hinton et al. 2015, arXiv:1503.02531, for regression)."""
    return F.l1_loss(sr, teacher)


def teacher_features(student: Tensor, teacher: Tensor) -> Tensor:
    """L1 between spatial affinities (FAKD, He et al. 2020): which pixels resemble which, whatever the channel count.

    student (N, C, h, w), teacher (N, D, h, w) -> cosine similarities (N, h*w, h*w) of each.
    """
    affinities = []
    for features in (student, teacher):
        unit = F.normalize(features.float().flatten(2), dim=1)
        affinities.append(unit.mT @ unit)
    return F.l1_loss(affinities[0], affinities[1].detach())


def temporal(sr_a: Tensor, sr_b: Tensor, hr_a: Tensor, hr_b: Tensor, shift: tuple[int, int]) -> Tensor:
    """Shifted-crop consistency: what changes between two crops must change as the truth does; no flow needed.

    b is a, moved by `shift` = (down, right) HR pixels, both >= 0: a[y + down, x + right] = b[y, x]. After the temporal
    losses of TecoGAN (arXiv:1811.09393) and of video style transfer, with a shift that is known exactly.
    """
    down, right = shift
    height, width = sr_a.shape[-2] - down, sr_a.shape[-1] - right
    a = (..., slice(down, None), slice(right, None))
    b = (..., slice(height), slice(width))
    return F.l1_loss(sr_b[b] - sr_a[a], hr_b[b] - hr_a[a])


def grid(sr: Tensor, hr: Tensor, scale: int, cells: int = 4) -> Tensor:
    """The pixel shuffle's pattern: what the error's `scale` x `scale` phases have in common over windows of cells.

    A net without noise at its input can answer a smooth picture with one texture only, the same in every cell, and that
    is what features reward in small nets. True texture has a mean of zero in every phase. Sides of the pictures are
    multiples of scale and at least cells * scale long.
    """
    phases = F.pixel_unshuffle(sr - hr, scale).unflatten(1, (-1, scale**2))
    common = F.avg_pool2d(phases.flatten(1, 2), cells, cells // 2).unflatten(1, (-1, scale**2))
    return (common - common.mean(2, keepdim=True)).abs().mean()


def stability(sr: Tensor, other: Tensor) -> Tensor:
    """L1 between what G makes of two versions of one LR (stability training, Zheng et al. 2016, arXiv:1604.04326)."""
    return F.l1_loss(sr, other)
