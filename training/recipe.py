"""What a recipe can say: a generator, its data, and up to two stages with their losses.

The recipes themselves are the files in training/recipes; `load("fast_srgan")` reads one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal

from torch import nn

LADDER = ("nano", "fast", "balanced", "quality")
SYSTEMS = ("fast_srgan", "srgan", "srgan_tv", "rrdb_lite", "distil_teacher", "distil_esrgan")
NAMES = (*LADDER, *SYSTEMS)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The weight of each term of the generator's loss (training/losses.py has the functions); 0 leaves it out."""

    l1: float = 0
    charbonnier: float = 0
    mse: float = 0
    fft: float = 0
    tv: float = 0
    content: float = 0
    style: float = 0
    adversarial: float = 0
    ldl: float = 0
    matching: float = 0
    teacher: float = 0
    teacher_features: float = 0
    flat: float = 0
    grid: float = 0
    temporal: float = 0
    codec: float = 0
    steady: float = 0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training with one loss and one cosine.

    crop: side of the LR crops in pixels. lr: Adam's peak rate; lr_muon: Muon's for the kernels, 0 leaves them to Adam;
    lr_d: the discriminator's (Adam). mse_from: share of the run after which MSE takes over from the pixel terms.
    layers: of the perceptual backbone, `conv3_1` after its ReLU or `conv3_1_pre` before it, each with its weight.
    adversary: which pair of adversarial losses. d_alone: steps in which only the discriminator learns, at the start.
    ramps: crops of each batch that become flat or evenly rising colours, which the term `flat` looks at alone.
    """

    losses: Losses
    steps: int
    batch: int = 8
    crop: int = 24
    lr: float = 1e-3
    lr_muon: float = 0.01
    lr_d: float = 1e-4
    mse_from: float = 1.0
    ema: float = 0.999
    clip: float = 0.5
    layers: Mapping[str, float] = field(default_factory=dict)
    adversary: Literal["vanilla", "hinge", "relativistic"] = "vanilla"
    discriminator: Literal["vgg", "unet"] = "unet"
    d_width: int = 32
    d_alone: int = 0
    ramps: int = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One system. generator: scale -> untrained net. channels: 1 for luma nets, which give phases; 3 for RGB ones.

    teacher: recipe whose fidelity checkpoint teaches this one.
    """

    generator: Callable[[int], nn.Module]
    channels: Literal[1, 3]
    fidelity: Stage
    detail: Stage | None = None
    degradation: str = "clean"
    teacher: str = ""

    def stage(self, name: str) -> Stage:
        """The stage called fidelity or detail. Raises ValueError if the recipe has none of that name."""
        found = {"fidelity": self.fidelity, "detail": self.detail}[name]
        if found is None:
            raise ValueError(f"this recipe has no {name} stage")
        return found


def load(name: str) -> Recipe:
    """The recipe called `name`: a file of that name in training/recipes, or a tier of the ladder."""
    if name in LADDER:
        return import_module("training.recipes.ladder").tier(name)
    if name not in SYSTEMS:
        raise ValueError(f"no recipe {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"training.recipes.{name}").RECIPE
