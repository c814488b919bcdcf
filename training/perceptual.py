"""The frozen backbone behind the content and style losses: VGG-19, or its distilled small sibling, from a file."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from training.data import DataError

BLOCKS = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4}  # convolutions in each of VGG-19's blocks; a 2x2 max pool between blocks
LAYERS = [f"conv{block}_{i}" for block, count in BLOCKS.items() for i in range(1, count + 1)]


class Backbone(nn.Module):
    """VGG-19's convolutions (Simonyan and Zisserman 2014, arXiv:1409.1556) up to the last one in the file.

    Two kinds of file are understood: torchvision's VGG-19 (`features.0.weight` ...; ImageNet normalisation, zero
    padding) and the 16 times smaller encoder of Collaborative Distillation (`conv11.weight` ...; its conv0 makes BGR
    0..255 minus the mean; reflection padding). Every layer's features are divided by their mean magnitude on fixed
    noise, so that weights mean the same for both. Frozen, in evaluation mode, float32.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            weights = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"the perceptual backbone {file} cannot be read: {error}") from error
        if "conv11.weight" in weights:
            self.padding, names = "reflect", [name.replace("_", "") for name in LAYERS]
            first = nn.Conv2d(3, 3, 1)
            first.load_state_dict({k: weights[f"conv0.{k}"] for k in ("weight", "bias")})
        elif "features.0.weight" in weights:
            self.padding, names = "constant", [f"features.{i}" for i in torchvision_indices()]
            first = imagenet_normalisation()
        else:
            raise DataError(f"{file} is neither torchvision's VGG-19 nor Collaborative Distillation's small encoder")
        self.first = first
        self.convs = nn.ModuleDict()
        for layer, name in zip(LAYERS, names, strict=True):
            if f"{name}.weight" in weights:
                outputs, inputs = weights[f"{name}.weight"].shape[:2]
                self.convs[layer] = nn.Conv2d(inputs, outputs, 3)
                self.convs[layer].load_state_dict({k: weights[f"{name}.{k}"] for k in ("weight", "bias")})
        self.magnitude: dict[str, float] = {}
        self.requires_grad_(False)
        self.eval()
        with torch.no_grad():
            features = self.run(noise_pictures(), {n for layer in self.convs for n in (layer, f"{layer}_pre")})
        self.magnitude = {name: float(f.abs().mean()) for name, f in features.items()}

    def check(self, layers: dict[str, float]) -> None:
        """Raises DataError if a recipe names a layer that the file does not have."""
        if missing := [n for n in layers if n.removesuffix("_pre") not in self.convs]:
            raise DataError(f"the perceptual backbone has no {', '.join(missing)}; it has {', '.join(self.convs)}")

    def forward(self, rgb: Tensor, layers: dict[str, float]) -> dict[str, Tensor]:
        """Features of RGB (N, 3, H, W) in [0, 1], or of luma (N, 1, H, W), at the named layers."""
        features = self.run(rgb.expand(-1, 3, -1, -1), set(layers))
        return {name: f / self.magnitude[name] for name, f in features.items()}

    def run(self, rgb: Tensor, wanted: set[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        x = self.first(rgb)
        for layer, conv in self.convs.items():
            if layer.endswith("_1") and layer != "conv1_1":
                x = F.max_pool2d(x, 2)
            x = conv(F.pad(x, (1, 1, 1, 1), mode=self.padding))
            if f"{layer}_pre" in wanted:
                found[f"{layer}_pre"] = x
            x = F.relu(x)
            if layer in wanted:
                found[layer] = x
            if len(found) == len(wanted):
                break
        return found


def torchvision_indices() -> list[int]:
    """Where VGG-19's convolutions stand in torchvision's `features`: ReLUs and pools are counted there."""
    indices, at = [], 0
    for count in BLOCKS.values():
        indices += [at + 2 * i for i in range(count)]
        at += 2 * count + 1
    return indices


def imagenet_normalisation() -> nn.Conv2d:
    """(x - mean) / std per channel, as a 1x1 convolution."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    conv = nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.diag(1 / std)[..., None, None])
        assert conv.bias is not None
        conv.bias.copy_(-mean / std)
    return conv


def noise_pictures() -> Tensor:
    """Two fixed pictures (2, 3, 128, 128) with detail at every size, as photographs have it."""
    random = torch.Generator().manual_seed(0)
    octaves = [
        F.interpolate(torch.rand(2, 3, side, side, generator=random), 128, mode="bilinear", align_corners=False)
        for side in (4, 8, 16, 32, 64, 128)
    ]
    return torch.stack(octaves).mean(0).sub(0.5).mul(2.5).add(0.5).clamp(0, 1)
