"""The dial between fidelity and detail: what lies between two ends, which engine is taken, and who is told."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import Video, steady_pts, write_clip
from commands import rtsr
from detail_engines import SCALE, SHIPPED, TIER, copied, save_moved

import rtsr as api
from rtsr.backends import EngineChoice, find_ladder, open_engine
from rtsr.cluster.worker import EngineFiles
from rtsr.detail import Blend, blend
from rtsr.devices import parse_devices
from rtsr.errors import ConfigError, EngineError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.manifest import engine_of, find_engine, find_rgb_engine, read_engine
from rtsr.memory import engine_bytes
from rtsr.options import Options
from rtsr.pictures.read import read_picture
from rtsr.pixels import PixelFormat
from rtsr.preparation import prepared
from rtsr.sinks.encoding import Encoding

onnx = pytest.importorskip("onnx", reason="onnx makes the test engines: pip install 'rtsr[dev]'")


def weights(data: bytes) -> dict[str, np.ndarray]:
    model = onnx.load_from_string(data)
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def found(detail: float, output: str = "phases", precision: str = "float", **more: object):
    return find_engine(TIER, SCALE, "stream", precision, output, detail, **more)  # type: ignore[arg-type]


def picture(bits: int = 8) -> FrameBatch:
    random, kind = np.random.default_rng(2), np.uint8 if bits == 8 else np.uint16
    y, uv = random.integers(0, 1 << bits, (1, 1, 32, 48)), random.integers(0, 1 << bits, (1, 2, 16, 24))
    pixels = PixelFormat.of("yuv420p" if bits == 8 else f"yuv420p{bits}le")
    return FrameBatch(y.astype(kind), uv.astype(kind), (0,), Fraction(1, 25), pixels=pixels or PixelFormat())


def enlarged(choice: EngineChoice) -> np.ndarray:
    with closing(open_engine(choice)) as engine:
        return engine.infer(picture(choice.bits)).y.astype(int)


# What is between


@pytest.mark.parametrize("output", ["phases", "planes"])
@pytest.mark.parametrize("detail", [0.25, 0.5, 0.9])
def test_each_weight_of_a_blend_lies_as_far_along_as_was_asked(both_ends: Path, output: str, detail: float) -> None:
    ends = [weights(read_engine(found(end, output))) for end in (0.0, 1.0)]
    between = weights(read_engine(found(detail, output)))
    assert between.keys() == ends[0].keys()
    for name, weight in between.items():
        expected = (1 - detail) * ends[0][name].astype(np.float64) + detail * ends[1][name].astype(np.float64)
        np.testing.assert_allclose(weight, expected, rtol=1e-6, atol=1e-9)  # float32 has 24 bits
    assert any((between[name] != ends[0][name]).any() for name in between)


def test_the_ends_of_the_dial_are_the_exported_files(both_ends: Path) -> None:
    for detail, name in ((0.0, "nano-x2-stream-float"), (1.0, "nano-x2-stream-detail-float")):
        assert read_engine(found(detail)) == (both_ends / f"{name}.onnx").read_bytes()


def test_a_blend_has_a_name_and_a_sha256_of_its_own_the_same_each_time(both_ends: Path) -> None:
    engines = [found(detail, output) for detail in (0, 0.3, 0.305, 1) for output in ("phases", "planes")]
    assert len({engine.name for engine in engines}) == len({engine.sha256 for engine in engines}) == len(engines)
    assert (
        engines[2].name == "nano-x2-stream-detail30-float" and engines[3].name == "nano-x2-stream-detail30-float-planes"
    )
    assert engines[4].name == "nano-x2-stream-detail30.5-float"
    assert found(0.3) == engines[2] and (engines[2].end, engines[2].detail) == ("detail", 0.3)
    assert engine_of(engines[2].sha256) == engines[2]


def test_graphs_that_differ_in_more_than_weights_are_refused_in_one_sentence(both_ends: Path) -> None:
    phases, planes = (read_engine(found(0, output)) for output in ("phases", "planes"))
    with pytest.raises(EngineError, match=r"^the name cannot be blended: [^\n]*$"):
        blend(phases, planes, 0.5, "the name")
    other = onnx.load_from_string(phases)
    next(node for node in other.graph.node if node.op_type == "Conv").attribute[0].ints[0] += 1
    with pytest.raises(EngineError, match="differ in more than their weights"):
        blend(phases, other.SerializeToString(), 0.5, "the name")
    step, last = (read_engine(found(detail, precision="int8")) for detail in (0, 1))
    with pytest.raises(EngineError, match="differ in more than their weights"):
        blend(step, last, 0.5, "the name")


def test_an_end_that_changes_after_the_blend_was_described_is_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    start = copied(tmp_path, "nano-x2-stream-float")
    save_moved(tmp_path, start, 1.0)
    blended = found(0.5)
    read_engine(blended)
    (tmp_path / "nano-x2-stream-detail-float.onnx").write_bytes(b"other")
    with pytest.raises(EngineError, match="sha256 differs"):
        read_engine(blended)


@pytest.mark.skipif(not (SHIPPED / "fast_srgan-x4-clean-detail-float.onnx").is_file(), reason="no fast_srgan engine")
def test_ends_that_keep_different_weights_in_float16_are_blended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTSR_ENGINES", str(SHIPPED))
    ends = [find_rgb_engine("fast_srgan", 4, "stream", detail) for detail in (0.0, 1.0)]
    start, end = (weights(read_engine(engine)) for engine in ends if engine)
    assert "skip_fp16" in start and "skip" in end  # what makes this pair worth a test
    middle = find_rgb_engine("fast_srgan", 4, "stream", 0.5)
    assert isinstance(middle, Blend)
    between = weights(read_engine(middle))["skip"]
    np.testing.assert_allclose(between, (start["skip_fp16"].astype(np.float32) + end["skip"]) / 2, rtol=1e-6)
    pictures = [enlarged(EngineChoice(4, "fast_srgan", detail=detail)) for detail in (0, 0.5, 1)]
    assert 0 < abs(pictures[1] - pictures[0]).mean() < abs(pictures[2] - pictures[0]).mean()
    assert (enlarged(EngineChoice(4, "fast_srgan-detail")) == pictures[2]).all()


@pytest.mark.skipif(not (SHIPPED / "fast-x4-stream-detail-int8.onnx").is_file(), reason="no engines")
@pytest.mark.parametrize("tier", ["fast", "balanced"])
@pytest.mark.parametrize("bits", [8, 10])
def test_the_shipped_dials_move_the_picture_step_by_step(tier: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 engines for 8 bits, exported at every quarter; blends for 10."""
    monkeypatch.setenv("RTSR_ENGINES", str(SHIPPED))
    pictures = [enlarged(EngineChoice(4, tier, "stream", "openvino", bits, detail=d / 4)) for d in range(5)]
    away = [abs(other - pictures[0]).mean() for other in pictures]
    assert all(less < more for less, more in pairwise(away))


# Which engine is taken


def test_float_engines_are_blended_and_the_picture_moves_with_the_share(both_ends: Path) -> None:
    pictures = [enlarged(EngineChoice(SCALE, TIER, "stream", "openvino", 10, detail=d)) for d in (0, 0.25, 0.5, 1)]
    away = [abs(other - pictures[0]).mean() for other in pictures]
    assert away[0] == 0 and away[1] < away[2] < away[3]


@pytest.mark.parametrize(("asked", "taken"), [(0.1, 0), (0.3, 0.5), (0.25, 0.5), (0.8, 1), (0.5, 0.5)])
def test_of_int8_engines_the_nearest_step_is_taken_and_said(both_ends: Path, asked: float, taken: float) -> None:
    said: list[str] = []
    engine = open_engine(EngineChoice(SCALE, TIER, "stream", "openvino", detail=asked), said.append)
    with closing(engine):
        manifest = engine_of(engine.sha256)
    assert manifest is not None and (manifest.detail, manifest.precision) == (taken, "int8")
    assert said == ([f"int8 engines of nano exist at detail 0, 0.5 and 1: taking {taken:g}"] if asked != taken else [])


def test_plans_are_made_of_blends_as_well(both_ends: Path) -> None:
    half = find_ladder(EngineChoice(SCALE, TIER, "stream", "tensorrt", detail=0.3))
    assert half.name == "nano-x2-stream-detail30-float-planes"
    step = find_ladder(EngineChoice(SCALE, TIER, "stream", "tensorrt", precision="int8", detail=0.4))
    assert step.name == "nano-x2-stream-detail50-int8"


def test_without_the_dial_nothing_changes(both_ends: Path) -> None:
    assert found(0, precision="int8").name == "nano-x2-stream-int8"
    assert find_ladder(EngineChoice(SCALE, TIER, "stream", "tensorrt")).name == "nano-x2-stream-float-planes"


def test_a_tier_takes_detail_behind_its_name_too(both_ends: Path) -> None:
    assert find_ladder(EngineChoice(SCALE, f"{TIER}-detail", "stream", "tensorrt")).detail == 1


# What cannot be


@pytest.mark.parametrize("detail", [-0.1, 1.01, float("nan"), float("inf")])
def test_what_is_no_share_is_one_sentence(detail: float) -> None:
    for refuse in (lambda: EngineChoice(detail=detail), lambda: Options(detail=detail)):
        with pytest.raises(ConfigError, match=r"^--detail [^\n]* must be from 0[^\n]* to 1"):
            refuse()


def test_a_model_without_a_detail_end_says_which_have_one(both_ends: Path) -> None:
    with pytest.raises(ConfigError, match=r"int8 engine of fast x2.*no detail end; models with one: nano x2 stream$"):
        open_engine(EngineChoice(2, "fast", detail=0.5))
    with pytest.raises(ConfigError, match="reference"):
        EngineChoice(2, backend="reference", detail=0.5)


def test_a_name_and_a_share_that_disagree_are_refused() -> None:
    for detail in (0, 0.5):
        with pytest.raises(ConfigError, match="--model fast_srgan-detail means --detail 1"):
            EngineChoice(4, "fast_srgan-detail", detail=detail)
    assert EngineChoice(4, "fast_srgan-detail", detail=1).share == EngineChoice(4, "fast_srgan-detail").share == 1


def test_a_share_without_a_fidelity_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    for suffix in (".json", ".onnx"):
        name = f"fast_srgan-x4-clean-detail-float{suffix}"
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    with pytest.raises(ConfigError, match="a detail end alone; take --detail 1"):
        open_engine(EngineChoice(4, "fast_srgan", detail=0.5))
    open_engine(EngineChoice(4, "fast_srgan", detail=1)).close()


# Where a choice travels


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 bits, for which engines are float."""
    video = Video(pix_fmt="yuv420p10le", pts=steady_pts(130, 6), last_duration=15_000, options={"g": "24", "crf": "20"})
    return write_clip(tmp_path_factory.mktemp("film") / "in.mkv", video)


def test_a_film_is_begun_anew_for_another_share_and_devices_agree_on_one(
    both_ends: Path, film: Path, tmp_path: Path
) -> None:
    how = {"scale": SCALE, "model": TIER, "encoding": Encoding("libx264", preset="ultrafast")}
    identities = []
    for detail in (0.3, 0.4):
        with prepared(film, tmp_path / "out.mkv", Options(detail=detail, **how)) as job:  # type: ignore[arg-type]
            identities.append(job.identity()["engine"])
            assert job.segment_job(2).choice.detail == detail
    assert identities[0] != identities[1]
    alone = api.upscale(film, tmp_path / "alone.mkv", detail=0.3, **how)
    api.upscale(film, tmp_path / "shared.mkv", detail=0.3, devices=parse_devices("cpu*2"), **how)
    assert alone.engine == "nano-x2-stream-detail30-float" == identities[0][0]
    assert (tmp_path / "alone.mkv").read_bytes() == (tmp_path / "shared.mkv").read_bytes()


def test_other_machines_and_the_memory_estimate_know_a_blend(both_ends: Path, tmp_path: Path, monkeypatch) -> None:
    choice = EngineChoice(SCALE, TIER, "stream", "openvino", 10, detail=0.3)
    with closing(open_engine(choice)) as here, closing(open_engine(replace(choice, detail=0))) as faithful:
        files = EngineFiles.of(here.sha256)
        spec = VideoSpec(640, 360, Fraction(25))
        assert engine_bytes(here, spec) == engine_bytes(faithful, spec) > 0
    monkeypatch.setenv("RTSR_ENGINES", "")
    files.install(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"nano-x2-stream{end}-float{suffix}" for end in ("", "-detail") for suffix in (".json", ".onnx")
    )
    with closing(open_engine(choice)) as there:
        assert (there.name, there.sha256) == (here.name, here.sha256)


def test_the_command_and_the_api_take_the_dial(both_ends: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 32, (24, 32, 3))
    small = (np.add.outer(np.arange(24) * 4, np.arange(32) * 3)[..., None] + noise).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "small.png"), small[..., ::-1])
    large = {}
    for detail in (0.0, 0.5, 1.0):
        target = tmp_path / f"{detail}.png"
        options = ("--scale", 2, "--model", TIER, "--detail", detail, "--json")
        done = rtsr("upscale", tmp_path / "small.png", "-o", target, *options)
        assert done.code == 0, done.stderr
        step = {0.0: "", 0.5: "-detail50", 1.0: "-detail"}[detail]
        assert json.loads(done.stdout)["engine"] == f"nano-x2-stream{step}-int8"
        large[detail] = api.enhance_image(small, scale=2, model=TIER, detail=detail)
        assert (read_picture(target).pixels == large[detail]).all()
    assert (large[0.0] != large[0.5]).any() and (large[0.5] != large[1.0]).any()
    with api.Upscaler(2, TIER, detail=0.5) as upscaler:
        assert upscaler.name == "nano-x2-stream-detail50-int8 (openvino)"


def test_engines_are_listed_with_the_shares_that_can_be_had(both_ends: Path) -> None:
    rows = {line.split()[0]: line for line in rtsr("engines").stdout.splitlines() if "-stream" in line}
    assert "0 - 1" in rows["nano-x2-stream-float"] and "0 - 1" in rows["nano-x2-stream-detail-float-planes"]
    assert "0, 0.5, 1" in rows["nano-x2-stream-detail50-int8"]
    assert rows["fast-x2-stream-int8"].split()[1] == "-"


def test_bad_shares_are_one_sentence_of_the_command(tmp_path: Path) -> None:
    done = rtsr("upscale", tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", "--detail", "1.5")
    assert done.code == 2 and done.sentence.startswith("--detail 1.5 must be from 0")
