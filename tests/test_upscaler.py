"""The Python API: frames in, larger frames out; and a whole file in one call."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import Video, decoded, read_number, steady_pts, write_clip
from conftest import rtsr_threads

import rtsr
from rtsr.errors import ConfigError
from rtsr.frames import VideoSpec
from rtsr.options import Options
from rtsr.sources.synthetic import SyntheticSource


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_frames_of_a_program_come_back_larger(backend: str, engines: Path) -> None:
    pytest.importorskip(backend)
    frames = list(SyntheticSource(40, 30, frames=7).frames())
    with rtsr.Upscaler(scale=3, model="repeat", backend=backend) as upscaler:
        assert upscaler.scale == 3
        assert backend in upscaler.name and "repeat-x3" in upscaler.name
        results = list(upscaler.stream(frames))
    assert [(r.pts, r.time_base, r.duration) for r in results] == [(f.pts, f.time_base, f.duration) for f in frames]
    for result, frame in zip(results, frames, strict=True):
        np.testing.assert_array_equal(result.y, frame.y.repeat(3, 1).repeat(3, 2))


def test_a_source_can_be_streamed_through(engines: Path, tmp_path: Path) -> None:
    """The example of the package's docstring."""
    path = write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(12)))
    source = rtsr.open_source(path)
    with rtsr.Upscaler(scale=2, model="repeat") as upscaler:
        numbers = [read_number(frame.y[0], 2) for frame in upscaler.stream(source.frames())]
    source.close()
    assert numbers == list(range(12))


def test_stopping_early_is_fine(engines: Path) -> None:
    def endless() -> Iterator[rtsr.Frame]:
        while True:
            yield from SyntheticSource(40, 30, frames=5).frames()

    with rtsr.Upscaler(scale=2, model="repeat") as upscaler:
        for count, _ in enumerate(upscaler.stream(endless())):
            if count == 10:
                break
        assert len(list(upscaler.stream(SyntheticSource(20, 10, frames=3).frames()))) == 3
    assert rtsr_threads() == []


def test_a_model_that_is_not_there_is_said_at_once(engines: Path) -> None:
    with pytest.raises(ConfigError, match="huge"):
        rtsr.Upscaler(model="huge")


def test_a_file_in_one_call(engines: Path, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", Video(pts=steady_pts(12)))
    report = rtsr.upscale(str(path), str(tmp_path / "b.mp4"), scale=4, model="repeat")
    assert (report.frames_in, report.frames_out) == (12, 12)
    assert len(decoded(tmp_path / "b.mp4")) == 12


def test_the_defaults_are_the_documented_ones() -> None:
    defaults = Options()
    assert defaults.scale_and_size(VideoSpec(64, 48, Fraction(1, 24))) == (4, (256, 192))
    assert (defaults.model, defaults.backend) == ("balanced", "auto")
    assert defaults.degradation == "stream" and defaults.overwrite is False
