"""srgan_tv: the staged SRGAN of the Keras years. Pre-training on VGG conv2_2 content + total variation, then conv5 +
TV + adversarial.

Sub-pixel convolutions replace its transposed ones, whose overlap drew grids. conv5_3 is not in the backbone at hand
(it ends at conv5_1): conv5_1 stands in. Shrunk for two CPU cores: crops and steps; a little MSE ties the colours that
features leave free in so short a run.
"""

from training.generators import SRResNet
from training.recipe import Losses, Recipe, Stage

RECIPE = Recipe(
    generator=SRResNet,
    channels=3,
    fidelity=Stage(
        losses=Losses(mse=1, content=1, tv=2e-3), layers={"conv2_2": 1}, steps=500, batch=8, crop=24
    ),
    detail=Stage(
        losses=Losses(mse=1, content=1, tv=2e-3, adversarial=1e-3),
        layers={"conv5_1": 1},
        adversary="vanilla", discriminator="vgg", d_width=64, d_alone=50,
        steps=300, batch=8, crop=24, lr=3e-4, lr_muon=0, lr_d=4e-4, ema=0.98,
    ),
)  # fmt: skip
