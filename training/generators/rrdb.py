"""Residual-in-residual dense blocks: ESRGAN's generator, a light one with batch norm, a depthwise student."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.generators.layers import Interpolation, SubPixel, factors, small_start


class DenseBlock(nn.Module):
    """Five 3x3 convolutions, each seeing all outputs before it; the sum comes back at 0.2 (ESRGAN, arXiv:1809.00219).

    norm: a batch norm after every convolution, which ESRGAN took out and the light net keeps.
    """

    def __init__(self, width: int, growth: int, norm: bool = False) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            conv_norm(width + i * growth, growth if i < 4 else width, norm, i < 4) for i in range(5)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for step in self.steps[:-1]:
            seen = torch.cat([seen, step(seen)], dim=1)
        return x + 0.2 * self.steps[-1](seen)


class RRDB(nn.Sequential):
    """Three dense blocks and a skip around them, again at 0.2."""

    def __init__(self, width: int, growth: int, norm: bool = False) -> None:
        super().__init__(*(DenseBlock(width, growth, norm) for _ in range(3)))

    def forward(self, input: Tensor) -> Tensor:
        return input + 0.2 * super().forward(input)


class RRDBNet(nn.Module):
    """ESRGAN's generator (Wang et al. 2018, arXiv:1809.00219): 64 channels, growth 32; published with 23 blocks.

    Nearest-neighbour doublings, each followed by a convolution, and two convolutions at full size. Deviation: an
    interpolated skip (layers.Interpolation says why).
    """

    def __init__(self, scale: int = 4, width: int = 64, growth: int = 32, blocks: int = 23) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.doublings = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in factors(scale))
        self.factors = factors(scale)
        self.last = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), leaky(), small_start(nn.Conv2d(width, 3, 3, padding=1))
        )
        self.skip = Interpolation(scale)
        shrink_kernels(self.blocks)

    def features(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) -> (N, width, H, W): what the upsampling works on, and a student can imitate."""
        head = self.head(x)
        return head + self.trunk(self.blocks(head))

    def enlarge(self, x: Tensor, features: Tensor) -> Tensor:
        for conv, factor in zip(self.doublings, self.factors, strict=True):
            features = F.leaky_relu(conv(F.interpolate(features, scale_factor=factor, mode="nearest")), 0.2)
        return self.skip(x) + self.last(features).float()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) RGB in [0, 1] -> (N, 3, s*H, s*W), about [0, 1]."""
        return self.enlarge(x, self.features(x))


class RRDBLite(nn.Module):
    """A light RRDB net with batch norm and pixel shuffle; the defaults have 0.86 M parameters, 3.4 MB.

    After the seed system's net "under 5 MB". Deviation: an interpolated skip (layers.Interpolation says why).
    """

    def __init__(self, scale: int = 4, width: int = 32, growth: int = 16, blocks: int = 4) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(RRDB(width, growth, norm=True) for _ in range(blocks)))
        self.trunk = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        steps = [SubPixel(width, f, leaky()) for f in factors(scale)]
        self.tail = nn.Sequential(*steps, small_start(nn.Conv2d(width, 3, 3, padding=1)))
        self.skip = Interpolation(scale)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) RGB in [0, 1] -> (N, 3, s*H, s*W), about [0, 1]."""
        head = self.head(x)
        return self.skip(x) + self.tail(head + self.trunk(self.blocks(head))).float()


class ThinDenseBlock(nn.Module):
    """Two depthwise-separable convolutions, densely connected; the sum comes back at 0.2."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.first = nn.Sequential(depthwise(width), nn.Conv2d(width, growth, 1), leaky())
        self.second = nn.Sequential(depthwise(width + growth), nn.Conv2d(width + growth, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.second(torch.cat([x, self.first(x)], dim=1))


class ThinRRDB(nn.Sequential):
    """Two thin dense blocks and a skip around them, again at 0.2."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__(ThinDenseBlock(width, growth), ThinDenseBlock(width, growth))

    def forward(self, input: Tensor) -> Tensor:
        return input + 0.2 * super().forward(input)


class ThinRRDBNet(nn.Module):
    """The compressed-ESRGAN student: three RRDBs of two dense blocks of two depthwise convolutions, growth 32.

    Deviations from the published one: one pixel shuffle straight to RGB instead of a transposed convolution of stride
    4 (whose overlap draws grids), and the interpolated skip.
    """

    def __init__(self, scale: int = 4, width: int = 32, growth: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ThinRRDB(width, growth) for _ in range(blocks)))
        self.trunk = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Sequential(small_start(nn.Conv2d(width, 3 * scale**2, 3, padding=1)), nn.PixelShuffle(scale))
        self.skip = Interpolation(scale)

    def features(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) -> (N, width, H, W), before the tail."""
        head = self.head(x)
        return head + self.trunk(self.blocks(head))

    def enlarge(self, x: Tensor, features: Tensor) -> Tensor:
        return self.skip(x) + self.tail(features).float()

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) RGB in [0, 1] -> (N, 3, s*H, s*W), about [0, 1]."""
        return self.enlarge(x, self.features(x))


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.2, inplace=True)


def depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width)


def conv_norm(inputs: int, outputs: int, norm: bool, active: bool) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(outputs))
    if active:
        layers.append(leaky())
    return nn.Sequential(*layers)


@torch.no_grad()
def shrink_kernels(blocks: nn.Module) -> None:
    """Start residual branches small: Kaiming's weights times 0.1 (ESRGAN, section 3.1)."""
    for module in blocks.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            module.weight.mul_(0.1)
            if module.bias is not None:
                module.bias.zero_()
