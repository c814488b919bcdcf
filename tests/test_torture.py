"""A dozen files of the torture corpus, the quickest; `python -m torture.run_corpus` does all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from torture.corpus import ENTRIES, make
from torture.run_corpus import check
from torture.worker import Worker

CHOSEN = (
    *("h264-aac.mp4", "h264-ac3.m2ts", "mpeg2-mp2.mpg", "vfr.mp4", "edit-list-cut.mp4", "duplicate-times.mkv"),
    *("size-change.mkv", "yuv422p10.mkv", "gbrp.mkv", "hdr10.mkv", "top-first-h264.mp4", "three-tracks.mkv"),
    *("png-sequence", "animated.gif", "alpha.webm", "served.mp4"),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


def test_every_file_of_the_corpus_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(ENTRIES) >= 45


@pytest.mark.parametrize("name", CHOSEN)
def test_an_odd_file_comes_through(name: str, worker: Worker, tmp_path: Path) -> None:
    make(BY_NAME[name], tmp_path)
    results = tmp_path / "results"
    results.mkdir()
    faults, _ = check(name, tmp_path, results, worker)
    assert faults == []
