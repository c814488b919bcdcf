"""A picture file into samples and metadata: Pillow for what lies around the pixels, OpenCV for more than 8 bits."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from rtsr.errors import ConfigError, SourceError
from rtsr.pictures import exif as exif_tags
from rtsr.pictures.formats import READ_ONLY, READABLE
from rtsr.pictures.picture import JpegCoding, Metadata, Picture

_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error)  # what Pillow raises
_EXIF_PREFIX = b"Exif\0\0"
_PNG_COLOR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
_XMP_HEADER, _ICC_HEADER, _MPF_HEADER = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0"
_APP0, _APP14, _APP15 = 0xE0, 0xEE, 0xEF
_IPTC_TAGS = (33723, 34377)
_PLACE_TAGS = (33550, 33922, 34264, 34735)  # GeoTIFF: where each pixel lies
# What a TIFF says of the photograph; its other tags say how the samples are stored.
_PHOTO_TAGS = (270, 271, 272, 274, 305, 306, 315, 316, 18246, 33432, 34665, 34853, 40091, 40092, 40093, 40094, 40095)
_BITS_PER_SAMPLE, _EXTRA_SAMPLES, _ASSOCIATED = 258, 338, 1
_PLAIN = {"L", "LA", "RGB", "RGBA"}
_BECOMES = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "La": "LA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "CMYK": "RGB",
}


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) from a picture's header. Raises SourceError or ConfigError."""
    with _opened(path) as image:
        return image.size


def read_picture(path: Path) -> Picture:
    """Read a picture whole. Raises SourceError for what cannot be read, ConfigError for samples that are no integers
    or a kind of file for which a package is missing."""
    with _opened(path) as image:
        losses, notices = _first_of_several(image), []
        exif = _exif_of(image)
        if image.format == "TIFF" and exif_tags.orientation(exif) != 1:  # Pillow would turn it
            image = Image.open(io.BytesIO(exif_tags.upright(path.read_bytes())))
        try:
            image.load()
        except _DAMAGED as error:
            raise SourceError(f"{path}: the picture is damaged ({error})") from error
        jpeg = _jpeg_coding(image)
        lossless = image.format in ("PNG", "TIFF", "BMP") or bool(image.info.get("lossless"))
        is_deep = _sample_bits(image, path) > 8
        pixels = _deep(image, path) if is_deep else _shallow(image, path, losses, notices)
        metadata = _metadata(image, exif)
        losses += _lost_of_heif(image)
        if image.format == "TIFF" and any(tag in image.tag_v2 for tag in _PLACE_TAGS):  # type: ignore[attr-defined]
            losses.append("its place on the map (GeoTIFF)")
    return Picture(pixels, metadata, jpeg, lossless, tuple(losses), tuple(notices))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file in Pillow's hands, its pixels not yet decoded."""
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if not path.is_file():
        raise SourceError(f"{path}: is no file that holds a picture")
    if path.stat().st_size == 0:
        raise SourceError(f"{path}: the file is empty (zero bytes)")
    if path.suffix.lower() in READ_ONLY:
        _register_heif(path)
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # memory is looked at before the work, not here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which is kept as it is
            with _header(path) as image:
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _header(path: Path) -> Any:
    Image.init()
    try:
        return Image.open(path, formats=[name for name in READABLE if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise SourceError(f"{path}: not a picture that can be read") from error
    except PermissionError as error:
        raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error
    except _DAMAGED as error:
        raise SourceError(f"{path}: the picture is damaged ({error})") from error


def _register_heif(path: Path) -> None:
    try:
        import pillow_heif  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(f"{path}: reading HEIF takes one more package: pip install 'rtsr[heif]'") from error
    pillow_heif.register_heif_opener()


def _first_of_several(image: Any) -> list[str]:
    count = getattr(image, "n_frames", 1)
    if count == 1:
        return []
    what = {"TIFF": "pages", "MPO": "pictures (previews, depth, gain maps)"}.get(
        image.format, "frames of the animation"
    )
    return [f"{count - 1} of {count} {what}"]


def _lost_of_heif(image: Any) -> list[str]:
    """pillow-heif reads the main picture, with 8 bits."""
    if image.format != "HEIF":
        return []
    bits = image.info.get("bit_depth", 8)
    beside = any(image.info.get(name) for name in ("aux", "depth_images"))
    return [f"{bits - 8} of {bits} bits, as HEIF is read with 8"] * (bits > 8) + [
        "pictures beside the main one (depth, gain map)"
    ] * beside


def _sample_bits(image: Any, path: Path) -> int:
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]  # of IHDR
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    if image.format == "AVIF":
        return _avif_bits(path)
    return 8


def _shallow(image: Any, path: Path, losses: list[str], notices: list[str]) -> np.ndarray:
    mode = image.mode
    if mode not in _PLAIN:
        if mode not in _BECOMES:
            raise ConfigError(f"{path}: its samples ({mode}) are no integers of gray or RGB, which the engines take")
        if mode == "CMYK":
            losses.append("CMYK, the colours of printing (it would become RGB without its ICC profile)")
            image.info.pop("icc_profile", None)
        wanted = _BECOMES[mode]
        if mode == "P" and image.palette is not None:
            wanted = "RGBA" if "transparency" in image.info else "RGB"
        notices += {"1": ["black and white becomes gray"], "P": ["the palette becomes RGB"]}.get(mode, [])
        image = image.convert(wanted)
    elif "transparency" in image.info:  # one colour that counts as transparent
        image = image.convert("LA" if mode == "L" else "RGBA")
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _deep(image: Any, path: Path) -> np.ndarray:
    """(H, W, C) uint16; Pillow cuts colour to 8 bits."""
    if image.mode in ("F", "I") and _format_of_samples(image) != "integers":
        raise ConfigError(f"{path}: its samples are no integers of 8 or 16 bits, which the engines take")
    # OpenCV 5 fails on a TIFF that is to be turned; without that tag it reads it as stored. EXIF is a TIFF, too.
    pixels = _by_opencv(exif_tags.upright(path.read_bytes()))
    if pixels is None or pixels.dtype != np.uint16:
        raise ConfigError(f"{path}: a picture of {image.mode} with these samples cannot be read; save it as 16-bit PNG")
    if image.format == "TIFF" and _ASSOCIATED in np.atleast_1d(image.tag_v2.get(_EXTRA_SAMPLES, (0,))):
        raise ConfigError(f"{path}: 16-bit premultiplied alpha cannot be read; save it as PNG")
    if image.format == "AVIF":  # 10 or 12 bits, as they are
        white = (1 << _avif_bits(path)) - 1
        pixels = np.rint(pixels * (65535 / white)).astype(np.uint16)
    if pixels.ndim == 2:
        return pixels[..., None]
    if image.mode == "LA":
        return np.ascontiguousarray(pixels[..., [0, -1]])
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _by_opencv(data: bytes) -> np.ndarray | None:
    """Samples as stored, BGR, whatever the tags say; None for what OpenCV cannot read."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _avif_bits(path: Path) -> int:
    """From the third byte of the AV1 configuration; 8 where there is none."""
    head = path.read_bytes()
    at = head.find(b"av1C")
    flags = head[at + 6] if 0 <= at < len(head) - 6 else 0
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def _format_of_samples(image: Any) -> str:
    kinds = set(np.atleast_1d(image.tag_v2.get(339, (1,)))) if image.format == "TIFF" else {1}
    return "integers" if kinds == {1} else "others"


def _jpeg_coding(image: Any) -> JpegCoding | None:
    if image.format not in ("JPEG", "MPO"):
        return None
    tables = tuple(tuple(table) for _, table in sorted(image.quantization.items()))
    return JpegCoding(tables, JpegImagePlugin.get_sampling(image), bool(image.info.get("progressive")))


def _exif_of(image: Any) -> bytes:
    """As a TIFF structure; of a TIFF, what it says of the photograph."""
    if image.format != "TIFF":
        return (image.info.get("exif") or b"").removeprefix(_EXIF_PREFIX)
    whole, kept = image.getexif(), Image.Exif()
    for tag in _PHOTO_TAGS:
        if tag in whole:
            kept[tag] = whole.get_ifd(tag) if tag in (34665, 34853) else whole[tag]
    return kept.tobytes().removeprefix(_EXIF_PREFIX) if len(kept) else b""


def _metadata(image: Any, exif: bytes) -> Metadata:
    info = image.info
    xmp = info.get("xmp") or b""
    text = tuple((key, str(value)) for key, value in getattr(image, "text", {}).items() if key != "XML:com.adobe.xmp")
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    density = info.get("dpi")
    return Metadata(
        icc=info.get("icc_profile") or b"",
        exif=exif,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp,
        density=(float(density[0]), float(density[1])) if density else None,
        text=text,
        comment=info.get("comment", b"") if image.format in ("JPEG", "MPO") else b"",
        segments=tuple(_segments(image)),
        iptc=tuple((tag, _as_bytes(tags[tag])) for tag in _IPTC_TAGS if tag in tags),
        color=tuple(_png_chunks(image)),
    )


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"".join(struct.pack("<I", number) for number in np.atleast_1d(value))


def _segments(image: Any) -> Iterator[tuple[int, bytes]]:
    """Application segments of a JPEG that no other field holds: Photoshop's and IPTC, extended XMP, makers' own."""
    for name, payload in getattr(image, "applist", ()):
        if not name.startswith("APP"):
            continue
        marker = 0xE0 + int(name[3:])
        known = payload.startswith((_EXIF_PREFIX, _XMP_HEADER, _ICC_HEADER, _MPF_HEADER))
        if _APP0 < marker <= _APP15 and marker != _APP14 and not known:  # APP14 tells how the samples are coded
            yield marker, payload


def _png_chunks(image: Any) -> Iterator[tuple[bytes, bytes]]:
    """Chunks of a PNG that say what its colours mean, without an ICC profile."""
    if image.format != "PNG":
        return
    with Path(image.filename).open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                return
            data = file.read(length + 4)
            if name in _PNG_COLOR:
                yield name, data[:-4]
