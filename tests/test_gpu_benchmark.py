"""benchmarks/gpu.py runs to its end on any machine, and each row has figures or a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.rows import Job, Row, all_rows, no_engine
from benchmarks.targets import verdicts

REPOSITORY = Path(__file__).resolve().parent.parent


def run(*words: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words], cwd=REPOSITORY, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert all(bool(row["figures"]) != bool(row["missing"]) for row in result["rows"])
    return result


def test_without_a_driver_every_row_says_so() -> None:
    if not gpu.driver_missing():
        pytest.skip("this machine has an NVIDIA driver")
    result = run()
    rows = result["rows"]
    assert len(rows) == len(all_rows("cuda", False)) > 100
    assert {(target["met"], bool(target["missing"])) for target in result["targets"]} == {(None, True)}
    assert {row["missing"] for row in rows if row["job"] is None} == {"no NVIDIA driver"}
    assert any("quality has no engine for x3" in row["missing"] for row in rows)


def test_on_the_cpu_each_kind_of_row_is_measured() -> None:
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    result = run("--device", "cpu", "--quick", "--only", "ceilings", "onnxruntime", "encoder", "eager")
    measured = {(row["part"], row["what"]) for row in result["rows"] if row["figures"]}
    assert measured >= {
        ("ceilings", "copy"),
        ("ceilings", "matrix"),
        ("onnxruntime", "engine"),
        ("onnxruntime", "same frames"),
        ("torch eager", "net"),
        ("pipeline onnxruntime", "null"),
        ("pipeline onnxruntime", "x264 ultrafast"),
        ("encoder alone", "x264 ultrafast"),
    }
    missing = {row["missing"].split(":")[0] for row in result["rows"] if row["missing"]}
    assert missing <= {"LookupError", "ConfigError"}, "no bus, and no NVENC where there is no GPU"
    for row in result["rows"]:
        if row["what"] == "same frames":
            assert row["figures"]["same_for_batches"] is True


def test_the_limit_is_kept_and_said() -> None:
    rows = run("--device", "cpu", "--quick", "--limit-seconds", "0")["rows"]
    assert {row["missing"] for row in rows} == {gpu.NO_TIME}


def test_a_part_that_dies_costs_the_row_that_killed_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others of the part are measured by another process."""
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "folder, part = sys.argv[sys.argv.index('--folder') + 1], sys.argv[sys.argv.index('--part') + 1]\n"
        "with open(os.path.join(folder, part + '.jsonl'), 'a') as output:\n"
        "    for number in os.environ['RTSR_GPU_ROWS'].split(','):\n"
        "        if number == '1':\n"
        "            print('CUDA error: an illegal memory access', file=sys.stderr)\n"
        "            os._exit(134)\n"
        "        found = {'row': int(number), 'figures': {'ms': 1}, 'missing': ''}\n"
        "        print(json.dumps(found), file=output, flush=True)\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(gpu.sys, "executable", str(python))
    rows = [Row("part", str(i)) for i in range(3)] + [Row("other", "3")]
    gpu.measure_part("part", rows, gpu.parse([]), gpu.time.monotonic() + 60, tmp_path)
    assert [bool(row.figures) for row in rows] == [True, False, True, False]
    assert rows[1].missing == "the process ended with 134: CUDA error: an illegal memory access"


def test_shares_are_of_the_ceilings_of_the_same_run() -> None:
    job = Job("fast", 640, 360, 4)
    rows = [
        Row("ceilings", "matrix", figures={"tflop_per_s": 100.0}),
        Row("ceilings", "copy", figures={"gb_per_s": 1000.0}),
        Row("tensorrt", "engine", job, figures={"compute_ms_per_frame": 0.5, "gflop": 20.0, "gb": 0.25}),
        Row("torch eager", "net", job, figures={"ms_per_frame": 2.0}),
        Row("pipeline tensorrt", "null", job, figures={"fps": 1800.0}),
    ]
    gpu.add_shares(rows)
    assert rows[2].figures["flop_share"] == pytest.approx(0.4)  # 20 GFLOP in 0.5 ms are 40 TFLOP/s
    assert rows[2].figures["byte_share"] == pytest.approx(0.5)  # 0.25 GB in 0.5 ms are 500 GB/s
    assert rows[3].figures["times_tensorrt"] == pytest.approx(4)
    assert rows[4].figures["share_of_engine_alone"] == pytest.approx(0.9)


def test_targets_are_met_missed_or_not_measured() -> None:
    job = Job("balanced", 1920, 1080, 2)
    rows = [
        Row(
            "tensorrt",
            "engine",
            Job("quality", 640, 360, 4),
            graphs=True,
            figures={"flop_share": 0.3, "byte_share": 0.6},
        ),
        Row(
            "torch eager",
            "net",
            job,
            figures={"ms_per_frame": 9.0, "times_tensorrt": 2.4, "times_onnxruntime-cuda": 2.6},
        ),
        Row("torch compiled", "net", job, missing="no NVIDIA driver"),
        Row("pipeline tensorrt", "null", job, figures={"fps": 299.0, "share_of_engine_alone": 0.95}),
        Row("encoder alone", "x264 ultrafast", job, figures={"fps": 100.0}),
        Row("pipeline tensorrt", "x264 ultrafast", job, figures={"fps": 99.0}),
        Row("tensorrt", "FP16 against FP32", job, figures={"psnr_y_change_db": -0.02}),
        Row("tensorrt", "same frames", job, figures={"same_for_batches": True, "same_without_graphs": False}),
    ]
    found = {verdict.target: verdict for verdict in verdicts(rows)}
    assert {target: verdict.met for target, verdict in found.items()} == {
        "quality 360p x4: 40 % of the matrix rate, or the byte roofline": False,
        "2.5 times as fast as torch eager": True,
        "1.3 times as fast as torch compiled": None,
        "pipeline: 90 % of the engine alone": True,
        "pipeline: GPU busy 90 %": None,
        "balanced 1080p x2: 300 frames/s": False,
        "balanced 1080p x2: as fast as x264 alone": True,
        "FP16 changes PSNR-Y by 0.01 dB at most (what is left)": False,
        "the same frames in batches of 1, 2, 4, 8": True,
        "the same frames without CUDA graphs": False,
    }
    assert found["1.3 times as fast as torch compiled"].missing == "no NVIDIA driver"


def test_engines_that_do_not_exist_are_told_apart() -> None:
    assert no_engine(Job("fast", 640, 360, 4)) == ""
    assert "x3" in no_engine(Job("quality", 640, 360, 3))
    assert "tier none" in no_engine(Job("none", 640, 360, 4))


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt"])
def test_what_looks_inside_a_gpu_engine_runs_on_the_stand_ins(
    backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No figure means anything there; a slot used twice or an engine without its insides would be an error."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from cuda_stand_in import Driver
    from onnxruntime_stand_in import OnnxRuntime
    from tensorrt_stand_in import TensorRt

    from benchmarks import engines

    monkeypatch.setenv("RTSR_PLANS", str(tmp_path))
    driver = Driver()
    driver.install(monkeypatch)
    OnnxRuntime(driver).install(monkeypatch) if backend != "tensorrt" else TensorRt(driver).install(monkeypatch)
    monkeypatch.setattr(engines, "_fail", lambda sentence: None)  # the stand-in of TensorRT has plans to build
    job = Job("nano", 32, 24, 2)
    figures = engines.measure_engine(job, backend, 2, True, quick=True)
    assert {"compute_ms_per_frame", "transfer_ms_per_frame", "stream_ms_per_frame", "gflop", "gb"} <= figures.keys()
    assert engines.measure_sameness(job, backend) == {"same_for_batches": True, "same_without_graphs": True}
    precision = engines.measure_precision(job, backend)
    assert precision["psnr_y_db"] > 20 and abs(precision["psnr_y_change_db"]) <= 0.01
    assert driver.used == 0
