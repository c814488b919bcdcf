"""Bodies that the ladder was compared with, each about as costly as C16 x7: y (N, 1, H, W) -> phases (N, s*s, H, W)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.models import Ladder, RepConv, bilinear_kernel, interpolate


def plain(width: int, depth: int, scale: int) -> Ladder:
    """The ladder without branches: the 3x3 kernels alone, started as usual, no identity."""
    net = Ladder(width, depth, scale)
    for layer in (net.head, *net.body, net.tail):
        assert isinstance(layer, RepConv)
        nn.init.zeros_(layer.narrow)
        layer.narrow.requires_grad_(False)
        layer.wide.requires_grad_(False)
        layer.identity.zero_()
    return net


class GatedBlock(nn.Module):
    """Three convolutions whose result gates their input (SPAB of SPAN, Wan et al. 2024, arXiv:2311.12770)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i, conv in enumerate(self.convs):
            out = conv(F.silu(out) if i else out)
        return (x + out) * (torch.sigmoid(out) - 0.5)


class Body(nn.Module):
    """Head, body and tail of any kind with an interpolated skip.

    skip: `learned` (3x3 from bilinear on, as the ladder's), `bilinear` or `bicubic` (both fixed), `none`.
    fold: the body works on blocks of fold x fold pixels: half-size for 2.
    """

    def __init__(self, width: int, body: nn.Module, scale: int, skip: str = "learned", fold: int = 1) -> None:
        super().__init__()
        self.scale, self.fold, self.kind = scale, fold, skip
        self.head = nn.Conv2d(fold**2, width, 3, padding=1)
        self.body = body
        self.tail = nn.Conv2d(width, (fold * scale) ** 2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.skip = nn.Parameter(bilinear_kernel(scale), requires_grad=skip == "learned")

    def forward(self, y: Tensor) -> Tensor:
        x = F.pixel_unshuffle(y, self.fold).contiguous(memory_format=torch.channels_last)
        detail = self.tail(self.body(self.head(x)))
        detail = F.pixel_unshuffle(F.pixel_shuffle(detail, self.fold * self.scale), self.scale)
        with torch.autocast(y.device.type, enabled=False):
            return self.interpolated(y) + detail.float()

    def interpolated(self, y: Tensor) -> Tensor:
        if self.kind == "none":
            return y.new_zeros(())
        if self.kind == "bicubic":
            large = F.interpolate(y, scale_factor=self.scale, mode="bicubic", align_corners=False)
            return F.pixel_unshuffle(large, self.scale)
        return interpolate(y, self.skip)


def gated(width: int, blocks: int, scale: int) -> Body:
    """Gated blocks between head and tail."""
    return Body(width, nn.Sequential(*(GatedBlock(width) for _ in range(blocks))), scale)


def rectified(width: int, depth: int, scale: int, skip: str = "learned", fold: int = 1) -> Body:
    """Plain convolutions, ReLU before each."""
    layers = [layer for _ in range(depth) for layer in (nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))]
    return Body(width, nn.Sequential(*layers, nn.ReLU()), scale, skip, fold)
