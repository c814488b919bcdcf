"""The benchmark's arithmetic and its shape. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from rtsr.bench import Benchmark, benchmark, limit_fps, name_bottleneck, print_table
from rtsr.bench_machine import machine, peak_rss_mb, versions
from rtsr.bench_stages import Cost, cost_of, make_clip, to_and_fro
from rtsr.errors import ConfigError
from rtsr.frames import FrameBatch
from rtsr.sinks.encoding import Encoding
from rtsr.sources.file import FileSource

REMEDIES = {"decode": "A", "infer": "B", "encode": "C"}


@pytest.fixture(scope="module")
def result() -> Benchmark:
    return benchmark(size="64x48", scale=2, backend="reference", frames=6, rounds=2)


def test_every_figure_is_positive(result: Benchmark) -> None:
    row = result.as_dict()
    for stage in ("decode_ms", "infer_ms", "encode_ms", "whole_ms"):
        assert row[stage].keys() == {"cpu_ms", "wall_ms"}
        assert all(value > 0 for value in row[stage].values())
    for figure in ("fps", "limit_fps", "efficiency", "realtime_factor", "p50_ms", "p95_ms"):
        assert row[figure] > 0
    assert row["p50_ms"] <= row["p95_ms"]
    assert row["other_cores"] is None or row["other_cores"] >= 0


def test_a_row_says_what_it_was_measured_on(result: Benchmark) -> None:
    row = result.as_dict()
    assert (row["size"], row["output_size"]) == ("64x48", "128x96")
    assert (row["engine"], row["backend"], row["engine_sha256"]) == ("bicubic", "reference", None)
    assert (row["frames"], row["rounds"], row["source_fps"], row["baseline"]) == (6, 2, 24, None)
    assert row["encoder"] == {"codec": "libx264", "preset": "ultrafast", "crf": "18"}
    assert row["machine"].keys() == {"cpu", "cores", "system"}
    assert {"rtsr", "python", "av", "numpy"} <= row["versions"].keys()
    assert row["command"].startswith("rtsr benchmark --size 64x48 --scale 2 ")


def test_a_row_is_one_line_of_json(result: Benchmark) -> None:
    line = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(line) == result.as_dict()
    assert json.loads(line).keys() == {field.name for field in fields(Benchmark)}


def test_the_derived_figures_follow_from_the_costs(result: Benchmark) -> None:
    costs = {"decode": result.decode_ms, "infer": result.infer_ms, "encode": result.encode_ms}
    assert result.limit_fps == limit_fps(costs, result.machine["cores"])
    assert result.fps == pytest.approx(1e3 / result.whole_ms.wall_ms)
    assert result.efficiency == pytest.approx(result.fps / result.limit_fps)
    assert result.realtime_factor == pytest.approx(result.fps / 24)


def test_the_table_shows_the_figures(result: Benchmark) -> None:
    text = io.StringIO()
    print_table(result, Console(file=text, width=400))
    for words in ("64x48 -> 128x96", "decode", "infer", "encode", f"{result.fps:.1f} fps", result.bottleneck):
        assert words in text.getvalue()


def test_the_limit_is_every_core_busy_or_the_slowest_stage_never_waiting() -> None:
    costs = {"decode": Cost(2, 1), "infer": Cost(24, 12), "encode": Cost(14, 10)}
    assert limit_fps(costs, 2) == 50  # 40 CPU-ms on two cores
    assert limit_fps(costs, 16) == pytest.approx(1e3 / 12)


@pytest.mark.parametrize(
    ("decode", "infer", "encode", "cores", "efficiency", "sentence"),
    [
        (Cost(2, 1), Cost(24, 12), Cost(14, 10), 2, 0.97, "infer takes 60% of the CPU time: B"),
        (Cost(2, 1), Cost(8, 4), Cost(30, 30), 8, 0.97, "encode alone takes 30.0 ms a frame"),
        (Cost(50, 25), Cost(8, 4), Cost(42, 21), 2, 0.7, "decode takes 50% of the CPU time, and 30% of the speed"),
    ],
)  # fmt: skip
def test_the_bottleneck_is_named_with_a_remedy(
    decode: Cost, infer: Cost, encode: Cost, cores: int, efficiency: float, sentence: str
) -> None:
    costs = {"decode": decode, "infer": infer, "encode": encode}
    named = name_bottleneck(costs, efficiency, cores, REMEDIES)
    assert named.startswith(sentence)
    assert named[-1] in REMEDIES.values()


def test_cost_is_shared_out_among_the_frames() -> None:
    cost = cost_of(lambda: sum(range(200_000)) and 4)
    assert cost.cpu_ms > 0
    assert cost.wall_ms > 0


def test_to_and_fro_turns_round_at_both_ends() -> None:
    batches = [_grey(level, pts=10 + 5 * level) for level in range(3)]
    going = list(to_and_fro(batches, 7))
    assert [int(batch.y[0, 0, 0, 0]) for batch in going] == [0, 1, 2, 1, 0, 1, 2]
    assert [batch.pts[0] for batch in going] == [0, 5, 10, 15, 20, 25, 30]
    assert [batch.pts[0] for batch in to_and_fro(batches[:1], 3)] == [0, 1, 2]


def test_the_made_clip_decodes_to_what_was_asked_for(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 96, 64, 5)
    source = FileSource(tmp_path / "clip.mp4")
    frames = list(source.frames())
    source.close()
    assert (source.spec.width, source.spec.height, source.spec.rate) == (96, 64, 24)
    assert [frame.pts * frame.time_base for frame in frames] == [Fraction(i, 24) for i in range(5)]
    assert not np.array_equal(frames[0].y, frames[1].y)


def test_an_input_brings_its_own_size_and_length(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 96, 64, 5)
    encoding = Encoding("ffv1")
    row = benchmark(
        input=tmp_path / "clip.mp4", scale=3, backend="reference", frames=50, rounds=1, encoding=encoding
    ).as_dict()
    assert (row["size"], row["output_size"], row["frames"], row["input"]) == ("96x64", "288x192", 5, "clip.mp4")
    assert "--input clip.mp4" in row["command"]
    assert str(tmp_path) not in json.dumps(row)


def test_a_clip_of_one_frame_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", 96, 64, 1)
    with pytest.raises(ConfigError, match="single frame"):
        benchmark(input=tmp_path / "clip.mp4", scale=2, backend="reference", rounds=1)


def test_a_real_engine_is_named_with_its_sha256(engines: Path) -> None:
    row = benchmark(size="64x48", scale=2, model="repeat", backend="openvino", frames=4, rounds=1).as_dict()
    manifest = json.loads((engines / "repeat-x2.json").read_text())
    assert (row["engine"], row["backend"], row["engine_sha256"]) == ("repeat-x2", "openvino", manifest["sha256"])


def test_baselines_are_measured_beside_the_engine() -> None:
    pytest.importorskip("onnx", reason="onnx builds the other networks: pip install 'rtsr[dev]'")
    pytest.importorskip("onnxruntime", reason="onnxruntime runs the other networks: pip install 'rtsr[onnx]'")
    told: list[str] = []
    rows = benchmark(
        size="32x32", scale=2, backend="reference", frames=3, rounds=1, baseline=True, notice=told.append
    ).as_dict()["baseline"]
    assert rows[0]["cpu_ratio"] == 1
    measured = {(row["network"], row["runtime"]) for row in rows[1:]}
    assert {("bicubic", "opencv"), ("lanczos", "opencv"), ("ESPCN", "onnxruntime")} <= measured
    assert {("FSRCNN", runtime) for runtime in ("onnxruntime", "openvino", "opencv dnn")} <= measured
    assert ("realesr-animevideov3", "onnxruntime") in measured
    assert all(row[figure] > 0 for row in rows for figure in ("cpu_ms", "wall_ms", "fps", "cpu_ratio"))
    assert any("FSRCNN" in sentence for sentence in told)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_networks_enlarge_by_the_scale_and_have_the_published_sizes(scale: int) -> None:
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime runs the other networks: pip install 'rtsr[onnx]'")
    onnx = pytest.importorskip("onnx", reason="onnx builds the other networks: pip install 'rtsr[dev]'")
    from rtsr.baselines import compact, espcn, fsrcnn

    parameters = {"fsrcnn": 12_000, "espcn": 21_000, "compact": 600_000}  # and a little more, by scale
    for build in (fsrcnn, espcn, compact):
        chain = build(scale)
        data = chain.serialize(6, 10)
        x = np.full((1, chain.planes, 6, 10), 0.5, np.float32)
        (out,) = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})
        assert out.shape == (1, chain.planes, 6 * scale, 10 * scale)
        assert np.isfinite(out).all()
        count = sum(int(np.prod(weight.dims)) for weight in onnx.load_from_string(data).graph.initializer)
        least = parameters[build.__name__]
        assert least < count < 1.2 * least


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtsr.bench.find_spec", lambda package: None if package == "onnx" else object())
    with pytest.raises(ConfigError, match=r"onnx is not installed: pip install onnx$"):
        benchmark(backend="reference", baseline=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": "640"}, "--size '640' is not a size"),
        ({"size": "641x360"}, "must be even"),
        ({"size": "16x16"}, "between 32 and 8192"),
        ({"scale": 5}, "scale 5 is not supported"),
        ({"model": "grand", "backend": "openvino"}, "no model 'grand'"),
        ({"backend": "abacus"}, "unknown backend 'abacus'"),
        ({"degradation": "rain"}, "unknown degradation 'rain'"),
        ({"frames": 1}, "at least 2 frames"),
        ({"rounds": 0}, "1 round"),
        ({"size": "64x48", "input": Path("clip.mp4")}, "leave it out with --input"),
        ({"backend": "reference", "encoding": Encoding("h266")}, "unknown codec 'h266'"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(arguments: dict, words: str, engines: Path) -> None:
    with pytest.raises(ConfigError) as error:
        benchmark(**arguments)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_machine_and_versions_are_stated() -> None:
    assert machine()["cores"] >= 1
    assert machine()["cpu"]
    assert versions()["python"].startswith("3.")
    peak = peak_rss_mb()
    assert peak is None or peak > 1


def _grey(level: int, pts: int) -> FrameBatch:
    y, uv = np.full((1, 1, 4, 4), level, np.uint8), np.full((1, 2, 2, 2), 128, np.uint8)
    return FrameBatch(y, uv, (pts,), Fraction(1, 100))
