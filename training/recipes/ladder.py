"""The ladder: nano, fast, balanced, quality. Luma only, re-parameterised, L1 then MSE."""

from functools import partial

from training.models import TIERS, build
from training.recipe import Losses, Recipe, Stage

# Detail end: the discriminator is kept small and its term weak, or it runs away from so small a generator.
ADVERSARIAL = {"nano": 2e-3, "fast": 1e-2, "balanced": 5e-3, "quality": 5e-3}


def tier(name: str) -> Recipe:
    """The recipe of one tier."""
    assert name in TIERS
    return Recipe(
        generator=partial(build, name),
        channels=1,
        fidelity=Stage(losses=Losses(l1=1), mse_from=0.6, ramps=0, steps=60_000, batch=16, crop=64, lr=2e-3),
        detail=Stage(
            losses=Losses(
                l1=1, flat=5, grid=50, content=1, adversarial=ADVERSARIAL[name], temporal=0.2, codec=0.1, steady=5
            ),
            layers={"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1},
            adversary="hinge", discriminator="unet", d_width=16, d_alone=100,
            steps=4000, batch=8, crop=32, lr=3e-4, lr_muon=0, lr_d=4e-4, ema=0.995,
        ),
    )  # fmt: skip
