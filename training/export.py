"""A trained net -> an engine: `python -m training.export runs/fast-x4-clean/last.pt`.

Fuses the branches, writes ONNX, compares it with torch, measures it and writes the manifest. A checkpoint of
training.quantize gives an int8 engine. --output planes adds the pixel shuffle and the chroma to the graph; RGB
generators always come as planes, with the colour conversions inside (rgb_export.py).
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto as TensorKind

from rtsr.manifest import CONTRACT, Manifest
from training import checkpoint, graphs, recipe, rgb_export, train
from training.data import DataError
from training.mix import mixed
from training.models import TIERS, Conv, build, run_fused
from training.quality import add_quality
from training.quantize import from_weights, straighten
from training.upscalers import BT601, LIMITED, open_engine, shuffle


class ParityError(Exception):
    """The exported graph does not compute what torch computes."""


def load_layers(state: dict) -> list[Conv] | list[graphs.QuantConv]:
    """The fused layers of a checkpoint: float, or int8 if it comes from training.quantize."""
    if "weights.0" in state["ema"]:
        return straighten(from_weights(state["ema"]).fuse())
    G = build(state["args"]["tier"], state["args"]["scale"])
    G.load_state_dict(state["ema"])
    return G.fuse()


def build_graph(layers: list[Conv] | list[graphs.QuantConv], output: str) -> onnx.ModelProto:
    if isinstance(layers[0], graphs.QuantConv):
        if output != "phases":
            raise SystemExit("int8 engines exist as phases only")
        return graphs.int8_phases(layers)  # type: ignore[arg-type]
    return (graphs.planes if output == "planes" else graphs.float_phases)(layers)  # type: ignore[arg-type]


@torch.no_grad()
def torch_result(layers: list[Conv] | list[graphs.QuantConv], y: np.ndarray) -> np.ndarray:
    """What the engine must give for y (H, W) uint8: (s*H, s*W) uint8, in float64 (exact for int8 layers)."""
    x = torch.from_numpy(y).double()[None, None]
    scale = round(len(layers[-1].bias) ** 0.5)
    if isinstance(layers[0], graphs.QuantConv):
        for layer in layers:
            assert isinstance(layer, graphs.QuantConv)
            weight = torch.from_numpy(layer.weight).double() * torch.from_numpy(layer.scale).double().view(-1, 1, 1, 1)
            x = torch.nn.functional.conv2d(x, weight, torch.from_numpy(layer.bias).double() * 255, padding=1)
            x = x.round().clamp(0, 255)
    else:
        x = run_fused([Conv(w.double(), b.double()) for w, b in layers], x / 255)  # type: ignore[misc]
        x = (x * 255).round().clamp(0, 255)
    return shuffle(x[0].permute(1, 2, 0).byte().numpy(), scale)


def check_parity(file: Path, layers: list[Conv] | list[graphs.QuantConv]) -> float:
    """Share of code values at which engine and torch differ, on noise and ramps of an odd size.

    Raises ParityError if one differs by more than 1 (int8: 3, as a hidden value on a rounding tie may go either way and
    later layers amplify it) or more than 1 % differ at all.
    """
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(53), np.arange(71) * 2).astype(np.uint8)
    upscaler = open_engine(file)
    most = 3 if isinstance(layers[0], graphs.QuantConv) else 1
    share = 0.0
    for y in (rng.integers(0, 256, (53, 71)).astype(np.uint8), ramp):
        off = np.abs(upscaler.luma(y).astype(int) - torch_result(layers, y))
        share = max(share, float((off > 0).mean()))
        if off.max() > most or share > 0.01:
            raise ParityError(f"{file.name}: off by up to {off.max()} code values, {share:.2%} of them differ")
    return share


def write_engine(state: dict, output: str, folder: Path) -> tuple[Path, Manifest]:
    """ONNX file and manifest (still without quality) of a checkpoint; the graph has been compared with torch."""
    if recipe.load(state["args"]["tier"]).channels == 3:
        return write_rgb_engine(state, folder)
    args, layers = state["args"], load_layers(state)
    precision = "int8" if isinstance(layers[0], graphs.QuantConv) else "float"
    parameters = sum(int(np.prod(layer.weight.shape)) + len(layer.bias) for layer in layers)
    macs = TIERS[args["tier"]].macs(args["scale"])
    file, manifest = write_files(build_graph(layers, output), args, precision, output, parameters, macs, folder)
    report(file, check_parity(file, layers))
    return file, manifest


def write_rgb_engine(state: dict, folder: Path) -> tuple[Path, Manifest]:
    """The same for an RGB generator."""
    args = state["args"]
    net = recipe.load(args["tier"]).generator(args["scale"])
    net.load_state_dict(state["ema"])
    net = rgb_export.exportable(net)
    parameters = sum(p.numel() for p in net.parameters())
    macs = rgb_export.macs_per_lr_pixel(net)
    model = rgb_export.build_graph(net, args["scale"])
    file, manifest = write_files(model, args, "float", "planes", parameters, macs, folder)
    report(file, check_rgb_parity(file, net, args["scale"]))
    return file, manifest


def write_files(
    model: onnx.ModelProto, args: dict, precision: str, output: str, parameters: int, macs: int, folder: Path
) -> tuple[Path, Manifest]:
    """The ONNX file, and its manifest beside it. args: of the checkpoint."""
    end = args.get("stage") or "fidelity"
    share = args.get("mix") or 1.0  # how far to the detail stage's end, for engines that stand between the two
    steps = "" if share == 1 or recipe.load(args["tier"]).channels == 3 else f"{100 * share:.0f}"
    name = f"{args['tier']}-x{args['scale']}-{args['degradation']}"
    name += f"-detail{steps}" if end == "detail" else ""
    name += f"-{precision}"
    name += "-planes" if output == "planes" and recipe.load(args["tier"]).channels == 1 else ""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.onnx"
    file.write_bytes(model.SerializeToString())
    kinds: dict[int, str] = {TensorKind.UINT8: "uint8", TensorKind.FLOAT: "float32"}
    ends = {end.name: kinds[end.type.tensor_type.elem_type] for end in [*model.graph.input, *model.graph.output]}
    manifest = Manifest(
        name=name, file=file.name, tier=args["tier"], scale=args["scale"], end=end,
        degradation=args["degradation"], precision=precision, output=output,
        detail=(share if steps else 1.0) if end == "detail" else 0.0,
        recipe=train.command(args), contract=CONTRACT, dtypes=ends, parameters=parameters, macs_per_lr_pixel=macs,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(), licence="MIT", commit=commit(),
    )  # fmt: skip
    manifest.save(folder)
    return file, manifest


def report(file: Path, share: float) -> None:
    size = file.stat().st_size / 1024
    print(f"{file.stem}: {size:.0f} KiB, {share:.3%} of code values differ from torch by rounding")


@torch.no_grad()
def check_rgb_parity(file: Path, net: torch.nn.Module, scale: int) -> float:
    """As check_parity, for an RGB engine with 4:2:0 and 4:4:4 chroma: at most 1 code value off, at most 1 % at all."""
    import openvino as ov

    engine = ov.compile_model(ov.Core().read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rng, share = np.random.default_rng(0), 0.0
    ramp = np.add.outer(np.arange(34), np.arange(46) * 2).astype(np.uint8)[None, None]
    for y, sides in ((rng.integers(0, 256, (1, 1, 34, 46)).astype(np.uint8), (17, 23)), (ramp, (34, 46))):
        uv = rng.integers(90, 160, (1, 2, *sides)).astype(np.uint8)
        inputs = [y, uv, np.array(BT601, np.float32), np.array(LIMITED, np.float32)]
        expected = rgb_export.Planes(net, scale)(*map(torch.from_numpy, inputs))
        found = engine(dict(zip(("y", "uv", "matrix", "range"), inputs, strict=True)))
        for name, plane in zip(("y_out", "uv_out"), expected, strict=True):
            off = np.abs(np.asarray(found[name]).astype(int) - plane.numpy())
            share = max(share, float((off > 0).mean()))
            if off.max() > 1 or share > 0.01:
                raise ParityError(f"{file.name}: {name} off by up to {off.max()}, {share:.2%} of code values differ")
    return share


def commit() -> str:
    """The revision of the exporting tree, with a + if training/ differs from it; unknown outside git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", "training") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.export", description=(__doc__ or "").split("\n")[0])
    p.add_argument("checkpoints", type=Path, nargs="+", help="float ones before their int8 twins")
    p.add_argument("--output", choices=("phases", "planes"), default="phases")
    p.add_argument("--mix", type=float, metavar="SHARE", help="of a detail net, the rest of its fidelity net")
    p.add_argument("--engines", type=Path, default=Path("engines"), help="folder to write to")
    p.add_argument("--sets", type=Path, default=Path("../shared/data/test"))
    p.add_argument("--clips", type=Path, help="folder of high-resolution clips; measured for stream engines")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    for path in args.checkpoints:
        try:
            state = checkpoint.load(path) if args.mix is None else mixed(path, args.mix)
            _, manifest = write_engine(state, args.output, args.engines)
        except (ParityError, DataError, KeyError, RuntimeError) as error:
            print(f"export stopped: {error}", file=sys.stderr)
            return 1
        if args.sets.is_dir():
            add_quality(manifest, args.engines, args.sets, args.clips)
    return 0


if __name__ == "__main__":
    sys.exit(main())
