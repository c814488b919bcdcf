"""Train a generator: `python -m training.train fast --scale 4 --degradation clean --steps 60000`.

Everything a run writes lies in runs/<name>: last.pt (full state, every minute), log.txt, pid, TensorBoard events. The
same command goes on where it stopped; with another --steps the cosine is stretched or shortened.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint
from training.data import DataError, Pair, load_pairs, sample
from training.metrics import psnr
from training.models import TIERS, build
from training.optim import Muon


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.train", description=(__doc__ or "").split("\n")[0])
    p.add_argument("tier", choices=TIERS)
    p.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    p.add_argument("--degradation", default="clean", choices=("clean", "stream"))
    p.add_argument("--data", type=Path, default=Path("../shared/data/train"), help="folder of pictures or tar shards")
    p.add_argument("--name", help="folder under runs/; default TIER-xSCALE-DEGRADATION")
    p.add_argument("--init", type=Path, help="checkpoint to start from; its layers are taken where the shapes agree")
    p.add_argument("--steps", type=int, default=60_000)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--crop", type=int, default=64, help="side of the LR crops")
    p.add_argument("--lr", type=float, default=2e-3, help="Adam's peak learning rate")
    p.add_argument("--lr-muon", type=float, default=0.01, help="Muon's peak rate for the kernels; 0: Adam for all")
    p.add_argument("--mse-from", type=float, default=0.6, help="share of the run with L1 loss; MSE after it")
    p.add_argument("--ema", type=float, default=0.999)
    p.add_argument("--clip", type=float, default=0.5, help="largest gradient norm")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1, help="one process per core trains more than one process on all")
    p.add_argument("--save-every", type=float, default=60, metavar="SECONDS")
    p.add_argument("--show-every", type=int, default=2000, metavar="STEPS", help="validation and sample pictures")
    p.add_argument("--stop-after", type=int, metavar="STEPS", help="stop early as if interrupted (the cosine stays)")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    folder = Path("runs") / (args.name or f"{args.tier}-x{args.scale}-{args.degradation}")
    G = build(args.tier, args.scale)
    if args.init:
        warm_start(G, checkpoint.load(args.init)["ema"])
    try:
        return 0 if fit(G, *pairs_of(args), folder, args) else 130
    except (DataError, FloatingPointError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1


def pairs_of(args: argparse.Namespace) -> tuple[list[Pair], list[Pair]]:
    """Training pairs, and a dozen held-out ones."""
    smallest, cache = args.crop * args.scale, Path("runs/cache")
    train, val = (load_pairs(args.data, s, args.scale, args.degradation, smallest, cache) for s in ("train", "val"))
    return train, val[:12]


def recipe(args: dict) -> str:
    """The commands that made a checkpoint, paths of data and folders left out."""
    if trained := args.get("trained"):
        return f"{trained}; training.quantize --steps {args['steps']} --lr {args['lr']}"
    keys = ("scale", "degradation", "steps", "batch", "crop", "lr", "lr_muon", "mse_from", "seed")
    flags = " ".join(f"--{key.replace('_', '-')} {args[key]}" for key in keys)
    init = f" --init {args['init']}" if args.get("init") else ""
    return f"training.train {args['tier']} {flags}{init}"


def fit(G: nn.Module, train: list[Pair], val: list[Pair], folder: Path, args: argparse.Namespace) -> bool:
    """Train G (y -> phases) from the folder's last state on, if there is one; True when all steps are done.

    Raises FloatingPointError, naming the step, when the loss is not a number. Ctrl-C and SIGTERM end the step and save.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pid").write_text(f"{os.getpid()}\n")
    ema = deepcopy(G)
    optimisers = make_optimisers(G, args)
    rng = np.random.default_rng(args.seed)
    first = resume(folder / "last.pt", G, ema, optimisers, rng)
    log = (folder / "log.txt").open("a", buffering=1)
    board = open_board(folder)
    say(log, f"{' '.join(f'{k}={v}' for k, v in vars(args).items() if v is not None)}; from step {first}")

    began = saved = time.monotonic()
    step, seen = first - 1, 0.0
    with interruptible() as stop:
        for step in range(first, args.steps):
            done = step / args.steps
            for optimiser, peak in zip(optimisers, (args.lr, args.lr_muon), strict=False):
                set_lr(optimiser, peak * min(1, (step + 1) / 200) * (1 + math.cos(math.pi * done)) / 2)

            lr, hr = sample(train, args.scale, args.batch, args.crop, rng)
            with torch.autocast("cpu", torch.bfloat16):
                sr = G(lr)  # (N, s*s, H, W)
            truth = F.pixel_unshuffle(hr, args.scale).contiguous(memory_format=torch.channels_last)
            loss = F.l1_loss(sr, truth) if done < args.mse_from else 30 * F.mse_loss(sr, truth)
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(G.parameters(), args.clip)
            for optimiser in optimisers:
                optimiser.step()
            average(ema, G, min(args.ema, (step + 1) / (step + 10)))

            if not math.isfinite(value := loss.item()):
                raise FloatingPointError(f"the loss is {value} at step {step}; {folder}/last.pt is from before")
            seen = 0.99 * seen + 0.01 * value if step > first else value
            if (step + 1) % 500 == 0:
                rate = (step + 1 - first) / (time.monotonic() - began)
                board.add_scalar("loss", seen, step + 1)
                eta = (args.steps - step - 1) / rate / 60
                say(log, f"step {step + 1}/{args.steps}  loss {seen:.5f}  {rate:.1f} steps/s  {eta:.1f} min to go")
            if (step + 1) % args.show_every == 0 or step + 1 == args.steps:
                show(ema, val, args.scale, board, log, step + 1)
            if time.monotonic() - saved > args.save_every:
                save(folder, G, ema, optimisers, rng, step + 1, args)
                saved = time.monotonic()
            if stop or step + 1 == args.stop_after:
                break
    save(folder, G, ema, optimisers, rng, step + 1, args)
    if stop:
        say(log, f"interrupted after step {step + 1}, saved; the same command goes on")
    board.close()
    log.close()
    return step + 1 >= args.steps


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of dying in the middle of a step."""
    caught: list[int] = []
    before = {s: signal.signal(s, lambda number, _: caught.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def make_optimisers(G: nn.Module, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Adam for biases, skip and 1x1 branches; Muon for the 3x3 kernels of the layers (unless --lr-muon 0)."""
    kernels = [p for n, p in G.named_parameters() if args.lr_muon and p.ndim == 4 and n.startswith(("body", "tail"))]
    chosen = {id(p) for p in kernels}
    rest = [p for p in G.parameters() if id(p) not in chosen]
    adam = torch.optim.Adam(rest, args.lr, betas=(0.9, 0.99), foreach=True)
    return [adam, Muon(kernels, args.lr_muon)] if kernels else [adam]


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr


@torch.no_grad()
def average(ema: nn.Module, G: nn.Module, decay: float) -> None:
    """Move the averaged weights a step towards G's."""
    for mean, weight in zip(ema.parameters(), G.parameters(), strict=True):
        mean.lerp_(weight, 1 - decay)


def warm_start(G: nn.Module, weights: dict[str, Tensor]) -> None:
    """Take over all tensors of equal name and shape: the body of another scale, of another degradation."""
    own = G.state_dict()
    own.update({name: w for name, w in weights.items() if name in own and own[name].shape == w.shape})
    G.load_state_dict(own)


def save(
    folder: Path,
    G: nn.Module,
    ema: nn.Module,
    optimisers: list[torch.optim.Optimizer],
    rng: np.random.Generator,
    step: int,
    args: argparse.Namespace,
) -> None:
    """Full state: with it a killed run goes on bit for bit."""
    state = {
        "G": G.state_dict(),
        "ema": ema.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers],
        "rng": rng.bit_generator.state,
        "torch_rng": torch.get_rng_state(),
        "step": step,
        "args": vars(args),
    }
    checkpoint.save(folder / "last.pt", state)


def resume(path: Path, G: nn.Module, ema: nn.Module, optimisers: list, rng: np.random.Generator) -> int:
    """Put a saved state back in place; the step to go on with (0 if there is none)."""
    if not path.exists():
        return 0
    state = checkpoint.load(path)
    G.load_state_dict(state["G"])
    ema.load_state_dict(state["ema"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    rng.bit_generator.state = state["rng"]
    torch.set_rng_state(state["torch_rng"])
    return state["step"]


@torch.no_grad()
def upscale(G: nn.Module, lr: np.ndarray, scale: int) -> np.ndarray:
    """One (H, W) uint8 luma picture through G in float32 -> (s*H, s*W) uint8."""
    y = torch.from_numpy(lr).float()[None, None] / 255
    sr = F.pixel_shuffle(G(y), scale)[0, 0]
    return (sr * 255).round().clamp(0, 255).byte().numpy()


def show(G: nn.Module, pairs: list[Pair], scale: int, board, log, step: int) -> None:
    """Validation PSNR-Y and two sample pictures: input (nearest), output and truth side by side."""
    score = []
    for i, (hr, lr) in enumerate(pairs):
        sr = upscale(G, lr, scale)
        score.append(psnr(sr, hr, scale))
        if i < 2:
            picture = np.concatenate([lr.repeat(scale, 0).repeat(scale, 1), sr, hr], axis=1)
            board.add_image(f"sample {i}", picture, step, dataformats="HW")
    board.add_scalar("psnr_y/val", np.mean(score), step)
    say(log, f"step {step}  validation PSNR-Y {np.mean(score):.3f} dB")


def open_board(folder: Path):
    from torch.utils.tensorboard import SummaryWriter  # imported late: it takes seconds

    return SummaryWriter(str(folder))


def say(log, line: str) -> None:
    """To the terminal and to the log; what the log already holds stays."""
    line = f"{time.strftime('%H:%M:%S', time.gmtime())} {line}"
    print(line, flush=True)
    log.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
