"""Fast-SRGAN's generator: inverted residual blocks and pixel shuffle."""

from torch import Tensor, nn

from training.generators.layers import Interpolation, SubPixel, factors, small_start


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection, each with batch norm; skip around all (MobileNetV2, 1801.04381).

    ReLU instead of ReLU6: the bound is there for fixed-point inference, which this net does not use.
    """

    def __init__(self, width: int, expand: int) -> None:
        super().__init__()
        wide = width * expand
        self.body = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True),
            nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class MobileSR(nn.Module):
    """Fast-SRGAN: a MobileNetV2 body at LR size, one sub-pixel step per doubling, RGB in and out.

    Defaults are those of its pretrained model: 12 blocks of 24 channels, expansion 6. Deviations: an interpolated skip
    and no tanh at the end (layers.Interpolation says why). icnr: initialise the sub-pixel convolutions by ICNR.
    """

    def __init__(self, scale: int = 4, width: int = 24, blocks: int = 12, expand: int = 6, icnr: bool = False) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*(InvertedResidual(width, expand) for _ in range(blocks)))
        self.trunk = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        steps = [SubPixel(width, f, nn.ReLU(inplace=True), icnr) for f in factors(scale)]
        self.tail = nn.Sequential(*steps, small_start(nn.Conv2d(width, 3, 3, padding=1)))
        self.skip = Interpolation(scale)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) RGB in [0, 1] -> (N, 3, s*H, s*W), about [0, 1]."""
        head = self.head(x)
        return self.skip(x) + self.tail(head + self.trunk(self.blocks(head))).float()
