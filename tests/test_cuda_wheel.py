"""onnxruntime-gpu on a machine without a driver: nothing falls back in silence, and the CPU goes on working.

`make test-cuda-wheel` runs this in an environment that has the package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import Video, write_clip
from commands import rtsr

from rtsr.backends import EngineChoice, open_engine
from rtsr.errors import ConfigError, EngineError

ort = pytest.importorskip("onnxruntime")
if "CUDAExecutionProvider" not in ort.get_available_providers():
    pytest.skip("onnxruntime-gpu is not installed: make test-cuda-wheel", allow_module_level=True)

from contract.test_engine_contract import noise, repeated  # noqa: E402

from rtsr.backends.cuda.libraries import driver_version  # noqa: E402
from rtsr.backends.ort_session import open_session, require_libraries, require_provider  # noqa: E402
from rtsr.manifest import find_engine, read_engine  # noqa: E402

try:
    driver_version()
except EngineError:
    pass
else:
    pytest.skip("this machine has an NVIDIA driver", allow_module_level=True)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_that_is_asked_for_and_not_there_is_one_sentence(device: str, engines: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", Video())
    done = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", "--scale", "2", "--model", "repeat",
                "--backend", "onnxruntime", "--device", device)  # fmt: skip
    assert done.code == EngineError.exit_code
    assert "no NVIDIA driver" in done.sentence
    assert not done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_libraries_that_are_missing_are_named_with_the_command(device: str, capfd: pytest.CaptureFixture[str]) -> None:
    require_provider(device)
    with pytest.raises(ConfigError, match=r"does not find lib.*: pip install 'rtsr\[cuda\]'") as caught:
        require_libraries(device)
    assert ("libnvinfer.so.10" in str(caught.value)) == (device == "tensorrt")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_onnxruntime_itself_does_not_fall_back(device: str, engines: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine = find_engine("repeat", 2, "stream", "int8", "phases")
    with pytest.raises(EngineError) as caught:
        open_session(engine.name, read_engine(engine), device)
    assert "\n" not in str(caught.value)
    assert "Falling back" not in capfd.readouterr().out


def test_auto_says_what_does_not_open_and_goes_on(engines: Path) -> None:
    said: list[str] = []
    batch = noise(1, 8, 8)
    engine = open_engine(EngineChoice(2, "repeat"), said.append)
    np.testing.assert_array_equal(engine.infer(batch).y, repeated(batch.y, 2))
    assert len(said) == 1 and "onnxruntime-cuda does not open" in said[0] and "no NVIDIA driver" in said[0]
    engine.close()
