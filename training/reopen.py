"""A float engine -> the weights of a generator to train on: what `training.train --init engines/NAME.onnx` reads.

For when the checkpoint is gone or was another's. Branches are collapsed and batch norms folded in an engine, so this is
the same function in other variables: the single kernels hold all, and every batch norm starts as the identity.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from training.data import DataError
from training.generators.layers import fold_batch_norms
from training.models import Ladder, RepConv


def take_over(G: nn.Module, file: Path, lr: Tensor) -> None:
    """Give G the weights of the float engine `file`.

    lr (N, C, H, W) float32 in [0, 1]: pictures whose statistics the batch norms take. Of a ladder of another scale, all
    but the tail is taken. Raises DataError if the engine is of another architecture, or int8.
    """
    values = ((tensor.name, torch.from_numpy(numpy_helper.to_array(tensor).copy())) for tensor in read(file))
    constants = {name: value for name, value in values if value.is_floating_point()}
    try:
        if isinstance(G, Ladder):
            fill_ladder(G, constants)
        else:
            fill_rgb(G, constants, lr)
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{file} is not a float engine of this architecture: {error}") from error


def read(file: Path) -> list[onnx.TensorProto]:
    try:
        return list(onnx.load(file, load_external_data=False).graph.initializer)
    except Exception as error:  # protobuf's DecodeError, of whichever of its implementations is installed
        raise DataError(f"{file} is not an ONNX file: {error}") from error


@torch.no_grad()
def fill_ladder(G: Ladder, constants: dict[str, Tensor]) -> None:
    """graphs.float_convs backwards: each collapsed kernel into its 3x3 branch, the 1x1 branches at zero.

    A smaller ladder fills a larger one without a change of its function (Net2Net, Chen et al. 2016, arXiv:1511.05641):
    layers that it lacks, before the tail, start as the identity; channels that it lacks start with their random kernels
    and are not listened to.
    """
    count = sum(name.startswith("w") for name in constants)
    body = list(G.body)
    if count - 2 > len(body) or len(constants["b0"]) > len(G.head.bias) + 1:
        raise KeyError(f"{count} layers of {len(constants['b0'])} channels do not fit")
    for extra in body[count - 2 :]:
        assert isinstance(extra, RepConv)
        extra.weight.copy_(0.5 * extra.identity)  # the identity branch is the other half
        extra.narrow.zero_()
    layers: list[RepConv] = [G.head, *body[: count - 2], G.tail]  # type: ignore[list-item]
    for i, layer in enumerate(layers):
        if layer is G.tail and len(constants[f"w{i}"]) != len(layer.weight):
            return  # an engine of another scale: its body is taken, the tail stays an interpolation
        into = 1 / 255 if i == 0 else 1.0
        out = 255.0 if i + 1 == count else 1.0
        carried = 0 if layer is G.tail else 1  # the row that hands y on
        bias = constants[f"b{i}"][carried:] / out
        kernel = constants[f"w{i}"][carried:] / (into * out)
        rows, columns = kernel.shape[:2]
        layer.narrow.zero_()
        layer.bias[:rows] = bias
        fixed = layer.collapse() - layer.weight
        layer.weight[:rows] = -fixed[:rows]
        layer.weight[:rows, :columns] += kernel
    G.tail.weight[:, :1] -= G.skip


def fill_rgb(G: nn.Module, constants: dict[str, Tensor], lr: Tensor) -> None:
    """rgb_export.Converter backwards. A folded convolution's bias becomes the shift of its batch norm."""
    norms = dict(convs_and_norms(G))
    with torch.no_grad():
        for layer, name in named_as_exported(G):
            if isinstance(layer, nn.PReLU):
                layer.weight.copy_(constants[f"{name}_slope"].flatten())
                continue
            layer.weight.copy_(constants[f"{name}_fp16"].float())
            if (shift := norms.get(layer, layer).bias) is not None:
                shift.copy_(constants[f"{name}_bias"])
    settle_norms(G, list(norms.values()), lr)


def named_as_exported(G: nn.Module) -> Iterator[tuple[nn.Conv2d | nn.PReLU, str]]:
    """The layers that hold weights, with the names of their constants: folding renumbers what follows a batch norm."""
    kinds = (nn.Conv2d, nn.PReLU)
    own = (module for module in G.modules() if isinstance(module, kinds))
    folded = (path for path, module in fold_batch_norms(G).named_modules() if isinstance(module, kinds))
    for layer, path in zip(own, folded, strict=True):
        yield layer, path.replace(".", "_")


def convs_and_norms(G: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution that a batch norm follows, with it."""
    for parent in G.modules():
        if isinstance(parent, nn.Sequential):
            layers = list(parent)
            for conv, norm in pairwise(layers):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    yield conv, norm


@torch.no_grad()
def settle_norms(G: nn.Module, norms: list[nn.BatchNorm2d], lr: Tensor) -> None:
    """Make each batch norm add its bias and change nothing else, on pictures like lr as in evaluation.

    One pass: a norm takes its input's own mean and variance as the running ones and scales back by them, before the
    next one sees its output.
    """

    def settle(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        mean, var = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.add_(mean)

    hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
    training = G.training
    G.eval()(lr)
    G.train(training)
    for hook in hooks:
        hook.remove()
