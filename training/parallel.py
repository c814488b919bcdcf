"""Several processes, one model: `torchrun --nproc-per-node 2 -m training.train RECIPE`.

What DistributedDataParallel does, in the open: equal weights at the start, gradients averaged before each update. By
hand because a GAN step runs its nets several times between two updates, which DDP's hooks do not allow, and because
gradients here are a few megabytes at most: one all-reduce of one flat tensor.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn


def start(device: torch.device) -> tuple[int, int]:
    """Join the group that torchrun's environment names: (rank, number of processes); (0, 1) without torchrun.

    gloo on CPUs, NCCL on GPUs (the latter never run on hardware).
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()


def finish() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace every gradient by its mean over the processes; every process must hold the same set of them."""
    if not dist.is_initialized():
        return
    average([p.grad for p in parameters if p.grad is not None])


def average_buffers(net: nn.Module) -> None:
    """Batch norms gather their statistics on each process's own crops: take the mean of them."""
    if dist.is_initialized():
        average([b for b in net.buffers() if b.is_floating_point()])


@torch.no_grad()
def average(tensors: list[Tensor]) -> None:
    """Mean over the processes, in place, as one all-reduce."""
    if not tensors:
        return
    flat = torch.cat([t.reshape(-1).float() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(mean.view_as(tensor))


def agree(stop: bool) -> bool:
    """Whether any process wants to stop: all leave the loop after the same step."""
    if not dist.is_initialized():
        return stop
    flag = torch.tensor(float(stop))
    if dist.get_backend() == "nccl":
        flag = flag.cuda()
    dist.all_reduce(flag)
    return bool(flag.item())
