"""The engines in the repository: what their manifests say is true, flat pictures stay flat, borders stay clean."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("openvino")

from rtsr.manifest import Manifest, installed_engines
from rtsr.metrics import psnr
from training.evaluate import flat_error, has_grid, measure_sets, read_y
from training.resize import imresize
from training.upscalers import open_engine

FOLDER = Path(__file__).resolve().parents[2] / "engines"
ENGINES = {engine.name: engine for engine in installed_engines(FOLDER)}
BICUBIC_X4 = 28.43  # PSNR-Y, Set5
ASKED = {
    "nano-x4-clean-int8": 30.3,
    "fast-x4-clean-int8": 30.85,
    "balanced-x4-clean-int8": 31.15,
    "quality-x4-clean-int8": 31.25,
    "nano-x3-clean-int8": 32.5,
    "fast-x3-clean-int8": 33.2,
    "balanced-x3-clean-int8": 33.35,
    "fast-x2-clean-int8": 36.95,
}


@pytest.mark.parametrize("name", ENGINES)
def test_manifest_describes_the_file(name: str) -> None:
    engine = ENGINES[name]
    assert hashlib.sha256((FOLDER / engine.file).read_bytes()).hexdigest() == engine.sha256
    assert engine.quality["psnr_y"].keys() == {"Set5", "Set14", "BSD100"}
    if engine.precision == "int8" and engine.detail in (0, 1):  # between the ends there is no float twin
        assert engine.quality["int8_loss_db"] <= 0.1


@pytest.mark.parametrize("name", ENGINES)
def test_flat_pictures_stay_flat(name: str) -> None:
    """All levels 16..235: no output pixel off by more than one code value, no grid of phases on a wall or sky."""
    deep = ENGINES[name].rgb  # hundreds of times the ladder's work: every eleventh level
    error, spread = flat_error(open_engine(FOLDER / ENGINES[name].file), 11 if deep else 1)
    assert error <= 1
    assert spread <= 1
    stated = ENGINES[name].quality["flat_max_error"]
    assert stated >= error if deep else stated == error


@pytest.mark.parametrize("name", ENGINES)
def test_no_checkerboard(name: str) -> None:
    """At the frequencies of the pixel shuffle no more energy than 1.1 times bicubic's, rounding to 8 bits allowed."""
    assert not has_grid(open_engine(FOLDER / ENGINES[name].file))


@pytest.mark.parametrize("name", [name for name, engine in ENGINES.items() if "clean" in name and not engine.rgb])
def test_borders_are_no_worse_than_bicubic(name: str, benchmark_sets: Path) -> None:
    """Convolutions pad with black; the net has to have learnt that: PSNR over the outermost 4 LR pixels, Set5."""
    upscaler = open_engine(FOLDER / ENGINES[name].file)
    scale = upscaler.scale
    ours, bicubic = [], []
    for file in sorted((benchmark_sets / "Set5" / f"LRx{scale}").glob("*.png")):
        lr = read_y(file)
        hr = read_y(benchmark_sets / "Set5" / "HR" / file.name)[: lr.shape[0] * scale, : lr.shape[1] * scale]
        frame = np.ones(hr.shape, bool)
        frame[4 * scale : -4 * scale, 4 * scale : -4 * scale] = False
        ours.append(psnr(upscaler.luma(lr)[frame][None], hr[frame][None]))
        bicubic.append(psnr(imresize(lr, scale)[frame][None], hr[frame][None]))
    assert np.mean(ours) > np.mean(bicubic)


@pytest.mark.parametrize("name", [name for name in ASKED if name in ENGINES])
def test_published_figures(name: str, benchmark_sets: Path) -> None:
    found = measure_sets(open_engine(FOLDER / ENGINES[name].file), benchmark_sets)["psnr_y"]
    assert found == pytest.approx(ENGINES[name].quality["psnr_y"], abs=0.02)  # other CPUs round ties otherwise
    assert found["Set5"] >= ASKED[name]


def of(tier: str, end: str = "fidelity") -> Manifest:
    return next(engine for engine in ENGINES.values() if engine.tier == tier and engine.end == end)


@pytest.mark.parametrize("tier", ["fast_srgan", "srgan", "rrdb_lite", "distil_esrgan", "distil_teacher"])
def test_systems_beat_bicubic_by_one_and_a_half_db(
    tier: str, benchmark_sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluate.SETS", ("Set5",))
    found = measure_sets(open_engine(FOLDER / of(tier).file), benchmark_sets)["psnr_y"]["Set5"]
    assert found == pytest.approx(of(tier).quality["psnr_y"]["Set5"], abs=0.02)
    assert found >= BICUBIC_X4 + 1.5


DETAIL_ENDS = [name for name, engine in ENGINES.items() if engine.detail == 1 and not name.endswith("-planes")]


@pytest.mark.parametrize("name", DETAIL_ENDS)
def test_detail_ends_are_closer_to_the_eye(name: str) -> None:
    """As measured at export: less perceptual distance than the fidelity end on every set, for less PSNR."""
    detail = ENGINES[name]
    fidelity = next(engine for engine in ENGINES.values() if engine.kind == detail.kind and not engine.detail)
    for sets, distance in detail.quality["squeeze_distance"].items():
        assert distance < fidelity.quality["squeeze_distance"][sets]
    assert detail.quality["psnr_y"]["Set5"] < fidelity.quality["psnr_y"]["Set5"]
    assert detail.quality["flicker"] <= 1.6
    if not detail.rgb:
        assert detail.quality["psnr_y"]["Set5"] >= BICUBIC_X4 + 0.8


STREAM = [name for name, engine in ENGINES.items() if engine.degradation == "stream" and engine.output == "phases"]


@pytest.mark.parametrize("name", STREAM)
def test_static_shots_do_not_flicker(name: str) -> None:
    """As measured at export, against bicubic. Between the ends: the detail end's bound."""
    assert ENGINES[name].quality["flicker"] <= (1.6 if ENGINES[name].detail else 1.2)


def test_student_is_within_a_decibel_of_its_teacher() -> None:
    student, teacher = (of(tier).quality["psnr_y"]["Set5"] for tier in ("distil_esrgan", "distil_teacher"))
    assert teacher - student <= 1


def test_smooth_kernels_agree() -> None:
    """Half a decibel between bilinear and bicubic LR. Nearest, which aliases, stays three below (LOG.md)."""
    found = of("rrdb_lite").quality["kernels_psnr_y"]
    assert abs(found["bilinear"] - found["bicubic"]) <= 0.5


def test_engines_are_small() -> None:
    sizes = [file.stat().st_size for file in FOLDER.glob("*.onnx")]
    assert max(sizes) < 4e6
    assert sum(sizes) < 40e6


def test_readme_is_made_from_the_manifests() -> None:
    from training.engines_table import table

    assert (FOLDER / "README.md").read_text() == table(list(ENGINES.values()))


def test_engines_sharpen() -> None:
    """Against a plain resize: more gradient energy at edges, on a picture that no set contains."""
    picture = np.full((64, 64), 60, np.uint8)
    cv2.circle(picture, (32, 32), 20, 200, -1, cv2.LINE_AA)
    for name, engine in ENGINES.items():
        upscaler = open_engine(FOLDER / engine.file)
        pictures = (upscaler.luma(picture), imresize(picture, upscaler.scale))
        sharp, soft = (np.abs(np.diff(p.astype(int))).max() for p in pictures)
        assert sharp >= soft, name
