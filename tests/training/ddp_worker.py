"""Run by torchrun from test_recipes.py: three steps of nano on this rank's share of the crops, weights to a file."""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from pictures import drawing

from training import loop, train
from training.data import Batch, clean_pairs, sample
from training.models import build
from training.steps import Fidelity

folder = Path(sys.argv[1])
torch.set_num_threads(1)
words = ["nano", "--scale", "2", "--steps", "3", "--batch", "4", "--crop", "16", "--show-every", "9", "--device", "cpu"]
_, stage, args = train.settle(train.parse(words))
pairs = clean_pairs([drawing(i) for i in range(3)], 2)
loop.open_board = lambda _: loop.SilentBoard()


def fresh() -> Fidelity:
    torch.manual_seed(0)
    return Fidelity(build("nano", 2), stage, 3, 2)


step = fresh()
loop.fit(step, pairs, pairs[:1], folder / "run", args)
rank = dist.get_rank()
torch.save(step.G.state_dict(), folder / f"rank{rank}.pt")
dist.barrier()
dist.destroy_process_group()

if rank == 0:
    step = fresh()
    for n in range(3):
        shares = [sample(pairs, 2, 4, 16, np.random.default_rng([args.seed, n, rank])) for rank in (0, 1)]
        step(Batch(torch.cat([s.lr for s in shares]), torch.cat([s.hr for s in shares])), n)
    torch.save(step.G.state_dict(), folder / "alone.pt")
