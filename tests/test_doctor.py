"""`rtsr doctor`: what it says is so, and what fails in it fails alone."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import av
import pytest
from commands import rtsr
from no_network import forbid_network, needs_seccomp
from rich.console import Console

from rtsr.doctor import engines, gpu, machine, media, probe, speed
from rtsr.doctor.check import Check
from rtsr.doctor.examine import Examination
from rtsr.doctor.probe import checks_of, run_probe
from rtsr.doctor.report import print_report
from rtsr.doctor.speed import Row, advise
from rtsr.errors import ConfigError, EngineError
from rtsr.sinks.codecs import CODECS


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


# ---- probes are alone ----


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Python is a shell script")
@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("kill -SEGV $$", "crashed (SIGSEGV)"),
        ("sleep 60 & sleep 60", "did not answer within 0.5 s"),
        ("echo no such driver >&2; exit 3", "failed: no such driver"),
        ("exit 9", "ended with code 9 and without a word"),
    ],
)
def test_a_probe_that_dies_or_hangs_is_one_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    monkeypatch.setattr(sys, "executable", program(tmp_path / "python", script))
    (check,) = run_probe("gpu", "gpu", 0.5 if "sleep" in script else 30)
    assert (check.status, check.says) == ("problem", says)
    assert check.mend == "python -m rtsr.doctor.probe gpu"


def test_a_probe_that_works_gives_its_checks() -> None:
    found = by_name(run_probe("machine", "machine", 60))
    assert found["python"].status == "ok" and found["python"].needed
    assert found["cores"].facts["usable"] >= 1
    assert found["disk"].facts["free_bytes"] > 0


# ---- the machine ----


def test_features_and_limits_are_read_from_the_system(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "model name\t: X\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n\nflags\t: fpu\n"
    )
    assert machine.cpu_flags(tmp_path) == {"fpu", "avx2", "avx512_vnni", "amx_int8"}
    assert machine.cpu_quota(tmp_path) is None
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    for text, cores in (("max 100000", None), ("150000 100000", 1.5)):
        (group / "cpu.max").write_text(text)
        assert machine.cpu_quota(tmp_path) == cores
    (group / "cpu.max").unlink()
    (group / "cpu").mkdir()
    (group / "cpu/cpu.cfs_quota_us").write_text("-1")
    (group / "cpu/cpu.cfs_period_us").write_text("100000")
    assert machine.cpu_quota(tmp_path) is None
    (group / "cpu/cpu.cfs_quota_us").write_text("400000")
    assert machine.cpu_quota(tmp_path) == 4


def test_fewer_cores_granted_than_shown_is_a_problem_with_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_quota", lambda: 2.0)
    monkeypatch.setattr(machine, "usable_cores", lambda: 16)
    check = by_name(machine.look())["cores"]
    assert check.status == "problem" and check.mend == "taskset -c 0-1 rtsr upscale ..."


def test_two_onnxruntimes_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_installed", lambda package: True)
    assert by_name(machine.look())["onnxruntime"].status == "problem"
    monkeypatch.setattr(machine, "is_installed", lambda package: package == "onnxruntime")
    assert "onnxruntime" not in by_name(machine.look())


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert by_name(machine.look())["disk"].says == f"{tmp_path} is not writable"


# ---- GPUs ----


def card(root: Path, address: str, vendor: str, kind: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "class").write_text(kind + "\n")


def test_cards_are_found_without_a_driver(tmp_path: Path) -> None:
    card(tmp_path, "0000:01:00.0", "0x10de", "0x030000")
    card(tmp_path, "0000:01:00.1", "0x10de", "0x040300")  # its sound
    card(tmp_path, "0000:02:00.0", "0x10de", "0x030200")
    card(tmp_path, "0000:03:00.0", "0x1002", "0x030000")
    assert gpu.pci_cards(tmp_path) == ["0000:01:00.0", "0000:02:00.0"]


def test_a_card_without_a_driver_is_a_problem_and_no_card_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpus_of_driver", lambda: ([], (0, 0), "its library libcuda is not installed"))
    monkeypatch.setattr(gpu, "pci_cards", lambda: ["0000:01:00.0"])
    (check,) = gpu.look()
    assert check.status == "problem" and "libcuda is not installed" in check.says and check.mend
    monkeypatch.setattr(gpu, "pci_cards", list)
    if not Path("/dev/nvidiactl").exists():
        (check,) = gpu.look()
        assert check.status == "absent"


def test_a_gpu_is_told_with_its_packages_and_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    card = gpu.Gpu("NVIDIA Test", (8, 9), 24 << 30)
    monkeypatch.setattr(gpu, "gpus_of_driver", lambda: ([card], (13, 0), ""))
    monkeypatch.setattr(gpu, "driver_release", lambda: "550.54.14")
    found = by_name(gpu.look())
    assert found["gpu 0"].says == "NVIDIA Test, compute capability 8.9, 24 GiB"
    assert found["driver"].status == "problem" and "570 or newer" in found["driver"].says
    monkeypatch.setattr(gpu, "driver_release", lambda: "580.65.06")
    assert by_name(gpu.look())["driver"].status == "ok"
    assert {"cuda", "cudnn", "tensorrt"} <= found.keys()


# ---- codecs ----


def test_encoders_and_decoders_are_really_run() -> None:
    found = by_name(media.look_at_codecs())
    assert found["encoders"].status == found["decoders"].status == "ok"
    assert set(found["encoders"].facts["open"]) == {name for name in CODECS if not name.endswith("_nvenc")}
    clip = media.tiny_clip("libx264")
    with av.open(io.BytesIO(clip)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_an_encoder_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(codec: str) -> bytes:
        raise ConfigError(f"encoder {codec} is not in this build of FFmpeg")

    monkeypatch.setattr(media, "tiny_clip", broken)
    check = by_name(media.look_at_codecs())["encoders"]
    assert check.status == "problem" and check.needed
    assert check.mend == "pip install --force-reinstall --no-deps av"


def test_a_decoder_in_software_is_no_hardware_decoder() -> None:
    """Whatever this machine has, what is said to open did decode on its device."""
    found = by_name(media.look_at_hardware())
    for name in ("hardware encoders", "hardware decoders"):
        assert (found[name].status == "ok") == bool(found[name].facts["open"])
    assert found["hardware decoders"].facts["failed"] or found["hardware decoders"].facts["open"]


# ---- engines and speed ----


def test_each_backend_is_opened_and_timed(engines: Path) -> None:
    pytest.importorskip("openvino")
    (check,) = checks_of("backend:auto")
    assert check.name == "default" and check.needed and check.status == "ok"
    assert check.facts["engine"] == "repeat-x2" and check.facts["ms"] > 0
    (listed,) = checks_of("providers")
    assert "openvino/CPU" in listed.facts["listed"]
    (check,) = checks_of("provider:openvino/CPU")
    assert check.status == "ok" and check.facts["ms"] > 0


def test_a_provider_that_only_is_listed_is_not_ok(engines: Path) -> None:
    pytest.importorskip("onnxruntime")
    (check,) = checks_of("provider:onnxruntime/CUDAExecutionProvider")
    if check.status == "ok":
        pytest.skip("this machine has a GPU")
    assert "listed, and does not open" in check.says


def test_a_backend_that_is_not_installed_is_absent_with_its_command(
    engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for module in ("ort", "ort_session"):
        monkeypatch.delitem(sys.modules, f"rtsr.backends.{module}", raising=False)
    (check,) = checks_of("backend:onnxruntime")
    assert (check.status, check.mend) == ("absent", "pip install 'rtsr[onnx]'")


def test_a_runtime_that_does_not_load_is_a_problem_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[str]:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    monkeypatch.setattr(engines, "_openvino_names", broken)
    monkeypatch.setattr(engines, "_onnxruntime_names", lambda: ["CPUExecutionProvider"])
    found = by_name(engines.list_providers())
    assert found["providers"].facts["listed"] == ["onnxruntime/CPUExecutionProvider"]
    assert found["openvino"].status == "problem" and "libtbb" in found["openvino"].says


def test_a_backend_that_fails_beside_a_gpu_is_a_problem(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(choice: object) -> None:
        raise EngineError("GPU 0 does not open: CUDA_ERROR_NO_DEVICE")

    monkeypatch.setattr("rtsr.doctor.engines.open_engine", fails)
    for gpus, status in (([], "absent"), ([gpu.Gpu("NVIDIA Test", (8, 9), 1)], "problem")):
        monkeypatch.setattr("rtsr.doctor.engines.gpus_of_driver", lambda gpus=gpus: (gpus, (13, 0), ""))
        (check,) = checks_of("backend:tensorrt")
        assert (check.status, check.says) == (status, "GPU 0 does not open: CUDA_ERROR_NO_DEVICE")


def test_of_several_remedies_the_first_is_the_command(engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(choice: object) -> None:
        raise ConfigError("NVIDIA backends need cuda-core: pip install 'rtsr[tensorrt]', 'rtsr[rtx]' or 'rtsr[cuda]'")

    monkeypatch.setattr("rtsr.doctor.engines.open_engine", lacks)
    (check,) = checks_of("backend:tensorrt")
    assert (check.says, check.mend) == ("NVIDIA backends need cuda-core", "pip install 'rtsr[tensorrt]'")


def test_without_engines_the_default_way_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    (check,) = checks_of("backend:auto")
    assert check.status == "problem" and check.needed and check.mend == engines._REINSTALL
    assert not Examination([check], 1.0).ok


def test_tiers_are_measured_until_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(speed, "SIZES", ((64, 48),))
    monkeypatch.setattr(speed, "SCALES", (2,))
    monkeypatch.setattr(speed, "MODELS", ("nano",))
    rows, left_out = speed.measure(float("inf"))
    assert [(row.model, row.scale, row.size) for row in rows] == [("nano", 2, "64x48")] and not left_out
    slowest = max(rows[0].infer_ms, rows[0].decode_ms, rows[0].encode_ms)
    assert 0 < rows[0].fps <= 0.91e3 / slowest
    assert speed.measure(0.0) == ([], ["nano x2 at 64x48"])


def row(model: str, fps: float, size: str = "640x360", scale: int = 2) -> Row:
    return Row(model, scale, size, 1.0, 1.0, 1.0, fps, max((rate for rate in (24, 30, 60) if rate <= fps), default=0))


def test_the_best_tier_that_keeps_a_rate_is_advised() -> None:
    rows = [row("fast", 61), row("balanced", 33), row("nano", 90), row("fast", 11, scale=4), row("nano", 20.4, scale=4)]
    assert advise(rows) == [
        "balanced keeps 30 fps at 640x360 x2",
        "nothing keeps 24 fps at 640x360 x4; nano makes 20.4",
    ]


# ---- the command ----


def sample() -> Examination:
    facts = {
        "rows": [{"model": "fast", "scale": 2, "size": "640x360", "fps": 61.2}],
        "advice": ["fast keeps 60 fps at 640x360 x2"],
    }
    return Examination(
        [
            Check("machine", "python", "ok", "Python", needed=True),
            Check("engines", "onnxruntime/SomeExecutionProvider", "absent", "listed, but: " + "why " * 30),
            Check("gpu", "driver", "problem", "too old", "sudo apt install nvidia-driver-580"),
            Check("speed", "tiers", "ok", "1 measured", facts=facts),
        ],
        12.3,
    )


@pytest.mark.parametrize("width", [80, 140])
def test_the_report_fits_the_terminal(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    print_report(sample(), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "driver: sudo apt install nvidia-driver-580" in text
    assert "fast keeps 60 fps" in text and "the default way works" in text


def test_a_problem_that_nothing_needs_leaves_the_exit_code_alone() -> None:
    found = sample()
    assert found.ok
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["speed"] == found.speed["rows"]
    assert {"group", "name", "status", "says", "mend", "needed", "facts"} == document["checks"][0].keys()


@needs_seccomp
def test_the_command_without_engines_says_so_and_exits_with_1(tmp_path: Path) -> None:
    """And no probe asks for a network."""
    outcome = rtsr("doctor", "--json", RTSR_ENGINES=str(tmp_path), before=forbid_network)
    document = json.loads(outcome.stdout)
    assert outcome.code == 1 and document["ok"] is False
    found = {check["name"]: check for check in document["checks"]}
    assert found["default"]["status"] == "problem"
    assert found["encoders"]["status"] == "ok"  # the others looked all the same
    assert not [check for check in document["checks"] if "crashed" in check["says"]]


def test_every_probe_has_its_function() -> None:
    for module, function in probe._PROBES.values():
        assert callable(getattr(sys.modules.get(module) or __import__(module, fromlist=[function]), function))
