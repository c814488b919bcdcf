"""Still pictures: every kind of samples, all that lies beside them, coloured edges, alpha."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import SMALL, rtsr
from PIL import Image, ImageCms, ImageOps

import rtsr as library
from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.reference import ReferenceEngine
from rtsr.cli import app
from rtsr.errors import ConfigError, IncompleteError, RtsrError, SourceError
from rtsr.options import Options
from rtsr.pictures import enlarge
from rtsr.pictures.enlarge import LUMA, engine_shape, enlarge_picture
from rtsr.pictures.exif import orientation, upright, with_size
from rtsr.pictures.formats import FORMATS
from rtsr.pictures.job import upscale_picture
from rtsr.pictures.picture import Metadata, Picture, turned
from rtsr.pictures.read import read_picture
from rtsr.pictures.verify import compare_pictures
from rtsr.pictures.write import for_format, lacks, write_picture

TEST_SETS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "test"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><about>gr\xc3\xb6\xc3\x9fer</about></x:xmpmeta>'
NOTES = b"maker's own \x00\x01\x02" * 20
X2 = Options(scale=2, backend="reference", overwrite=True)
DROPPING = Options(scale=2, backend="reference", overwrite=True, drop_unsupported=True)


def photo_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif[0x8769] = {0x829A: (1, 250), 0x927C: NOTES, 0xA002: 40, 0xA003: 30}
    return exif.tobytes().removeprefix(b"Exif\0\0")


METADATA = Metadata(icc=ICC, exif=photo_exif(), xmp=XMP, density=(300.0, 300.0))


def drawn(width: int = 40, height: int = 30, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    """A smooth picture with an edge in it, (H, W, C)."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    planes = [x, y, np.where(x > y, 0.7, 0.3), 0.2 + 0.6 * y]
    white = np.iinfo(dtype).max
    return np.stack([np.rint(white * planes[c]).astype(dtype) for c in (0, 3, 2, 1)[:channels]], axis=-1)


def saved(path: Path, pixels: np.ndarray, metadata: Metadata = METADATA) -> Path:
    kind = FORMATS[path.suffix]
    write_picture(for_format(Picture(pixels, metadata), kind), kind, path)
    return path


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b.astype(float)) ** 2), 1e-9)))


# ---- what lies beside the pixels ----


@pytest.mark.parametrize("after", [".png", ".jpg", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("before", [".png", ".jpg", ".tif", ".webp", ".avif"])
def test_metadata_goes_from_each_format_to_each(before: str, after: str, tmp_path: Path) -> None:
    """As another program reads it; EXIF's own idea of the size is the new one."""
    source = saved(tmp_path / f"in{before}", drawn())
    output = tmp_path / f"out{after}"
    if after in (".webp", ".avif") and before in (".png", ".jpg", ".tif"):
        with pytest.raises(ConfigError, match="pixels per inch"):
            upscale_picture(source, output, X2)
    upscale_picture(source, output, DROPPING)
    with Image.open(output) as image:
        exif = image.getexif()
        inner = exif.get_ifd(0x8769)
        assert image.info["icc_profile"] == ICC
        found = image.info.get("xmp")
        assert (found.encode() if isinstance(found, str) else found) == XMP
        assert (exif[0x010F], exif[0x0112]) == ("Maker", 6)
        assert (inner[0xA002], inner[0xA003], inner[0x927C]) == (80, 60, NOTES)
        if {before, after} <= {".png", ".jpg", ".tif"}:
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert read_picture(output).size == (80, 60)


def test_exif_stays_byte_for_byte_but_for_the_size(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.jpg", drawn())
    upscale_picture(source, tmp_path / "out.webp", DROPPING)
    before, after = METADATA.exif, read_picture(tmp_path / "out.webp").metadata.exif
    assert after == with_size(before, 80, 60)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 2  # 40 and 30 became 80 and 60


def test_sizes_that_a_short_cannot_hold_become_longs() -> None:
    large = with_size(photo_exif(), 80_000, 40)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + large)
    assert exif.get_ifd(0x8769)[0xA002] == 80_000
    assert len(large) == len(photo_exif())


@pytest.mark.parametrize("data", [b"", b"II*\0", b"nonsense" * 9, b"MM\0*\xff\xff\xff\xff", photo_exif()[:40]])
def test_broken_exif_is_left_alone(data: bytes) -> None:
    assert orientation(data[:8]) == 1
    assert len(with_size(data, 5, 5)) == len(upright(data)) == len(data)


@pytest.mark.parametrize("number", range(1, 9))
def test_orientations_turn_as_other_programs_turn_them(number: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = number
    image = Image.fromarray(drawn())
    image.info["exif"] = exif.tobytes()
    np.testing.assert_array_equal(turned(drawn(), number), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_orientation_is_a_tag_and_applied_by_nobody_twice(suffix: str, dtype: type, tmp_path: Path) -> None:
    source = saved(tmp_path / f"in{suffix}", drawn(dtype=dtype))
    np.testing.assert_array_equal(read_picture(source).pixels, drawn(dtype=dtype))
    upscale_picture(source, tmp_path / f"out{suffix}", X2)
    result = read_picture(tmp_path / f"out{suffix}")
    assert result.size == (80, 60)
    assert orientation(result.metadata.exif) == 6
    assert library.enhance_image(source, scale=2, backend="reference").shape == (80, 60, 3)  # an array has no tag


def test_a_bitmap_that_cannot_tell_its_orientation_is_turned(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.png", drawn(), Metadata(exif=photo_exif()))
    with pytest.raises(ConfigError, match="EXIF data, which BMP does not hold"):
        upscale_picture(source, tmp_path / "out.bmp", X2)
    upscale_picture(source, tmp_path / "out.bmp", DROPPING)
    assert read_picture(tmp_path / "out.bmp").size == (60, 80)


def test_text_comments_and_segments_stay_where_they_can(tmp_path: Path) -> None:
    text = (("Title", "plain"), ("Author", "Größe 你好"))
    segments = ((0xED, b"Photoshop 3.0\0" + b"8BIM" + bytes(30)),)
    saved(tmp_path / "in.png", drawn(), Metadata(text=text))
    saved(tmp_path / "in.jpg", drawn(), Metadata(comment=b"a comment", segments=segments))
    upscale_picture(tmp_path / "in.png", tmp_path / "out.png", X2)
    upscale_picture(tmp_path / "in.jpg", tmp_path / "out.jpg", X2)
    assert read_picture(tmp_path / "out.png").metadata.text == text
    kept = read_picture(tmp_path / "out.jpg").metadata
    assert (kept.comment, kept.segments) == (b"a comment", segments)
    with pytest.raises(ConfigError, match="JPEG application segments"):
        upscale_picture(tmp_path / "in.jpg", tmp_path / "other.png", X2)


def test_png_colour_chunks_stay(tmp_path: Path) -> None:
    gamma = (b"gAMA", (100_000).to_bytes(4, "big"))  # linear light
    source = saved(tmp_path / "in.png", drawn(), Metadata(color=(gamma,)))
    upscale_picture(source, tmp_path / "out.png", X2)
    assert read_picture(tmp_path / "out.png").metadata.color == (gamma,)
    with pytest.raises(ConfigError, match="gamma"):
        upscale_picture(source, tmp_path / "out.webp", X2)


# ---- samples ----


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_files_without_loss_hold_every_sample(channels: int, dtype: type, suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, (37, 53, channels)).astype(dtype)
    back = read_picture(saved(tmp_path / f"x{suffix}", pixels))
    expected = pixels[..., [0, 0, 0, 1]] if (channels, dtype) == (2, np.uint16) else pixels
    np.testing.assert_array_equal(back.pixels, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_flat_colours_stay(channels: int, dtype: type) -> None:
    """Through a trained engine, in tiles or not."""
    level = np.iinfo(dtype).max // 255
    pixels = np.broadcast_to(np.array([200, 90, 40, 255][:channels], dtype) * dtype(level), (20, 33, channels))
    engine = open_engine(EngineChoice(2, "fast", bits=8 * np.dtype(dtype).itemsize))
    large = enlarge_picture(np.ascontiguousarray(pixels), engine)
    engine.close()
    assert large.shape == (40, 66, channels)
    assert large.dtype == dtype
    assert np.abs(large.astype(int) - pixels[0, 0].astype(int)).max() <= level


def test_sixteen_bits_stay_sixteen(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(20_000, 30_000, 400).astype(np.uint16)[None, :, None], (16, 400, 3))
    saved(tmp_path / "in.png", np.ascontiguousarray(ramp))
    upscale_picture(tmp_path / "in.png", tmp_path / "out.tif", Options(scale=2, model="nano"))
    result = read_picture(tmp_path / "out.tif").pixels
    assert result.dtype == np.uint16
    assert len(np.unique(result[8, :, 0])) > 600  # 8 bits would have 40
    with pytest.raises(ConfigError, match="8 of 16 bits, of which JPEG holds 8"):
        upscale_picture(tmp_path / "in.png", tmp_path / "out.jpg", X2)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda rgb: rgb.convert("P"), "8-bit RGB"),
        (lambda rgb: rgb.convert("1"), "8-bit gray"),
        (lambda rgb: rgb.convert("L"), "8-bit gray"),
        (lambda rgb: rgb.convert("LA"), "8-bit gray with alpha"),
        (lambda rgb: rgb.convert("RGBA"), "8-bit RGB with alpha"),
        (lambda rgb: rgb.convert("I;16"), "16-bit gray"),
    ],
)
def test_every_mode_of_a_png(make: Callable[[Image.Image], Image.Image], kind: str, tmp_path: Path) -> None:
    make(Image.fromarray(drawn())).save(tmp_path / "in.png")
    assert upscale_picture(tmp_path / "in.png", tmp_path / "out.png", X2).pixels == kind
    assert read_picture(tmp_path / "out.png").kind == kind


def test_a_transparent_palette_becomes_alpha(tmp_path: Path) -> None:
    Image.fromarray(drawn()).convert("P").save(tmp_path / "in.png", transparency=0)
    assert upscale_picture(tmp_path / "in.png", tmp_path / "out.png", X2).pixels == "8-bit RGB with alpha"


def test_avif_of_ten_bits_is_read_with_all_of_them(tmp_path: Path) -> None:
    deep = (drawn(dtype=np.uint16) >> 6)[..., ::-1]
    options = [cv2.IMWRITE_AVIF_DEPTH, 10, cv2.IMWRITE_AVIF_QUALITY, 100]
    if not cv2.imwrite(str(tmp_path / "in.avif"), deep, options):
        pytest.skip("this OpenCV does not write AVIF")
    found = read_picture(tmp_path / "in.avif").pixels
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - drawn(dtype=np.uint16).astype(int)).max() < 65535 * 8 / 1023


def test_jpeg_is_never_coarser_than_its_input(tmp_path: Path) -> None:
    for name, quality, sampling in (("coarse", 50, 2), ("fine", 99, 1)):
        source = tmp_path / f"{name}.jpg"
        Image.fromarray(drawn()).save(source, quality=quality, subsampling=sampling, progressive=True)
        upscale_picture(source, tmp_path / f"{name}_out.jpg", X2)
        before, after = read_picture(source).jpeg, read_picture(tmp_path / f"{name}_out.jpg").jpeg
        assert before is not None and after is not None
        assert (after.sampling, after.progressive) == (sampling, True)
        assert all(a <= b for x, y in zip(after.tables, before.tables, strict=True) for a, b in zip(x, y, strict=True))
    saved(tmp_path / "in.png", drawn(), Metadata())
    upscale_picture(tmp_path / "in.png", tmp_path / "of_png.jpg", X2)
    coding = read_picture(tmp_path / "of_png.jpg").jpeg
    assert coding is not None and coding.sampling == 0


# ---- colour ----


def chroma(rgb: np.ndarray) -> np.ndarray:
    """U and V, (H, W, 2)."""
    luma = rgb.astype(np.float32) @ LUMA
    return np.stack([(rgb[..., 2] - luma) / 1.772, (rgb[..., 0] - luma) / 1.402], axis=-1)


def coloured_edges() -> np.ndarray:
    """Saturated discs and bars, antialiased, (256, 256, 3)."""
    large = np.zeros((1024, 1024, 3), np.uint8)
    large[:] = (20, 60, 160)
    for at, radius, colour in (((300, 330), 220, (230, 40, 30)), ((650, 600), 260, (40, 200, 60))):
        cv2.circle(large, at, radius, colour, -1)
    for i in range(6):
        cv2.line(large, (0, 160 * i + 60), (1023, 130 * i), ((250, 220, 30), (255, 0, 255))[i % 2], 22)
    return cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA)


def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """(small, large) RGB at x4: drawn, and the coloured ones of Set5 where they lie beside the repository."""
    truth = coloured_edges()
    found = [(cv2.resize(truth, (64, 64), interpolation=cv2.INTER_AREA), truth)]
    for path in sorted((TEST_SETS / "Set5" / "LRx4").glob("*.png")):
        small, large = (cv2.imread(str(p))[..., ::-1] for p in (path, TEST_SETS / "Set5" / "HR" / path.name))
        found.append((small, large[: 4 * small.shape[0], : 4 * small.shape[1]]))
    return found


@pytest.mark.parametrize("degradation", ["clean", "stream"])
def test_colour_does_not_bleed_more_than_bicubic(degradation: str) -> None:
    """PSNR of U and V together: bicubic's in the mean, and nowhere less by more than the clipping of sharpened luma."""
    gains, luma_gains = [], []
    engine = open_engine(EngineChoice(4, "fast", degradation))
    for small, truth in pairs():
        bicubic = cv2.resize(small, truth.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        ours = enlarge_picture(np.ascontiguousarray(small), engine)
        gains.append(psnr(chroma(ours), chroma(truth)) - psnr(chroma(bicubic), chroma(truth)))
        luma_gains.append(psnr(ours @ LUMA, truth @ LUMA) - psnr(bicubic @ LUMA, truth @ LUMA))
    engine.close()
    assert np.mean(gains) >= 0
    assert min(gains) > -0.1
    assert np.mean(luma_gains) > 0.5  # it is sharper all the same


def test_gray_pictures_of_three_channels_stay_gray() -> None:
    gray = drawn()[..., :1].repeat(3, axis=2)
    engine = open_engine(EngineChoice(2, "fast"))
    large = enlarge_picture(gray, engine)
    engine.close()
    assert np.ptp(large.astype(int), axis=2).max() == 0


# ---- alpha ----


def cut_out(size: int = 64, under: int = 0) -> np.ndarray:
    """A yellow disc of soft rim on nothing, RGBA; `under` is the value of what lies under nothing."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    alpha = np.clip(size / 3 - np.hypot(x, y) + 0.5, 0, 1)
    rgb = np.where(alpha[..., None] > 0, np.array([255, 220, 60]), under)
    return np.concatenate([rgb, np.rint(255 * alpha[..., None])], axis=2).astype(np.uint8)


@pytest.mark.parametrize("under", [0, 255])
def test_no_fringe_around_what_is_cut_out(under: int) -> None:
    """Laid on its own colour the disc vanishes, whatever lay under its transparent surroundings."""
    engine = open_engine(EngineChoice(4, "fast", "clean"))
    large = enlarge_picture(cut_out(under=under), engine).astype(float)
    engine.close()
    share = large[..., 3:] / 255
    laid = large[..., :3] * share + np.array([255, 220, 60]) * (1 - share)
    assert np.abs(laid - np.array([255, 220, 60])).max() < 4
    naive = cv2.resize(cut_out(under=under), (256, 256), interpolation=cv2.INTER_CUBIC).astype(float)
    laid = naive[..., :3] * naive[..., 3:] / 255 + np.array([255, 220, 60]) * (1 - naive[..., 3:] / 255)
    assert np.abs(laid - np.array([255, 220, 60])).max() > 20  # so the test can tell


def test_what_is_opaque_stays_opaque_and_far_colours_stay() -> None:
    small = cut_out(96)
    small[:8, :8, :3] = 77  # under nothing, far from what shows
    engine = ReferenceEngine(2, "lanczos")
    large = enlarge_picture(small, engine)
    inside, outside = (cv2.erode(part.astype(np.uint8), np.ones((3, 3))) > 0 for part in (
        small[..., 3] == 255, small[..., 3] == 0
    ))  # fmt: skip
    twice = (slice(None, None), slice(None, None))
    assert (large[..., 3][inside.repeat(2, 0).repeat(2, 1)[twice]] == 255).all()
    assert (large[..., 3][outside.repeat(2, 0).repeat(2, 1)[twice]] == 0).all()
    assert (large[2:8, 2:8, :3] == 77).all()


# ---- sizes ----


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 3), (40, 17)])
def test_small_and_odd_pictures(size: tuple[int, int]) -> None:
    engine = open_engine(EngineChoice(4, "nano"))
    large = enlarge_picture(drawn(size[1], size[0]), engine)
    engine.close()
    assert large.shape == (4 * size[0], 4 * size[1], 3)


def test_a_very_wide_picture(tmp_path: Path) -> None:
    saved(tmp_path / "in.png", drawn(20_000, 10), Metadata())
    report = upscale_picture(tmp_path / "in.png", tmp_path / "out.png", X2)
    assert report.output_size == (40_000, 20)
    with pytest.raises(ConfigError, match="more than WEBP holds"):
        upscale_picture(tmp_path / "in.png", tmp_path / "out.webp", X2)


def test_tiles_and_strips_make_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = cv2.resize(coloured_edges(), (512, 448))
    engine = open_engine(EngineChoice(2, "nano"))
    monkeypatch.setattr(enlarge, "TILE_PIXELS", 1000)
    shape = engine_shape(448, 512)
    small_tiles = enlarge_picture(pixels, engine)
    monkeypatch.setattr(enlarge, "TILE_PIXELS", 512 * 448)
    monkeypatch.setattr(enlarge, "_STRIP_SAMPLES", 5000)
    narrow_strips = enlarge_picture(pixels, engine)
    monkeypatch.undo()
    assert shape == engine_shape(448, 512) == (448, 512)
    whole = enlarge_picture(pixels, engine)
    engine.close()
    np.testing.assert_array_equal(small_tiles, whole)
    np.testing.assert_array_equal(narrow_strips, whole)


def test_many_sizes_share_few_shapes() -> None:
    shapes = {engine_shape(h, w) for h in range(200, 300) for w in range(200, 300)}
    assert len(shapes) <= 16  # of 10,000 sizes
    for side in (1, 15, 64, 65, 200, 257, 999):
        padded, _ = engine_shape(side, 64)
        assert side <= padded <= max(1.25 * side, 16)


def test_a_picture_that_memory_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "in.png", drawn(400, 300), Metadata())
    monkeypatch.setattr("rtsr.pictures.job.available_bytes", lambda: 1_000_000)
    with pytest.raises(ConfigError, match="GB of memory"):
        upscale_picture(tmp_path / "in.png", tmp_path / "out.png", X2)
    assert not (tmp_path / "out.png").exists()


# ---- the command line ----


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return saved(tmp_path / "in.png", drawn(channels=4))


def test_the_command_and_its_verification(picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "100% größer.png"
    assert rtsr("upscale", picture, "-o", output, *SMALL).code == 0
    assert rtsr("verify", picture, output).code == 0
    shown = rtsr("plan", picture, "-o", tmp_path / "other.png", *SMALL)
    assert (shown.code, (tmp_path / "other.png").exists()) == (0, False)
    assert "40x30 -> 80x60, 8-bit RGB with alpha" in shown.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["100% größer.png", "in.png"]


@pytest.mark.parametrize(
    ("output", "extra", "words"),
    [
        ("out.jpg", (), "alpha (transparency), which JPEG does not hold"),
        ("out.xyz", (), "names no picture"),
        ("out.heic", (), "read but not written"),
        ("missing/out.png", (), "does not exist"),
        ("in.png", ("--overwrite",), "the input itself"),
        ("in2.png", (), "exists already"),
        ("out.png", ("--crf", "20"), "--crf is for films"),
        ("out.png", ("--start", "3"), "--start is for films"),
        ("out.png", ("--skip-existing",), "for many files"),
    ],
)
def test_what_cannot_be_is_one_sentence(output: str, extra: tuple[str, ...], words: str, picture: Path) -> None:
    (picture.parent / "in2.png").write_bytes(picture.read_bytes())
    before = {p.name: p.read_bytes() for p in picture.parent.iterdir()}
    with pytest.raises(ConfigError, match=re.escape(words)):
        app(["upscale", str(picture), "-o", str(picture.parent / output), *SMALL, *extra])
    assert {p.name: p.read_bytes() for p in picture.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"", "empty"),
        (lambda data: b"no picture at all" * 9, "not a picture"),
        (lambda data: data[: len(data) // 2], "damaged"),
        (lambda data: data[:8] + b"\xff" * 60, "not a picture"),
    ],
)
def test_what_is_no_picture(spoil: Callable[[bytes], bytes], words: str, picture: Path) -> None:
    picture.write_bytes(spoil(picture.read_bytes()))
    with pytest.raises(SourceError, match=words):
        upscale_picture(picture, picture.with_name("out.png"), X2)


def test_cmyk_animations_and_pages_are_asked_about(tmp_path: Path) -> None:
    Image.fromarray(drawn()).convert("CMYK").save(tmp_path / "print.jpg")
    frames = [Image.fromarray(drawn()), Image.fromarray(255 - drawn())]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    for name, words in (("print.jpg", "CMYK"), ("moving.png", "1 of 2 frames"), ("pages.tif", "1 of 2 pages")):
        with pytest.raises(ConfigError, match=words):
            upscale_picture(tmp_path / name, tmp_path / "out.png", X2)
        report = upscale_picture(tmp_path / name, tmp_path / "out.png", DROPPING)
        assert any(words in notice for notice in report.notices)


# ---- verification ----


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: Picture(p.pixels[::-1].copy(), p.metadata), "differs"),
        (lambda p: Picture(p.pixels[..., [2, 1, 0, 3]], p.metadata), "differs"),
        (lambda p: Picture(p.pixels[..., :3].copy(), p.metadata), "became"),
        (lambda p: Picture(p.pixels[:, :-9].copy(), p.metadata), "is not .* enlarged"),
        (
            lambda p: Picture(p.pixels, Metadata(exif=p.metadata.exif, xmp=XMP, density=(300, 300))),
            "ICC profile is gone",
        ),
        (lambda p: Picture(p.pixels, Metadata(icc=ICC, exif=b"", xmp=XMP, density=(300, 300))), "EXIF data is gone"),
    ],
)
def test_verification_finds_what_is_missing(spoil: Callable[[Picture], Picture], words: str) -> None:
    before = Picture(drawn(channels=4), METADATA)
    pixels = cv2.resize(before.pixels, (80, 60), interpolation=cv2.INTER_CUBIC)
    right = Picture(pixels, Metadata(icc=ICC, exif=with_size(photo_exif(), 80, 60), xmp=XMP, density=(300, 300)))
    assert compare_pictures(before, right).findings == []
    (finding, *_) = compare_pictures(before, spoil(right)).findings
    assert re.search(words, finding)


def test_noise_passes_verification() -> None:
    """No interpolation comes back to noise: it is compared with bicubic's own way back."""
    noise = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    large = enlarge_picture(noise, ReferenceEngine(2))
    assert compare_pictures(Picture(noise), Picture(large)).findings == []
    black = Picture(np.zeros_like(large))
    assert compare_pictures(Picture(noise), black).findings


def test_a_result_that_fails_verification_keeps_its_part(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtsr.pictures.job.enlarge_picture", lambda pixels, engine, *_: np.zeros((60, 80, 4), np.uint8))
    with pytest.raises(IncompleteError, match="does not match"):
        upscale_picture(picture, picture.with_name("out.png"), X2)
    assert picture.with_name("out.png.part").exists()
    assert not picture.with_name("out.png").exists()


# ---- the library call ----


def test_enhance_image(tmp_path: Path) -> None:
    array = library.enhance_image(drawn(), tmp_path / "sr.png", visualize=True, scale=2, backend="reference")
    assert (array.shape, array.dtype) == ((60, 80, 3), np.uint8)
    np.testing.assert_array_equal(read_picture(tmp_path / "sr.png").pixels, array)
    assert read_picture(tmp_path / "sr_compare.png").size == (160, 60)
    gray = library.enhance_image(drawn(channels=1)[..., 0], scale=2, backend="reference")
    assert gray.shape == (60, 80)
    deep = library.enhance_image(drawn(dtype=np.uint16), scale=4, model="nano", visualize=tmp_path / "both.png")
    assert (deep.shape, deep.dtype) == ((120, 160, 3), np.uint16)
    assert read_picture(tmp_path / "both.png").bits == 16
    source = saved(tmp_path / "in.jpg", drawn())
    assert library.enhance_image(str(source), tmp_path / "sr.jpg", scale=2, backend="reference").shape == (80, 60, 3)
    assert read_picture(tmp_path / "sr.jpg").metadata.icc == ICC


@pytest.mark.parametrize(
    ("lr", "sr_path"),
    [
        (np.zeros((4, 4, 3)), None),
        (np.zeros((4, 4, 5), np.uint8), None),
        (np.zeros((0, 4, 3), np.uint8), None),
        ("nowhere.png", None),
        (np.zeros((4, 4, 4), np.uint8), "x.jpg"),
        (np.zeros((4, 4, 3), np.uint8), "x.xyz"),
    ],
)
def test_enhance_image_refuses(lr: np.ndarray | str, sr_path: str | None, tmp_path: Path) -> None:
    with pytest.raises(RtsrError):
        library.enhance_image(lr, sr_path and tmp_path / sr_path, scale=2, backend="reference")
    assert list(tmp_path.iterdir()) == []


def test_lacks_names_everything() -> None:
    whole = Picture(drawn(channels=4, dtype=np.uint16), METADATA)
    assert len(lacks(whole, FORMATS[".bmp"])) == 5  # alpha, 8 bits, ICC, EXIF, XMP
    assert lacks(whole, FORMATS[".png"]) == lacks(whole, FORMATS[".tif"]) == []


def test_a_metadata_block_too_long_for_jpeg_is_told(tmp_path: Path) -> None:
    saved(tmp_path / "in.png", drawn(), Metadata(xmp=b"<x>" + b"a" * 70_000 + b"</x>"))
    with pytest.raises(ConfigError, match="XMP data, 68 kB"):
        upscale_picture(tmp_path / "in.png", tmp_path / "out.jpg", X2)


def test_heif_without_its_package_is_one_sentence(tmp_path: Path) -> None:
    try:
        import pillow_heif  # type: ignore[import-not-found]
    except ImportError:
        (tmp_path / "in.heic").write_bytes(b"x" * 99)
        with pytest.raises(ConfigError, match=r"rtsr\[heif\]"):
            upscale_picture(tmp_path / "in.heic", tmp_path / "out.png", X2)
        return
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(drawn())).save(buffer, quality=95)
    (tmp_path / "in.heic").write_bytes(buffer.getvalue())
    assert upscale_picture(tmp_path / "in.heic", tmp_path / "out.png", X2).output_size == (80, 60)
