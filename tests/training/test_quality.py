"""The figures in manifests: means over clips, the loss of int8, speed."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("openvino")

from pictures import drawing

from rtsr.manifest import installed_engines, load_manifest
from training import quality, sheet
from training.codecs import coded
from training.engines_table import table

ENGINES = Path(__file__).resolve().parents[2] / "engines"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two engines whose manifests hold no figures, and a clip."""
    (tmp_path / "engines").mkdir()
    for name in ("nano-x2-stream-int8", "nano-x2-clean-int8"):
        for suffix in (".json", ".onnx"):
            shutil.copy(ENGINES / f"{name}{suffix}", tmp_path / "engines")
        manifest = load_manifest(tmp_path / "engines" / f"{name}.json")
        manifest.quality.clear()
        manifest.save(tmp_path / "engines")
    still = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (240, 240), np.uint8), (0, 0), 2)
    clip = np.stack([np.roll(still, i, axis=1) for i in range(3)]).astype(np.uint8)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "clip_a.mkv").write_bytes(coded(clip, "libx264", 10))
    return tmp_path


def test_a_stream_engine_is_set_against_its_clean_twin(folder: Path) -> None:
    engines = folder / "engines"
    stream = load_manifest(engines / "nano-x2-stream-int8.json")
    quality.add_quality(stream, engines, folder / "no sets", folder / "clips")
    found = load_manifest(engines / "nano-x2-stream-int8.json").quality
    assert "squeeze_distance" not in found  # of models with two ends only
    rows = found["clips"].values()
    assert len(rows) == 3
    means = found["clips_mean"]
    for who in ("engine", "bicubic", "lanczos"):
        assert means[who] == pytest.approx(np.mean([row[who] for row in rows]), abs=1e-3)
    clean = load_manifest(engines / "nano-x2-clean-int8.json")
    assert quality.clip_means(clean, engines, folder / "clips", found["clips"])["clean"] == means["clean"]
    assert f"{means['engine'] - means['clean']:+.2f}" in table(installed_engines(engines))


def test_the_loss_of_int8_is_the_worst_of_all_sets_and_clips() -> None:
    floats = {"psnr_y": {"Set5": 30.0, "Set14": 27.0}, "clips": {"a": {"engine": 28.0}, "gone": {"engine": 50.0}}}
    int8 = {"psnr_y": {"Set5": 29.99, "Set14": 27.01}, "clips": {"a": {"engine": 27.97}}}
    assert quality.int8_loss(int8, floats) == 0.03


def test_speed_is_written_under_the_machines_name(folder: Path, capsys: pytest.CaptureFixture) -> None:
    engines = folder / "engines"
    assert quality.main(["--speed", *map(str, sorted(engines.glob("*.json")))]) == 0
    for engine in installed_engines(engines):
        (ms,) = engine.quality["ms_640x360"].values()
        assert ms > 0
        assert f"{ms:.1f}" in table([engine])
    assert quality.machine() in table(installed_engines(engines))


def test_flicker_is_written_alone(folder: Path) -> None:
    engines, pictures = folder / "engines", folder / "sets" / "Set14" / "HR"
    pictures.mkdir(parents=True)
    still = drawing(2, 192)
    cv2.imwrite(str(pictures / "img_001.png"), still)
    manifests = sorted(engines.glob("*.json"))
    assert quality.main(["--flicker", "--sets", str(folder / "sets"), *map(str, manifests)]) == 0
    for engine in installed_engines(engines):
        assert engine.quality.keys() == {"flicker"}
        assert engine.quality["flicker"] > 1


def test_engines_without_a_detail_end_are_not_between_ends() -> None:
    engines = [engine for engine in installed_engines(ENGINES) if engine.tier in ("nano", "fast_srgan")]
    assert "## From fidelity to detail" not in table([e for e in engines if not e.detail])


def test_a_sheet_shows_every_subject(tmp_path: Path) -> None:
    data = Path("../shared/data")
    if not data.is_dir():
        pytest.skip(f"{data} is missing")
    out = tmp_path / "sheet.png"
    assert sheet.main([str(ENGINES / "nano-x4-stream-int8.onnx"), "--out", str(out), "--side", "96"]) == 0
    picture = cv2.imread(str(out))
    assert picture.shape == (len(sheet.SUBJECTS) * (96 + sheet.LABEL + 2), 3 * 96, 3)


def test_a_sheet_shows_one_scale(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert sheet.main(["bicubic:2", "bicubic:4", "--out", str(tmp_path / "sheet.png")]) == 1
    assert "one scale" in capsys.readouterr().err
