"""A segment made from the input alone is, byte for byte, the one that a run of the whole film makes."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import Video, steady_pts, write_clip
from torture.corpus import ENTRIES, make

import rtsr
from rtsr.backends import EngineChoice
from rtsr.errors import ConfigError, EngineError
from rtsr.journal import Journal, Segment
from rtsr.options import Options
from rtsr.preparation import Job, prepared
from rtsr.segment_board import SegmentBoard
from rtsr.segment_worker import SegmentEncoder, SegmentJob, SegmentResult, encode_segment
from rtsr.sources import cuts
from rtsr.sources.cuts import find_cuts
from rtsr.sources.findings import Findings

ASKED = {"scale": 2, "backend": "reference", "drop_unsupported": True, "overwrite": True}
BY_NAME = {entry.name: entry for entry in ENTRIES}
WHOLE = (
    *("h264-flac.mkv", "h264-ac3.ts", "mpeg2-mp2.mpg", "vp9-opus.webm", "av1-opus.mp4", "mpeg2.mxf"),
    *("vfr.mp4", "vfr.mkv", "late.mkv", "late-picture.mp4", "negative-cts.mov", "edit-list-cut.mp4"),
    *("b-pyramid.mkv", "open-gop-hevc.mkv", "open-gop-mpeg2.ts", "fragmented.mp4", "size-change.mkv", "slow.mkv"),
    *("top-first.mpg", "top-first-h264.mp4", "yuv420p10.mp4", "gbrp10.mkv", "alpha.webm", "png-sequence"),
)
IN_ONE_GO = {
    "animated.gif": "midst",
    "qtrle.mov": "midst",
    "duplicate-times.mkv": "time of its own",
    "raw-bframes.h264": "time of its own",
    "backward-times.mkv": "repair",
}


@pytest.fixture(autouse=True)
def quarters_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four segments in each film of the corpus, which are a second long."""
    monkeypatch.setattr(cuts, "SEGMENT_S", Fraction(1, 4))


def segment_job(job: Job) -> SegmentJob:
    return job.segment_job(workers=1)


def made_whole(film: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> list[Segment]:
    """The segments of an ordinary run."""
    kept: list[Segment] = []
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "discard", lambda journal: kept.extend(journal.segments))
        rtsr.upscale(film, output, **ASKED)  # type: ignore[arg-type]
    return kept


def made_apart(film: Path, output: Path) -> tuple[list[Segment], str]:
    """The segments made one by one in any order, and why not all of them are."""
    with prepared(film, output, Options(**ASKED)) as job:  # type: ignore[arg-type]
        found = find_cuts(job.source.path)
        if found.why_not:
            return [], found.why_not
        with (
            Journal(output, job.identity(), restart=True) as journal,
            SegmentEncoder(segment_job(job)) as encoder,
        ):
            board = SegmentBoard(journal, found.parts, job.source.spec.time_base)
            todo = list(iter(board.take, None))
            random.Random(6).shuffle(todo)
            for cut in todo:
                board.accept(encoder.encode(cut, journal.folder))
            assert board.is_done
            return journal.segments, board.stopped


def without_pictures(segments: list[Segment]) -> list[Segment]:
    return [replace(segment, first_picture="", next_picture="") for segment in segments]


@pytest.mark.parametrize("name", WHOLE)
def test_segments_made_apart_are_those_of_a_whole_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make(BY_NAME[name], tmp_path)
    output = tmp_path / ("out.webm" if name.endswith("webm") else "out.mkv")
    whole = made_whole(film, output, monkeypatch)
    assert len(whole) > 2
    apart, stopped = made_apart(film, output)
    assert without_pictures(apart) == whole
    assert not stopped


@pytest.mark.parametrize("name", IN_ONE_GO)
def test_what_cannot_be_cut_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = make(BY_NAME[name], tmp_path)
    apart, why = made_apart(film, tmp_path / "out.mkv")
    assert IN_ONE_GO[name] in why
    whole = made_whole(film, tmp_path / "out.mkv", monkeypatch)
    assert without_pictures(apart) == whole[: len(apart)]


STEADY = {"g": "6", "sc_threshold": "0", "bf": "0"}  # keyframes every quarter of a second
FRAME = 3750  # of 24 a second, in 90 kHz


def test_a_trimmed_film_is_cut_at_its_own_moments(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(36, 24), options={**STEADY, "bf": "2"}))
    parts = find_cuts(film, Fraction(1, 3), Fraction(5, 4)).parts
    assert [pts for cut in parts for pts in cut.pts] == [i * FRAME for i in range(8, 30)]
    assert [cut.begin for cut in parts] == [8 * FRAME, 14 * FRAME, 20 * FRAME, 26 * FRAME]
    assert [cut.end for cut in parts] == [14 * FRAME, 20 * FRAME, 26 * FRAME, None]


def test_decoding_begins_before_a_part_and_no_earlier_than_it_must(tmp_path: Path) -> None:
    """At the keyframe before the one with which the part begins: a deinterlaced picture needs its neighbours."""
    film = write_clip(tmp_path / "in.mp4", Video(pts=steady_pts(36, 24), options=STEADY))
    assert [cut.key.index for cut in find_cuts(film).parts] == [0, 0, 6, 12, 18, 24]


def test_a_segment_needs_nothing_but_the_job_and_the_cut(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "in.mkv", Video(pts=steady_pts(12, 24)))
    (tmp_path / "here").mkdir()
    with prepared(film, tmp_path / "out.mkv", Options(**ASKED)) as job:  # type: ignore[arg-type]
        result = encode_segment(segment_job(job), find_cuts(film).parts[1], tmp_path / "here")
    assert result.segment is not None
    assert [path.name for path in (tmp_path / "here").iterdir()] == [result.segment.file]


def test_another_engine_than_the_job_began_with_is_refused(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "in.mkv", Video(pts=steady_pts(12, 24)))
    with prepared(film, tmp_path / "out.mkv", Options(**ASKED)) as job:  # type: ignore[arg-type]
        other = replace(segment_job(job), engine=("fast-x2", "0" * 64), choice=EngineChoice(2, backend="reference"))
        with pytest.raises(ConfigError, match="fast-x2"):
            encode_segment(other, find_cuts(film).parts[0], tmp_path)
    assert not list(tmp_path.glob("*.tmp"))


class Board:
    """A board of a film of six segments, with made-up results."""

    def __init__(self, folder: Path):
        film = write_clip(folder / "in.mkv", Video(pts=steady_pts(36, 24)))
        self.cuts = find_cuts(film).parts
        self.journal = Journal(folder / "out.mkv", {})
        self.board = SegmentBoard(self.journal, self.cuts, Fraction(1, 1000))

    def result(self, index: int, first: str = "", following: str = "") -> SegmentResult:
        cut = self.cuts[index]
        path = self.journal.folder / f"{index}.mp4"
        path.write_bytes(b"segment")
        segment = Segment(path.name, index, len(cut.pts), cut.begin, cut.pts[-1], 42, 7, "", True, first, following)
        return SegmentResult(index, segment, Findings(), (0, 0, 0), 0)

    @property
    def done(self) -> list[int]:
        return [segment.index for segment in self.journal.segments]


@pytest.fixture
def six(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_segments_are_handed_out_in_order_and_once(six: Board) -> None:
    assert [cut.index for cut in iter(six.board.take, None)] == [0, 1, 2, 3, 4, 5]
    assert not six.board.is_done


def test_a_segment_whose_worker_died_comes_first_again(six: Board) -> None:
    first, second = six.board.take(), six.board.take()
    assert first and second
    assert "0.250 s died (exit code 1)" in six.board.died(second, "exit code 1")
    assert six.board.take() == second


def test_the_third_death_on_one_segment_ends_the_job(six: Board) -> None:
    for _ in range(2):
        cut = six.board.take()
        assert cut is not None
        six.board.died(cut, "killed by SIGKILL")
    cut = six.board.take()
    assert cut is not None
    with pytest.raises(EngineError, match=r"0\.000 s died \(killed by SIGKILL\), 3 times"):
        six.board.died(cut, "killed by SIGKILL")


def test_neighbours_that_decoded_different_pictures_are_left_to_one(six: Board) -> None:
    for _ in six.cuts:
        six.board.take()
    assert six.board.accept(six.result(3, "d", "e"))
    assert six.board.accept(six.result(1, "b", "c"))
    assert six.board.accept(six.result(0, "a", "b"))
    assert not six.board.accept(six.result(2, "another", "d"))  # after 1, which says "c"
    assert six.done == [0, 1]
    assert "from 0.500 s on" in six.board.stopped
    assert not six.board.accept(six.result(4, "e", "f"))
    assert sorted(path.name for path in six.journal.folder.glob("*.mp4")) == ["0.mp4", "1.mp4"]
    assert not six.board.is_done  # 5 is in work still
    six.board.accept(six.result(5))
    assert six.board.is_done


def test_what_is_done_is_not_handed_out_again(six: Board) -> None:
    six.board.take()
    six.board.accept(six.result(0))
    six.journal.add(six.result(2).segment)  # type: ignore[arg-type]
    again = SegmentBoard(six.journal, six.cuts, Fraction(1, 1000))
    assert [cut.index for cut in iter(again.take, None)] == [1, 3, 4, 5]


def test_one_device_goes_on_after_the_first_gap(six: Board) -> None:
    for index in (0, 1, 3):
        six.journal.add(six.result(index).segment)  # type: ignore[arg-type]
    six.journal.keep_prefix()
    assert six.done == [0, 1]
    assert not (six.journal.folder / "3.mp4").exists()
