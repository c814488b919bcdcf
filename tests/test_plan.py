"""`rtsr plan` and --dry-run: what would be done, from frames that were really processed, and nothing written."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from clips import Attachment, Audio, Subtitles, Video, steady_pts, write_clip
from commands import rtsr

from rtsr.errors import ConfigError
from rtsr.options import Options
from rtsr.plan import make_plan
from rtsr.sinks.encoding import Encoding

QUICK = Options(scale=2, backend="reference", encoding=Encoding(preset="ultrafast"))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    beside = {"audio": [Audio(seconds=Fraction(10))], "subtitles": [Subtitles()], "attachments": [Attachment()]}
    return write_clip(tmp_path / "in.mkv", Video(pts=steady_pts(240)), **beside)


def test_a_plan_says_what_becomes_of_everything(film: Path, tmp_path: Path) -> None:
    plan = make_plan(film, tmp_path / "out.mkv", QUICK)
    assert (plan.input_size, plan.output_size) == ((64, 48), (128, 96))
    assert plan.streams[0].endswith("upscale")
    assert all("copy" in stream for stream in plan.streams[1:]) and len(plan.streams) > 2
    assert plan.frames in (240, 241)  # from a duration that Matroska rounds to milliseconds
    assert plan.sampled_frames == 48
    assert plan.fps > 0 and plan.memory_mb > 50
    assert plan.time_s == pytest.approx(plan.frames / plan.fps, abs=0.06)  # said to a tenth


def test_nothing_is_written(film: Path, tmp_path: Path) -> None:
    make_plan(film, tmp_path / "out.mkv", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_the_size_is_about_right(film: Path, tmp_path: Path) -> None:
    import rtsr as api

    plan = make_plan(film, tmp_path / "out.mkv", QUICK)
    api.upscale(film, tmp_path / "out.mkv", QUICK)
    real = (tmp_path / "out.mkv").stat().st_size / 1e6
    assert plan.video_mb is not None
    assert 0.6 * real <= plan.video_mb + plan.copied_mb <= 1.6 * real


def test_what_upscale_would_refuse_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no attachments"):
        make_plan(film, tmp_path / "out.mp4", QUICK)


def test_the_command_and_the_option_are_one(film: Path, tmp_path: Path) -> None:
    options = ["-o", tmp_path / "out.mkv", "--backend", "reference", "--to", "96p", "--json"]
    planned = rtsr("plan", film, *options)
    dry = rtsr("upscale", film, *options, "--dry-run")
    assert planned.code == dry.code == 0
    first, second = json.loads(planned.stdout), json.loads(dry.stdout)
    timed = {"fps", "realtime_factor", "time_s", "disk_free_mb"}
    assert {k: v for k, v in first.items() if k not in timed} == {k: v for k, v in second.items() if k not in timed}
    assert first["output_size"] == [128, 96]


def test_without_an_output_it_plans_for_an_mkv(film: Path) -> None:
    outcome = rtsr("plan", film, "--backend", "reference")
    assert outcome.code == 0
    assert "in_upscaled.mkv" in outcome.stdout and "reference" in outcome.stdout


def test_a_wrong_option_is_said_like_elsewhere(film: Path) -> None:
    outcome = rtsr("plan", film, "--scale", "7")
    assert outcome.code == 2 and "scale 7" in outcome.stderr
    assert rtsr("plan", film, "--nonsense").code == 2
