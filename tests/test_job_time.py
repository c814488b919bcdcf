"""Time goes through a job unchanged: pts, start offsets, durations; trims cut sound and picture alike."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import pytest
from clips import (
    LOSSLESS,
    VFR_PTS,
    Audio,
    Chapter,
    StoredPacket,
    Subtitles,
    Video,
    chapters,
    decoded,
    packets,
    planes_of,
    read_number,
    steady_pts,
    times,
    write_clip,
)

import rtsr
from rtsr.errors import ConfigError, SourceError
from rtsr.job import Report

MS = Fraction(1, 1000)
SHORT_GOPS = {"bf": "2", "crf": "12", "preset": "veryfast", "g": "8"}


def upscale(source: Path, output: Path, **options: object) -> Report:
    return rtsr.upscale(source, output, scale=2, backend="reference", **options)


def numbers(path: Path, scale: int = 2) -> list[int]:
    return [read_number(planes_of(frame)[0], scale) for frame in decoded(path)]


@pytest.mark.parametrize(
    ("suffix", "video"),
    [
        (".mp4", Video(pts=VFR_PTS)),
        (".mov", Video(pts=VFR_PTS)),
        (".mkv", Video(pts=VFR_PTS)),
        (".webm", Video(codec="libvpx-vp9", options={"cpu-used": "8"}, pts=VFR_PTS)),
        (".mp4", Video(pts=steady_pts(24, start=31_415))),
        (".mkv", Video(pts=steady_pts(24, start=31_410))),
        (".mp4", Video(pts=[p * 1001 for p in range(24)], time_base=Fraction(1, 30000), last_duration=1001)),
    ],
    ids=["mp4-vfr", "mov-vfr", "mkv-vfr", "webm-vfr", "mp4-late", "mkv-late", "mp4-ntsc"],
)
def test_every_pts_is_exactly_the_inputs(suffix: str, video: Video, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"in{suffix}", video)
    upscale(source, tmp_path / f"out{suffix}")
    assert times(tmp_path / f"out{suffix}") == times(source)
    assert numbers(tmp_path / f"out{suffix}") == list(range(len(video.pts)))


@pytest.mark.parametrize("number_of_frames", [1, 2, 3, 5])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_short_clips_too(suffix: str, number_of_frames: int, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"in{suffix}", Video(pts=VFR_PTS[:number_of_frames]))
    upscale(source, tmp_path / f"out{suffix}")
    assert times(tmp_path / f"out{suffix}") == times(source)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_every_codec_keeps_the_times(codec: str, tmp_path: Path) -> None:
    from rtsr.sinks.encoding import Encoding

    source = write_clip(tmp_path / "in.mp4", Video(pts=VFR_PTS))
    upscale(source, tmp_path / "out.mp4", encoding=Encoding(codec))
    assert times(tmp_path / "out.mp4") == times(source)


def test_milliseconds_of_matroska_are_the_only_rounding(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", Video(pts=VFR_PTS))
    upscale(source, tmp_path / "out.mkv")
    pairs = zip(times(tmp_path / "out.mkv"), times(source), strict=True)
    assert all(abs(found - true) <= MS / 2 for found, true in pairs)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    "video",
    [
        Video(pts=steady_pts(24)),
        Video(pts=[p * 1001 for p in range(24)], time_base=Fraction(1, 30000), last_duration=1001),
        Video(pts=VFR_PTS, last_duration=20_000, options={"bf": "0"}),
    ],
    ids=["steady", "ntsc", "vfr"],
)
def test_the_length_of_the_film_stays(video: Video, suffix: str, tmp_path: Path) -> None:
    """Up to the end of the last picture, to the millisecond of an mp4's movie header."""
    source = write_clip(tmp_path / f"in{suffix}", video, audio=[Audio(seconds=Fraction(1, 2))])
    true = (video.pts[-1] + video.last_duration) * video.time_base
    assert abs(stated_length(source) - true) <= MS
    upscale(source, tmp_path / f"out{suffix}")
    assert abs(stated_length(tmp_path / f"out{suffix}") - true) <= MS


def stated_length(path: Path) -> Fraction:
    """What the movie header (mvhd) says and players show; FFmpeg's own figure is off where pictures are reordered."""
    data = path.read_bytes()
    header = data.index(b"mvhd") + 4
    timescale, duration = struct.unpack_from(">II", data, header + 12)
    return Fraction(duration, timescale)


CONTAINERS = [".mp4", ".mov", ".mkv", ".ts"]


@pytest.mark.parametrize("output", CONTAINERS)
@pytest.mark.parametrize("input", CONTAINERS)
@pytest.mark.parametrize("audio_start", [Fraction(0), Fraction(1, 4)], ids=["together", "late-sound"])
def test_sound_and_picture_keep_their_distance(input: str, output: str, audio_start: Fraction, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"in{input}", audio=[Audio(start=audio_start)])
    upscale(source, tmp_path / f"out{output}")
    assert abs(sound_delay(tmp_path / f"out{output}") - sound_delay(source)) <= MS


def sound_delay(path: Path) -> Fraction:
    """From the first picture to the first sound packet, in seconds."""
    first = packets(path, "audio")[0].pts
    assert first is not None
    return first - times(path)[0]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_late_picture_stays_late(suffix: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"in{suffix}", Video(pts=steady_pts(12, start=45_000)), audio=[Audio()])
    upscale(source, tmp_path / f"out{suffix}")
    assert times(tmp_path / f"out{suffix}")[0] == times(source)[0] == Fraction(1, 2)


# ---- trims ----

TRIMS = [
    (Fraction(3, 10), Fraction(7, 10)),
    (Fraction(3, 10), None),
    (None, Fraction(7, 10)),
    (Fraction(1, 3), Fraction(2)),
]


@pytest.fixture(params=[".mp4", ".mkv", ".ts"])
def long_clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Two seconds with keyframes every 8 frames, so that a trim does not begin on one."""
    video = Video(pts=steady_pts(48), options=SHORT_GOPS)
    return write_clip(tmp_path / f"in{request.param}", video, audio=[Audio(seconds=Fraction(2))])


@pytest.mark.parametrize(("start", "end"), TRIMS, ids=str)
def test_a_trim_takes_the_pictures_between_start_and_end(
    long_clip: Path, start: Fraction | None, end: Fraction | None, tmp_path: Path
) -> None:
    output = tmp_path / f"out{long_clip.suffix}"
    upscale(long_clip, output, start=start, end=end)
    wanted = [n for n, t in enumerate(times(long_clip)) if t >= (start or 0) and (end is None or t < end)]
    assert numbers(output) == wanted


@pytest.mark.parametrize(("start", "end"), TRIMS, ids=str)
def test_a_trim_cuts_sound_and_picture_at_the_same_instant(
    long_clip: Path, start: Fraction | None, end: Fraction | None, tmp_path: Path
) -> None:
    output = tmp_path / f"out{long_clip.suffix}"
    upscale(long_clip, output, start=start, end=end)
    sound_moved, sound = moved_sound(packets(long_clip, "audio"), packets(output, "audio"))
    picture_moved = times(long_clip)[numbers(output)[0]] - times(output)[0]
    assert abs(sound_moved - picture_moved) <= MS
    frame = Fraction(1024, 48000)
    pictures = times(long_clip)
    begin, finish = max(start or 0, pictures[0]), min(end or 99, pictures[-1] + Fraction(1, 24))
    assert abs(sound[0] - begin) <= frame
    assert abs(sound[-1] + frame - finish) <= frame + MS


def moved_sound(before: list[StoredPacket], after: list[StoredPacket]) -> tuple[Fraction, list[Fraction]]:
    """By how much kept packets moved towards zero (one figure for all), and when they were before."""
    when = {packet.data: packet.pts for packet in before}
    assert len(when) == len(before), "the chirp makes every packet unique"
    pairs = [(when[packet.data], packet.pts) for packet in after]
    moves = [old - new for old, new in pairs if old is not None and new is not None]
    assert max(moves) - min(moves) <= MS
    return moves[0], [old for old, _ in pairs if old is not None]


def test_a_trim_starts_the_clock_at_zero(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(48), options=SHORT_GOPS), audio=[Audio()])
    upscale(source, tmp_path / "out.mp4", start=Fraction(1, 2))
    assert times(tmp_path / "out.mp4") == [t - Fraction(1, 2) for t in times(source)[12:]]


def test_a_trim_takes_the_chapters_along(tmp_path: Path) -> None:
    marks = [Chapter(0, 500, "one"), Chapter(500, 1000, "two"), Chapter(1000, 2000, "three")]
    source = write_clip(tmp_path / "in.mkv", Video(pts=steady_pts(48)), chapters=marks)
    upscale(source, tmp_path / "out.mkv", start=Fraction(3, 10), end=Fraction(7, 10))
    assert chapters(tmp_path / "out.mkv") == [Chapter(0, 200, "one"), Chapter(200, 400, "two")]


def test_a_subtitle_that_is_shown_at_the_cut_stays_in_step(tmp_path: Path) -> None:
    """It begins with the film, ends when it ended, and moves nothing else."""
    lines = [(100, 400, "over the cut"), (500, 600, "inside"), (900, 950, "after")]
    source = write_clip(
        tmp_path / "in.mkv", Video(pts=steady_pts(48)), subtitles=[Subtitles(lines=lines)], audio=[Audio()]
    )
    upscale(source, tmp_path / "out.mkv", start=Fraction(3, 10), end=Fraction(7, 10))
    first_picture = next(t for t in times(source) if t >= Fraction(3, 10)) - Fraction(3, 10)
    assert abs(times(tmp_path / "out.mkv")[0] - first_picture) <= MS
    kept = packets(tmp_path / "out.mkv", "subtitle")
    assert [(p.data.decode(), p.pts, p.duration) for p in kept] == [
        ("over the cut", 0, Fraction(100, 1000)),
        ("inside", Fraction(200, 1000), Fraction(100, 1000)),
    ]


@pytest.mark.parametrize(("start", "end"), [(-1, None), (0.5, 0.5), (0.7, 0.3), (None, 0), (None, -1)])
def test_a_trim_that_cannot_be_is_refused(start: float | None, end: float | None, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    with pytest.raises(ConfigError):
        upscale(source, tmp_path / "out.mp4", start=start, end=end)
    assert not (tmp_path / "out.mp4").exists()


def test_a_trim_without_pictures_is_refused(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    with pytest.raises(SourceError, match="--start"):
        upscale(source, tmp_path / "out.mp4", start=60)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_frames_are_not_only_counted_but_the_right_ones(tmp_path: Path) -> None:
    """Lossless in, lossless out: number and pixels of every picture."""
    from rtsr.sinks.encoding import Encoding

    source = write_clip(tmp_path / "in.mkv", Video(pts=steady_pts(200), **LOSSLESS))
    report = upscale(source, tmp_path / "out.mkv", encoding=Encoding("ffv1"))
    assert numbers(tmp_path / "out.mkv") == list(range(200))
    assert (report.frames_in, report.frames_out) == (200, 200)
