"""The generators. Today one family: the luma ladder, plain 3x3 convolutions at LR size."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv(NamedTuple):
    """One plain 3x3 convolution of a fused net: weight (out, in, 3, 3), bias (out,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Tier:
    """Width and depth of a ladder: `depth` convolutions of width -> width lie between head and tail."""

    width: int
    depth: int

    def macs(self, scale: int) -> int:
        """Multiply-accumulates per LR pixel of the exported graph."""
        return 9 * (self.width + self.depth * self.width**2 + self.width * scale**2)


TIERS = {"nano": Tier(8, 6), "fast": Tier(16, 7), "balanced": Tier(32, 6), "quality": Tier(64, 10)}


class RepConv(nn.Module):
    """A 3x3 convolution trained as a sum of branches and always run as their one collapsed kernel.

    Branches: 3x3, 3x3 -> 1x1 through `expand` times the channels (ECBSR, Zhang et al. 2021) and identity. The
    collapse happens on the weights before each forward pass (SESR, arXiv:2103.09404), so a step costs what the
    plain net costs. Deviation: one bias for all branches, no BN, no edge filters.
    """

    def __init__(self, inputs: int, outputs: int, expand: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.wide = nn.Parameter(torch.empty(expand * outputs, inputs, 3, 3))
        self.narrow = nn.Parameter(torch.empty(outputs, expand * outputs))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.wide, nonlinearity="linear")
        nn.init.normal_(self.narrow, std=0.3 * (expand * outputs) ** -0.5)
        self.register_buffer("identity", identity_kernel(inputs, outputs), persistent=False)
        self.identity: Tensor

    def collapse(self) -> Tensor:
        """The kernel (out, in, 3, 3) that equals the sum of all branches."""
        return self.weight + torch.tensordot(self.narrow, self.wide, dims=1) + 0.5 * self.identity


class Ladder(nn.Module):
    """Full-size luma ladder: y in, s*s luma phases out, ReLU between.

    Channel 0 of every hidden layer is y itself, carried by a fixed delta kernel: each layer sees the input without a
    concat, and the tail adds an interpolation of y (initialised bilinear: an untrained net is an interpolation).
    Padding is zero, as the exported graph's; training crops have that border too, so the net learns it.
    """

    def __init__(self, width: int, depth: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = RepConv(1, width - 1)
        self.body = nn.ModuleList(RepConv(width, width - 1) for _ in range(depth))
        self.tail = RepConv(width, scale * scale)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.narrow)
        self.tail.identity.zero_()
        self.skip = nn.Parameter(bilinear_kernel(scale))

    def hidden(self) -> list[Conv]:
        """The collapsed layers before the tail, each with the row that carries y."""
        return [carry_y(layer.collapse(), layer.bias) for layer in (self.head, *self.body)]  # type: ignore[union-attr]

    def forward(self, y: Tensor) -> Tensor:
        """y (N, 1, H, W) in [0, 1] -> phases (N, s*s, H, W); phase i*s+j is row i, column j of each s x s block.

        The interpolation runs in float32 also under autocast: bfloat16 holds y to half a code value only.
        """
        x = y.contiguous(memory_format=torch.channels_last)
        for weight, bias in self.hidden():
            x = F.relu(F.conv2d(x, weight, bias, padding=1), inplace=True)
        detail = F.conv2d(x, self.tail.collapse(), self.tail.bias, padding=1)
        with torch.autocast(y.device.type, enabled=False):
            return interpolate(y, self.skip) + detail.float()

    @torch.no_grad()
    def fuse(self) -> list[Conv]:
        """The plain convolutions of the exported graph, ReLU after each but the last."""
        weight = self.tail.collapse().clone()
        weight[:, :1] += self.skip
        return [*self.hidden(), Conv(weight, self.tail.bias.clone())]


def build(tier: str, scale: int) -> Ladder:
    """The untrained generator of a tier."""
    return Ladder(TIERS[tier].width, TIERS[tier].depth, scale)


def run_fused(layers: list[Conv], y: Tensor) -> Tensor:
    """What `fuse()` stands for: y (N, 1, H, W) -> phases (N, s*s, H, W)."""
    for weight, bias in layers[:-1]:
        y = F.relu(F.conv2d(y, weight, bias, padding=1))
    return F.conv2d(y, *layers[-1], padding=1)


def interpolate(y: Tensor, kernel: Tensor) -> Tensor:
    """conv2d(y, kernel, padding=1) for one input channel as a matrix product: four times faster on a CPU."""
    n, _, h, w = y.shape
    padded = F.pad(y[:, 0], (1, 1, 1, 1))
    taps = torch.stack([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], dim=-1)
    return (taps.reshape(-1, 9) @ kernel.reshape(-1, 9).T).view(n, h, w, -1).permute(0, 3, 1, 2)


def carry_y(weight: Tensor, bias: Tensor) -> Conv:
    """Put a row on top that copies input channel 0 (y >= 0, so ReLU leaves it alone)."""
    row = torch.zeros_like(weight[:1])
    row[0, 0, 1, 1] = 1
    return Conv(torch.cat([row, weight]), torch.cat([bias.new_zeros(1), bias]))


def identity_kernel(inputs: int, outputs: int) -> Tensor:
    """Output i passes input i + 1 (input 0 is y, which travels by itself); zero for the head."""
    kernel = torch.zeros(outputs, inputs, 3, 3)
    for i in range(min(outputs, inputs - 1)):
        kernel[i, i + 1, 1, 1] = 1
    return kernel


def bilinear_kernel(scale: int) -> Tensor:
    """(s*s, 1, 3, 3): bilinear interpolation (half-pixel centres) as a 3x3 convolution to s*s phases."""
    offset = (torch.arange(scale) + 0.5) / scale - 0.5
    taps = (1 - (offset[:, None] - torch.tensor([-1.0, 0.0, 1.0])).abs()).clamp(min=0)  # (s, 3)
    return torch.einsum("ia,jb->ijab", taps, taps).reshape(scale * scale, 1, 3, 3)
