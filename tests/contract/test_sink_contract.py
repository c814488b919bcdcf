"""What every sink promises: files of every container and codec that opens here, and the null sink."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import VFR_PTS, decoded, draw, packets, planes_of, read_number, steady_pts, times

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.pixels import PixelFormat
from rtsr.sinks.codecs import CODECS
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sinks.null import NullSink

SCALE, WIDTH, HEIGHT = 2, 32, 24  # of the input; pictures of SCALE times that are written
MP4_BASE, MKV_BASE = Fraction(1, 90000), Fraction(1, 1000)


@dataclass(frozen=True)
class Target:
    suffix: str
    codec: str
    time_base: Fraction
    pts: tuple[int, ...]
    lossless: bool = False


VFR_MS = tuple(pts // 90 for pts in VFR_PTS)
STEADY = steady_pts(24)
TEN_BIT = ("libx265", "libsvtav1", "prores", "ffv1")
TARGETS = [
    Target(".mp4", "libx264", MP4_BASE, VFR_PTS),
    Target(".mp4", "libx265", MP4_BASE, VFR_PTS),
    Target(".mp4", "libsvtav1", MP4_BASE, VFR_PTS),
    Target(".m4v", "libx264", MP4_BASE, VFR_PTS),
    Target(".mov", "libx264", MP4_BASE, VFR_PTS),
    Target(".mov", "prores", MP4_BASE, VFR_PTS),
    Target(".mkv", "libx264", MKV_BASE, VFR_MS),
    Target(".mkv", "libx265", MKV_BASE, VFR_MS),
    Target(".mkv", "ffv1", MKV_BASE, VFR_MS, lossless=True),
    Target(".mkv", "prores", MKV_BASE, VFR_MS),
    Target(".webm", "libvpx-vp9", MKV_BASE, VFR_MS),
    Target(".webm", "libsvtav1", MKV_BASE, VFR_MS),
    Target(".ts", "libx264", MP4_BASE, VFR_PTS),
    Target(".ts", "libx265", MP4_BASE, VFR_PTS),
    Target(".mov", "qtrle", MP4_BASE, VFR_PTS),
    Target(".mov", "png", MP4_BASE, VFR_PTS),
    Target(".mkv", "libx264rgb", MKV_BASE, VFR_MS),
    Target(".avi", "libx264", Fraction(1, 24), tuple(range(24))),
    Target(".avi", "ffv1", Fraction(1, 24), tuple(range(24)), lossless=True),
]


def name(target: Target) -> str:
    return f"{target.suffix[1:]}-{target.codec}"


@pytest.fixture(params=TARGETS, ids=name)
def target(request: pytest.FixtureRequest) -> Target:
    return request.param


def open_sink(folder: Path, target: Target, bits: int = 8) -> FileSink:
    spec = VideoSpec(WIDTH, HEIGHT, target.time_base, Fraction(24), pixels=PixelFormat(bits=bits))
    return FileSink(folder / f"out{target.suffix}", spec, SCALE, Encoding(target.codec))


def pictures(target: Target, batch: int = 1) -> Iterator[FrameBatch]:
    """Numbered pictures at the output's size, `batch` of them at a time."""
    for first in range(0, len(target.pts), batch):
        pts = target.pts[first : first + batch]
        planes = [draw(first + i, SCALE * WIDTH, SCALE * HEIGHT) for i in range(len(pts))]
        y = np.stack([p[0] for p in planes])[:, None]
        uv = np.stack([np.stack(p[1:]) for p in planes])
        yield FrameBatch(y, uv, pts, target.time_base)


@pytest.mark.parametrize("batch", [1, 3])
def test_every_frame_is_in_the_file(target: Target, batch: int, tmp_path: Path) -> None:
    sink = open_sink(tmp_path, target)
    for pictures_of_a_batch in pictures(target, batch):
        sink.write(pictures_of_a_batch)
    sink.finish()
    sink.close()
    assert [p.name for p in tmp_path.iterdir()] == [f"out{target.suffix}"]
    frames = decoded(tmp_path / f"out{target.suffix}")
    assert [(f.width, f.height) for f in frames] == [(SCALE * WIDTH, SCALE * HEIGHT)] * len(target.pts)
    assert [read_number(luma8(f)) for f in frames] == list(range(len(target.pts)))


def luma8(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb24")[..., 1]
    y = planes_of(frame)[0]
    return (y >> 2).astype(np.uint8) if y.dtype == np.uint16 else y


def test_times_are_the_frames_own(target: Target, tmp_path: Path) -> None:
    """MPEG-TS starts its clock later, by the muxer's own delay; the distances are exact.

    AVI stores decoding order only, which has to be the pictures' own; FFmpeg's reader guesses pts of H.264 from it.
    """
    sink = open_sink(tmp_path, target)
    for batch in pictures(target):
        sink.write(batch)
    sink.finish()
    output = tmp_path / f"out{target.suffix}"
    found = [packet.dts for packet in packets(output, "video")] if target.suffix == ".avi" else times(output)
    offset = found[0] if target.suffix == ".ts" else 0
    assert [t - offset for t in found] == [pts * target.time_base for pts in target.pts]


@pytest.mark.parametrize("target", [t for t in TARGETS if t.lossless], ids=name)
def test_lossless_codecs_keep_every_code_value(target: Target, tmp_path: Path) -> None:
    sink = open_sink(tmp_path, target)
    for batch in pictures(target):
        sink.write(batch)
    sink.finish()
    for i, frame in enumerate(decoded(tmp_path / f"out{target.suffix}")):
        for found, drawn in zip(planes_of(frame), draw(i, SCALE * WIDTH, SCALE * HEIGHT), strict=True):
            np.testing.assert_array_equal(found, drawn)


def test_nothing_is_visible_under_the_final_name_before_finish(target: Target, tmp_path: Path) -> None:
    sink = open_sink(tmp_path, target)
    for batch in pictures(target):
        sink.write(batch)
    assert not sink.output.exists()
    sink.close()


@pytest.mark.parametrize("written", [0, 1, 14])
def test_close_without_finish_leaves_nothing(target: Target, written: int, tmp_path: Path) -> None:
    sink = open_sink(tmp_path, target)
    for _, batch in zip(range(written), pictures(target), strict=False):
        sink.write(batch)
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_close_after_finish_leaves_the_file(target: Target, tmp_path: Path) -> None:
    sink = open_sink(tmp_path, target)
    for batch in pictures(target):
        sink.write(batch)
    sink.finish()
    sink.close()
    sink.close()
    assert sink.output.stat().st_size > 0


def test_an_existing_file_is_replaced_only_at_the_end(target: Target, tmp_path: Path) -> None:
    old = tmp_path / f"out{target.suffix}"
    old.write_bytes(b"old")
    sink = open_sink(tmp_path, target)
    sink.write(next(pictures(target)))
    sink.close()
    assert old.read_bytes() == b"old"


def test_every_codec_has_a_target_or_needs_a_gpu() -> None:
    pictures = {"mjpeg", "tiff"}  # see tests/test_formats.py
    assert set(CODECS) - {t.codec for t in TARGETS} - pictures == {"h264_nvenc", "hevc_nvenc", "av1_nvenc"}


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_nvenc_works_or_says_what_it_lacks(codec: str, tmp_path: Path) -> None:
    spec = VideoSpec(320, 240, MP4_BASE, Fraction(24))
    try:
        FileSink(tmp_path / "out.mp4", spec, 2, Encoding(codec)).close()
    except ConfigError as error:
        assert codec in str(error) and "\n" not in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".webm", "libx264"),
        (".webm", "ffv1"),
        (".mp4", "prores"),
        (".mov", "ffv1"),
        (".avi", "libx265"),
        (".mov", "libvpx-vp9"),
        (".mov", "libsvtav1"),
        (".ts", "prores"),
        (".ts", "ffv1"),
        (".ts", "libvpx-vp9"),
        (".ts", "libsvtav1"),
    ],
)
def test_a_codec_that_the_container_cannot_hold_is_refused(suffix: str, codec: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        open_sink(tmp_path, Target(suffix, codec, MP4_BASE, STEADY)).close()
    sentence = str(caught.value)
    assert suffix in sentence and codec in sentence and "\n" not in sentence
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "ffv1"])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips_are_complete(codec: str, frames: int, tmp_path: Path) -> None:
    target = Target(".mkv" if codec == "ffv1" else ".mp4", codec, MP4_BASE, VFR_PTS[:frames])
    sink = open_sink(tmp_path, target)
    for batch in pictures(target):
        sink.write(batch)
    sink.finish()
    assert [read_number(planes_of(f)[0]) for f in decoded(sink.output)] == list(range(frames))


@pytest.mark.parametrize("target", [t for t in TARGETS if t.codec in TEN_BIT], ids=name)
def test_ten_bits_stay_ten(target: Target, tmp_path: Path) -> None:
    spec = VideoSpec(WIDTH, HEIGHT, target.time_base, Fraction(24), pixels=PixelFormat(bits=10))
    sink = FileSink(tmp_path / f"out{target.suffix}", spec, SCALE, Encoding(target.codec))
    y, u, v = draw(3, SCALE * WIDTH, SCALE * HEIGHT, "yuv420p10le")
    for pts in target.pts:
        sink.write(
            FrameBatch(y[None, None], np.stack([u, v])[None], (pts,), target.time_base, pixels=PixelFormat(bits=10))
        )
    sink.finish()
    frame = decoded(sink.output)[-1]
    assert "10le" in frame.format.name
    if target.lossless:
        np.testing.assert_array_equal(planes_of(frame)[0], y)


@pytest.mark.parametrize(
    "time_base", [Fraction(1, 90000), Fraction(1, 12800), Fraction(1, 1000), Fraction(1001, 24000)]
)
def test_avi_takes_any_time_base(time_base: Fraction, tmp_path: Path) -> None:
    """AVI has a frame rate instead of timestamps: a clip of constant rate has one entry a frame, whatever its base."""
    pts = tuple(round(i * Fraction(1001, 24000) / time_base) for i in range(24))
    spec = VideoSpec(WIDTH, HEIGHT, time_base, Fraction(24000, 1001))
    sink = FileSink(tmp_path / "out.avi", spec, SCALE, Encoding("libx264"))
    for batch in pictures(Target(".avi", "libx264", time_base, pts)):
        sink.write(batch)
    sink.finish()
    frames = decoded(sink.output)
    assert [read_number(planes_of(f)[0]) for f in frames] == list(range(24))
    assert sink.output.stat().st_size < 100_000


def test_a_disappearing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SinkError) as caught:
        open_sink(tmp_path / "missing", TARGETS[0])
    assert "missing" in str(caught.value) and "\n" not in str(caught.value)


def test_the_null_sink_counts(tmp_path: Path) -> None:
    sink = NullSink()
    for batch in pictures(TARGETS[0], 3):
        sink.write(batch)
    sink.finish()
    sink.close()
    sink.close()
    assert sink.frames == len(VFR_PTS)
