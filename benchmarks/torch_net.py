"""An engine's net in torch, for comparison: the same weights, the same bytes in and out, eager and compiled."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ceilings import seconds
from benchmarks.rows import Job
from rtsr.backends.gpu_graph import read_ladder
from rtsr.backends.phases import BORDER
from rtsr.manifest import find_engine, read_engine


class Net(nn.Module):
    """y (N, 1, H + 2 * BORDER, W + 2 * BORDER), uv (N, 2, H/2, W/2) -> both `scale` times larger, uint8 all of them.

    Deviation from the engines' graph: chroma is enlarged about its centre, without the shift to its place.
    """

    def __init__(self, job: Job, dtype: torch.dtype):
        super().__init__()
        layers = read_ladder(read_engine(find_engine(job.tier, job.scale, job.degradation, "float", "planes")))
        self.scale, self.dtype = job.scale, dtype
        self.convs = nn.ModuleList()
        for layer in layers:
            conv = nn.Conv2d(layer.weight.shape[1], layer.weight.shape[0], 3, padding=1)
            conv.weight = nn.Parameter(torch.from_numpy(layer.weight.copy()))
            conv.bias = nn.Parameter(torch.from_numpy(layer.bias.copy()))
            self.convs.append(conv)
        self.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, y: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
        x = y.to(self.dtype).contiguous(memory_format=torch.channels_last) / 255
        for conv in self.convs[:-1]:
            x = F.relu(conv(x))
        x = self.convs[-1](x)[..., BORDER:-BORDER, BORDER:-BORDER]
        large = F.pixel_shuffle(x, self.scale) * 255
        chroma = F.interpolate(uv.float(), scale_factor=self.scale, mode="bicubic")
        return to_bytes(large), to_bytes(chroma)


def to_bytes(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


@torch.inference_mode()
def measure(what: str, job: Job, batch: int, device: str, quick: bool) -> dict[str, Any]:
    """`eager` or `compiled`: FP16 on a GPU, FP32 on a CPU; tensors on the device already."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    torch.backends.cudnn.benchmark = True
    net = Net(job, dtype).eval().to(device)
    y = torch.randint(0, 256, (batch, 1, job.height + 2 * BORDER, job.width + 2 * BORDER), dtype=torch.uint8)
    uv = torch.randint(0, 256, (batch, 2, job.height // 2, job.width // 2), dtype=torch.uint8)
    y, uv = y.to(device), uv.to(device)
    call = torch.compile(net, mode="reduce-overhead" if device == "cuda" else None) if what == "compiled" else net
    ms = 1e3 * seconds(lambda: call(y, uv), device, quick) / batch
    return {"ms_per_frame": ms, "dtype": str(dtype)[6:]}
