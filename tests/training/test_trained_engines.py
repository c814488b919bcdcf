"""The engines in the repository: what their manifests say is true, flat pictures stay flat, borders stay clean."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("openvino")

from rtsr.manifest import installed_engines
from training.evaluate import flat_error, has_grid, measure_sets, read_y
from training.metrics import psnr
from training.resize import imresize
from training.upscalers import open_engine

FOLDER = Path(__file__).resolve().parents[2] / "engines"
ENGINES = {engine.name: engine for engine in installed_engines(FOLDER)}
ASKED = {
    "nano-x4-clean-int8": 30.3,
    "fast-x4-clean-int8": 30.85,
    "balanced-x4-clean-int8": 31.15,
    "fast-x2-clean-int8": 36.9,
}


@pytest.mark.parametrize("name", ENGINES)
def test_manifest_describes_the_file(name: str) -> None:
    engine = ENGINES[name]
    assert hashlib.sha256((FOLDER / engine.file).read_bytes()).hexdigest() == engine.sha256
    assert engine.quality["psnr_y"].keys() == {"Set5", "Set14", "BSD100"}
    if engine.precision == "int8":
        assert engine.quality["int8_loss_db"] <= 0.1


@pytest.mark.parametrize("name", ENGINES)
def test_flat_pictures_stay_flat(name: str) -> None:
    """All levels 16..235: no output pixel off by more than one code value, no grid of phases on a wall or sky."""
    error, spread = flat_error(open_engine(FOLDER / ENGINES[name].file))
    assert error <= 1
    assert spread <= 1
    assert ENGINES[name].quality["flat_max_error"] == error


@pytest.mark.parametrize("name", ENGINES)
def test_no_checkerboard(name: str) -> None:
    """At the frequencies of the pixel shuffle no more energy than 1.1 times bicubic's, rounding to 8 bits allowed."""
    assert not has_grid(open_engine(FOLDER / ENGINES[name].file))


@pytest.mark.parametrize("name", [name for name in ENGINES if "clean" in name])
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
