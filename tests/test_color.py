"""The matrix of a video that does not tell it is that of its own size, not of the enlarged picture's."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import LOSSLESS, UNTAGGED, Video, write_clip

import rtsr
from rtsr.color import matrix_of
from rtsr.frames import ColorTags, VideoSpec
from rtsr.options import Options
from rtsr.sinks.encoding import Encoding

WIDTH, HEIGHT = 64, 368  # x2: 736 lines, which would mean BT.709 in a video that came so


@pytest.mark.parametrize(("lines", "matrix"), [(480, 5), (719, 5), (720, 1), (1080, 1)])
def test_what_players_assume(lines: int, matrix: int) -> None:
    assert matrix_of(2, lines) == matrix
    assert matrix_of(9, lines) == 9


@pytest.mark.parametrize(("lines", "matrix"), [(576, 5), (1080, 1)])
def test_an_engine_is_told_the_matrix_of_the_whole_picture(lines: int, matrix: int) -> None:
    """It may see tiles of a few lines only."""
    spec = VideoSpec(640, lines, Fraction(1, 24))
    assert Options().choice(2, spec).color.colorspace == matrix
    assert Options().choice(2, replace(spec, color=ColorTags(9))).color.colorspace == 9


def test_untagged_video_of_few_lines_becomes_rgb_by_bt601(tmp_path: Path) -> None:
    y, u, v = 120, 90, 180
    shapes = ((HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2), (HEIGHT // 2, WIDTH // 2))
    planes = tuple(np.full(shape, level, np.uint8) for shape, level in zip(shapes, (y, u, v), strict=True))
    video = Video(width=WIDTH, height=HEIGHT, pts=(0,), planes=[planes], color=UNTAGGED, **LOSSLESS)
    write_clip(tmp_path / "in.mkv", video)
    rtsr.upscale(
        tmp_path / "in.mkv", tmp_path / "out.mkv", scale=2, backend="reference", encoding=Encoding("libx264rgb", crf=0)
    )
    with av.open(str(tmp_path / "out.mkv")) as container:
        picture = next(container.decode(video=0))
    assert picture.height == 2 * HEIGHT >= 720
    red, green, blue = picture.to_ndarray(format="rgb24")[HEIGHT, WIDTH].astype(float)
    luma = float(Fraction(255, 219) * (y - 16))
    assert red == pytest.approx(luma + 1.402 * 255 / 224 * (v - 128), abs=2)  # BT.601; BT.709 has 1.5748
    assert blue == pytest.approx(luma + 1.772 * 255 / 224 * (u - 128), abs=2)
    assert green == pytest.approx(luma - 255 / 224 * (0.344136 * (u - 128) + 0.714136 * (v - 128)), abs=2)
