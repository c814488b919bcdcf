"""`import rtsr` is cheap, and everything it promises is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rtsr

HEAVY = ("torch", "onnxruntime", "openvino", "av", "cv2", "onnx", "tensorrt")


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_loads_no_heavy_library() -> None:
    assert loaded_after("import rtsr") & {*HEAVY, "numpy"} == set()


def test_the_command_line_loads_no_engine_before_it_needs_one() -> None:
    assert loaded_after("import rtsr.cli") & set(HEAVY) == set()


def test_the_pipeline_knows_no_implementation() -> None:
    assert loaded_after("import rtsr.pipeline") & set(HEAVY) == set()


def test_rtsr_imports_nothing_from_training() -> None:
    assert "training" not in loaded_after("import rtsr.job, rtsr.upscaler, rtsr.cli")


@pytest.mark.parametrize("name", rtsr.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(rtsr, name) is not None


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="upscail"):
        rtsr.upscail  # noqa: B018


def test_openvino_reports_to_nobody() -> None:
    """Its own import sends an event to a statistics server unless it finds no telemetry package."""
    code = "import sys, rtsr.backends.openvino; print([m for m in sys.modules if m.startswith('openvino_telemetry.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
