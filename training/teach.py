"""What a teacher makes of every training picture, computed once and cached: the student's second truth."""

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rtsr.metrics import rgb_to_y
from training.data import Pair, fingerprint
from training.loop import to_pixels


def taught(
    pairs: list[Pair], seen: list[Pair], teacher: nn.Module, args: argparse.Namespace, cache: Path
) -> list[Pair]:
    """The pairs with the teacher's outputs beside the truth; from `cache` if this teacher has seen these pictures.

    pairs: RGB or luma. seen: the same pictures in RGB, what the teacher is shown. teacher: an RGB generator in
    evaluation mode. Takes as long as its inference over all pictures: minutes on a CPU.
    """
    weights = hashlib.sha256()
    for tensor in teacher.state_dict().values():
        weights.update(tensor.cpu().numpy().tobytes())
    key = f"{args.degradation}-x{args.scale}-{fingerprint(args.data, 0)}-{weights.hexdigest()[:12]}"
    file = cache / f"taught-{key}.npz"
    if not file.exists():
        outputs = {str(i): enlarge(teacher, pair.lr) for i, pair in enumerate(seen)}
        cache.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **outputs)
        part.replace(file)
    with np.load(file) as arrays:
        see = rgb_to_y if pairs[0].hr.ndim == 2 else np.asarray
        return [Pair(pair.hr, pair.lr, see(arrays[str(i)])) for i, pair in enumerate(pairs)]


@torch.no_grad()
def enlarge(teacher: nn.Module, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One RGB picture (H, W, 3) through the teacher, bfloat16 inside -> (s*H, s*W, 3)."""
    device = next(teacher.parameters()).device
    x = torch.from_numpy(lr).permute(2, 0, 1)[None].to(device).float() / 255
    with torch.autocast(device.type, torch.bfloat16):
        return to_pixels(teacher(x.contiguous(memory_format=torch.channels_last)))
