"""A perceptual distance that the weights at hand allow, and that no loss here is trained on.

It is LPIPS's construction (Zhang et al. 2018, arXiv:1801.03924) on SqueezeNet 1.1, without its learned weights per
channel: those belong to torchvision's own training of that net, and this one is Caffe's, whose channels stand in
another order. So it is named `squeeze_distance`, and its figures compare with each other only.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS = Path("../shared/weights/squeezenet1_1_features.safetensors")
MEAN = (103.939, 116.779, 123.68)  # of BGR 0..255
FIRES = (3, 4, 6, 7, 9, 10, 11, 12)
POOLED = (3, 6, 9)  # fires before which a 3x3 max pool of stride 2 stands
TAPS = (4, 7, 9, 10, 11, 12)  # where LPIPS looks, beside the first convolution


class SqueezeDistance:
    """Mean over seven layers and all positions of the squared distance between unit-length feature vectors."""

    def __init__(self, file: Path = WEIGHTS) -> None:
        self.weights = load_file(file)

    @torch.no_grad()
    def __call__(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Two (H, W, 3) RGB pictures of one size, sides at least 64; 0 for equal ones, about 0.5 for unrelated ones."""
        pairs = zip(self.features(a), self.features(b), strict=True)
        return float(torch.stack([(x - y).square().sum(1).mean() for x, y in pairs]).mean())

    def features(self, rgb: NDArray[np.uint8]) -> list[Tensor]:
        bgr = rgb[..., ::-1].astype(np.float32) - np.array(MEAN, np.float32)
        x = torch.from_numpy(bgr).permute(2, 0, 1)[None]
        w, found = self.weights, []
        x = F.relu(F.conv2d(x, w["features.0.weight"], w["features.0.bias"], stride=2))
        found.append(F.normalize(x, dim=1))
        for layer in FIRES:
            if layer in POOLED:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = self.fire(x, f"features.{layer}")
            if layer in TAPS:
                found.append(F.normalize(x, dim=1))
        return found

    def fire(self, x: Tensor, name: str) -> Tensor:
        """A fire module: squeeze by 1x1, expand by 1x1 and 3x3 side by side (Iandola et al. 2016, arXiv:1602.07360)."""

        def conv(part: str, x: Tensor, padding: int = 0) -> Tensor:
            weight, bias = self.weights[f"{name}.{part}.weight"], self.weights[f"{name}.{part}.bias"]
            return F.relu(F.conv2d(x, weight, bias, padding=padding))

        x = conv("squeeze", x)
        return torch.cat([conv("expand1x1", x), conv("expand3x3", x, 1)], dim=1)
