"""distil_teacher: ESRGAN's generator with two RRDBs instead of 23, as much as minutes on two CPU cores can train."""

from functools import partial

from training.generators import RRDBNet
from training.recipe import Losses, Recipe, Stage

RECIPE = Recipe(
    generator=partial(RRDBNet, blocks=2),
    channels=3,
    fidelity=Stage(losses=Losses(l1=1), mse_from=0.8, steps=2000, batch=8, crop=24),
)
