"""What the machine allows at best: the bandwidth of its memory and of the bus, and the rate of its matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

REPEATS = 5
_ROUND_S = 0.2  # long enough for a GPU's clock to rise


def measure(what: str, device: str, quick: bool) -> dict[str, Any]:
    """copy: bytes read and written; upload, download: through page-locked memory; matrix: FP16 with random numbers on a
    GPU, FP32 on a CPU."""
    size = (1 << 24) if quick or device == "cpu" else (1 << 30)
    if what == "copy":
        source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
        return {"gb_per_s": 2 * size / seconds(lambda: target.copy_(source), device, quick) / 1e9}
    if what == "matrix":
        side = 512 if quick or device == "cpu" else 8192
        dtype = torch.float16 if device == "cuda" else torch.float32
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return {"tflop_per_s": 2 * side**3 / seconds(lambda: a @ b, device, quick) / 1e12, "dtype": str(dtype)[6:]}
    if device == "cpu":
        raise LookupError("a CPU has no bus to its memory")
    size >>= 2
    host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(size, dtype=torch.uint8, device=device)
    copy = (lambda: there.copy_(host, non_blocking=True)) if what == "upload" else lambda: host.copy_(there, True)
    return {"gb_per_s": size / seconds(copy, device, quick) / 1e9}


def seconds(work: Callable[[], object], device: str, quick: bool) -> float:
    """Of one call of work: median of REPEATS rounds, each of as many calls as take _ROUND_S; quick: of one call."""

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        work()
    finish()
    begun = time.perf_counter()
    work()
    finish()
    calls = max(1, min(2000, round((not quick) * _ROUND_S / max(time.perf_counter() - begun, 1e-6))))
    rounds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for _ in range(calls):
            work()
        finish()
        rounds.append((time.perf_counter() - begun) / calls)
    return median(rounds)
