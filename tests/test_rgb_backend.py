"""RGB engines in the application: every pixel format, no colour shift, ends and scales by name."""

from __future__ import annotations

import json
from contextlib import closing
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("openvino")

from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.errors import ConfigError, EngineError
from rtsr.frames import ChromaSiting, ColorTags, FrameBatch
from rtsr.manifest import engines_folder, installed_engines
from rtsr.pixels import PixelFormat

MODEL = "distil_esrgan"  # the smallest
FORMATS = {
    "4:2:0": PixelFormat(),
    "4:2:2 with alpha": PixelFormat("yuv", 8, (1, 0), True),
    "4:4:4": PixelFormat("yuv", 8, (0, 0)),
    "4:1:1": PixelFormat("yuv", 8, (2, 0)),
    "10-bit 4:2:0": PixelFormat("yuv", 10),
    "12-bit gray": PixelFormat("gray", 12, (0, 0)),
    "RGB with alpha": PixelFormat("rgb", 8, (0, 0), True),
    "10-bit RGB": PixelFormat("rgb", 10, (0, 0)),
}

pytestmark = pytest.mark.skipif(
    not any(e.tier == MODEL for e in installed_engines()), reason=f"no {MODEL} engine in {engines_folder()}"
)


def opened(pixels: PixelFormat, color: ColorTags | None = None, model: str = MODEL) -> Engine:
    return open_engine(EngineChoice(4, model, "stream", "openvino", pixels.bits, color or ColorTags()))


def flat(pixels: PixelFormat, height: int, width: int, n: int = 1) -> FrameBatch:
    """One colour in every plane."""
    rng = np.random.default_rng(5)
    levels = rng.integers(pixels.white // 4, pixels.white // 2, 6)
    y = np.stack([np.full((height, width), levels[c], pixels.dtype) for c in range(pixels.full_planes)])
    sides = pixels.chroma_size(height, width)
    uv = np.empty((pixels.chroma_planes, *sides), pixels.dtype)
    for c in range(pixels.chroma_planes):
        uv[c] = (pixels.white + 1) // 2 + (levels[3 + c] - pixels.white // 3) // 2
    time = tuple(range(n))
    return FrameBatch(np.stack([y] * n), np.stack([uv] * n), time, Fraction(1, 30), pixels=pixels)


@pytest.mark.parametrize("name", FORMATS)
def test_flat_colours_stay_in_every_format(name: str) -> None:
    """Within a code value of 8 bits: what the net itself and the way through RGB may move."""
    pixels = FORMATS[name]
    with closing(opened(pixels, ColorTags(1, 1, 1, 1))) as engine:
        batch = flat(pixels, 23, 37, 2)
        result = engine.infer(batch)
    assert result.y.shape == (2, pixels.full_planes, 92, 148)
    assert result.uv.shape == (2, pixels.chroma_planes, *pixels.chroma_size(92, 148))
    assert (result.pts, result.pixels) == (batch.pts, pixels)
    allowed = 2 if pixels.family == "rgb" else 1
    for large, small in ((result.y, batch.y), (result.uv, batch.uv)):
        for planes, level in zip(np.moveaxis(large, 1, 0), small[0, :, 0, 0].astype(int), strict=True):
            assert np.abs(planes.astype(int) - level).max() <= allowed << (pixels.bits - 8)


@pytest.mark.parametrize("siting", ChromaSiting)
def test_a_colour_edge_stays_where_it_is(siting: ChromaSiting) -> None:
    """The chroma of a vertical edge: its middle, in luma pixels of the picture, before and after."""
    pixels = PixelFormat()
    y = np.full((1, 1, 32, 64), 120, np.uint8)
    uv = np.full((1, 2, 16, 32), 100, np.uint8)
    uv[..., 16:] = 156
    batch = FrameBatch(y, uv, (0,), Fraction(1, 30), siting=siting, pixels=pixels)
    with closing(opened(pixels)) as engine:
        large = engine.infer(batch).uv[0, 0, 32].astype(float)
    offset = 0.0 if siting.value[0] else 0.5  # of a chroma sample from the first luma pixel that shares it
    before = 2 * 15.5 + offset + 0.5  # edges lie between samples; 0.5: from a pixel's centre to its left side
    crossing = np.interp(128, large[40:90], np.arange(40, 90))
    after = (2 * crossing + offset + 0.5) / 4
    assert after == pytest.approx(before, abs=0.15)


def test_small_and_odd_sizes() -> None:
    with closing(opened(PixelFormat())) as engine:
        for height, width in ((1, 1), (2, 7), (9, 16)):
            result = engine.infer(flat(PixelFormat(), height, width))
            assert result.y.shape[2:] == (4 * height, 4 * width)
            assert result.uv.shape[2:] == (2 * height, 2 * width)


def test_the_detail_end_goes_by_its_own_name() -> None:
    with closing(opened(PixelFormat())) as fidelity, closing(opened(PixelFormat(), model=f"{MODEL}-detail")) as detail:
        assert fidelity.name != detail.name
        assert "detail" in detail.name


def test_what_cannot_be_had_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="has no engine for scale 3; it has 4"):
        open_engine(EngineChoice(3, MODEL))
    with pytest.raises(ConfigError, match="runs under openvino only"):
        open_engine(EngineChoice(4, MODEL, "stream", "onnxruntime"))
    with closing(opened(PixelFormat())) as engine, pytest.raises(EngineError, match="opened for 8-bit"):
        engine.infer(flat(PixelFormat("yuv", 10), 8, 8))


def test_a_graph_that_is_no_engine_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    source = next(e for e in installed_engines() if e.tier == MODEL)
    manifest = json.loads((engines_folder() / f"{source.name}.json").read_text())
    manifest["sha256"] = hashlib.sha256(b"no graph").hexdigest()
    (tmp_path / source.file).write_bytes(b"no graph")
    (tmp_path / f"{source.name}.json").write_text(json.dumps(manifest))
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    with pytest.raises(EngineError, match="is refused"):
        opened(PixelFormat(), model=source.tier + ("-detail" if source.end == "detail" else ""))
