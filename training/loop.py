"""The training loop: batches in, one step after another, checkpoints out; stops cleanly, goes on bit for bit."""

import argparse
import errno
import math
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtsr.metrics import psnr, rgb_to_y
from training import checkpoint, parallel
from training.data import Batch, DataError, Pair, sample
from training.resident import Resident
from training.steps import Step

DIVERGED = 10  # a smoothed loss this many times its lowest value means that the run is lost
REPORT_EVERY = 500  # steps between two lines of progress


def fit(step: Step, train: list[Pair], val: list[Pair], folder: Path, args: argparse.Namespace) -> bool:
    """Run a stage from the folder's last state on, if there is one; True when all steps are done.

    Raises FloatingPointError, naming the step, when the loss is not a number or the run diverges, and DataError when
    the disk is full or the checkpoint is of another architecture; the last good checkpoint stays. Ctrl-C and SIGTERM
    end the step and save.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    rank, _ = parallel.start(device)
    step.to(device)
    first = resume(folder / "last.pt", step)
    if device.type == "cuda":  # never run on hardware
        step.run_G = torch.compile(step.G, mode="reduce-overhead")  # CUDA graphs of the generator's passes
    log = (folder / "log.txt" if rank == 0 else Path(os.devnull)).open("a", buffering=1)
    board = open_board(folder) if rank == 0 else SilentBoard()
    if rank == 0:
        (folder / "pid").write_text(f"{os.getpid()}\n")
        say(log, f"{' '.join(f'{k}={v}' for k, v in vars(args).items() if v is not None)}; from step {first}")

    began = saved = time.monotonic()
    n, waited = first - 1, 0.0
    seen: dict[str, float] = {}
    lowest = math.inf
    pool = Resident(train, args.scale, device) if device.type == "cuda" else None  # never run on hardware
    with interruptible() as stop, ThreadPoolExecutor(1, "sample") as sampler:

        def draw(n: int) -> Batch:
            """Batch n of this process. It depends on nothing but seed, n and rank: no sampler state to lose."""
            rng = np.random.default_rng([args.seed, n, rank])
            if pool is not None:
                return pool.sample(args.batch, args.crop, rng, args.ramps)
            return sample(train, args.scale, args.batch, args.crop, rng, args.ramps)

        coming = sampler.submit(draw, first)
        for n in range(first, args.steps):
            asked = time.monotonic()
            batch = coming.result()
            waited += time.monotonic() - asked
            coming = sampler.submit(draw, n + 1)
            terms = step(batch, n)

            value = float(torch.stack(list(terms.values())).sum())
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss is {value} at step {n}; {folder}/last.pt is from before")
            keep = 0.99 if seen else 0.0
            seen = {k: keep * seen.get(k, float(v)) + (1 - keep) * float(v) for k, v in terms.items()}
            if "D" not in seen:  # an adversarial loss may rise for good reasons
                lowest = min(lowest, total := sum(seen.values()))
                if total > DIVERGED * lowest and n - first > 100:
                    raise FloatingPointError(
                        f"diverged at step {n}: loss {total:.4g} after {lowest:.4g}; {folder}/last.pt is from before"
                    )
            if (n + 1) % REPORT_EVERY == 0 or n + 1 == args.steps:
                spent = time.monotonic() - began
                rate = (n + 1 - first) / spent
                for name, term in seen.items():
                    board.add_scalar(f"loss/{name}", term, n + 1)
                said = "  ".join(f"{name} {term:.5f}" for name, term in seen.items())
                say(
                    log,
                    f"step {n + 1}/{args.steps}  {said}  {rate:.2f} steps/s  waiting for data {waited / spent:.2%}"
                    f"  {(args.steps - n - 1) / rate / 60:.1f} min to go",
                )
            if rank == 0 and ((n + 1) % args.show_every == 0 or n + 1 == args.steps):
                show(step.ema, val, args.scale, board, log, n + 1)
            if time.monotonic() - saved > args.save_every:
                save(folder, step, n + 1, args, rank)
                saved = time.monotonic()
            if parallel.agree(bool(stop)) or n + 1 == args.stop_after:
                break
        coming.cancel()
    save(folder, step, n + 1, args, rank)
    if stop:
        say(log, f"interrupted after step {n + 1}, saved; the same command goes on")
    board.close()
    log.close()
    return n + 1 >= args.steps


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


def save(folder: Path, step: Step, done: int, args: argparse.Namespace, rank: int = 0) -> None:
    """Full state: with it a killed run goes on bit for bit. Raises DataError when the disk is full."""
    for net in step.nets.values():
        parallel.average_buffers(net)
    if rank:
        return
    state = {
        **{name: net.state_dict() for name, net in step.nets.items()},
        "optimisers": [o.state_dict() for o in step.all_optimisers()],
        "torch_rng": torch.get_rng_state(),
        "step": done,
        "args": vars(args),
    }
    try:
        checkpoint.save(folder / "last.pt", state)
    except (OSError, RuntimeError) as error:  # torch's zip writer wraps what the system said
        if isinstance(error, OSError) and error.errno != errno.ENOSPC:
            raise
        raise DataError(f"step {done} could not be saved to {folder}: {error}; last.pt is the state before") from error


def resume(path: Path, step: Step) -> int:
    """Put a saved state back in place; the step to go on with (0 if there is none)."""
    if not path.exists():
        return 0
    state = checkpoint.load(path)
    try:
        for name, net in step.nets.items():
            net.load_state_dict(state[name])
        for optimiser, saved in zip(step.all_optimisers(), state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    except (KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} holds another architecture or stage; give the run another --name") from error
    torch.set_rng_state(state["torch_rng"])
    return state["step"]


@torch.no_grad()
def upscale(G: nn.Module, lr: np.ndarray, scale: int) -> np.ndarray:
    """One picture through G in float32: luma (H, W) or RGB (H, W, 3) uint8 -> the same, `scale` times larger."""
    device = next(G.parameters()).device
    x = torch.from_numpy(lr.reshape(*lr.shape[:2], -1)).permute(2, 0, 1)[None].to(device).float() / 255
    sr = G(x)
    sr = F.pixel_shuffle(sr, scale) if lr.ndim == 2 else sr
    return to_pixels(sr).reshape(lr.shape[0] * scale, lr.shape[1] * scale, *lr.shape[2:])


def to_pixels(sr: Tensor) -> np.ndarray:
    """(1, C, H, W) in [0, 1] -> (H, W, C) uint8."""
    return (sr[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().cpu().numpy()


def show(G: nn.Module, pairs: list[Pair], scale: int, board, log, step: int) -> None:
    """Validation PSNR-Y and two sample pictures: input (nearest), output and truth side by side."""
    score = []
    for i, (hr, lr, _) in enumerate(pairs):
        sr = upscale(G, lr, scale)
        score.append(psnr(sr, hr, scale) if lr.ndim == 2 else psnr(rgb_to_y(sr), rgb_to_y(hr), scale))
        if i < 2:
            picture = np.concatenate([lr.repeat(scale, 0).repeat(scale, 1), sr, hr], axis=1)
            board.add_image(f"sample {i}", picture, step, dataformats="HWC" if picture.ndim == 3 else "HW")
    board.add_scalar("psnr_y/val", np.mean(score), step)
    say(log, f"step {step}  validation PSNR-Y {np.mean(score):.3f} dB")


class SilentBoard:
    """Takes what TensorBoard takes and keeps nothing: for all processes but the first."""

    def add_scalar(self, *_: object) -> None: ...
    def add_image(self, *_: object, **__: object) -> None: ...
    def close(self) -> None: ...


def open_board(folder: Path):
    from torch.utils.tensorboard import SummaryWriter  # imported late: it takes seconds

    return SummaryWriter(str(folder))


def say(log, line: str) -> None:
    """To the terminal and to the log; what the log already holds stays."""
    line = f"{time.strftime('%H:%M:%S', time.gmtime())} {line}"
    print(line, flush=True)
    log.write(line + "\n")
