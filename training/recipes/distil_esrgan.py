"""distil_esrgan: the compressed ESRGAN. A depthwise student learns from an RRDB teacher (recipe distil_teacher).

Fidelity: the teacher's outputs (computed once and cached) and its features (spatial affinity, which needs no adapter
between 32 and 64 channels) beside the truth. Detail: adversarial, with the same teacher terms as an anchor.
"""

from training.generators import ThinRRDBNet
from training.recipe import Losses, Recipe, Stage

RECIPE = Recipe(
    generator=ThinRRDBNet,
    channels=3,
    teacher="distil_teacher",
    fidelity=Stage(
        losses=Losses(l1=0.5, teacher=0.5, teacher_features=0.05), mse_from=0.85, steps=8000, batch=8, crop=24
    ),
    detail=Stage(
        losses=Losses(l1=0.2, flat=50, teacher=0.2, content=1, adversarial=5e-3),
        layers={"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1},
        adversary="hinge", discriminator="unet", d_width=24, d_alone=50,
        steps=1100, batch=8, crop=24, lr=3e-4, lr_muon=0, lr_d=4e-4, ema=0.98,
    ),
)  # fmt: skip
