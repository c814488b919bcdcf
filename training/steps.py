"""One training step, read like the paper: fidelity (generator alone) and detail (generator against discriminator).

A step object holds the nets and optimisers of its stage; calling it with a batch makes one update and gives every term
of the loss by name.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import losses, parallel
from training.data import Batch, as_floats
from training.degradations import SENSOR_NOISE, jpeg
from training.discriminators import build_discriminator
from training.optim import make_optimisers, set_lr
from training.perceptual import Backbone
from training.recipe import Losses, Stage

WARM_UP = 200  # steps in which the rates rise from 0; a tenth of the run if that is less
PEAK = 30  # MSE's weight beside L1's: equal gradients at an error of 1/60


@dataclass
class Helpers:
    """Frozen nets that some losses ask: a perceptual backbone and a teacher."""

    backbone: Backbone | None = None
    teacher: nn.Module | None = None

    def to(self, device: torch.device) -> "Helpers":
        for net in (self.backbone, self.teacher):
            if net is not None:
                net.to(device)
        return self


@dataclass
class Step:
    """What both stages share. G maps lr to phases (luma nets) or to the picture (RGB nets).

    ema: G's averaged weights, what is validated and exported. steps: length of the cosine.
    """

    G: nn.Module
    stage: Stage
    steps: int
    scale: int
    helpers: Helpers = field(default_factory=Helpers)

    def __post_init__(self) -> None:
        self.ema = deepcopy(self.G).eval()
        self.optimisers = make_optimisers(self.G, self.stage.lr, self.stage.lr_muon)
        self.nets: dict[str, nn.Module] = {"G": self.G, "ema": self.ema}
        self.run_G: Any = self.G  # the compiled one on a GPU

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One update; the terms of the generator's loss, weighted, detached."""
        raise NotImplementedError

    def all_optimisers(self) -> list[torch.optim.Optimizer]:
        """Every optimiser, in the order in which a checkpoint keeps them."""
        return self.optimisers

    def to(self, device: torch.device) -> None:
        """Move everything that learns, and the frozen helpers, to a device."""
        for net in self.nets.values():
            net.to(memory_format=torch.channels_last).to(device)  # type: ignore[call-overload]
        self.helpers.to(device)

    def upscale(self, lr: Tensor) -> Tensor:
        """lr (N, C, H, W) -> sr (N, C, s*H, s*W) float32, the body in bfloat16."""
        with torch.autocast(lr.device.type, torch.bfloat16):
            sr = self.run_G(lr)
        return F.pixel_shuffle(sr, self.scale) if lr.shape[1] == 1 else sr

    def rates(self, step: int) -> float:
        """Set every optimiser's rate for this step (warm-up, then a cosine to 0); the factor on the peak rates."""
        warm = max(1, min(WARM_UP, self.steps // 10))
        factor = min(1, (step + 1) / warm) * (1 + math.cos(math.pi * step / self.steps)) / 2
        for optimiser, peak in zip(self.optimisers, (self.stage.lr, self.stage.lr_muon), strict=False):
            set_lr(optimiser, peak * factor)
        return factor

    def update_G(self, loss: Tensor, step: int) -> None:
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        parallel.average_gradients(self.G.parameters())
        nn.utils.clip_grad_norm_(self.G.parameters(), self.stage.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        average(self.ema, self.G, min(self.stage.ema, (step + 1) / (step + 10)))

    def terms(self, sr: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms that need no discriminator, each with its weight."""
        w, hr, found = self.stage.losses, batch.hr, {}
        if w.l1:
            found["l1"] = w.l1 * losses.l1(sr, hr)
        if w.charbonnier:
            found["charbonnier"] = w.charbonnier * losses.charbonnier(sr, hr)
        if w.mse:
            found["mse"] = w.mse * PEAK * losses.mse(sr, hr)
        if w.fft:
            found["fft"] = w.fft * losses.fft(sr, hr)
        if w.tv:
            found["tv"] = w.tv * losses.total_variation(sr)
        if w.flat and self.stage.ramps:
            found["flat"] = w.flat * losses.l1(sr[-self.stage.ramps :], hr[-self.stage.ramps :])
        if w.grid:
            found["grid"] = w.grid * losses.grid(sr, hr, self.scale)
        if w.content or w.style:
            found |= self.perceptual_terms(sr, hr)
        if w.teacher and batch.teacher is not None:
            found["teacher"] = w.teacher * losses.teacher_output(sr, batch.teacher)
        if w.teacher_features and self.helpers.teacher is not None:
            found["teacher_features"] = w.teacher_features * self.affinity(batch.lr)
        return found

    def perceptual_terms(self, sr: Tensor, hr: Tensor) -> dict[str, Tensor]:
        """Content and style by the backbone; without one, spectra stand in for content (and train.py has said so)."""
        w, backbone, layers = self.stage.losses, self.helpers.backbone, dict(self.stage.layers)
        if backbone is None:
            return {"fft_for_content": w.content * losses.fft(sr, hr)} if w.content else {}
        with torch.autocast(sr.device.type, torch.bfloat16):
            fake = backbone(sr, layers)
            with torch.no_grad():
                real = backbone(hr, layers)
        found = {}
        if w.content:
            found["content"] = w.content * losses.content(fake, real, layers)
        if w.style:
            found["style"] = w.style * losses.style(fake, real, layers)
        return found

    def steadiness(self, sr: Tensor, lr: Tensor) -> Tensor:
        """How far from sr the output moves when the next frame of a static shot shows lr with other sensor noise."""
        noisy = (lr + SENSOR_NOISE / 255 * torch.randn_like(lr)).clamp(0, 1)
        return self.stage.losses.steady * losses.stability(sr, self.upscale(noisy))

    def affinity(self, lr: Tensor) -> Tensor:
        """Feature distillation on the batch's first quarter: the teacher has to run for it."""
        assert self.helpers.teacher is not None
        part = lr[: max(1, len(lr) // 4)]
        with torch.autocast(lr.device.type, torch.bfloat16):
            with torch.no_grad():
                taught = self.helpers.teacher.features(part)  # type: ignore[operator]
            own = self.G.features(part)  # type: ignore[operator]
        return losses.teacher_features(own, taught)


class Fidelity(Step):
    """Pixel losses (and content, where the recipe says so), one net, one update."""

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        self.rates(step)
        sr = self.upscale(batch.lr)
        if step / self.steps >= self.stage.mse_from:
            terms = {"mse": PEAK * losses.mse(sr, batch.hr)}
        else:
            terms = self.terms(sr, batch)
        if self.stage.losses.steady:
            terms["steady"] = self.steadiness(sr, batch.lr)
        self.update_G(torch.stack(list(terms.values())).sum(), step)
        return {name: term.detach() for name, term in terms.items()}


class Detail(Step):
    """G against D. For its first `d_alone` steps only D learns: a fresh D would lead the trained G astray."""

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = next(self.G.parameters()).shape[1]
        self.D = build_discriminator(self.stage.discriminator, channels, self.stage.d_width)
        self.nets["D"] = self.D
        self.optimiser_D = torch.optim.Adam(self.D.parameters(), self.stage.lr_d, betas=(0.9, 0.99), foreach=True)

    def all_optimisers(self) -> list[torch.optim.Optimizer]:
        return [*self.optimisers, self.optimiser_D]

    def rates(self, step: int) -> float:
        factor = super().rates(step)
        set_lr(self.optimiser_D, self.stage.lr_d * factor)
        return factor

    def __call__(self, batch: Batch, step: int) -> dict[str, Tensor]:
        self.rates(step)
        w: Losses = self.stage.losses
        loss_G, loss_D = losses.ADVERSARIES[self.stage.adversary]
        device = batch.lr.device.type
        terms: dict[str, Tensor] = {}
        learning = step >= self.stage.d_alone

        with torch.set_grad_enabled(learning):
            sr = self.upscale(batch.lr)
        if learning:
            self.D.requires_grad_(False)
            with torch.autocast(device, torch.bfloat16):
                fake, fake_features = self.D(sr)
                real, real_features = fake, fake_features
                if w.matching or self.stage.adversary == "relativistic":  # the others do not look at it
                    with torch.no_grad():
                        real, real_features = self.D(batch.hr)
            terms = self.terms(sr, batch)
            terms["adversarial"] = w.adversarial * loss_G(fake.float(), real.float())
            if w.matching:
                terms["matching"] = w.matching * losses.feature_matching(fake_features, real_features)
            if w.ldl:
                terms["ldl"] = w.ldl * losses.ldl(sr, self.averaged(batch.lr), batch.hr)
            if w.temporal:
                terms["temporal"] = w.temporal * self.shifted(batch, step)
            if w.codec:
                terms["codec"] = w.codec * losses.stability(sr, self.upscale(self.recoded(batch.lr, step)))
            if w.steady:
                terms["steady"] = self.steadiness(sr, batch.lr)
            self.update_G(torch.stack(list(terms.values())).sum(), step)
            self.D.requires_grad_(True)

        with torch.autocast(device, torch.bfloat16):
            fake, _ = self.D(sr.detach())
            real, _ = self.D(batch.hr)
        doubt = loss_D(fake.float(), real.float())
        self.optimiser_D.zero_grad()
        doubt.backward()
        parallel.average_gradients(self.D.parameters())
        nn.utils.clip_grad_norm_(self.D.parameters(), 1.0)
        self.optimiser_D.step()
        return {name: term.detach() for name, term in terms.items()} | {"D": doubt.detach()}

    @torch.no_grad()
    def averaged(self, lr: Tensor) -> Tensor:
        """What the averaged generator makes of lr (LDL asks for it)."""
        sr = self.ema(lr)
        return F.pixel_shuffle(sr, self.scale) if lr.shape[1] == 1 else sr

    def shifted(self, batch: Batch, step: int) -> Tensor:
        """Shifted-crop consistency on the batch's first quarter, LR made anew by antialiased bicubic shrinking.

        The shift is less than an LR pixel along each axis: the aliasing that crawls in a slow pan.
        """
        hr = batch.hr[: max(1, len(batch.hr) // 4)]
        s, (height, width) = self.scale, hr.shape[-2:]
        down, right = 1 + step % (s - 1), 1 + step // (s - 1) % (s - 1)
        a = hr[..., : height - s, : width - s]
        b = hr[..., down : down + height - s, right : right + width - s]
        size = (height // s - 1, width // s - 1)
        lr = F.interpolate(torch.cat([a, b]), size, mode="bicubic", antialias=True, align_corners=False)
        sr_a, sr_b = self.upscale(lr.clamp(0, 1)).chunk(2)
        return losses.temporal(sr_a, sr_b, a, b, (down, right))

    def recoded(self, lr: Tensor, step: int) -> Tensor:
        """lr through a real JPEG encode of a quality drawn per step."""
        rng = np.random.default_rng([step, 7])
        pixels = (lr.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).byte().cpu().numpy()
        coded = np.stack([jpeg(picture, int(rng.integers(40, 91))) for picture in pixels])
        return as_floats(coded.reshape(pixels.shape)).to(lr.device)


@torch.no_grad()
def average(ema: nn.Module, G: nn.Module, decay: float) -> None:
    """Move the averaged weights a step towards G's; batch norm statistics, averages themselves, are copied."""
    for mean, weight in zip(ema.parameters(), G.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)
    for mean, buffer in zip(ema.buffers(), G.buffers(), strict=True):
        mean.copy_(buffer)
