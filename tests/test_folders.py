"""Folders, globs, lists and drop folders: what is found, where it goes, what happens when something fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from clips import Video, decoded, steady_pts, write_clip
from commands import SMALL, Outcome, command, environment, rtsr
from PIL import Image

from rtsr import batch
from rtsr.cli import app
from rtsr.errors import ConfigError, SourceError
from rtsr.folders import default_output, find, is_many, pair
from rtsr.options import Options
from rtsr.watch import QUIET_S, Watch

NEAREST = Options(scale=2, backend="reference")


def picture(path: Path, width: int = 24, height: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:height, :width]
    Image.fromarray(np.stack([x * 9, y * 9, x + y], axis=-1).astype(np.uint8)).save(path)
    return path


def film(path: Path, frames: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, Video(pts=steady_pts(frames)))


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Films, pictures, other things, hidden ones, and one that is broken."""
    folder = tmp_path / "in"
    film(folder / "a film.mp4")
    picture(folder / "100% größer.png")
    picture(folder / "deep" / "er" / "b%05d.jpg", 33, 20)
    picture(folder / ".hidden" / "x.png")
    picture(folder / "c.mkv.rtsr" / "x.png")
    (folder / "notes.txt").write_text("no film")
    (folder / "half.mp4.part").write_bytes(b"x")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"junk" * 9)
    return folder


def report(outcome: Outcome) -> dict[str, object]:
    """The first document on stdout."""
    return json.loads(outcome.stdout.splitlines()[0])


# ---- what is found, and where it goes ----


def test_a_folder_is_mirrored_and_one_failure_stops_nothing(mixed: Path, tmp_path: Path) -> None:
    outcome = rtsr("upscale", mixed, "-o", tmp_path / "out", *SMALL, "--json")
    assert outcome.code == 1
    told = report(outcome)
    assert (told["done"], told["failed"], told["skipped"]) == (3, 1, 0)
    assert names(tmp_path / "out") == {"a film.mp4", "100% größer.png", "deep/er/b%05d.jpg"}
    assert len(decoded(tmp_path / "out" / "a film.mp4")) == 4
    assert Image.open(tmp_path / "out" / "deep" / "er" / "b%05d.jpg").size == (66, 40)
    assert "broken.png: failed" in outcome.stderr
    assert "1 other files" in outcome.stderr


def test_what_is_done_is_left_or_replaced_as_asked(mixed: Path, tmp_path: Path) -> None:
    for name in ("broken.png", "a film.mp4"):
        (mixed / name).unlink()
    arguments = ("upscale", mixed, "-o", tmp_path / "out", *SMALL)
    assert rtsr(*arguments, "-q").code == 0
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    refused = rtsr(*arguments)
    assert (refused.code, "--skip-existing" in refused.sentence) == (2, True)
    picture(mixed / "new.png")
    outcome = rtsr(*arguments, "--skip-existing", "--json")
    assert (report(outcome)["done"], report(outcome)["skipped"]) == (1, 2)
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())
    assert rtsr(*arguments, "--overwrite", "-q").code == 0
    assert all(path.stat().st_mtime_ns != at for path, at in times.items())


def test_globs_lists_and_several_names_find_the_same(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png", "d.txt"):
        picture((tmp_path / "in" / name).with_suffix(".png")).rename(tmp_path / "in" / name)
    out = tmp_path / "out"
    listed = tmp_path / "list.txt"
    listed.write_text(f"# comment\n\n{tmp_path / 'in' / 'a.png'}\n{tmp_path / 'in' / 'sub' / 'c.png'}\n", "utf-8-sig")

    def found(*given: str, list_file: Path | None = None) -> set[str]:
        return {str(item.output.relative_to(out)) for item in pair(find(given, list_file, out), out)}

    assert found(f"{tmp_path}/in/*.png") == {"a.png", "b.png"}
    assert found(f"{tmp_path}/in/**/*.png") == {"a.png", "b.png", "sub/c.png"}
    assert found(f"@{listed}") == found(list_file=listed) == {"a.png", "sub/c.png"}
    assert found(f"{tmp_path}/in/a.png", f"{tmp_path}/in/sub") == {"a.png", "sub/c.png"}
    assert found(f"{tmp_path}/in/a.png", f"{tmp_path}/in/a.png") == {"a.png"}
    for nothing in (f"{tmp_path}/in/*.mkv", f"{tmp_path}/in/x.png", str(tmp_path / "list.txt" / "x")):
        with pytest.raises(SourceError):
            found(nothing)
    with pytest.raises(SourceError, match="cannot be read"):
        found(list_file=tmp_path / "no list")


def test_two_files_with_one_output_are_found_before_the_start(tmp_path: Path) -> None:
    film(tmp_path / "in" / "a.mkv")
    film(tmp_path / "in" / "a.mp4")
    outcome = rtsr("upscale", tmp_path / "in", "-o", tmp_path / "out", *SMALL, "--suffix", ".mkv")
    assert outcome.code == 2
    assert "a.mkv and" in outcome.sentence
    assert not (tmp_path / "out").exists()


def test_suffixes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.flv", "c.gif", "d.png", "e.heic", "f.JPG"):
        picture(tmp_path / "in" / "x.png").rename(tmp_path / "in" / name)
    out = tmp_path / "out"
    found = find([str(tmp_path / "in")], None, out)
    assert [item.output.name for item in pair(found, out)] == ["a.mp4", "b.mkv", "c.gif", "d.png", "e.jpg", "f.JPG"]
    chosen = pair(found, out, ["mov", ".tif"])
    assert [item.output.name for item in chosen] == ["a.mov", "b.mov", "c.mov", "d.tif", "e.tif", "f.tif"]
    with pytest.raises(ConfigError, match="none that is written"):
        pair(found, out, [".xyz"])


def test_an_output_inside_the_input_is_not_fed_back(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    out = tmp_path / "in" / "larger"
    for _ in range(2):
        assert rtsr("upscale", tmp_path / "in", "-o", out, *SMALL, "-q", "--skip-existing").code == 0
    assert names(tmp_path / "in") == {"a.png", "larger/a.png"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("in", "-o", "in"), "its own output"),
        (("in", "-o", "file.txt"), "is a file"),
        (("empty", "-o", "out"), "no films or pictures"),
        (("nowhere/", "-o", "out"), "no such file or folder"),
        (("in/*.mkv", "-o", "out"), "no film or picture has such a name"),
        (("-o", "out"), "name what to upscale"),
        (("in", "-o", "out", "--jobs", "0"), "--jobs 0"),
        (("in/a.png", "-o", "b", "--watch"), "one folder"),
        (("in", "-o", "out.mp4"), "out.mp4 is the name of a file"),
        (("in", "-o", "in", "--watch"), "other than"),
        (("in/a.png", "-o", "b.png", "--jobs", "2"), "for many files"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    before = names(tmp_path)
    with pytest.raises((ConfigError, SourceError), match=re.escape(words)):
        app(["upscale", *arguments, *SMALL])
    assert names(tmp_path) == before


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    assert "cannot be made" in rtsr("upscale", tmp_path / "in", "-o", "/proc/self/out", *SMALL).sentence


def test_which_commands_mean_many(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    assert is_many([str(folder)], Path("out"))
    assert is_many(["a.mp4", "b.mp4"], Path("out.mp4"))
    assert is_many(["films/*.mkv"], Path("out"))
    assert is_many(["a.mp4"], folder)
    assert not is_many(["a.mp4"], Path("b.mp4"))
    assert not is_many(["frames/*.png"], Path("film.mp4"))  # numbered pictures become a film
    assert default_output(str(folder)) == Path("films_upscaled")


def test_a_dry_run_says_what_would_go_where(mixed: Path, tmp_path: Path) -> None:
    outcome = rtsr("plan", mixed, "-o", tmp_path / "out", *SMALL)
    assert outcome.code == 0
    assert f"{mixed / 'a film.mp4'} -> {tmp_path / 'out' / 'a film.mp4'}" in outcome.stdout
    assert not (tmp_path / "out").exists()


# ---- many at once ----


def test_several_at_once_give_the_same(mixed: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert rtsr("upscale", mixed, "-o", one, *SMALL, "-q").stderr.endswith("1 of 4 files failed; see above\n")
    assert rtsr("upscale", mixed, "-o", two, *SMALL, "-q", "--jobs", "2").code == 1
    assert names(one) == names(two)
    for name in names(one):
        if not name.endswith(".mp4"):  # which tells when it was made
            assert (one / name).read_bytes() == (two / name).read_bytes()


def test_a_worker_that_is_killed_costs_its_file_only(tmp_path: Path) -> None:
    for i in range(8):
        picture(tmp_path / "in" / f"{i}.png")
    out = tmp_path / "out"
    items = pair(find([str(tmp_path / "in")], None, out), out)
    outcomes: list[batch.Outcome] = []

    def each(outcome: batch.Outcome) -> None:
        if not outcomes:
            for child in multiprocessing.active_children():
                child.kill()
        outcomes.append(outcome)

    batch.run(items, NEAREST, 2, True, each)
    assert {outcome.name for outcome in outcomes} == {item.name for item in items}
    failed = [outcome for outcome in outcomes if outcome.status == batch.FAILED]
    assert 1 <= len(failed) <= 2
    assert all("signal 9" in outcome.sentence for outcome in failed)


def test_pictures_that_share_a_graph_come_together(tmp_path: Path) -> None:
    for i, size in enumerate([(100, 60), (300, 200), (101, 61), (299, 199), (99, 59)]):
        picture(tmp_path / "in" / f"{i}.png", *size)
    film(tmp_path / "in" / "0 film.mp4")
    out = tmp_path / "out"
    ordered = batch.in_order(pair(find([str(tmp_path / "in")], None, out), out))
    assert [item.name for item in ordered] == ["0.png", "2.png", "4.png", "1.png", "3.png", "0 film.mp4"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_in_order_and_the_rest_is_done_later(jobs: int, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "0.png")
    long = write_clip(tmp_path / "in" / "1.mp4", Video(width=320, height=240, pts=steady_pts(400)))
    shutil.copy(long, tmp_path / "in" / "2.mp4")
    out = tmp_path / "out"
    arguments = command("upscale", tmp_path / "in", "-o", out, *SMALL, "--jobs", jobs)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("*.mp4.rtsr")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to the workers, too
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, told
    assert "--skip-existing goes on" in told
    assert "Traceback" not in told
    assert not list(out.glob("*.part"))


# ---- a folder that is watched ----


def test_a_file_is_taken_when_it_has_been_quiet(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    watched = Watch(folder, out, [])
    assert watched.ready(0) == []
    path = folder / "a.png"
    path.write_bytes(b"be")
    assert watched.ready(10) == []
    path.write_bytes(b"begun")
    assert watched.ready(10 + QUIET_S) == []  # it has grown
    (item,) = watched.ready(10 + 2 * QUIET_S)
    assert item.output == out / "a.png"
    assert watched.ready(99) == []  # once only, until it changes
    path.write_bytes(b"something else")
    assert watched.ready(100) == []
    assert len(watched.ready(100 + QUIET_S)) == 1
    (folder / "empty.png").touch()
    assert watched.ready(200) == watched.ready(300) == []


def test_a_watch_goes_on_where_another_ended(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a.png", "b.png"):
        picture(folder / name)
    picture(out / "a.png")
    watched = Watch(folder, out, [])
    watched.ready(0)
    assert [item.name for item in watched.ready(QUIET_S)] == ["b.png"]


def test_a_watch_tells_of_two_files_with_one_output(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    picture(folder / "a.png").rename(folder / "a.flv")
    picture(folder / "a.png").rename(folder / "a.wmv")
    watched = Watch(folder, out, [])
    watched.ready(0)
    assert len(watched.ready(QUIET_S)) == 1
    (refused,) = watched.refused
    assert "would both become" in refused.sentence
    shutil.rmtree(folder)
    with pytest.raises(SourceError, match="no such folder"):
        watched.ready(9)


def test_a_drop_folder(tmp_path: Path) -> None:
    """A picture that arrives in two pieces and a broken one; Ctrl-C is the usual end."""
    drop, out = tmp_path / "drop", tmp_path / "out"
    drop.mkdir()
    whole = picture(tmp_path / "whole.png").read_bytes()
    arguments = command("upscale", drop, "-o", out, *SMALL, "--watch", "--json")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        deadline = time.monotonic() + 60
        with (drop / "sub.png").open("wb") as file:
            file.write(whole[:100])
            file.flush()
            time.sleep(0.7)
            file.write(whole[100:])
        while not (out / "sub.png").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        time.sleep(1)  # idle again
        process.send_signal(signal.SIGINT)
        told, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert json.loads(told)["done"] == 1
    assert Image.open(out / "sub.png").size == (48, 32)
