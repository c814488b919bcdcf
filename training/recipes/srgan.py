"""srgan: SRGAN. SRResNet of 16 blocks x 64 channels; MSE pre-training, then VGG content + adversarial 1e-3.

Published: MSE for a million steps of 16 crops of 96 HR pixels, then VGG19 conv5_4 content and the adversarial term for
200,000. Shrunk for two CPU cores: steps and batch. Deviations: Muon for the kernels (LOG.md); L1 before MSE.
"""

from training.generators import SRResNet
from training.recipe import Losses, Recipe, Stage

RECIPE = Recipe(
    generator=SRResNet,
    channels=3,
    fidelity=Stage(losses=Losses(l1=1), mse_from=0.8, steps=1500, batch=8, crop=24),
    detail=Stage(
        losses=Losses(flat=20, content=1, adversarial=1e-3),
        layers={"conv2_2": 0.5, "conv3_4": 1, "conv4_4": 1, "conv5_1_pre": 1},
        adversary="vanilla", discriminator="vgg", d_width=64, d_alone=50,
        steps=350, batch=8, crop=24, lr=3e-4, lr_muon=0, lr_d=4e-4, ema=0.98,
    ),
)  # fmt: skip
