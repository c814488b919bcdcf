"""How fast generators run: `python -m training.speed distil_esrgan fast_srgan esrgan --size 320x180`.

Exports each (untrained: speed needs no weights) and times it under OpenVINO in one run, the engines taking turns, so
that what else the machine does hits all alike. `esrgan` is ESRGAN's own generator of 23 blocks. Prints the median and
how many times faster each is than the slowest, then one JSON line.
"""

import argparse
import json
import os
import platform
import sys
import time
from statistics import median

import numpy as np
import openvino as ov
import torch
from torch import nn

from training import recipe, rgb_export
from training.generators import RRDBNet
from training.upscalers import ALONE, any_frame

SCALE = 4


def generator(name: str) -> nn.Module:
    """An untrained RGB generator, its zeroed last layer filled: zeros might be skipped."""
    torch.manual_seed(0)
    net = RRDBNet(SCALE) if name == "esrgan" else recipe.load(name).generator(SCALE)
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=1e-3)
    return net


def compiled(net: nn.Module, width: int, height: int) -> tuple[ov.CompiledModel, dict[str, np.ndarray]]:
    """The exported engine at a fixed size, and an input for it."""
    model = ov.Core().read_model(rgb_export.build_graph(rgb_export.exportable(net), SCALE).SerializeToString())
    model.reshape({"y": [1, 1, height, width], "uv": [1, 2, height // 2, width // 2]})
    return ov.compile_model(model, "CPU", ALONE), any_frame(width, height)


def measure(names: list[str], width: int, height: int, rounds: int) -> dict[str, float]:
    """Median milliseconds a frame of each generator, after one warm-up; fast ones run ten times a round."""
    engines = {name: compiled(generator(name), width, height) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    repeats = {}
    for name, (engine, inputs) in engines.items():
        began = time.perf_counter()
        engine(inputs)
        repeats[name] = 1 if time.perf_counter() - began > 0.5 else 10
    for _ in range(rounds):
        for name, (engine, inputs) in engines.items():
            for _ in range(repeats[name]):
                began = time.perf_counter()
                engine(inputs)
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: median(found) for name, found in times.items()}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.speed", description=(__doc__ or "").split("\n")[0])
    p.add_argument("generators", nargs="+", help=f"esrgan, {', '.join(recipe.SYSTEMS)}")
    p.add_argument("--size", default="320x180", help="of the input, WIDTHxHEIGHT")
    p.add_argument("--rounds", type=int, default=5)
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    width, height = map(int, args.size.split("x"))
    found = measure(args.generators, width, height, args.rounds)
    slowest = max(found, key=lambda name: found[name])
    for name, ms in found.items():
        print(f"{name:16s} {ms:9.1f} ms a frame of {args.size}   {found[slowest] / ms:6.1f} x {slowest}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, OpenVINO {ov.__version__.split('-')[0]}"
    print(json.dumps({"size": args.size, "scale": SCALE, "ms": found, "machine": machine}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
