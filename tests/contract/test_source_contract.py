"""What every source promises: files of several containers and codecs, and the synthetic one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clips import LOSSLESS, VFR_PTS, Audio, Video, decoded, planes_of, read_number, steady_pts, write_clip

from rtsr import open_source
from rtsr.errors import SourceError
from rtsr.frames import Frame
from rtsr.sources import Source
from rtsr.sources.file import FileSource
from rtsr.sources.synthetic import SyntheticSource


@dataclass(frozen=True)
class Kind:
    """A file to read. tick: what the container rounds times to, None if it keeps ours."""

    suffix: str
    video: Video
    tick: Fraction | None = None
    audio: tuple[Audio, ...] = (Audio(),)


MS = Fraction(1, 1000)
FILES = {
    "mp4-vfr-b-frames": Kind(".mp4", Video(pts=VFR_PTS)),
    "mp4-late-start": Kind(".mp4", Video(pts=steady_pts(24, start=36000))),
    "mov-vfr": Kind(".mov", Video(pts=VFR_PTS)),
    "mkv-vfr": Kind(".mkv", Video(pts=VFR_PTS), MS),
    "mkv-odd-size": Kind(".mkv", Video(width=67, height=45, pts=VFR_PTS, **LOSSLESS), MS),
    "mkv-10-bit": Kind(".mkv", Video(pix_fmt="yuv420p10le", pts=VFR_PTS, **LOSSLESS), MS),
    "webm-vp9": Kind(".webm", Video(codec="libvpx-vp9", options={"cpu-used": "8", "crf": "10", "b": "0"}), MS, ()),
    "ts": Kind(".ts", Video()),
    "avi": Kind(
        ".avi", Video(codec="ffv1", options={}, pts=range(24), time_base=Fraction(1, 24), last_duration=1), None, ()
    ),
    "mp4-hevc-10-bit": Kind(
        ".mp4", Video(codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=0"})
    ),
}


@pytest.fixture(params=FILES)
def kind(request: pytest.FixtureRequest) -> Kind:
    return FILES[request.param]


@pytest.fixture
def path(kind: Kind, tmp_path: Path) -> Path:
    return write_clip(tmp_path / f"clip{kind.suffix}", kind.video, audio=kind.audio)


@pytest.fixture(params=[*FILES, "synthetic", "synthetic-odd"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    """Every source there is, each with 24 frames or the 14 of VFR_PTS."""
    if request.param.startswith("synthetic"):
        width, height = (37, 21) if request.param.endswith("odd") else (64, 48)
        opened: Source = SyntheticSource(width, height, frames=24)
    else:
        kind = FILES[request.param]
        opened = open_source(write_clip(tmp_path / f"clip{kind.suffix}", kind.video, audio=kind.audio))
    with closing(opened):
        yield opened


def test_pts_rise_strictly(source: Source) -> None:
    pts = [frame.pts for frame in source.frames()]
    assert len(pts) in (14, 24)
    assert all(later > earlier for earlier, later in pairwise(pts))


def test_planes_are_what_the_spec_says(source: Source) -> None:
    spec = source.spec
    for frame in source.frames():
        assert frame.y.shape == (1, spec.height, spec.width)
        assert frame.uv.shape == (2, *spec.pixels.chroma_size(spec.height, spec.width))
        assert frame.y.dtype == frame.uv.dtype == spec.pixels.dtype
        assert frame.time_base == spec.time_base


def test_a_stated_length_is_true(source: Source) -> None:
    frames = list(source.frames())
    spec = source.spec
    if spec.frames is not None:
        assert len(frames) == spec.frames
    assert spec.duration is not None
    assert spec.duration * len(frames) > 0
    assert all(frame.seconds < float(spec.duration) + frames[0].seconds for frame in frames)


def test_an_undamaged_source_reports_no_damage(source: Source) -> None:
    for _ in source.frames():
        pass
    assert list(source.damage) == []


def test_frames_stay_valid_while_later_ones_are_read(source: Source) -> None:
    kept: list[tuple[Frame, int]] = [(f, int(f.y.astype(int).sum())) for f in source.frames()]
    assert all(int(frame.y.astype(int).sum()) == total for frame, total in kept)


def test_closing_twice_is_safe(source: Source) -> None:
    next(iter(source.frames()))
    source.close()
    source.close()


def test_leaving_early_and_closing_is_safe(source: Source) -> None:
    frames = source.frames()
    next(frames)
    frames.close()  # type: ignore[attr-defined] - all of them are generators
    source.close()


def test_spec_is_what_was_written(kind: Kind, path: Path) -> None:
    with closing(FileSource(path)) as source:
        spec = source.spec
    assert (spec.width, spec.height) == (kind.video.width, kind.video.height)
    assert spec.pixels.bits == (10 if "10le" in kind.video.pix_fmt else 8)


def test_times_are_what_was_written(kind: Kind, path: Path) -> None:
    """Exactly, but for the rounding of containers that count in milliseconds; MPEG-TS starts its clock later."""
    with closing(FileSource(path)) as source:
        found = [f.pts * f.time_base for f in source.frames()]
    written = [pts * kind.video.time_base for pts in kind.video.pts]
    if kind.suffix == ".ts":
        found = [t - found[0] for t in found]
    if kind.tick is None:
        assert found == written
    else:
        assert all(abs(a - b) <= kind.tick / 2 for a, b in zip(found, written, strict=True))


def test_pictures_come_in_order_and_as_decoded(kind: Kind, path: Path) -> None:
    with closing(FileSource(path)) as source:
        frames = list(source.frames())
    assert [read_number(f.y[0]) for f in frames] == list(range(len(kind.video.pts)))
    for frame, expected in zip(frames, decoded(path), strict=True):
        for plane, pixels in zip((*frame.y, *frame.uv), planes_of(expected), strict=True):
            np.testing.assert_array_equal(plane, pixels)


@pytest.mark.parametrize(("start", "end"), [(None, "0.5"), ("0.5", None), ("0.3", "0.52"), ("0.0001", "0.9999")])
def test_a_trim_keeps_what_begins_in_it(kind: Kind, path: Path, start: str | None, end: str | None) -> None:
    begin, finish = (None if t is None else Fraction(t) for t in (start, end))
    with closing(FileSource(path)) as source:
        every = [(f.pts * f.time_base, read_number(f.y[0])) for f in source.frames()]
    wanted = [(t, n) for t, n in every if t >= (begin or 0) and (finish is None or t < finish)]
    with closing(FileSource(path, begin, finish)) as source:
        trimmed = [(f.pts * f.time_base, read_number(f.y[0])) for f in source.frames()]
        assert list(source.damage) == []
    assert trimmed == wanted
    assert 0 < len(trimmed) < len(every)


def test_a_trim_beyond_the_end_is_an_error(kind: Kind, path: Path) -> None:
    with closing(FileSource(path, Fraction(100))) as source, pytest.raises(SourceError, match="--start"):
        list(source.frames())
