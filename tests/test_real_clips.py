"""Files that other programs made: every time, and every packet that is not the picture, goes through untouched."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import TOLERANT, decoded, packets, times

import rtsr
from rtsr.sinks.encoding import Encoding

FAST = Encoding(preset="ultrafast", crf=30)


def real(clips: Path, name: str) -> Path:
    if not (clips / name).exists():
        pytest.skip(f"no {name} among the real clips")
    return clips / name


def kinds(path: Path) -> list[str]:
    with av.open(str(path), **TOLERANT) as container:
        return [stream.type for stream in container.streams]


def picture_times(path: Path) -> list[Fraction]:
    """Of all pictures, without decoding them."""
    return sorted(p.pts for p in packets(path, "video") if p.pts is not None)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_uneven_frame_times(suffix: str, clips: Path, tmp_path: Path) -> None:
    """bbb: frame times jump between 1/30 and 2/30 s."""
    source, output = real(clips, "bbb_480x360_aac.mp4"), tmp_path / f"out{suffix}"
    report = rtsr.upscale(source, output, scale=2, backend="reference", encoding=FAST)
    assert report.frames_out == report.frames_in == 240
    tolerance = 0 if suffix == ".mp4" else Fraction(1, 2000)
    pairs = list(zip(picture_times(output), times(source), strict=True))
    assert all(abs(found - true) <= tolerance for found, true in pairs)
    assert [p.data for p in packets(output, "audio")] == [p.data for p in packets(source, "audio")]


def before(end: Fraction, source: Path, kind: str, number: int = 0) -> list[tuple[bytes, Fraction | None]]:
    return [(p.data, p.pts) for p in packets(source, kind, number) if p.pts is not None and p.pts < end]


def test_sound_and_telemetry_of_an_action_camera(clips: Path, tmp_path: Path) -> None:
    """gopro: a timecode track, which the muxer makes anew, and telemetry of a codec that FFmpeg does not know."""
    source, output, end = real(clips, "gopro_hero7_480p_aac.mp4"), tmp_path / "out.mp4", Fraction(2)
    rtsr.upscale(source, output, scale=2, backend="reference", encoding=FAST, end=end, drop_unsupported=True)
    assert times(output) == [t for t in picture_times(source) if t < end]
    assert before(end, output, "audio") == before(end, source, "audio")
    timecode, telemetry = (before(end, source, "data", number) for number in (0, 1))
    found = [before(end, output, "data", number) for number in (0, 1)]
    assert sorted(found) == sorted([timecode, telemetry])


def test_colour_and_tags_of_an_action_camera(clips: Path, tmp_path: Path) -> None:
    source, output = real(clips, "gopro_hero7_480p_aac.mp4"), tmp_path / "out.mp4"
    options = {"encoding": FAST, "end": Fraction(1, 5), "drop_unsupported": True}
    rtsr.upscale(source, output, scale=2, backend="reference", **options)
    frame, original = decoded(output)[0], next_picture(source)
    assert (frame.width, frame.height) == (2 * original.width, 2 * original.height)
    assert (frame.color_range, frame.colorspace) == (original.color_range, original.colorspace)
    assert tags(output) == tags(source)


def tags(path: Path) -> dict[str, str]:
    """Of the container. FFmpeg 9 lists the creation time twice where the file has it in two places."""
    with av.open(str(path), **TOLERANT) as container:
        about_the_file = {"major_brand", "minor_version", "compatible_brands", "encoder"}
        return {k: v.partition(";")[0] for k, v in container.metadata.items() if k not in about_the_file}


def next_picture(path: Path) -> av.VideoFrame:
    with av.open(str(path), **TOLERANT) as container:
        return next(container.decode(video=0))


def test_a_camera_stream_without_a_place_is_refused_by_name(clips: Path, tmp_path: Path) -> None:
    source = real(clips, "gopro_hero7_480p_aac.mp4")
    with pytest.raises(rtsr.RtsrError, match=r"GoPro SOS.*--drop-unsupported"):
        rtsr.upscale(source, tmp_path / "out.mp4", scale=2, backend="reference")
    assert list(tmp_path.iterdir()) == []


def test_a_stream_that_ffmpeg_cannot_read_is_not_lost_in_silence(clips: Path, tmp_path: Path) -> None:
    """All packets of GoPro SOS have the same time, so FFmpeg gives none of them out; .mov would hold its codec."""
    source = real(clips, "gopro_hero7_480p_aac.mp4")
    with pytest.raises(rtsr.RtsrError, match=r"GoPro SOS.*--drop-unsupported"):
        rtsr.upscale(source, tmp_path / "out.mov", scale=2, backend="reference", encoding=FAST, end=Fraction(1, 10))


@pytest.mark.parametrize("name", ["blocks_720p_aac.mp4", "coffee_720p_aac.mp4", "cockatoo_720p_noaudio.mp4"])
def test_the_beginning_of_a_phone_film(name: str, clips: Path, tmp_path: Path) -> None:
    source, output, end = real(clips, name), tmp_path / "out.mp4", Fraction(1, 5)
    rtsr.upscale(source, output, scale=2, backend="reference", encoding=FAST, end=end)
    assert kinds(output) == kinds(source)
    assert times(output) == [t for t in picture_times(source) if t < end]
    if "audio" in kinds(source):
        assert [(p.data, p.pts) for p in packets(output, "audio")] == before(end, source, "audio")
