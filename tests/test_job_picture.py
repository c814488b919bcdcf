"""The picture is larger and nothing else: code values, colour tags, shape of a pixel, rotation, depth, odd sizes."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import (
    BT601_FULL,
    BT601_LIMITED,
    BT709_FULL,
    BT709_LIMITED,
    BT2020_FULL,
    BT2020_LIMITED,
    LOSSLESS,
    UNTAGGED,
    Video,
    decoded,
    main_video,
    planes_of,
    read_number,
    write_clip,
)

import rtsr
from rtsr import pipeline
from rtsr.backends.reference import ReferenceEngine
from rtsr.errors import ConfigError
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource

COLORS = {
    "601-limited": BT601_LIMITED,
    "601-full": BT601_FULL,
    "709-limited": BT709_LIMITED,
    "709-full": BT709_FULL,
    "2020-limited": BT2020_LIMITED,
    "2020-full": BT2020_FULL,
    "untagged": UNTAGGED,
}
# Y, Cb, Cr of white, yellow, cyan, green, magenta, red, blue, black at 75 % in BT.601, limited range.
BARS = (
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
    (16, 128, 128),
)

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


def ramp(bits: int) -> Planes:
    """Every code value of luma, and of chroma, forwards and backwards."""
    values = np.arange(256, dtype=np.uint16) * (4 if bits == 10 else 1) + (3 if bits == 10 else 0)
    y = np.tile(values, (16, 1))
    u = np.tile(values[::2], (8, 1))
    return as_depth((y, u, u[:, ::-1].copy()), bits)


def bars(bits: int) -> Planes:
    y, u, v = (
        np.repeat([bar[i] for bar in BARS], width)[None].repeat(h, 0)
        for i, width, h in ((0, 32, 16), (1, 16, 8), (2, 16, 8))
    )
    shift = 2 if bits == 10 else 0
    return as_depth((y << shift, u << shift, v << shift), bits)


def as_depth(planes: Planes, bits: int) -> Planes:
    return tuple(plane.astype(np.uint16 if bits == 10 else np.uint8) for plane in planes)  # type: ignore[return-value]


def lossless_clip(path: Path, pictures: list[Planes], bits: int, color: tuple[int, int, int, int]) -> Path:
    pix_fmt = "yuv420p10le" if bits == 10 else "yuv420p"
    height, width = pictures[0][0].shape
    pts = [3750 * i for i in range(len(pictures))]
    return write_clip(
        path, Video(width=width, height=height, pix_fmt=pix_fmt, pts=pts, color=color, planes=pictures, **LOSSLESS)
    )  # type: ignore[arg-type]


def upscale_nearest(source_path: Path, output: Path, scale: int) -> None:
    """File to file through the real source, pipeline and sink, with the engine that repeats code values."""
    with closing(FileSource(source_path)) as source:
        sink = FileSink(output, source.spec, scale, Encoding("ffv1"))
        with closing(sink):
            pipeline.run(source, ReferenceEngine(scale, "nearest"), sink)
            sink.finish()


@pytest.mark.parametrize("color", COLORS)
@pytest.mark.parametrize(("bits", "scale"), [(8, 2), (8, 4), (10, 2), (10, 3)])
def test_ramps_and_bars_are_exact_to_the_code_value(color: str, bits: int, scale: int, tmp_path: Path) -> None:
    pictures = [ramp(bits), bars(bits)]
    source = lossless_clip(tmp_path / "in.mkv", pictures, bits, COLORS[color])
    upscale_nearest(source, tmp_path / "out.mkv", scale)
    for frame, planes in zip(decoded(tmp_path / "out.mkv"), pictures, strict=True):
        for found, plane in zip(planes_of(frame), planes, strict=True):
            np.testing.assert_array_equal(found, plane.repeat(scale, 0).repeat(scale, 1))


def tags(path: Path) -> tuple[int, int, int, int]:
    with av.open(str(path)) as container:
        context = main_video(container).codec_context
        return int(context.colorspace), int(context.color_primaries), int(context.color_trc), int(context.color_range)


def frame_tags(path: Path) -> tuple[int, int, int, int]:
    frame = decoded(path)[0]
    return int(frame.colorspace), int(frame.color_primaries), int(frame.color_trc), int(frame.color_range)


def upscale(source: Path, output: Path, **options: Any) -> rtsr.job.Report:  # type: ignore[name-defined]
    return rtsr.upscale(source, output, scale=2, backend="reference", **options)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx265"), (".mp4", "libsvtav1"), (".mkv", "ffv1")]
)
@pytest.mark.parametrize("color", COLORS)
def test_colour_tags_come_through(color: str, suffix: str, codec: str, tmp_path: Path) -> None:
    """Unknown stays unknown; but HEVC and AV1 always state a range, and limited is what unknown means."""
    source = write_clip(tmp_path / f"in{suffix}", Video(pts=(0, 3750, 7500), color=COLORS[color]))
    upscale(source, tmp_path / f"out{suffix}", encoding=Encoding(codec))
    always_stated = codec in ("libx265", "libsvtav1") and color == "untagged"
    assert tags(tmp_path / f"out{suffix}") == ((2, 2, 2, 1) if always_stated else COLORS[color])
    assert frame_tags(tmp_path / f"out{suffix}") == ((2, 2, 2, 1) if always_stated else COLORS[color])


@pytest.mark.parametrize("color", ["601-limited", "709-limited", "2020-limited", "709-full"])
def test_a_coloured_surface_keeps_its_colour(color: str, tmp_path: Path) -> None:
    """Through the whole job with a lossy codec: the mean of a flat patch moves by less than one code value."""
    y, u, v = np.full((48, 64), 107, np.uint8), np.full((24, 32), 87, np.uint8), np.full((24, 32), 171, np.uint8)
    source = write_clip(tmp_path / "in.mp4", Video(pts=(0, 3750), color=COLORS[color], planes=[(y, u, v)] * 2))
    upscale(source, tmp_path / "out.mp4")
    before, after = planes_of(decoded(source)[1]), planes_of(decoded(tmp_path / "out.mp4")[1])
    for old, new in zip(before, after, strict=True):
        assert abs(new.mean() - old.mean()) < 1.0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("ratio", [Fraction(4, 3), Fraction(8, 9)], ids=str)
def test_the_shape_of_a_pixel_stays(suffix: str, ratio: Fraction, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"in{suffix}", Video(sample_aspect_ratio=ratio))
    upscale(source, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert Fraction(main_video(container).sample_aspect_ratio) == ratio


@pytest.mark.parametrize("rotation", [90, -180, -90])
@pytest.mark.parametrize("output", [".mp4", ".mov", ".mkv"])
def test_rotation_stays_a_tag(rotation: int, output: str, tmp_path: Path) -> None:
    """A phone's upright film is stored lying; the display matrix says so, and goes on saying so."""
    source = write_clip(tmp_path / "in.mp4", Video(rotation=rotation))
    assert decoded(source)[0].rotation == rotation
    upscale(source, tmp_path / f"out{output}")
    frame = decoded(tmp_path / f"out{output}")[0]
    assert (frame.width, frame.height) == (128, 96)
    assert (frame.rotation - rotation) % 360 == 0


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("width", "height"), [(67, 45), (66, 45), (67, 46), (17, 9)])
def test_odd_sizes_come_out_whole(width: int, height: int, scale: int, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Video(width=width, height=height, pts=(0, 3750), **LOSSLESS))  # type: ignore[arg-type]
    upscale_nearest(source, tmp_path / "out.mkv", scale)
    for old, new in zip(decoded(source), decoded(tmp_path / "out.mkv"), strict=True):
        assert (new.width, new.height) == (width * scale, height * scale)
        for small, large in zip(planes_of(old), planes_of(new), strict=True):
            whole = small.repeat(scale, 0).repeat(scale, 1)
            np.testing.assert_array_equal(large, whole[: large.shape[0], : large.shape[1]])


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1"])
def test_an_odd_output_is_whole_or_refused_in_words(codec: str, tmp_path: Path) -> None:
    """4:2:0 encoders differ in what they take; none may write another size or fail with a number."""
    source = write_clip(tmp_path / "in.mkv", Video(width=67, height=45, pts=(0, 3750, 7500), **LOSSLESS))  # type: ignore[arg-type]
    output = tmp_path / "out.mkv"
    try:
        rtsr.upscale(source, output, scale=3, backend="reference", encoding=Encoding(codec))
    except ConfigError as error:
        assert codec in str(error) and "odd" in str(error)
        assert codec not in ("ffv1", "libvpx-vp9"), "these take odd sizes"
        assert not output.exists()
    else:
        assert {(f.width, f.height) for f in decoded(output)} == {(201, 135)}


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx265", ".mp4"),
        ("ffv1", ".mkv"),
        ("libsvtav1", ".mkv"),
        ("prores", ".mov"),
    ],
)
def test_ten_bits_stay_ten(codec: str, suffix: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Video(pix_fmt="yuv420p10le", **LOSSLESS))  # type: ignore[arg-type]
    upscale(source, tmp_path / f"out{suffix}", encoding=Encoding(codec))
    frames = decoded(tmp_path / f"out{suffix}")
    assert all(frame.format.name.endswith("10le") for frame in frames)
    assert [read_number(planes_of(frame)[0], 2) for frame in frames] == list(range(24))
    assert abs(planes_of(frames[3])[0].mean() - planes_of(decoded(source)[3])[0].mean()) < 4  # of 1023


def test_ten_bits_go_through_a_float_engine_exactly(engines: Path, tmp_path: Path) -> None:
    source = lossless_clip(tmp_path / "in.mkv", [ramp(10), bars(10)] * 3, 10, BT2020_LIMITED)
    rtsr.upscale(source, tmp_path / "out.mkv", scale=2, model="repeat", backend="openvino", encoding=Encoding("ffv1"))
    for frame, planes in zip(decoded(tmp_path / "out.mkv"), [ramp(10), bars(10)] * 3, strict=True):
        assert frame.format.name == "yuv420p10le"
        np.testing.assert_array_equal(planes_of(frame)[0], planes[0].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("scale", "backend"), [(3, "openvino"), (2, "onnxruntime")], ids=["no-float-engine", "8-bit-backend"]
)
def test_ten_bits_are_never_rounded_to_eight(scale: int, backend: str, engines: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Video(pix_fmt="yuv420p10le", **LOSSLESS))  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        rtsr.upscale(source, tmp_path / "out.mkv", scale=scale, model="repeat", backend=backend)
    assert "float" in str(caught.value) or "8-bit" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".mkv"] == ["in.mkv"]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_real_backend_is_exact_too(backend: str, scale: int, engines: Path, tmp_path: Path) -> None:
    """The `repeat` engine under a real runtime, the whole job, lossless: luma repeated, to the code value."""
    pytest.importorskip(backend)
    source = lossless_clip(tmp_path / "in.mkv", [ramp(8), bars(8)] * 4, 8, BT709_LIMITED)
    report = rtsr.upscale(
        source, tmp_path / "out.mkv", scale=scale, model="repeat", backend=backend, encoding=Encoding("ffv1")
    )
    assert (report.engine, report.backend, report.frames_out) == (f"repeat-x{scale}", backend, 8)
    for frame, planes in zip(decoded(tmp_path / "out.mkv"), [ramp(8), bars(8)] * 4, strict=True):
        np.testing.assert_array_equal(planes_of(frame)[0], planes[0].repeat(scale, 0).repeat(scale, 1))


def test_source_frame_types_do_not_become_keyframes(tmp_path: Path) -> None:
    """An input of keyframes only must not make the encoder write keyframes only."""
    source = write_clip(tmp_path / "in.mp4", Video(options={"g": "1", "preset": "veryfast"}))
    upscale(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size) == 1
