"""int8: calibrate a trained net (PTQ), then fine-tune it quantised (QAT).

`python -m training.quantize runs/fast-x4-clean/last.pt --steps 500` writes calibrated.pt and, fine-tuned, last.pt to
runs/fast-x4-clean-int8 for training.export. --steps 0 stops after calibration. Everything int8 lives on the picture's
own grid: hidden tensors are uint8 with scale 1/255, so each channel is first scaled to fill [0, 1]; ReLU commutes with
a positive factor, which moves into the next layer's weights.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import checkpoint, train
from training.data import DataError, Pair
from training.graphs import QuantConv
from training.loop import fit
from training.mix import mixed
from training.models import Conv, build, carry_y
from training.steps import Fidelity


class RoundClamp(torch.autograd.Function):
    """To the nearest code value 0..255; the gradient passes straight through inside (STE, arXiv:1308.3432)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        codes = x.round().clamp_(0, 255)
        ctx.save_for_backward(codes)
        return codes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (codes,) = ctx.saved_tensors
        return grads[0] * ((codes > 0) & (codes < 255))


class QuantLadder(nn.Module):
    """A fused, scaled ladder that computes as its int8 engine will; its weights can be trained further.

    Hidden values are code values 0..255, which bfloat16 holds exactly: fine-tuning runs at the float net's speed.
    The tail runs in float32. The row that carries y is no parameter.
    """

    def __init__(self, layers: list[Conv]) -> None:
        super().__init__()
        *hidden, tail = layers
        rows = [Conv(weight[1:], bias[1:]) for weight, bias in hidden] + [tail]
        self.weights = nn.ParameterList(nn.Parameter(weight.clone()) for weight, _ in rows)
        self.biases = nn.ParameterList(nn.Parameter(bias.clone()) for _, bias in rows)

    def forward(self, y: Tensor) -> Tensor:
        """y (N, 1, H, W) in [0, 1] -> phases (N, s*s, H, W) in [0, 1], not rounded."""
        x = (y * 255).round().contiguous(memory_format=torch.channels_last)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            weight, bias = carry_y(rounded(weight), bias)
            x = RoundClamp.apply(F.conv2d(x, weight, bias * 255, padding=1))
        with torch.autocast(y.device.type, enabled=False):
            return F.conv2d(x.float(), rounded(self.weights[-1]), self.biases[-1] * 255, padding=1) / 255

    @torch.no_grad()
    def fuse(self) -> list[QuantConv]:
        """The int8 layers of the exported graph."""
        rows = [Conv(w.detach(), b.detach()) for w, b in zip(self.weights, self.biases, strict=True)]
        return [quantise(*carry_y(*row)) for row in rows[:-1]] + [quantise(*rows[-1])]


def from_weights(weights: dict[str, Tensor]) -> QuantLadder:
    """The net whose state_dict() `weights` is."""
    count = sum(name.startswith("weights.") for name in weights)
    rows = [Conv(weights[f"weights.{i}"], weights[f"biases.{i}"]) for i in range(count)]
    net = QuantLadder([*(carry_y(*row) for row in rows[:-1]), rows[-1]])
    net.load_state_dict(weights)
    return net


def weight_scale(weight: Tensor) -> Tensor:
    """One int8 step per output channel (out,): the largest weight becomes 127."""
    return weight.abs().amax(dim=(1, 2, 3)).clamp(min=1e-6) / 127


def rounded(weight: Tensor) -> Tensor:
    """The weight an int8 engine will have, in float; its gradient goes to the unrounded one."""
    step = weight_scale(weight.detach()).view(-1, 1, 1, 1)
    return weight + ((weight / step).round() * step - weight).detach()


def quantise(weight: Tensor, bias: Tensor) -> QuantConv:
    step = weight_scale(weight)
    codes = (weight / step.view(-1, 1, 1, 1)).round().clamp(-127, 127)
    return QuantConv(codes.numpy().astype(np.int8), step.numpy().astype(np.float32), bias.numpy().astype(np.float32))


def straighten(layers: list[QuantConv]) -> list[QuantConv]:
    """Set the tail's scale and bias so that every phase of a flat picture comes out at the picture's own level.

    Rounded weights no longer sum to what they summed to: each of the s*s phases of a bright wall then has an error of
    its own, seen as a fixed grid. On a flat picture a 3x3 kernel acts as the sum of its weights, so the tail's integer
    sums A(level) are known exactly; scale * A + bias is fitted to the level over 16..235, by least squares. The scale
    moves by about 1 %, which no edge shows; PSNR gains 0.05 dB (LOG.md).
    """
    *hidden, tail = layers
    levels = np.arange(16, 236)
    x = levels[None].astype(np.float64)
    for layer in hidden:
        x = kernel_sums(layer) @ x * layer.scale[:, None] + layer.bias[:, None] * 255
        x = x.round().clip(0, 255)
    fits = [np.polyfit(sums, levels, 1) for sums in kernel_sums(tail) @ x]
    scale, bias = (np.array(column, np.float32) for column in zip(*fits, strict=True))
    return [*hidden, QuantConv(tail.weight, scale, bias / np.float32(255))]


def kernel_sums(layer: QuantConv) -> np.ndarray:
    """(out, in): what a 3x3 kernel does to a flat picture."""
    return layer.weight.astype(np.float64).sum(axis=(2, 3))


@torch.no_grad()
def fill_range(layers: list[Conv], pairs: list[Pair], quantile: float = 0.9999) -> list[Conv]:
    """Scale every hidden channel so that `quantile` of its values on real pictures fills [0, 1]: the same net."""
    pictures = [torch.from_numpy(pair.lr[:120, :120]).float()[None, None] / 255 for pair in pairs]
    scaled, values = [], pictures
    for weight, bias in layers[:-1]:
        values = [F.relu(F.conv2d(x, weight, bias, padding=1)) for x in values]
        flat = torch.cat([x.flatten(2)[0] for x in values], dim=1)  # (channels, pixels)
        top = flat.kthvalue(round(quantile * flat.shape[1]), dim=1).values.clamp(min=1e-2)
        top[0] = 1  # y itself
        scaled.append((weight, bias, top))
    result, before = [], torch.ones(1)
    for weight, bias, top in [*scaled, (*layers[-1], torch.ones(len(layers[-1].bias)))]:
        result.append(Conv(weight * before.view(1, -1, 1, 1) / top.view(-1, 1, 1, 1), bias / top))
        before = top
    return result


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.quantize", description=(__doc__ or "").split("\n")[0])
    p.add_argument("checkpoint", type=Path)
    p.add_argument("--steps", type=int, default=500, help="fine-tuning steps; 0: calibration only")
    p.add_argument("--mix", type=float, metavar="SHARE", help="of a detail net, the rest of its fidelity net")
    p.add_argument("--lr", type=float, default=5e-4)
    p.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--crop", type=int, default=64)
    p.add_argument("--show-every", type=int, default=1000, metavar="STEPS")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    own = parse(argv)
    torch.set_num_threads(1)
    try:
        return 0 if quantise_checkpoint(own) else 130
    except (DataError, FloatingPointError) as error:
        print(f"quantisation stopped: {error}", file=sys.stderr)
        return 1


def quantise_checkpoint(own: argparse.Namespace) -> bool:
    """Calibrate and fine-tune; False if interrupted. Fine-tuning is by MSE, which would undo a detail stage."""
    state = checkpoint.load(own.checkpoint) if own.mix is None else mixed(own.checkpoint, own.mix)
    trained = state["args"]
    end = trained.get("stage") or "fidelity"
    if end == "detail" and own.steps:
        raise DataError("a detail net is calibrated only: give --steps 0")
    G = build(trained["tier"], trained["scale"])
    G.load_state_dict(state["ema"])
    share = "" if own.mix in (None, 1) else f"{100 * own.mix:.0f}"
    folder = own.checkpoint.parent.with_name(f"{own.checkpoint.parent.name}{share}-int8")
    given = train.parse([trained["tier"], "--lr-muon", "0", "--mse-from", "0"])
    same = {key: trained.get(key) for key in ("scale", "degradation", "steady")}
    vars(given).update(vars(own), **same)
    _, stage, args = train.settle(given)
    args.trained, args.stage, args.mix = train.command({**trained, "mix": None}), end, own.mix
    pairs, held_out = train.pairs_of(args)
    net = QuantLadder(fill_range(G.fuse(), pairs[:64]))
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder / "calibrated.pt", {"ema": net.state_dict(), "step": 0, "args": vars(args)})
    return not own.steps or fit(Fidelity(net, stage, args.steps, args.scale), pairs, held_out, folder, args)


if __name__ == "__main__":
    sys.exit(main())
