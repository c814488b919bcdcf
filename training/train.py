"""Train a recipe: `python -m training.train fast_srgan`, or a tier of the ladder: `python -m training.train fast`.

Runs the fidelity stage, then, where the recipe has one and --stage does not say otherwise, the detail stage from its
weights (tiers of the ladder stop after fidelity unless --stage detail is given). Everything a stage writes lies in
runs/<name>: last.pt (full state, every minute), log.txt, pid, TensorBoard events. The same command goes on where it
stopped; with another --steps the cosine is stretched or shortened. Several processes: torchrun --nproc-per-node N -m
training.train ...
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training import checkpoint, parallel, recipe
from training.data import DEGRADATIONS, DataError, Pair, load_pairs, sample
from training.generators.imdn import open_imdn
from training.loop import fit
from training.perceptual import Backbone
from training.recipe import Recipe, Stage
from training.reopen import take_over
from training.steps import Detail, Fidelity, Helpers

PERCEPTUAL = Path("../shared/weights/vgg19_16x_small_encoder.safetensors")
OVERRIDES = (
    "steps",
    "batch",
    "crop",
    "lr",
    "lr_muon",
    "lr_d",
    "mse_from",
    "ema",
    "clip",
    "ramps",
)  # of the stage, by a flag
TERMS = ("fft", "steady")  # of its losses


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.train", description=(__doc__ or "").split("\n")[0])
    p.add_argument("tier", choices=recipe.NAMES, metavar="RECIPE", help=", ".join(recipe.NAMES))
    p.add_argument("--stage", choices=("fidelity", "detail"), help="only this one")
    p.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    p.add_argument("--degradation", choices=DEGRADATIONS, help="default: the recipe's")
    p.add_argument("--data", type=Path, default=Path("../shared/data/train"), help="folder of pictures or tar shards")
    p.add_argument("--name", help="folder under runs/; default RECIPE-xSCALE-DEGRADATION, -detail behind it")
    p.add_argument("--init", type=Path, help="checkpoint (layers of equal shape are taken over) or float engine")
    p.add_argument(
        "--teacher",
        type=Path,
        help="checkpoint of the recipe's teacher (default: its own run); for a tier of the ladder at x4 clean, the "
        "weights of a published IMDN (.safetensors)",
    )
    p.add_argument("--teacher-share", type=float, help="of a tier's pixel loss, with --teacher; default 0.5")
    p.add_argument("--perceptual", type=Path, help=f"backbone of the content losses; default {PERCEPTUAL}")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    stage = p.add_argument_group("instead of what the recipe's stage says")
    stage.add_argument("--steps", type=int)
    stage.add_argument("--batch", type=int)
    stage.add_argument("--crop", type=int, help="side of the LR crops")
    stage.add_argument("--lr", type=float, help="Adam's peak learning rate")
    stage.add_argument("--lr-muon", type=float, help="Muon's peak rate for the kernels; 0: Adam for all")
    stage.add_argument("--lr-d", type=float, help="the discriminator's peak rate")
    stage.add_argument("--mse-from", type=float, help="share of the run with the pixel losses; MSE after it")
    stage.add_argument("--fft", type=float, metavar="WEIGHT", help="L1 between spectra beside the pixel losses")
    stage.add_argument("--steady", type=float, metavar="WEIGHT", help="L1 to what comes out with other sensor noise")
    stage.add_argument("--ema", type=float, help="decay of the averaged weights")
    stage.add_argument("--ramps", type=int, help="crops of a batch that become flat or evenly rising colours")
    stage.add_argument("--clip", type=float, help="largest gradient norm")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--threads", type=int, default=1, help="one process per core trains more than one process on all")
    p.add_argument("--save-every", type=float, default=60, metavar="SECONDS")
    p.add_argument("--show-every", type=int, default=2000, metavar="STEPS", help="validation and sample pictures")
    p.add_argument("--stop-after", type=int, metavar="STEPS", help="stop early as if interrupted (the cosine stays)")
    return p.parse_args(argv)


def settle(args: argparse.Namespace, name: str = "fidelity") -> tuple[Recipe, Stage, argparse.Namespace]:
    """Fill what the command line left open from the recipe's stage: (recipe, stage as it will run, its arguments)."""
    chosen = recipe.load(args.tier)
    stage = chosen.stage(name)
    args = argparse.Namespace(**vars(args))
    args.stage = name
    args.degradation = args.degradation or chosen.degradation
    for key in OVERRIDES:
        if getattr(args, key) is None:
            setattr(args, key, getattr(stage, key))
    given = {key: value for key in TERMS if (value := getattr(args, key)) is not None}
    losses = replace(stage.losses, **given)
    return chosen, replace(stage, losses=losses, **{key: getattr(args, key) for key in OVERRIDES}), args


def main(argv: list[str] | None = None) -> int:
    given = parse(argv)
    torch.set_num_threads(given.threads)
    try:
        for name in stages(given):
            if not run_stage(given, name):
                return 130
    except (DataError, FloatingPointError, ValueError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    finally:
        parallel.finish()
    return 0


def stages(args: argparse.Namespace) -> list[str]:
    """Which stages a command runs, in order."""
    if args.stage:
        return [args.stage]
    both = args.tier not in recipe.LADDER and recipe.load(args.tier).detail is not None
    return ["fidelity", "detail"] if both else ["fidelity"]


def run_stage(given: argparse.Namespace, name: str) -> bool:
    """One stage from the command line to its last step; True when it is done."""
    chosen, stage, args = settle(given, name)
    if args.teacher and args.tier in recipe.LADDER:
        stage = with_teacher(stage, args)
    torch.manual_seed(args.seed)
    G = chosen.generator(args.scale)
    init = args.init or (run_folder(given, "fidelity") / "last.pt" if name == "detail" else None)
    if init and not init.exists():
        raise DataError(f"{init} is missing: train the fidelity stage first, or give --init")
    train, val = pairs_of(args, chosen.channels)
    if init and init.suffix == ".onnx":
        take_over(G, init, sample(train, args.scale, 32, args.crop, np.random.default_rng(args.seed)).lr)
    elif init:
        warm_start(G, checkpoint.load(init)["ema"])
    helpers = Helpers(open_backbone(args.perceptual, stage), open_teacher(args, chosen, stage))
    if helpers.teacher is not None and stage.losses.teacher:
        from training.teach import taught

        seen = train if chosen.channels == 3 else pairs_of(args, 3)[0]
        train = taught(train, seen, helpers.teacher, args, Path("runs/cache"))
    kind = Fidelity if name == "fidelity" else Detail
    return fit(kind(G, stage, args.steps, args.scale, helpers), train, val, run_folder(given, name), args)


def run_folder(args: argparse.Namespace, stage: str) -> Path:
    """Where a stage of this command keeps its state; the detail stage stands beside its fidelity stage."""
    degradation = args.degradation or recipe.load(args.tier).degradation
    name = args.name or f"{args.tier}-x{args.scale}-{degradation}"
    return Path("runs") / (f"{name}-detail" if stage == "detail" else name)


def pairs_of(args: argparse.Namespace, channels: int = 1) -> tuple[list[Pair], list[Pair]]:
    """Training pairs, and a dozen held-out ones."""
    smallest, cache = args.crop * args.scale, Path("runs/cache")
    if channels == 3:
        smallest = max(smallest, 192)  # one cache for all crop sizes
    train, val = (
        load_pairs(args.data, s, args.scale, args.degradation, smallest, cache, channels) for s in ("train", "val")
    )
    return train, val[:12]


def open_backbone(file: Path | None, stage: Stage) -> Backbone | None:
    """The perceptual backbone if the stage needs one. Says loudly what takes its place where there is none."""
    if not (stage.losses.content or stage.losses.style):
        return None
    if file is None and not PERCEPTUAL.exists():
        stars = "*" * 78
        print(
            f"{stars}\nNO PERCEPTUAL BACKBONE: neither --perceptual nor {PERCEPTUAL}.\nContent becomes L1 between "
            f"spectra, style is left out: expect less texture than with VGG.\n{stars}",
            flush=True,
        )
        return None
    backbone = Backbone(file or PERCEPTUAL)
    backbone.check(dict(stage.layers))
    return backbone


def open_teacher(args: argparse.Namespace, chosen: Recipe, stage: Stage) -> nn.Module | None:
    """The frozen teacher of a recipe that has one. Raises DataError if its checkpoint is missing."""
    if not (stage.losses.teacher or stage.losses.teacher_features):
        return None
    if args.tier in recipe.LADDER:
        return open_imdn(args.teacher)
    file = args.teacher or Path("runs") / f"{chosen.teacher}-x{args.scale}-{args.degradation}" / "last.pt"
    if not file.exists():
        raise DataError(f"the teacher {file} is missing: run training.train {chosen.teacher} first, or give --teacher")
    teacher = recipe.load(chosen.teacher).generator(args.scale)
    warm_start(teacher, checkpoint.load(file)["ema"])
    args.teacher = file
    return teacher.eval().requires_grad_(False)


def with_teacher(stage: Stage, args: argparse.Namespace) -> Stage:
    """The stage of a tier whose pixel loss is shared between the truth and a teacher's outputs."""
    if (args.scale, args.degradation) != (4, "clean"):
        raise DataError("--teacher is a net for clean x4 pictures: it cannot teach another scale or degradation")
    args.teacher_share = share = 0.5 if args.teacher_share is None else args.teacher_share
    return replace(stage, losses=replace(stage.losses, l1=(1 - share) * stage.losses.l1, teacher=share))


def warm_start(G: nn.Module, weights: dict[str, Tensor]) -> None:
    """Take over all tensors of equal name and shape: the body of another scale, of another degradation."""
    own = G.state_dict()
    same = {name: w for name, w in weights.items() if name in own and own[name].shape == w.shape}
    if not same:
        raise DataError("the checkpoint to start from is of another architecture: no layer fits")
    G.load_state_dict({**own, **same})


def command(args: dict) -> str:
    """The commands that made a checkpoint, paths of data and folders left out."""
    if trained := args.get("trained"):
        mix = f"--mix {args['mix']} " if args.get("mix") else ""
        return f"{trained}; training.quantize {mix}--steps {args['steps']} --lr {args['lr']}"
    keys = ("scale", "degradation", "steps", "batch", "crop", "lr", "lr_muon", "mse_from", "seed")
    flags = " ".join(f"--{key.replace('_', '-')} {args[key]}" for key in keys)
    flags += "".join(f" --{key} {args[key]}" for key in TERMS if args.get(key))
    if args["tier"] in recipe.LADDER and args.get("stage") != "detail" and args.get("ramps"):
        flags += f" --ramps {args['ramps']}"
    if args.get("teacher_share"):
        flags += f" --teacher {Path(args['teacher']).name} --teacher-share {args['teacher_share']}"
    flags += " --stage detail" if args.get("stage") == "detail" else ""
    flags += f" --init {args['init']}" if args.get("init") else ""
    flags += f"; training.export --mix {args['mix']}" if args.get("mix") else ""
    return f"training.train {args['tier']} {flags}"


if __name__ == "__main__":
    sys.exit(main())
