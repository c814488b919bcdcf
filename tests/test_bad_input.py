"""Bad input through the real command line: one sentence, an exit code, no half-written file, the input untouched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clips import LOSSLESS, Audio, Video, corrupt_packets, cut, decoded, planes_of, read_number, steady_pts, write_clip
from commands import SMALL, Outcome, rtsr

Files = dict[str, bytes]


def files(folder: Path) -> Files:
    """Everything in a folder and below, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(folder: Path, *arguments: object, cwd: Path | None = None) -> Outcome:
    """Run `rtsr upscale`, which must fail with one sentence and change nothing in the folder."""
    before = files(folder)
    outcome = rtsr("upscale", *arguments, *SMALL, cwd=cwd)
    assert outcome.code not in (0, 70), outcome.stderr  # 70: an error that nobody foresaw
    assert outcome.sentence
    assert outcome.stdout == ""
    assert files(folder) == before
    return outcome


# ---- inputs that are no video ----


def a_folder(path: Path) -> None:
    path.mkdir()


def a_text(path: Path) -> None:
    path.write_text("This is not a film.\n" * 100)


def sound_only(path: Path) -> None:
    write_clip(path, None, audio=[Audio()])


def sound_with_a_cover(path: Path) -> None:
    write_clip(path, None, audio=[Audio()], cover=True)


def no_bytes(path: Path) -> None:
    path.touch()


def noise(path: Path) -> None:
    path.write_bytes(os.urandom(20_000))


def no_index(path: Path) -> None:
    whole = write_clip(path.with_name("whole.mp4"), audio=[Audio()])
    cut(path, whole, 0.5)
    whole.unlink()


def nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nothing, "no such file"),
        (a_folder, "folder"),
        (a_text, "not a video"),
        (sound_only, "no video stream"),
        (sound_with_a_cover, "no video stream"),
        (no_bytes, "empty"),
        (noise, "not a video"),
        (no_index, "not a video"),
    ],
)
def test_an_input_that_is_no_video(make: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    make(tmp_path / "in.mp4")
    outcome = refused(tmp_path, tmp_path / "in.mp4", "-o", tmp_path / "out.mp4")
    assert words in outcome.sentence
    assert "in.mp4" in outcome.sentence


# ---- outputs that cannot be ----


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(6)))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("missing/out.mp4", "does not exist"),
        ("in.mp4/out.mp4", "in.mp4"),
        (".", "."),
        ("out.xyz", ".xyz"),
        ("out", "suffix"),
    ],
)
def test_an_output_that_cannot_be(output: str, words: str, clip: Path, tmp_path: Path) -> None:
    assert words in refused(tmp_path, clip, "-o", tmp_path / output).sentence


def test_an_output_that_is_a_folder(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    assert "folder" in refused(tmp_path, clip, "-o", tmp_path / "out.mp4", "--overwrite").sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable(clip: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "not writable" in refused(tmp_path, clip, "-o", locked / "out.mp4").sentence


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="no /proc")
def test_a_folder_in_which_no_file_can_be_made(clip: Path, tmp_path: Path) -> None:
    """Root may write everywhere but into /proc."""
    assert "/proc" in refused(tmp_path, clip, "-o", "/proc/self/out.mp4").sentence


@pytest.mark.parametrize("way", ["same", "relative", "symlink", "hard-link", "dots"])
def test_the_input_is_never_the_output(way: str, clip: Path, tmp_path: Path) -> None:
    output: Path | str = tmp_path / "other.mp4"
    match way:
        case "same":
            output = clip
        case "relative":
            output = "in.mp4"
        case "symlink":
            Path(output).symlink_to(clip)
        case "hard-link":
            Path(output).hardlink_to(clip)
        case "dots":
            output = tmp_path / ".." / tmp_path.name / "in.mp4"
    assert "input" in refused(tmp_path, clip, "-o", output, "--overwrite", cwd=tmp_path).sentence


def test_the_unfinished_part_is_never_the_input(clip: Path, tmp_path: Path) -> None:
    """`out.mp4` is written as `out.mp4.part` until it is whole; someone may want to upscale just that file."""
    part = clip.rename(tmp_path / "out.mp4.part")
    refused(tmp_path, part, "-o", tmp_path / "out.mp4")


def test_an_output_that_exists_is_kept(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"precious")
    assert "--overwrite" in refused(tmp_path, clip, "-o", tmp_path / "out.mp4").sentence


def test_a_failed_overwrite_keeps_the_old_file(tmp_path: Path) -> None:
    a_text(tmp_path / "in.mp4")
    (tmp_path / "out.mp4").write_bytes(b"precious")
    refused(tmp_path, tmp_path / "in.mp4", "-o", tmp_path / "out.mp4", "--overwrite")


# ---- options that cannot be ----


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scale", "5"], "scale 5"),
        (["--scale", "0"], "scale 0"),
        (["--backend", "openvino", "--model", "huge"], "huge"),
        (["--codec", "libx999"], "libx999"),
        (["--preset", "turbo"], "turbo"),
        (["--crf", "52"], "52"),
        (["--codec", "ffv1", "--crf", "20"], "--crf"),
        (["--codec", "prores"], "prores"),
        (["--start", "soon"], "soon"),
        (["--start", "9", "--end", "3"], "--end"),
        (["--start", "100"], "--start"),
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be(options: list[str], words: str, engines: Path, clip: Path, tmp_path: Path) -> None:
    before = files(tmp_path)
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, *options)
    assert outcome.code not in (0, 70)
    assert words in outcome.sentence
    assert files(tmp_path) == before


def test_a_codec_that_the_container_cannot_hold(clip: Path, tmp_path: Path) -> None:
    sentence = refused(tmp_path, clip, "-o", tmp_path / "out.webm", "--codec", "libx264").sentence
    assert "libx264" in sentence and ".webm" in sentence


def test_an_encoder_without_its_gpu(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", Video(width=320, height=240, pts=steady_pts(4)))
    outcome = rtsr("upscale", clip, "-o", tmp_path / "out.mp4", *SMALL, "--codec", "h264_nvenc")
    if outcome.code == 0:
        pytest.skip("there is a GPU with this encoder")
    assert "h264_nvenc" in outcome.sentence
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


# ---- damaged inputs: what can be saved is kept beside, under a name that says it is not whole ----


def damaged(source: Path, output: Path) -> Outcome:
    """Upscale a damaged file: an error, nothing under the final name, the rest in `.part`, the input untouched."""
    before = source.read_bytes()
    outcome = rtsr("upscale", source, "-o", output, *SMALL)
    assert outcome.code not in (0, 70), outcome.stderr
    assert "damaged" in outcome.sentence
    assert f"{output.name}.part" in outcome.sentence
    assert not output.exists()
    assert source.read_bytes() == before
    return outcome


def numbers_in(path: Path) -> list[int]:
    return [read_number(planes_of(frame)[0], 2) for frame in decoded(path)]


@pytest.mark.parametrize(
    ("suffix", "mux_options"), [(".mkv", {}), (".mp4", {"movflags": "+faststart"})], ids=["mkv", "mp4-faststart"]
)
def test_a_file_that_is_cut_short(suffix: str, mux_options: dict[str, str], tmp_path: Path) -> None:
    video = Video(pts=steady_pts(200), options={"g": "12", "crf": "12", "preset": "veryfast"})
    whole = write_clip(tmp_path / f"whole{suffix}", video, mux_options=mux_options)
    source = cut(tmp_path / f"in{suffix}", whole, 0.5)
    damaged(source, tmp_path / f"out{suffix}")
    saved = numbers_in(tmp_path / f"out{suffix}.part")
    assert 40 < len(saved) < 160
    assert saved[:-4] == list(range(len(saved) - 4))  # the last few are decoded out of order: one may be cut off
    assert saved == sorted(set(saved))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_packets_that_do_not_decode_are_counted(count: int, tmp_path: Path) -> None:
    """FFV1 with checksums: every frame is a keyframe, and the decoder knows that a frame is broken."""
    whole = write_clip(tmp_path / "whole.mkv", Video(**{**LOSSLESS, "options": {"g": "1", "slicecrc": "1"}}))
    broken = [3, 7, 8, 15, 20][:count]
    source = corrupt_packets(tmp_path / "in.mkv", whole, broken)
    outcome = damaged(source, tmp_path / "out.mkv")
    assert f" {count} " in outcome.sentence
    saved = numbers_in(tmp_path / "out.mkv.part")
    assert [number for number in saved if number not in broken] == [n for n in range(24) if n not in broken]


def test_damaged_h264_is_reported(tmp_path: Path) -> None:
    """The decoder paints over holes; what it painted is not the film, and is said."""
    whole = write_clip(tmp_path / "whole.mkv", Video(pts=steady_pts(48)))
    source = corrupt_packets(tmp_path / "in.mkv", whole, [10, 11, 30])
    damaged(source, tmp_path / "out.mkv")


def test_a_lost_beginning_is_reported(tmp_path: Path) -> None:
    """A stream that is joined in the middle of a group of pictures begins with frames that cannot be decoded."""
    video = Video(pts=steady_pts(48), options={"g": "24", "bf": "0", "crf": "12", "preset": "veryfast"})
    whole = write_clip(tmp_path / "whole.mkv", video)
    source = corrupt_packets(tmp_path / "in.mkv", whole, range(5))
    damaged(source, tmp_path / "out.mkv")


def test_a_file_of_broken_packets_only(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", Video(pts=steady_pts(12), **LOSSLESS))
    source = corrupt_packets(tmp_path / "in.mkv", whole, range(12))
    outcome = rtsr("upscale", source, "-o", tmp_path / "out.mkv", *SMALL)
    assert outcome.code not in (0, 70)
    assert outcome.sentence
    assert not (tmp_path / "out.mkv").exists()


# ---- the disk ----

BIG = Video(width=192, height=128, pts=steady_pts(120))


@pytest.mark.parametrize(("suffix", "room"), [(".mp4", 500), (".mkv", 500), (".mp4", 100_000), (".ts", 100_000)])
def test_no_room_for_the_output(suffix: str, room: int, tmp_path: Path) -> None:
    """A limit on the size of a file, as a quota sets it, that is met at the very end or in the middle."""
    resource = pytest.importorskip("resource")
    video = BIG if room > 10_000 else Video(pts=steady_pts(3))
    source = write_clip(tmp_path / "in.mp4", video)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    outcome = rtsr("upscale", source, "-o", tmp_path / f"out{suffix}", *SMALL, before=limit)
    assert outcome.code not in (0, 70), outcome.stderr
    assert "space" in outcome.sentence
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_full_disk(tmp_path: Path) -> None:
    import subprocess

    source = write_clip(tmp_path / "in.mp4", BIG)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        outcome = rtsr("upscale", source, "-o", disk / "out.mp4", *SMALL)
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)
    assert outcome.code not in (0, 70), outcome.stderr
    assert "free" in outcome.sentence
    assert left == []
