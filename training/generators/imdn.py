"""IMDN, a published RGB generator (Hui et al. 2019, arXiv:1909.11856): a teacher for the ladder, never an engine."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data import DataError


class DistillationBlock(nn.Module):
    """Information multi-distillation: after each convolution a quarter of the channels is done, the rest goes on.

    Deviation, that of the published weights: no contrast-aware channel attention.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        done, on = width // 4, width - width // 4
        self.conv1 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1))
        self.conv2 = nn.Sequential(nn.Conv2d(on, width, 3, padding=1))
        self.conv3 = nn.Sequential(nn.Conv2d(on, width, 3, padding=1))
        self.conv4 = nn.Conv2d(on, done, 3, padding=1)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.sizes = [done, on]

    def forward(self, x: Tensor) -> Tensor:
        kept, on = [], x
        for conv in (self.conv1, self.conv2, self.conv3):
            done, on = F.leaky_relu(conv(on), 0.05).split(self.sizes, dim=1)
            kept.append(done)
        return x + self.conv1x1(torch.cat([*kept, self.conv4(on)], dim=1))


class Shortcut(nn.Module):
    """A sequence and a skip around it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.sub = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sub(x)


class IMDN(nn.Module):
    """x (N, 3, H, W) in [0, 1] -> (N, 3, 4*H, 4*W)."""

    def __init__(self, width: int = 64, blocks: int = 8, scale: int = 4) -> None:
        super().__init__()
        body = [*(DistillationBlock(width) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1)]
        tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        self.model = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), Shortcut(*body), tail, nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def open_imdn(file: Path) -> IMDN:
    """The published net from a .safetensors file, frozen. Raises DataError if the file holds another net."""
    net = IMDN()
    try:
        net.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{file} does not hold IMDN's weights: {error}") from error
    return net.eval().requires_grad_(False)
