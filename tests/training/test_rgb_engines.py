"""RGB generators as engines: equal to torch, any chroma, no colour shift; speed, table and report made from them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import drawing

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("openvino")

from rtsr.manifest import load_manifest  # noqa: E402
from training import checkpoint, detail_curve, export, recipe, report, speed, train  # noqa: E402
from training.engines_table import table  # noqa: E402
from training.evaluate import measure_sets  # noqa: E402
from training.mix import mixed  # noqa: E402
from training.upscalers import open_engine  # noqa: E402


def state(name: str, end: str = "fidelity", scale: int = 4) -> dict:
    """A checkpoint whose every parameter is a little off its initial value."""
    torch.manual_seed(1)
    _, _, args = train.settle(train.parse([name, "--scale", str(scale)]), end)
    G = recipe.load(name).generator(scale)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(0.004 * torch.randn_like(p))
    return {"ema": G.state_dict(), "args": vars(args)}


@pytest.mark.parametrize("name", recipe.SYSTEMS)
def test_every_system_exports_equal_to_torch(name: str, tmp_path: Path) -> None:
    """write_engine compares every code value with torch, on 4:2:0 and 4:4:4, and raises where they differ."""
    file, manifest = export.write_engine(state(name), "phases", tmp_path)
    assert file.stat().st_size < 4e6
    assert manifest.rgb
    assert load_manifest(file.with_suffix(".json")) == manifest
    graph = onnx.load(file).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    assert [end.name for end in graph.input] == ["y", "uv", "matrix", "range"]
    for end in graph.output:
        assert next(n for n in graph.node if end.name in n.output).op_type == "Cast"


def test_a_mix_lies_between_the_ends(tmp_path: Path) -> None:
    ends = {
        "distil_esrgan-x4-clean": state("distil_esrgan"),
        "distil_esrgan-x4-clean-detail": state("distil_esrgan", "detail"),
    }
    for i, (folder, made) in enumerate(ends.items()):
        made["ema"] = {name: torch.full_like(tensor, i) for name, tensor in made["ema"].items()}
        (tmp_path / folder).mkdir()
        checkpoint.save(tmp_path / folder / "last.pt", made)
    detail = tmp_path / "distil_esrgan-x4-clean-detail" / "last.pt"
    mix = mixed(detail, 0.75)
    assert all((tensor == 0.75).all() for tensor in mix["ema"].values())
    assert train.command(mix["args"]).endswith("--stage detail; training.export --mix 0.75")
    with pytest.raises(export.DataError, match="needs a detail checkpoint"):
        mixed(tmp_path / "distil_esrgan-x4-clean" / "last.pt", 0.75)


@pytest.mark.parametrize("scale", [2, 3])
def test_other_scales_export(scale: int, tmp_path: Path) -> None:
    for name in ("fast_srgan", "distil_esrgan", "distil_teacher"):
        _, manifest = export.write_engine(state(name, scale=scale), "phases", tmp_path)
        assert manifest.scale == scale


def test_the_two_ends_have_two_names(tmp_path: Path) -> None:
    made = [export.write_engine(state("distil_esrgan", end), "phases", tmp_path)[1] for end in ("fidelity", "detail")]
    assert [(manifest.name, manifest.end) for manifest in made] == [
        ("distil_esrgan-x4-clean-float", "fidelity"),
        ("distil_esrgan-x4-clean-detail-float", "detail"),
    ]


def test_an_engine_that_differs_from_torch_is_refused(tmp_path: Path) -> None:
    file, _ = export.write_engine(state("distil_esrgan"), "phases", tmp_path)
    other = recipe.load("distil_esrgan").generator(4).eval()
    with pytest.raises(export.ParityError, match="off by up to"):
        export.check_rgb_parity(file, other, 4)


def test_no_colour_shifts(tmp_path: Path) -> None:
    """An untrained net is an interpolation: flat colours, whatever matrix and range say, come back as they went in."""
    import openvino as ov

    untrained = state("distil_esrgan")
    untrained["ema"] = recipe.load("distil_esrgan").generator(4).state_dict()
    file, _ = export.write_engine(untrained, "phases", tmp_path)
    engine = ov.compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rng = np.random.default_rng(0)
    for matrix in ((0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)):
        for span in ((16, 219, 224), (0, 255, 255)):
            y, u, v = (int(c) for c in rng.integers(16, 236, 3))
            inputs = {
                "y": np.full((1, 1, 12, 16), y, np.uint8),
                "uv": np.stack([np.full((6, 8), u, np.uint8), np.full((6, 8), v, np.uint8)])[None],
                "matrix": np.array(matrix, np.float32),
                "range": np.array(span, np.float32),
            }
            result = engine(inputs)
            assert (np.asarray(result["y_out"]) == y).all()
            assert (np.asarray(result["uv_out"])[0, 0] == u).all()
            assert (np.asarray(result["uv_out"])[0, 1] == v).all()


def test_speed_runs_and_the_student_wins() -> None:
    found = speed.measure(["distil_esrgan", "distil_teacher"], 48, 32, 1)
    assert 0 < found["distil_esrgan"] < found["distil_teacher"]


def test_report_is_one_file_with_figures_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "engines"
    file, manifest = export.write_engine(state("distil_esrgan"), "phases", folder)
    manifest.quality.update({"psnr_y": {"Set5": 30.123}, "squeeze_distance": {"Set5": 0.25}, "flicker": 1.1})
    manifest.save(folder)
    sets = tmp_path / "sets"
    hr = drawing(1, 240)
    for name in ("HR", "LRx4"):
        (sets / "Set5" / name).mkdir(parents=True)
        size = 240 if name == "HR" else 60
        cv2.imwrite(str(sets / "Set5" / name / "img_001.png"), cv2.resize(hr, (size, size)))
    words = [str(file), "bicubic:4", "--sets", str(sets), "--out", str(tmp_path / "report.html")]
    assert report.main(words) == 0
    page = (tmp_path / "report.html").read_text()
    assert "30.123" in page
    assert page.count("data:image/png;base64,") == 4  # input, engine, bicubic, truth
    assert "distil_esrgan-x4-clean-float" in page
    assert table([load_manifest(file.with_suffix(".json"))]).count("30.12") == 1

    assert report.main([*words, "--curve", str(file)]) == 1  # there is no other end
    assert "distil_esrgan-x4-clean-detail-float.onnx is missing" in capsys.readouterr().err
    other, manifest = export.write_engine(state("distil_esrgan", "detail"), "phases", folder)
    manifest.save(folder)
    assert report.main([*words, "--curve", str(file), "--steps", "2"]) == 0
    assert "from fidelity to detail" in (tmp_path / "report.html").read_text()
    points = detail_curve.measure_curve(file, 2, sets)
    assert [point.share for point in points] == [0, 0.5, 1]
    for point, end in ((points[0], file), (points[2], other)):
        assert point.psnr_y == measure_sets(open_engine(end), sets)["psnr_y"]["Set5"]


def test_figures_reach_the_manifest(tmp_path: Path) -> None:
    """A whole export of an RGB checkpoint beside a small set, kernels included."""
    sets = tmp_path / "sets" / "Set5"
    for name, size in (("HR", 240), ("LRx4", 60)):
        (sets / name).mkdir(parents=True)
        cv2.imwrite(str(sets / name / "img_001.png"), cv2.resize(drawing(1, 240), (size, size)))
    file = tmp_path / "last.pt"
    given = state("distil_esrgan")
    given["args"]["degradation"] = "kernels"
    checkpoint.save(file, given)
    assert export.main([str(file), "--engines", str(tmp_path), "--sets", str(tmp_path / "sets")]) == 0
    quality = json.loads((tmp_path / "distil_esrgan-x4-kernels-float.json").read_text())["quality"]
    assert quality["kernels_psnr_y"].keys() == {"nearest", "bilinear", "bicubic"}
    assert quality["psnr_y"]["Set5"] > 15
    assert quality["grid_energy"].keys() == {"flat", "gradient"}
    assert open_engine(tmp_path / "distil_esrgan-x4-kernels-float.onnx").colour
