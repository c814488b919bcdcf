"""A job that is killed goes on where it stopped, and the result is that of an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from clips import Audio, Video, decoded, packets, planes_of, read_number, steady_pts, write_clip

import rtsr
from rtsr.errors import ConfigError, RtsrError
from rtsr.job import Report
from rtsr.journal import Journal
from rtsr.sinks.encoding import Encoding

RATE, SECONDS = 6, 35
FRAMES, SEGMENT = RATE * SECONDS, RATE * 10  # of 10 s each: three whole ones and a half
QUICK = Encoding("libx264", preset="ultrafast")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    video = Video(pts=steady_pts(FRAMES, RATE), last_duration=15_000, options={"bf": "2", "g": "24", "crf": "20"})
    return write_clip(tmp_path_factory.mktemp("film") / "in.mkv", video, audio=[Audio(seconds=Fraction(SECONDS))])


@pytest.fixture(scope="module")
def undisturbed(film: Path) -> list[object]:
    output = film.with_name("whole.mkv")
    upscale(film, output)
    return contents(output)


def upscale(film: Path, output: Path, **options: object) -> Report:
    return rtsr.upscale(film, output, **{"scale": 2, "backend": "reference", "encoding": QUICK, **options})  # type: ignore[arg-type]


def contents(path: Path) -> list[object]:
    """All that must be equal: every picture's time and pixels, every packet of sound."""
    pictures = [(f.pts, *(plane.tobytes() for plane in planes_of(f))) for f in decoded(path)]
    return [pictures, packets(path, "audio")]


KILLED = """
import os, signal, sys
import rtsr
from rtsr.sinks.copy import CopiedStreams
from rtsr.sinks.encoding import Encoding

film, output, frames, packets = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

until, calls = CopiedStreams.until, 0
def counted(self, seconds):
    global calls
    calls += 1
    if packets and calls > packets:
        die()
    until(self, seconds)
CopiedStreams.until = counted

rtsr.upscale(film, output, scale=2, backend="reference", encoding=Encoding("libx264", preset="ultrafast"),
             progress=lambda moment: moment.stats.written >= frames and die())
"""


def killed(film: Path, output: Path, after_frames: int = 10**9, after_packets: int = 0) -> None:
    """Run a job in a process of its own that SIGKILL ends after some frames, or some packets of the joining."""
    code = [sys.executable, "-c", KILLED, film, output, str(after_frames), str(after_packets)]
    assert subprocess.run(code, capture_output=True).returncode == -9
    assert not output.exists()


def resumed(film: Path, output: Path) -> tuple[Report, int]:
    """Give the same command again. Returns the report and how many frames had been done before."""
    before: list[int] = []
    return upscale(film, output, progress=lambda moment: before.append(moment.before)), (before or [FRAMES])[0]


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "out.mkv"
    if (tmp_path / "out.mkv").exists():
        assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]  # whoever finishes leaves nothing beside it


@pytest.mark.parametrize("frames", [1, SEGMENT + 1, 2 * SEGMENT + 20, FRAMES], ids=lambda n: f"after-{n}")
def test_a_killed_job_goes_on(frames: int, film: Path, undisturbed: list[object], output: Path) -> None:
    killed(film, output, after_frames=frames)
    report, before = resumed(film, output)
    assert contents(output) == undisturbed
    assert report.frames_out == FRAMES
    assert before > frames - 2 * SEGMENT  # the segment in work is lost, and the frames on their way to it
    assert before % SEGMENT == 0


def test_a_job_killed_again_and_again_ends(film: Path, undisturbed: list[object], output: Path) -> None:
    for frames in (SEGMENT + 20, SEGMENT + 5, 10):
        killed(film, output, after_frames=frames)
    assert resumed(film, output)[1] == 2 * SEGMENT
    assert contents(output) == undisturbed


def test_a_job_killed_while_it_joins_goes_on(film: Path, undisturbed: list[object], output: Path) -> None:
    killed(film, output, after_packets=50)
    assert (output.parent / "out.mkv.part").exists()
    assert resumed(film, output)[1] == FRAMES
    assert contents(output) == undisturbed


def test_a_torn_line_of_the_journal_is_a_segment_not_done(film: Path, undisturbed: list[object], output: Path) -> None:
    killed(film, output, after_frames=2 * SEGMENT + 20)
    journal = output.parent / "out.mkv.rtsr" / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: whole.rindex(b'{"file"') + 25])
    assert resumed(film, output)[1] == SEGMENT
    assert contents(output) == undisturbed


@pytest.mark.parametrize("damage", ["flipped", "shortened", "gone"])
def test_a_damaged_segment_is_done_again(damage: str, film: Path, undisturbed: list[object], output: Path) -> None:
    killed(film, output, after_frames=2 * SEGMENT + 20)
    journal = output.parent / "out.mkv.rtsr" / "journal.jsonl"
    second = journal.parent / json.loads(journal.read_text().splitlines()[2])["file"]
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 255
    match damage:
        case "flipped":
            second.write_bytes(data)
        case "shortened":
            second.write_bytes(data[: len(data) // 2])
        case "gone":
            second.unlink()
    assert resumed(film, output)[1] == SEGMENT
    assert contents(output) == undisturbed


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"scale": 3}, "size"),
        ({"encoding": Encoding("libx264", crf=30, preset="ultrafast")}, "encoder"),
        ({"encoding": Encoding("libx265", preset="ultrafast")}, "encoder"),
        ({"end": 30}, "trim"),
    ],
    ids=["scale", "crf", "codec", "end"],
)
def test_another_command_is_refused(options: dict[str, object], word: str, film: Path, output: Path) -> None:
    killed(film, output, after_frames=SEGMENT + 10)
    kept = sorted(p.name for p in (output.parent / "out.mkv.rtsr").iterdir())
    with pytest.raises(ConfigError, match=f"{word}.*--restart"):
        upscale(film, output, **options)
    assert sorted(p.name for p in (output.parent / "out.mkv.rtsr").iterdir()) == kept


def test_another_input_is_refused_and_restart_takes_it(film: Path, tmp_path: Path, output: Path) -> None:
    killed(film, output, after_frames=SEGMENT + 10)
    other = write_clip(output.parent.parent / f"{output.parent.name}-other.mkv", Video(pts=steady_pts(12)))
    with pytest.raises(ConfigError, match=r"input.*--restart"):
        upscale(other, output)
    assert upscale(other, output, restart=True).frames_out == 12
    assert [read_number(planes_of(f)[0], 2) for f in decoded(output)] == list(range(12))


def test_two_runs_on_one_output_do_not_meet(film: Path, output: Path) -> None:
    with Journal(output, {"some": "job"}), pytest.raises(ConfigError, match="another run"):
        upscale(film, output)
    assert not output.exists()


@pytest.mark.parametrize(("frames", "kept"), [(SEGMENT // 2, 0), (2 * SEGMENT + 20, 2)], ids=["early", "later"])
def test_an_interrupted_job_keeps_what_is_finished(frames: int, kept: int, film: Path, output: Path) -> None:
    def interrupt(moment: object) -> None:
        if moment.stats.written >= frames:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale(film, output, progress=interrupt)
    assert (output.parent / "out.mkv.rtsr").exists() == bool(kept)
    assert resumed(film, output)[1] == kept * SEGMENT


def test_a_failure_late_in_the_film_is_no_loss_either(film: Path, undisturbed: list[object], output: Path) -> None:
    """Whatever raises: the finished segments stay, and are told from a finished film."""

    def fail(moment: object) -> None:
        if moment.stats.written >= 2 * SEGMENT + 5:  # type: ignore[attr-defined]
            raise RtsrError("the power went")

    with pytest.raises(RtsrError):
        upscale(film, output, progress=fail)
    assert not output.exists()
    assert resumed(film, output)[1] == 2 * SEGMENT
    assert contents(output) == undisturbed
