"""FP16's overflow: seen wherever it happens, and the picture done again."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs for GPUs are written with onnx: pip install onnx")

from onnx import numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402

from rtsr.backends.gpu_graph import Picture, gpu_graph  # noqa: E402
from rtsr.backends.guard import CHECK, Fp32Again, sound, with_check  # noqa: E402
from rtsr.backends.reference import ReferenceEngine  # noqa: E402
from rtsr.errors import EngineError  # noqa: E402
from rtsr.frames import FrameBatch  # noqa: E402
from rtsr.manifest import find_engine, read_engine  # noqa: E402
from rtsr.pixels import YUV420P, PixelFormat  # noqa: E402

PICTURE = Picture(6, 8, 2, YUV420P)


class Relu(OpRun):
    """As CUDA's kernels compute it: NaN becomes 0."""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:  # type: ignore[override]
        return (np.fmax(x, x.dtype.type(0)),)


def fp16_graph(picture: Picture = PICTURE) -> bytes:
    engine = read_engine(find_engine("nano", picture.scale, "stream", "float", "planes"))
    return gpu_graph(engine, picture, "fp16")


def overflowing(graph: bytes, layer: int) -> bytes:
    """The same net with one kernel in a layer whose results are beyond FP16; -1: the tail."""
    model = onnx.load_from_string(graph)
    weights = [
        tensor for tensor in model.graph.initializer if tensor.name.startswith("conv") and tensor.name[-1] == "w"
    ]
    kernel = numpy_helper.to_array(weights[layer]).copy()
    kernel[1] = 60000
    weights[layer].CopyFrom(numpy_helper.from_array(kernel, weights[layer].name))
    return model.SerializeToString()


def check_of(graph: bytes, y: np.ndarray, relu: list[type[OpRun]]) -> np.ndarray:
    """In real FP16: onnx's own evaluator computes in numpy, where ONNX Runtime's CPU provider computes in float32."""
    uv = np.full((len(y), 2, 3, 4), 128, np.uint8)
    with np.errstate(all="ignore"):
        (check,) = ReferenceEvaluator(graph, new_ops=relu).run([CHECK], {"y": y, "uv": uv})
    return np.asarray(check)


@pytest.mark.parametrize("relu", [[], [Relu]], ids=["keeps-nan", "drops-nan"])
@pytest.mark.parametrize("layer", [0, 1, 4, -2, -1])
def test_an_overflow_is_seen_in_whichever_layer(layer: int, relu: list[type[OpRun]]) -> None:
    y = np.random.default_rng(0).integers(16, 236, PICTURE.inputs(2)["y"]).astype(np.uint8)
    fine = check_of(with_check(fp16_graph()), y, relu)
    assert fine.shape == (2, 2) and fine.dtype == np.float32
    assert sound(fine).tolist() == [True, True]
    assert sound(check_of(with_check(overflowing(fp16_graph(), layer)), y, relu)).tolist() == [False, False]


def test_a_picture_of_several_planes_is_as_good_as_its_worst() -> None:
    check = np.array([[0, 1], [0, np.inf], [0, 5], [0, 2], [np.nan, 0], [0, 0]], np.float32)
    assert sound(check, planes=2).tolist() == [False, True, False]
    assert sound(check[:, :], planes=1).tolist() == [True, False, True, True, False, True]


def test_the_check_leaves_the_pictures_alone() -> None:
    ort = pytest.importorskip("onnxruntime")
    for picture in (PICTURE, Picture(6, 8, 2, PixelFormat(bits=10))):
        graph, rng = fp16_graph(picture), np.random.default_rng(1)
        feeds = {name: rng.integers(0, 3, shape).astype(np.uint8) for name, shape in picture.inputs(1).items()}
        names = list(picture.outputs(1))
        plain, checked = (
            ort.InferenceSession(g, providers=["CPUExecutionProvider"]).run(names, feeds)
            for g in (graph, with_check(graph))
        )
        for before, after in zip(plain, checked, strict=True):
            np.testing.assert_array_equal(before, after)


def test_a_graph_without_hidden_layers_is_refused() -> None:
    model = onnx.load_from_string(fp16_graph())
    for node in model.graph.node:
        node.op_type = "Abs" if node.op_type == "Relu" else node.op_type
    with pytest.raises(EngineError, match="fp32"):
        with_check(model.SerializeToString())


class Counted(ReferenceEngine):
    opened = closed = 0

    def __init__(self) -> None:
        super().__init__(2, "nearest")
        Counted.opened += 1

    def close(self) -> None:
        Counted.closed += 1


def test_bad_pictures_alone_are_done_again_and_said() -> None:
    Counted.opened = Counted.closed = 0
    said: list[str] = []
    again = Fp32Again(Counted, said.append)
    y = np.random.default_rng(2).integers(0, 256, (3, 1, 4, 4)).astype(np.uint8)
    batch = FrameBatch(y, np.zeros((3, 2, 2, 2), np.uint8), (10, 20, 30), Fraction(1, 10))
    black = batch.with_planes(np.zeros((3, 1, 8, 8), np.uint8), np.zeros((3, 2, 4, 4), np.uint8))
    assert again.repaired(batch, black, np.array([True, True, True])) is black
    assert Counted.opened == 0, "FP32 is opened when it is needed"
    for _ in range(6):
        mended = again.repaired(batch, black, np.array([True, False, False]))
        assert not mended.y[0].any()
        np.testing.assert_array_equal(mended.y[1:], y[1:].repeat(2, axis=2).repeat(2, axis=3))
        assert mended.pts == batch.pts
        assert not black.y.any(), "what a reader may hold is not written to"
    assert again.redone == 12
    assert Counted.opened == 1
    assert len(said) == 2 and "at 2.000 s" in said[0] and "10 frames so far" in said[1]
    again.close()
    again.close()
    assert Counted.closed == 1
