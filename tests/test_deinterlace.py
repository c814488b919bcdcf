"""A deinterlaced picture depends on its neighbours and on nothing that came long before."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import decoded, planes_of
from torture.films import Pictures, write_film

from rtsr.sources.deinterlace import Decoded, deinterlaced

INTERLACED = (0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0)  # of each picture


@pytest.fixture
def mixed(tmp_path: Path) -> list[Decoded]:
    plain = decoded(write_film(tmp_path / "plain.mkv", Pictures(frames=12)))
    fields = decoded(write_film(tmp_path / "fields.mkv", Pictures(frames=12, interlaced="tt")))
    assert not plain[0].interlaced_frame and fields[0].interlaced_frame
    pictures = [(fields if is_field else plain)[i] for i, is_field in enumerate(INTERLACED)]
    return [Decoded(p, i, 1, False, p.interlaced_frame, i) for i, p in enumerate(pictures)]


def shown(items: list[Decoded], mode: str) -> dict[int | None, list[bytes]]:
    return {d.pts: [plane.tobytes() for plane in planes_of(d.picture)] for d in deinterlaced(items, mode)}


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("begin", range(1, 11))
def test_decoding_may_begin_one_picture_ahead(mode: str, begin: int, mixed: list[Decoded]) -> None:
    whole, part = shown(mixed, mode), shown(mixed[begin:], mode)
    assert list(whole) == list(range(12))
    for pts in range(begin + 1, 12):
        assert part[pts] == whole[pts], pts
