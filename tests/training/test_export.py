"""Exported graphs: equal to torch, integers in and out, int8 on the picture's own grid, any N, H, W."""

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ov = pytest.importorskip("openvino")

from rtsr.manifest import installed_engines  # noqa: E402
from training import checkpoint, export, quantize, train  # noqa: E402
from training.data import Pair  # noqa: E402
from training.loop import upscale  # noqa: E402
from training.models import build  # noqa: E402
from training.upscalers import open_engine  # noqa: E402


def trained_state(tier: str, scale: int) -> dict:
    """A checkpoint of a net that is nearly an interpolation: all parameters a little off their initial values."""
    torch.manual_seed(1)
    G = build(tier, scale)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(0.004 * torch.randn_like(p))
    _, _, args = train.settle(train.parse([tier, "--scale", str(scale)]))
    return {"ema": G.state_dict(), "args": vars(args)}


def quantised_state(state: dict) -> dict:
    G = build(state["args"]["tier"], state["args"]["scale"])
    G.load_state_dict(state["ema"])
    rng = np.random.default_rng(0)
    pictures = [Pair(lr, lr) for lr in rng.integers(0, 256, (4, 64, 64)).astype(np.uint8)]
    return {"ema": quantize.QuantLadder(quantize.fill_range(G.fuse(), pictures)).state_dict(), "args": state["args"]}


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("flavour", ["phases", "planes", "int8"])
def test_engine_equals_torch(flavour: str, scale: int, tmp_path: Path) -> None:
    """write_engine compares every code value with torch and raises where they differ."""
    state = trained_state("nano", scale)
    if flavour == "int8":
        state = quantised_state(state)
    file, manifest = export.write_engine(state, "planes" if flavour == "planes" else "phases", tmp_path)
    assert set(manifest.dtypes.values()) == {"uint8"}
    ends = onnx.load(file).graph
    assert [i.name for i in ends.input] == (["y", "uv"] if flavour == "planes" else ["y"])
    assert [o.name for o in ends.output] == (["y_out", "uv_out"] if flavour == "planes" else ["y_phases"])


def test_a_graph_that_differs_is_refused(tmp_path: Path) -> None:
    file, _ = export.write_engine(trained_state("nano", 2), "phases", tmp_path)
    other = export.load_layers({**trained_state("nano", 2), "ema": build("nano", 2).state_dict()})
    with pytest.raises(export.ParityError, match="off by up to"):
        export.check_parity(file, other)


def test_int8_graph_is_convolutions_on_one_grid(tmp_path: Path) -> None:
    file, _ = export.write_engine(quantised_state(trained_state("fast", 4)), "phases", tmp_path)
    graph = onnx.load(file).graph
    kinds = {node.op_type for node in graph.node}
    assert kinds == {"DequantizeLinear", "Conv", "Relu", "QuantizeLinear", "Transpose"}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert list(node.input[1:]) == ["grid", "zero"]  # scale 1/255, zero point 0: the picture's own
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in graph.initializer}
    assert constants["grid"] == np.float32(1 / 255)
    assert all(w.dtype == np.int8 for name, w in constants.items() if name.removeprefix("w").isdigit())
    first, row = constants["w1"][0], np.zeros((16, 3, 3), np.int8)
    row[0, 1, 1] = 127
    np.testing.assert_array_equal(first, row)  # channel 0 goes through untouched
    assert first[0, 1, 1] * constants["w1_scale"][0] == pytest.approx(1)


@pytest.mark.parametrize("flavour", ["phases", "int8"])
def test_any_size_and_batch(flavour: str, tmp_path: Path) -> None:
    state = trained_state("nano", 4)
    file, _ = export.write_engine(quantised_state(state) if flavour == "int8" else state, "phases", tmp_path)
    engine = ov.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    y = np.random.default_rng(0).integers(0, 256, (3, 1, 17, 41)).astype(np.uint8)
    whole = engine({"y": y})["y_phases"].copy()
    assert whole.shape == (3, 17, 41, 16)
    for i in range(3):
        np.testing.assert_array_equal(engine({"y": y[i : i + 1]})["y_phases"][0], whole[i])


def test_planes_flavour_equals_phases_and_opencv(tmp_path: Path) -> None:
    state = trained_state("nano", 2)
    phases, planes = (export.write_engine(state, output, tmp_path)[0] for output in ("phases", "planes"))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    np.testing.assert_array_equal(open_engine(phases).luma(y), open_engine(planes).luma(y))
    uv = rng.integers(0, 256, (1, 2, 10, 15)).astype(np.uint8)
    engine = ov.compile_model(str(planes), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    large = engine({"y": y[None, None], "uv": uv})["uv_out"][0]
    for plane, got in zip(uv[0], large, strict=True):
        expected = cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        # OpenCV's uint8 path has 11-bit coefficients: one code value either way
        assert np.abs(got.astype(int) - expected).max() <= 1
    graph = onnx.load(planes).graph
    for end in graph.output:  # TensorRT refuses uint8 inside a graph: the cast has to be the last node
        assert next(n for n in graph.node if end.name in n.output).op_type == "Cast"


def test_filling_the_range_changes_nothing() -> None:
    state = trained_state("fast", 2)
    layers = export.load_layers(state)
    rng = np.random.default_rng(0)
    pictures = [Pair(lr, lr) for lr in rng.integers(0, 256, (3, 48, 48)).astype(np.uint8)]
    scaled = quantize.fill_range(layers, pictures)
    y = torch.rand(1, 1, 30, 30)
    torch.testing.assert_close(export.run_fused(scaled, y), export.run_fused(layers, y), atol=1e-4, rtol=1e-4)
    x = torch.from_numpy(np.stack([p.lr for p in pictures])[:, None]) / 255
    for weight, bias in scaled[:-1]:
        x = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu()
        assert x.quantile(0.999) <= 1.01  # the top ten-thousandth may stick out and is clipped


def test_fine_tuning_sees_what_the_engine_computes() -> None:
    """QuantLadder's forward pass and the integer graph agree to the code value (but for rare ties)."""
    state = quantised_state(trained_state("fast", 2))
    net = quantize.from_weights(state["ema"])
    y = np.random.default_rng(3).integers(0, 256, (40, 40)).astype(np.uint8)
    seen = upscale(net, y, 2)
    off = np.abs(seen.astype(int) - export.torch_result(net.fuse(), y))
    assert off.max() <= 2
    assert (off > 0).mean() < 0.03


def test_quantised_fine_tuning_runs_and_exports(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "nano-x2-clean"
    folder.mkdir(parents=True)
    checkpoint.save(folder / "last.pt", trained_state("nano", 2))
    words = ["--steps", "3", "--batch", "2", "--crop", "24", "--data", str(picture_folder)]
    assert quantize.main([str(folder / "last.pt"), *words]) == 0
    float_and_int8 = [str(folder / "last.pt"), str(tmp_path / "runs" / "nano-x2-clean-int8" / "last.pt")]
    assert export.main([*float_and_int8, "--sets", str(tmp_path / "none"), "--engines", str(tmp_path / "engines")]) == 0
    assert {p.name for p in (tmp_path / "engines").glob("*.onnx")} == {
        "nano-x2-clean-float.onnx",
        "nano-x2-clean-int8.onnx",
    }


def test_a_detail_end_is_exported_in_steps(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """From the engine it began with to its own weights: what the dial picks from where it cannot blend."""
    monkeypatch.chdir(tmp_path)
    engines, run = tmp_path / "engines", tmp_path / "runs" / "nano-x2-clean-detail"
    fidelity = trained_state("nano", 2)
    file, _ = export.write_engine(fidelity, "phases", engines)
    detail = {"ema": {name: w + 0.01 for name, w in fidelity["ema"].items()}, "args": dict(fidelity["args"])}
    detail["args"] |= {"stage": "detail", "init": file}
    run.mkdir(parents=True)
    checkpoint.save(run / "last.pt", detail)
    words = [str(run / "last.pt"), "--batch", "2", "--crop", "24", "--data", str(picture_folder)]
    assert quantize.main([*words, "--steps", "3"]) == 1
    assert "calibrated only" in capsys.readouterr().err
    assert quantize.main([*words, "--steps", "0"]) == 0
    assert quantize.main([*words, "--steps", "0", "--mix", "0.5"]) == 0
    ends = [run / "last.pt", *(run.with_name(f"{run.name}{step}-int8") / "calibrated.pt" for step in ("", "50"))]
    assert export.main([*map(str, ends), "--sets", str(tmp_path / "none"), "--engines", str(engines)]) == 0
    found = {e.name: (e.end, e.detail) for e in installed_engines(engines)}
    assert found == {
        "nano-x2-clean-float": ("fidelity", 0),
        "nano-x2-clean-detail-float": ("detail", 1),
        "nano-x2-clean-detail-int8": ("detail", 1),
        "nano-x2-clean-detail50-int8": ("detail", 0.5),
    }
    half, whole = (checkpoint.load(end)["args"]["trained"] for end in (ends[2], ends[1]))
    assert half == whole == train.command(checkpoint.load(run / "last.pt")["args"])
    y = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    between, end = (open_engine(engines / f"nano-x2-clean-{end}-int8.onnx").luma(y) for end in ("detail50", "detail"))
    assert np.abs(between.astype(int) - end).max() > 1
