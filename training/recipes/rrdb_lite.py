"""rrdb_lite: light residual-in-residual dense blocks with BN, trained on LR of a kernel drawn per sample.

The kernels are nearest, bilinear and bicubic (profile *kernels*). Detail stage: relativistic average GAN (ESRGAN), VGG
features before activation of shallow and deep layers, a little L1. Shrunk for two CPU cores: crops and steps; Muon for
the kernels (LOG.md).
"""

from training.generators import RRDBLite
from training.recipe import Losses, Recipe, Stage

RECIPE = Recipe(
    generator=RRDBLite,
    channels=3,
    degradation="kernels",
    fidelity=Stage(losses=Losses(l1=1), mse_from=0.8, steps=7200, batch=8, crop=24),
    detail=Stage(
        losses=Losses(l1=0.1, flat=5, content=1, style=0, adversarial=5e-3),
        layers={"conv2_2_pre": 0.5, "conv5_1_pre": 1},
        adversary="relativistic", discriminator="unet", d_width=32, d_alone=50,
        steps=300, batch=8, crop=24, lr=3e-4, lr_muon=0, lr_d=4e-4, ema=0.98,
    ),
)  # fmt: skip
