"""Compare bodies, losses and skips at an equal budget: `python -m training.ablate [VARIANT...]`.

Each variant trains on x4 clean for the same number of steps from the same seed, and ends as one line: validation
PSNR-Y (twelve held-out pictures), CPU seconds of training, MACs, and milliseconds of the fused float graph for a
640x360 frame under OpenVINO. What came of it stands in LOG.md.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rtsr.metrics import psnr
from training import train
from training.generators.ablated import gated, plain, rectified
from training.generators.imdn import open_imdn
from training.loop import fit, upscale
from training.models import Ladder, run_fused
from training.recipe import Losses
from training.steps import Fidelity
from training.teach import taught

TEACHER = Path("../shared/weights/teachers/imdn_x4.safetensors")


LADDER = partial(Ladder, 16, 7)  # the tier `fast`


@dataclass(frozen=True)
class Variant:
    """A generator and what differs in its stage."""

    generator: Callable[[int], nn.Module] = LADDER
    losses: Losses = field(default_factory=lambda: Losses(l1=1))
    mse_from: float = 1.0


VARIANTS = {
    "ladder": Variant(),
    "plain": Variant(partial(plain, 16, 7)),
    "gated": Variant(partial(gated, 16, 2)),
    "half-size": Variant(partial(rectified, 32, 6, fold=2)),
    "deep": Variant(partial(Ladder, 12, 13)),
    "wide": Variant(partial(Ladder, 24, 3)),
    "skip-learned": Variant(partial(rectified, 16, 7)),
    "skip-bilinear": Variant(partial(rectified, 16, 7, skip="bilinear")),
    "skip-bicubic": Variant(partial(rectified, 16, 7, skip="bicubic")),
    "skip-none": Variant(partial(rectified, 16, 7, skip="none")),
    "charbonnier-fft": Variant(losses=Losses(charbonnier=1, fft=0.05)),
    "mse": Variant(mse_from=0.0),
    "mse-tail": Variant(mse_from=0.6),
    "teacher-half": Variant(losses=Losses(l1=0.5, teacher=0.5)),
    "teacher-only": Variant(losses=Losses(teacher=1)),
}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m training.ablate", description=(__doc__ or "").split("\n")[0])
    p.add_argument("variants", nargs="*", metavar="VARIANT", help=f"of {', '.join(VARIANTS)}; default: all")
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    args = p.parse_args(argv)
    if unknown := [name for name in args.variants if name not in VARIANTS]:
        p.error(f"there is no variant {unknown[0]!r}; there are {', '.join(VARIANTS)}")
    torch.set_num_threads(1)
    print(f"{'variant':<16} validation  CPU seconds   MACs  ms at 640x360 (median)")
    for name in args.variants or VARIANTS:
        print(compare(name, args), flush=True)
    return 0


def compare(name: str, given: argparse.Namespace) -> str:
    """Train one variant and measure it: its line."""
    variant = VARIANTS[name]
    flags = ["fast", "--data", str(given.data), "--steps", str(given.steps), "--seed", str(given.seed)]
    _, stage, args = train.settle(train.parse(flags))
    stage = replace(stage, losses=variant.losses, mse_from=variant.mse_from)
    args.show_every = given.steps
    pairs, val = train.pairs_of(args)
    if variant.losses.teacher:
        seen, _ = train.pairs_of(args, 3)
        pairs = taught(pairs, seen, open_imdn(TEACHER), args, Path("runs/cache"))
    torch.manual_seed(given.seed)
    step = Fidelity(variant.generator(args.scale), stage, args.steps, args.scale)
    began = time.process_time()
    if not fit(step, pairs, val, Path("runs") / f"ablate-{name}", args):
        raise SystemExit(130)  # interrupted
    seconds = time.process_time() - began
    score = np.mean([psnr(upscale(step.ema, lr, 4), hr, 4) for hr, lr, _ in val])
    # In a process of its own: torch's training crashes in one in which OpenVINO has run (2.13 and 2026.4).
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        macs, ms = apart.submit(cost, step.ema).result()
    return f"{name:<16} {score:10.3f} {seconds:12.0f} {macs / 1e3:6.1f}K {ms:6.1f}"


class Fused(nn.Module):
    """What is exported of a generator: the ladder's collapsed kernels, other nets as they are."""

    def __init__(self, G: nn.Module) -> None:
        super().__init__()
        self.G = None if isinstance(G, Ladder) else G
        self.layers = G.fuse() if isinstance(G, Ladder) else []

    def forward(self, y: Tensor) -> Tensor:
        return self.G(y) if self.G is not None else run_fused(self.layers, y)


def cost(G: nn.Module, repeats: int = 20) -> tuple[int, float]:
    """Multiply-accumulates per LR pixel of the fused graph, and its milliseconds for 640x360, all cores."""
    import openvino as ov

    net = Fused(G).eval()
    y = torch.rand(1, 1, 360, 640)
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        macs += module.weight[0].numel() * output.numel() // y.numel()

    hooks = [module.register_forward_hook(count) for module in net.modules() if isinstance(module, nn.Conv2d)]
    net(y)
    for hook in hooks:
        hook.remove()
    macs += sum(layer.weight.numel() for layer in net.layers)
    model = ov.convert_model(torch.export.export(net, (y,)))
    engine = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        engine(y.numpy())
        times.append(time.perf_counter() - began)
    return macs, 1000 * statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
