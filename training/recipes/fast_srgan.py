"""fast_srgan: Fast-SRGAN. A MobileNetV2 body of 12 blocks x 24 channels, then adversarial + VGG + MSE.

The MSE in the detail stage is what removed its checkerboards. Shrunk for two CPU cores: HR crops of 96 pixels instead
of 384, runs of minutes. Deviations: the fidelity stage trains on L1 (MSE in its last fifth) with Muon for the kernels
(0.37 dB over Adam at equal steps on the ladder, LOG.md); U-Net discriminator narrowed to the small generator.
"""

from functools import partial

from training.generators import MobileSR
from training.recipe import Losses, Recipe, Stage

RECIPE = Recipe(
    generator=partial(MobileSR, width=24, blocks=12, expand=6),
    channels=3,
    fidelity=Stage(losses=Losses(l1=1), mse_from=0.8, steps=8000, batch=8, crop=24),
    detail=Stage(
        losses=Losses(mse=1, flat=50, content=1, adversarial=0.01),
        layers={"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1},
        adversary="vanilla", discriminator="unet", d_width=24, d_alone=50,
        steps=1500, batch=8, crop=24, lr=3e-4, lr_muon=0, lr_d=4e-4, ema=0.98,
    ),
)  # fmt: skip
