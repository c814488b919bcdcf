"""Room on the disk: asked for before the start, watched between segments, never run out of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from clips import Audio, Subtitles, Video, decoded, planes_of, write_clip

from rtsr import pipeline
from rtsr.backends.reference import ReferenceEngine
from rtsr.disk import DiskWatch, Estimate, copied_bytes, estimate, free_bytes, require_room
from rtsr.errors import ConfigError, SinkError
from rtsr.frames import Frame, VideoSpec
from rtsr.journal import Journal, Segment
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.media import Media
from rtsr.sources.synthetic import SyntheticSource

SPEC = VideoSpec(640, 360, Fraction(1, 24))
MIB = 1 << 20


def of(name: str, output: str = "out.mkv", **encoding: object) -> Estimate:
    encoder = Encoding(name, **encoding).resolve(Path(output), SPEC)  # type: ignore[arg-type]
    return estimate(encoder, (1280, 720), 240, 10.0)


def test_a_finer_quality_takes_more_and_a_rate_is_taken_at_its_word() -> None:
    assert of("libx264", crf=12).most > of("libx264").most > of("libx264", crf=30).most
    assert of("libx264", bitrate=8_000_000).least < 10_000_000 < of("libx264", bitrate=8_000_000).most
    assert of("ffv1").most > of("libx264").most
    assert of("qtrle", "out.mov").most >= 1280 * 720 * 240 * 3  # not measured: anything up to raw pixels


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1"])
@pytest.mark.parametrize("clip", ["bbb_480x360_aac.mp4", "coffee_720p_aac.mp4"])
def test_the_estimate_holds_for_real_films(clip: str, codec: str, clips: Path, tmp_path: Path) -> None:
    from rtsr.sources.file import FileSource

    output, frames = tmp_path / "out.mkv", 30
    with closing(FileSource(clips / clip)) as source:
        engine, spec = ReferenceEngine(2, "lanczos"), source.spec
        source_of_few = Taken(source, frames)
        with closing(FileSink(output, spec, 2, Encoding(codec))) as sink:
            pipeline.run(source_of_few, engine, sink)  # type: ignore[arg-type]
            sink.finish()
    encoder = Encoding(codec).resolve(output, spec)
    expected = estimate(encoder, (2 * spec.width, 2 * spec.height), frames, frames / 24)
    assert expected.least < output.stat().st_size < expected.most


class Taken:
    """The first frames of a source, or those after the first `skip`: what a resumed job reads."""

    damage: tuple[str, ...] = ()

    def __init__(self, source: object, stop: int, skip: int = 0):
        self.source, self.stop, self.skip = source, stop, skip
        self.spec = source.spec  # type: ignore[attr-defined]

    def frames(self) -> Iterator[Frame]:
        yield from islice(self.source.frames(), self.skip, self.stop)  # type: ignore[attr-defined]

    def close(self) -> None:
        pass


def test_copied_streams_are_counted(tmp_path: Path) -> None:
    audio = [Audio(seconds=Fraction(20)), Audio(seconds=Fraction(20), codec="flac")]
    clip = write_clip(
        tmp_path / "in.mkv", Video(pts=tuple(range(0, 1_800_000, 90_000))), audio=audio, subtitles=[Subtitles()]
    )
    bare = write_clip(tmp_path / "bare.mkv", Video())
    counted = copied_bytes(Media(str(clip)))
    assert 0 < counted <= clip.stat().st_size
    assert copied_bytes(Media(str(clip)), share=0.5) == pytest.approx(counted / 2, abs=1)
    assert copied_bytes(Media(str(bare))) == 0


@pytest.mark.parametrize("room", [0, 150 * MIB])
def test_far_too_little_is_refused_before_anything_is_written(room: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"free.*at least 2\d\d\.\d MB"):
        require_room(tmp_path / "out.mp4", Estimate(100 * MIB, 300 * MIB, 50 * MIB), lambda folder: room)
    assert list(tmp_path.iterdir()) == []


def test_little_is_a_notice_and_enough_is_none(tmp_path: Path) -> None:
    expected = Estimate(100 * MIB, 300 * MIB, 50 * MIB)
    notice = require_room(tmp_path / "out.mp4", expected, lambda folder: 400 * MIB)
    assert notice is not None and "419.5 MB free" in notice and "can be continued" in notice
    assert require_room(tmp_path / "out.mp4", expected, lambda folder: 700 * MIB) is None
    assert free_bytes(tmp_path) > 0


def test_what_an_earlier_run_has_done_counts(tmp_path: Path) -> None:
    """The segments that are there need no more room; with --restart they make room."""
    folder = tmp_path / "out.mp4.rtsr"
    folder.mkdir()
    (folder / "000000.mp4").write_bytes(bytes(3 * MIB))
    expected = Estimate(2 * MIB, 2 * MIB, 0)
    assert require_room(tmp_path / "out.mp4", expected, lambda folder: 3 * MIB) is None
    with pytest.raises(ConfigError):
        require_room(tmp_path / "out.mp4", expected, lambda folder: 1 * MIB)


def journal_of(output: Path, sizes: list[int]) -> Journal:
    journal = Journal(output, {})
    for i, size in enumerate(sizes):
        journal.add(Segment(f"{i:06d}.mkv", i, 60, 60 * i, 60 * i + 59, 1, size, "", True))
    return journal


def test_the_next_segment_and_the_joined_file_must_fit(tmp_path: Path) -> None:
    """10 and 20 MiB are done, the next may be 25, then all three are joined with 5 MiB of sound; 1 is kept spare."""
    output = tmp_path / "out.mkv"
    with journal_of(output, [10 * MIB, 20 * MIB]) as journal:
        DiskWatch(journal, output, 5 * MIB, 600, lambda folder: (25 + 55 + 5 + 1) * MIB).before_segment()
        with pytest.raises(SinkError, match=r"2 segments \(120 frames\)") as caught:
            DiskWatch(journal, output, 5 * MIB, 600, lambda folder: (25 + 55 + 5) * MIB).before_segment()
        # 120 of 600 frames took 30 MiB: 120 are to come, 150 to be joined with 5 of sound; 85 are free.
        assert f"Free {(120 + 150 + 5 + 1 - 85) * MIB / 1e6:.1f}"[:-1] in str(caught.value)
        DiskWatch(journal, output, 5 * MIB, 120, lambda folder: 36 * MIB).before_join()
        with pytest.raises(SinkError, match="the joined file"):
            DiskWatch(journal, output, 5 * MIB, 120, lambda folder: 35 * MIB).before_join()


RATE, SECONDS = 6, 45
FILM = SyntheticSource(160, 120, RATE * SECONDS, RATE)


def run(output: Path, free: Callable[[Path], int]) -> None:
    """A job as rtsr runs it, on what its journal does not have yet."""
    with Journal(output, {"film": 1}) as journal:
        watch = DiskWatch(journal, output, 0, RATE * SECONDS, free)
        sink = FileSink(output, FILM.spec, 2, Encoding("ffv1"), journal=journal, disk=watch)
        with closing(sink):
            pipeline.run(Taken(FILM, RATE * SECONDS, journal.frames), ReferenceEngine(2, "nearest"), sink)  # type: ignore[arg-type]
            sink.finish()


def assert_whole(output: Path) -> None:
    frames = decoded(output)
    times = [round(frame.pts * frame.time_base * RATE, 1) for frame in frames]  # Matroska counts milliseconds
    assert times == list(range(RATE * SECONDS))
    for frame, original in zip(frames, FILM.frames(), strict=True):
        np.testing.assert_array_equal(planes_of(frame)[0], original.y[0].repeat(2, 0).repeat(2, 1))
    assert sorted(p.name for p in output.parent.iterdir()) == [output.name]


def test_a_job_stops_in_time_and_goes_on(tmp_path: Path) -> None:
    """A disk that is as full as the files on it say: the same command, with a larger one each time."""

    def disk_of(capacity: int) -> Callable[[Path], int]:
        used = lambda: sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())  # noqa: E731
        return lambda folder: capacity - used()

    output = tmp_path / "out.mkv"
    run(output, disk_of(10**12))
    size = output.stat().st_size
    output.unlink()
    kept = []
    for share in (0.9, 1.5, 1.9):
        with pytest.raises(SinkError, match="give the same command again"):
            run(output, disk_of(round(size * share)))
        assert not output.exists() and not (tmp_path / "out.mkv.part").exists()
        kept.append(len(list((tmp_path / "out.mkv.rtsr").glob("0*"))))
    assert kept == sorted(kept) and kept[0] < kept[-1]
    run(output, disk_of(3 * size + 2 * MIB))
    assert_whole(output)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 3 MiB large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = sys.platform.startswith("linux") and os.geteuid() == 0 and mount("tmpfs", "size=3m", folder)
    if not mounted:
        pytest.skip("mounting a tmpfs takes root and Linux")
    yield folder
    subprocess.run(["umount", folder], check=True)


def mount(kind: str, options: str, folder: Path) -> bool:
    return subprocess.run(["mount", "-t", kind, "-o", options, kind, folder], capture_output=True).returncode == 0


def test_a_real_disk_never_gets_full(small_disk: Path) -> None:
    output = small_disk / "out.mkv"
    with pytest.raises(SinkError, match=r"stopped before the disk is full.*Free .* more"):
        run(output, free_bytes)
    done = list((small_disk / "out.mkv.rtsr").glob("0*"))
    assert done and free_bytes(small_disk) > 0 and not output.exists()
    assert mount("tmpfs", "remount,size=64m", small_disk)
    run(output, free_bytes)
    assert_whole(output)
