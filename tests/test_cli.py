"""The command line when all goes well: what it prints where, and what it accepts."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from clips import Audio, Video, decoded, steady_pts, times, write_clip
from commands import SMALL, command, environment, rtsr

from rtsr import __version__
from rtsr.errors import ConfigError
from rtsr.parse import parse_time


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mp4", audio=[Audio()])


def test_version() -> None:
    outcome = rtsr("--version")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, f"rtsr {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], [], ["engines", "--help"]], ids=" ".join)
def test_help(arguments: list[str]) -> None:
    outcome = rtsr(*arguments)
    assert "Usage" in outcome.stdout
    assert outcome.stderr == ""
    assert outcome.code in (0, 2)


def test_help_of_upscale_names_every_option_that_users_were_promised() -> None:
    text = rtsr("upscale", "--help").stdout
    promised = "--scale --model --backend --codec --crf --preset --start --end --overwrite --json --quiet --output"
    assert [option for option in promised.split() if option not in text] == []


def test_the_shortest_command_works(engines: Path, clip: Path, tmp_path: Path) -> None:
    """INPUT -o OUTPUT, but for the model, because the tests bring their own."""
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", "--model", "repeat")
    assert outcome.code == 0, outcome.stderr
    frames = decoded(tmp_path / "out.mp4")
    assert [(f.width, f.height) for f in frames] == [(256, 192)] * 24
    assert times(tmp_path / "out.mp4") == times(clip)
    assert "openvino" in outcome.stderr  # which backend `auto` took is said


def test_json_is_one_document_with_the_promised_facts(clip: Path, tmp_path: Path) -> None:
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, "--json")
    assert outcome.code == 0
    report = json.loads(outcome.stdout)  # anything else on stdout would not parse
    assert (report["frames_in"], report["frames_out"]) == (24, 24)
    assert report["output"] == str(tmp_path / "out.mp4")
    assert (report["engine"], report["backend"]) == ("bicubic", "reference")
    assert set(report["stage_ms"]) == {"decode", "infer", "encode"}
    assert report["wall_s"] >= 0 and report["fps"] > 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "missing.mp4", "-o", "out.mp4"],
        ["upscale", "in.mp4", "-o", "out.mp4", "--scale", "7"],
        ["upscale", "in.mp4", "-o", "out.mp4", "--scale", "two"],
        ["upscale", "in.mp4"],
    ],
    ids=" ".join,
)
def test_json_says_errors_too(arguments: list[str], clip: Path) -> None:
    outcome = rtsr(*arguments, "--json", cwd=clip.parent)
    document = json.loads(outcome.stdout)
    assert outcome.code != 0
    assert document["exit_code"] == outcome.code
    assert document["error"] in outcome.stderr


@pytest.mark.parametrize(
    "arguments",
    [["upscale"], ["upscal"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_no_traceback(arguments: list[str]) -> None:
    outcome = rtsr(*arguments)
    assert outcome.code == 2
    assert outcome.stdout == ""
    assert outcome.stderr and "Traceback" not in outcome.stderr


def test_quiet_says_nothing(clip: Path, tmp_path: Path) -> None:
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, "--quiet")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
    assert (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_encoders_keep_their_chatter_to_themselves(codec: str, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(3)))
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, "--codec", codec, "--quiet")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")


def test_without_a_terminal_there_are_plain_lines(clip: Path, tmp_path: Path) -> None:
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL)
    assert outcome.stdout == ""
    assert "24 frames" in outcome.stderr
    assert "\x1b" not in outcome.stderr and "\r" not in outcome.stderr


def test_on_a_terminal_there_is_a_bar(clip: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        command("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(TERM="xterm-256color"),
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nobody writes any more
        while part := os.read(ours, 1 << 16):  # one read gives what was written at once, not all
            shown += part
    os.close(ours)
    shown = shown.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert "100%" in shown
    assert "fps" in shown and "slowest" in shown


def test_debug_shows_the_traceback() -> None:
    outcome = rtsr("upscale", "missing.mp4", "-o", "out.mp4", RTSR_DEBUG="1")
    assert outcome.code != 0
    assert "Traceback" in outcome.stderr and "SourceError" in outcome.stderr


@pytest.mark.parametrize("name", ["größer 映画 'two words'.mp4", "-dash.mp4", "100%d.mp4", "a:b.mp4"])
def test_any_file_name_works(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in here"
    folder.mkdir()
    write_clip(tmp_path / "plain.mp4", Video(pts=steady_pts(3))).rename(folder / name)
    outcome = rtsr("upscale", *SMALL, "-o", f"x{name}", "--", name, cwd=folder)
    assert outcome.code == 0, outcome.stderr
    assert sorted(p.name for p in folder.iterdir()) == sorted([name, f"x{name}"])
    assert len(decoded(folder / f"x{name}")) == 3


def test_an_upper_case_suffix_works(tmp_path: Path) -> None:
    write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(3))).rename(tmp_path / "CLIP.MP4")
    assert rtsr("upscale", "CLIP.MP4", "-o", "OUT.MKV", *SMALL, cwd=tmp_path).code == 0
    assert len(decoded(tmp_path / "OUT.MKV")) == 3


def test_overwrite_replaces(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    assert rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, "--overwrite").code == 0
    assert len(decoded(tmp_path / "out.mp4")) == 24


def test_a_leftover_part_is_no_obstacle(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4.part").write_bytes(b"left by a power cut")
    assert rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL).code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_options_reach_the_encoder(clip: Path, tmp_path: Path) -> None:
    sizes = {}
    for crf in (5, 45):
        outcome = rtsr("upscale", clip, "-o", tmp_path / f"{crf}.mp4", *SMALL, "--crf", crf, "--preset", "medium")
        assert outcome.code == 0, outcome.stderr
        sizes[crf] = (tmp_path / f"{crf}.mp4").stat().st_size
    assert sizes[5] > 1.5 * sizes[45]


def test_a_trim_in_clock_notation(clip: Path, tmp_path: Path) -> None:
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, "--start", "0:00:00.25", "--end", "00:0.75")
    assert outcome.code == 0, outcome.stderr
    assert len(decoded(tmp_path / "out.mp4")) == 12


def test_engines_lists_what_is_installed(engines: Path) -> None:
    table = rtsr("engines")
    assert table.code == 0
    assert all(name in table.stdout for name in ("repeat-x2", "repeat-x3", "repeat-x4"))
    document = json.loads(rtsr("engines", "--json").stdout)
    assert [engine["name"] for engine in document] == [
        *("repeat-x2-float-planes", "repeat-x2-float", "repeat-x2"),
        *("repeat-x3-float-planes", "repeat-x3", "repeat-x4-float-planes", "repeat-x4"),
    ]


def test_the_list_of_shipped_engines_fits_into_80_columns() -> None:
    lines = rtsr("engines", RTSR_ENGINES="", COLUMNS="80").stdout.splitlines()
    assert len(lines) > 2 and max(map(len, lines)) <= 80 and not any("…" in line for line in lines)


def test_engines_without_engines_is_one_sentence(tmp_path: Path) -> None:
    outcome = rtsr("engines", RTSR_ENGINES=str(tmp_path))
    assert outcome.code != 0
    assert str(tmp_path) in outcome.sentence


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", Fraction(0)),
        ("90", Fraction(90)),
        ("1.5", Fraction(3, 2)),
        ("0.1", Fraction(1, 10)),
        ("1:30", Fraction(90)),
        ("01:02:03.5", Fraction(7447, 2)),
        ("100:00", Fraction(6000)),
    ],
)
def test_times_are_read_exactly(text: str, seconds: Fraction) -> None:
    assert parse_time("--start", text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1:60", "1:2:3:4", "-5", "1:-5", "1/0", "nan", "inf", "1e400", ":", "1:"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--start"):
        parse_time("--start", text)
