"""SRGAN's generator."""

from torch import Tensor, nn

from training.generators.layers import Interpolation, SubPixel, factors, small_start


class ResidualBlock(nn.Module):
    """conv, BN, PReLU, conv, BN and a skip (SRGAN, fig. 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SRResNet(nn.Module):
    """SRResNet (Ledig et al. 2017, arXiv:1609.04802): 16 residual blocks of 64 channels, sub-pixel steps, RGB.

    9x9 convolutions at both ends, as published. Deviation: an interpolated skip (layers.Interpolation says why).
    """

    def __init__(self, scale: int = 4, width: int = 64, blocks: int = 16) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.trunk = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        steps = [SubPixel(width, f, nn.PReLU()) for f in factors(scale)]
        self.tail = nn.Sequential(*steps, small_start(nn.Conv2d(width, 3, 9, padding=4)))
        self.skip = Interpolation(scale)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) RGB in [0, 1] -> (N, 3, s*H, s*W), about [0, 1]."""
        head = self.head(x)
        return self.skip(x) + self.tail(head + self.trunk(self.blocks(head))).float()
