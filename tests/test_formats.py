"""Every pixel format in, the same out: planes repeated to the code value, or what is lost said before the start."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import rtsr
from rtsr import pipeline
from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.reference import ReferenceEngine
from rtsr.errors import ConfigError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.manifest import installed_engines
from rtsr.pixels import PixelFormat
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource
from rtsr.sources.pictures import PlaneReader

Draw = Callable[[PixelFormat, int], tuple[np.ndarray, np.ndarray]]
WIDTH, HEIGHT = 48, 32
YUV = ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p")
DEEP = ("yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv422p12le", "yuv444p12le", "yuv420p16le")
GRAY = ("gray", "gray10le", "gray12le", "gray16le", "ya8")
RGB = ("bgr0", "gbrp10le", "gbrp12le", "gbrp16le", "bgra", "gbrap10le", "gbrap16le")
ALPHA = ("yuva420p", "yuva422p", "yuva444p", "yuva420p10le", "yuva444p12le", "yuva444p16le")


def noise(pixels: PixelFormat, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """y (C, H, W) and uv (K, h, w) of every code value, black and white included."""
    rng = np.random.default_rng(seed)
    shapes = (pixels.full_planes, HEIGHT, WIDTH), (pixels.chroma_planes, *pixels.chroma_size(HEIGHT, WIDTH))
    y, uv = (rng.integers(0, pixels.white + 1, shape, pixels.dtype) for shape in shapes)
    y[:, 0, :2] = 0, pixels.white
    return y, uv


def waves(pixels: PixelFormat, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same, smooth, for what is checked by likeness."""
    y, uv = noise(pixels, seed)
    for planes in (y, uv):
        yy, xx = np.mgrid[0 : planes.shape[1], 0 : planes.shape[2]]
        for i, plane in enumerate(planes):
            plane[:] = (0.5 + 0.4 * np.sin((xx + (i + 1) * yy + 3 * seed) / WIDTH * 3)) * pixels.white
    return y, uv


def write_ffv1(path: Path, pix_fmt: str, count: int = 2, draw: Draw = noise) -> list[tuple[np.ndarray, np.ndarray]]:
    """A lossless film; what it holds."""
    pixels = PixelFormat.of(pix_fmt)
    assert pixels is not None
    planes = [draw(pixels, seed) for seed in range(count)]
    spec = VideoSpec(WIDTH, HEIGHT, Fraction(1, 24), Fraction(24), pixels=pixels)
    with closing(FileSink(path, spec, 1, Encoding("ffv1"))) as sink:
        for i, (y, uv) in enumerate(planes):
            sink.write(FrameBatch(y[None], uv[None], (i,), spec.time_base, pixels=pixels))
        sink.finish()
    return planes


def read(path: Path) -> tuple[PixelFormat, list[tuple[np.ndarray, np.ndarray]]]:
    """Pixels and planes of all pictures, straight from the decoder."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    pixels = PixelFormat.of(frames[0].format.name)
    assert pixels is not None
    return pixels, [tuple(p.copy() for p in PlaneReader(pixels).planes(frame)) for frame in frames]  # type: ignore[misc]


@pytest.mark.parametrize("pix_fmt", [*YUV, *DEEP, *GRAY, *RGB, *ALPHA])
def test_every_format_goes_through_to_the_code_value(pix_fmt: str, tmp_path: Path) -> None:
    planes = write_ffv1(tmp_path / "in.mkv", pix_fmt)
    found, same = read(tmp_path / "in.mkv")
    assert found == PixelFormat.of(pix_fmt)
    for written, back in zip(planes, same, strict=True):
        np.testing.assert_array_equal(written[0], back[0])
    with (
        closing(FileSource(tmp_path / "in.mkv")) as source,
        closing(FileSink(tmp_path / "out.mkv", source.spec, 3, Encoding("ffv1"))) as sink,
    ):
        pipeline.run(source, ReferenceEngine(3, "nearest"), sink)
        sink.finish()
    kept, large = read(tmp_path / "out.mkv")
    assert kept == found
    for small, big in zip(planes, large, strict=True):
        for a, b in zip(small, big, strict=True):
            np.testing.assert_array_equal(b, a.repeat(3, 1).repeat(3, 2))


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuv444p12le", "gray", "bgr0", "bgra", "yuva420p", "yuva444p10le"])
def test_a_learned_engine_takes_every_format(pix_fmt: str, engines: Path, tmp_path: Path) -> None:
    """`repeat` under OpenVINO: full-size planes are its, chroma is interpolated as ever."""
    planes = write_ffv1(tmp_path / "in.mkv", pix_fmt, draw=waves)
    rtsr.upscale(tmp_path / "in.mkv", tmp_path / "out.mkv", scale=2, model="repeat", encoding=Encoding("ffv1"))
    kept, large = read(tmp_path / "out.mkv")
    assert kept == PixelFormat.of(pix_fmt)
    for (y, _), (big, _) in zip(planes, large, strict=True):
        np.testing.assert_array_equal(big, y.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize(
    ("pix_fmt", "suffix", "codec", "written"),
    [
        ("yuv420p", ".mp4", "libx264", "yuv420p"),
        ("yuv422p", ".mp4", "libx264", "yuv422p"),
        ("yuv444p10le", ".mkv", "libx264", "yuv444p10le"),
        ("yuv411p", ".mp4", "libx264", "yuv422p"),
        ("yuv420p12le", ".mp4", "libx265", "yuv420p12le"),
        ("yuv444p12le", ".mov", "libx265", "yuv444p12le"),
        ("yuv420p16le", ".mkv", "ffv1", "yuv420p16le"),
        ("yuv420p10le", ".webm", "libsvtav1", "yuv420p10le"),
        ("yuv444p", ".webm", "libvpx-vp9", "yuv444p"),
        ("yuva420p", ".webm", "libvpx-vp9", "yuva420p"),
        ("yuva444p10le", ".mov", "prores", "yuva444p10le"),
        ("yuva444p12le", ".mov", "prores", "yuva444p10le"),
        ("yuva420p", ".mkv", "ffv1", "yuva420p"),
        ("gray10le", ".mp4", "libx264", "gray10le"),
        ("bgr0", ".mp4", "libx264", "yuv420p"),
        ("gbrp16le", ".mp4", "libx264", "yuv420p10le"),
        ("bgra", ".webm", "libvpx-vp9", "yuva420p"),
        ("bgr0", "%d.png", "png", "rgb24"),
        ("gbrp16le", "%d.png", "png", "rgb48be"),
        ("ya8", "%d.png", "png", "ya8"),
        ("yuv420p", "%d.png", "png", "rgb24"),
        ("yuv420p10le", "%d.tif", "tiff", "rgb48le"),
        ("yuv422p", "%d.jpg", "mjpeg", "yuvj422p"),
    ],
)
def test_the_codec_follows_the_pixels(pix_fmt: str, suffix: str, codec: str, written: str) -> None:
    pixels = PixelFormat.of(pix_fmt)
    assert pixels is not None
    spec = VideoSpec(WIDTH, HEIGHT, Fraction(1, 24), pixels=pixels)
    encoder = Encoding().resolve(Path(f"out{suffix}"), spec)
    assert (encoder.name, encoder.pix_fmt, encoder.losses) == (codec, written, ())


@pytest.mark.parametrize(
    ("pix_fmt", "suffix", "encoding", "word"),
    [
        ("yuva420p", ".mp4", Encoding(), "alpha"),
        ("yuv422p10le", ".webm", Encoding(), "chroma"),
        ("yuv420p10le", ".webm", Encoding("libvpx-vp9"), "2 of 10 bits"),
        ("gray16le", ".mp4", Encoding(), "4 of 16 bits"),
    ],
)
def test_what_would_be_lost_stops_the_job(
    pix_fmt: str, suffix: str, encoding: Encoding, word: str, tmp_path: Path
) -> None:
    write_ffv1(tmp_path / "in.mkv", pix_fmt, draw=waves)
    output = tmp_path / f"out{suffix}"
    with pytest.raises(ConfigError, match=word):
        rtsr.upscale(tmp_path / "in.mkv", output, scale=2, backend="reference", encoding=encoding)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv"]
    report = rtsr.upscale(
        tmp_path / "in.mkv", output, scale=4, backend="reference", encoding=encoding, drop_unsupported=True
    )
    assert any(word in sentence for sentence in report.notices)
    assert output.exists()


def flat(pixels: PixelFormat, value: int) -> FrameBatch:
    y = np.full((1, pixels.full_planes, HEIGHT, WIDTH), value, pixels.dtype)
    uv = np.full((1, pixels.chroma_planes, *pixels.chroma_size(HEIGHT, WIDTH)), pixels.white - value, pixels.dtype)
    return FrameBatch(y, uv, (0,), Fraction(1, 24), pixels=pixels)


SHIPPED = sorted(
    {
        (e.tier, e.scale, e.degradation, e.detail)
        for e in installed_engines()
        if e.tier in ("nano", "fast", "balanced") and e.detail in (0, 1)
    }
)


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 1), (10, 1), (12, 8)])  # in code values
@pytest.mark.parametrize(("model", "scale", "degradation", "detail"), SHIPPED, ids=str)
def test_flat_patches_keep_their_mean(
    model: str, scale: int, degradation: str, detail: float, bits: int, tolerance: int
) -> None:
    pixels = PixelFormat(bits=bits)
    choice = EngineChoice(scale, model, degradation, "openvino", bits, detail=detail)
    with closing(open_engine(choice)) as engine:
        for value in np.linspace(16, 235, 12).round().astype(int) << (bits - 8):
            result = engine.infer(flat(pixels, int(value)))
            assert abs(result.y.mean() - value) <= tolerance, f"luma {value} became {result.y.mean()}"
            assert abs(result.uv.astype(int) - (pixels.white - value)).max() <= 1


@pytest.mark.parametrize("matrix", ["ITU601", "ITU709"])
def test_rgb_becomes_bt709_whatever_it_was(matrix: str, tmp_path: Path) -> None:
    """Eight corners of the cube, as patches; the output decoded by its own tags shows them again."""
    colours = np.array([[r, g, b] for r in (40, 220) for g in (30, 210) for b in (20, 200)], np.uint8)
    picture = colours.repeat(8, 0)[None].repeat(16, 0)  # (16, 64, 3)
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        stream = container.add_stream("libx264rgb", rate=24, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 16, "rgb24"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        for i in range(3):
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    report = rtsr.upscale(tmp_path / "in.mkv", tmp_path / "out.mp4", backend="reference", encoding=Encoding(crf=1))
    assert any("BT.709" in sentence for sentence in report.notices)
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = next(container.decode(video=0))
    assert (int(shown.colorspace), int(shown.color_range)) == (1, 1)
    rgb = shown.to_ndarray(format="rgb24", src_colorspace="ITU709", interpolation="BICUBIC")
    middles = rgb[32, 16::32]  # the middle of each patch, 32 wide
    assert abs(middles.astype(int) - colours).max() <= 3
