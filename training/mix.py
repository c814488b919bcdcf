"""Between a recipe's two ends: the weights of the detail stage, moved back towards those it began with."""

from pathlib import Path

import torch

from training import checkpoint
from training.data import DataError
from training.models import TIERS, build
from training.reopen import take_over


def mixed(path: Path, share: float) -> dict:
    """A detail checkpoint with its weights moved back to `share` of the way from its fidelity run's (both averaged).

    Network interpolation (ESRGAN, arXiv:1809.00219, section 3.4); batch norm statistics are mixed alike. A ladder's run
    may have begun from an engine. Raises DataError if neither that nor a fidelity run beside it is there.
    """
    state = checkpoint.load(path)
    args = state["args"]
    start, init = path.parent.with_name(path.parent.name.removesuffix("-detail")) / "last.pt", args.get("init")
    if args.get("stage") == "detail" and init and init.suffix == ".onnx" and init.exists() and args["tier"] in TIERS:
        G = build(args["tier"], args["scale"])
        take_over(G, init, torch.zeros(1, 1, 8, 8))
        from_ = G.state_dict()
    elif args.get("stage") == "detail" and start != path and start.exists():
        from_ = checkpoint.load(start)["ema"]
    else:
        raise DataError(f"--mix needs a detail checkpoint and its fidelity run beside it; {path} has none")
    state["ema"] = {k: from_[k].lerp(v, share) if v.is_floating_point() else v for k, v in state["ema"].items()}
    args["mix"] = share
    return state
