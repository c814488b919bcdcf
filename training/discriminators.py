"""The discriminators: SRGAN's, and a U-Net with spectral norm. Both give logits and their hidden features."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class VggDiscriminator(nn.Module):
    """SRGAN's discriminator (Ledig et al. 2017, arXiv:1609.04802, fig. 4): eight convolutions, every other one strided.

    Deviation: the dense layers see the mean over all positions instead of a flattened map, so any crop fits.
    """

    def __init__(self, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        layers, inputs = [], channels
        for i, outputs in enumerate((1, 1, 2, 2, 4, 4, 8, 8)):
            norm = nn.BatchNorm2d(outputs * width) if i else nn.Identity()
            conv = nn.Conv2d(inputs, outputs * width, 3, stride=1 + i % 2, padding=1, bias=i == 0)
            layers.append(nn.Sequential(conv, norm, nn.LeakyReLU(0.2)))
            inputs = outputs * width
        self.layers = nn.ModuleList(layers)
        self.dense = nn.Sequential(nn.Linear(inputs, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))

    def forward(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """picture (N, C, H, W), H and W at least 16 -> logits (N, 1), and the hidden features."""
        features = []
        x = picture
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return self.dense(x.mean(dim=(2, 3))), features


class UNetDiscriminator(nn.Module):
    """A logit for every pixel: U-Net with spectral norm (Real-ESRGAN, Wang et al. 2021, arXiv:2107.10833, fig. 6).

    Published with 64 channels; a small generator needs a smaller opponent, so width is a choice of the recipe.
    """

    def __init__(self, channels: int = 3, width: int = 32) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Module:
            return spectral_norm(nn.Conv2d(inputs, outputs, size, stride, padding=1, bias=False))

        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(conv(width << i, width << i + 1, 4, 2) for i in range(3))
        self.up = nn.ModuleList(conv(width << i + 1, width << i) for i in (2, 1, 0))
        self.last = nn.Sequential(
            conv(width, width), nn.LeakyReLU(0.2), conv(width, width), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, picture: Tensor) -> tuple[Tensor, list[Tensor]]:
        """picture (N, C, H, W), sides multiples of 8 -> logits (N, 1, H, W), and the hidden features."""
        x = F.leaky_relu(self.first(picture), 0.2)
        features = [x]
        for down in self.down:
            features.append(F.leaky_relu(down(features[-1]), 0.2))
        x = features[-1]
        for up, beside in zip(self.up, features[-2::-1], strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(up(x), 0.2) + beside
        return self.last(x), features


def build_discriminator(kind: str, channels: int, width: int) -> nn.Module:
    """kind: `vgg` or `unet`."""
    return {"vgg": VggDiscriminator, "unet": UNetDiscriminator}[kind](channels, width)
