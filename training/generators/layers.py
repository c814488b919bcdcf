"""What the RGB generators share: the interpolated skip, sub-pixel upsampling, ICNR, folding of batch norms."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.models import bilinear_kernel


class Interpolation(nn.Module):
    """Bilinear enlargement of RGB as one fixed convolution and a pixel shuffle.

    Added to the output of every RGB generator here, so that an untrained net is an interpolation. None of the
    published ones has it; with a run of minutes instead of days it saves learning the picture itself.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("kernel", bilinear_kernel(scale).repeat(3, 1, 1, 1), persistent=False)
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """x (N, 3, H, W) -> (N, 3, s*H, s*W), in float32 also under autocast: bfloat16 holds half a code value only."""
        with torch.autocast(x.device.type, enabled=False):
            padded = F.pad(x.float(), (1, 1, 1, 1), mode="replicate")
            return F.pixel_shuffle(F.conv2d(padded, self.kernel, groups=3), self.scale)


class SubPixel(nn.Sequential):
    """Convolution to factor**2 times the channels, pixel shuffle, activation (ESPCN, arXiv:1609.05158)."""

    def __init__(self, width: int, factor: int, activation: nn.Module, icnr: bool = False) -> None:
        conv = nn.Conv2d(width, width * factor**2, 3, padding=1)
        if icnr:
            icnr_(conv.weight, factor)
        super().__init__(conv, nn.PixelShuffle(factor), activation)


def factors(scale: int) -> list[int]:
    """The steps in which a picture is enlarged: 4 in two doublings, 2 and 3 at once."""
    return {2: [2], 3: [3], 4: [2, 2]}[scale]


@torch.no_grad()
def icnr_(weight: Tensor, factor: int) -> None:
    """Fill a sub-pixel convolution's weight so that it starts as nearest-neighbour enlargement: no checkerboard.

    weight (out * factor**2, in, kh, kw), in place: the factor**2 kernels of one output channel become equal (ICNR,
    Aitken et al. 2017, arXiv:1707.02937).
    """
    kernel = torch.empty_like(weight[:: factor**2])
    nn.init.kaiming_normal_(kernel)
    weight.copy_(kernel.repeat_interleave(factor**2, dim=0))


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode in which every convolution followed by a batch norm is one convolution.

    Looks at neighbours in `nn.Sequential`s, at any depth. What is left of a folded batch norm is dropped.
    """
    net = deepcopy(net).eval()
    for parent in list(net.modules()):
        if not isinstance(parent, nn.Sequential):
            continue
        layers: list[nn.Module] = []
        for layer in parent:
            if isinstance(layer, nn.BatchNorm2d) and layers and isinstance(layers[-1], nn.Conv2d):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        if len(layers) < len(parent):
            for name in list(parent._modules):
                del parent._modules[name]
            for i, layer in enumerate(layers):
                parent.add_module(str(i), layer)
    return net


def small_start(conv: nn.Conv2d) -> nn.Conv2d:
    """Zero a net's last convolution: the net starts as its skip."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
