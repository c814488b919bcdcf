"""Samples and metadata into a picture file of the kind that its suffix asks for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from rtsr.errors import SinkError
from rtsr.pictures import exif as exif_tags
from rtsr.pictures import formats
from rtsr.pictures.formats import PictureFormat
from rtsr.pictures.picture import Metadata, Picture, turned
from rtsr.sinks.writing import says_what_failed

_FINE = 95  # quality, of 100, where the input does not tell a finer one
_AVIF_QUALITY = 90
_STRIP_BYTES = 1 << 20  # of a TIFF, before compression
_TIFF_LIMIT = (1 << 32) - (1 << 20)  # its offsets have 32 bits
_INCHES_IN_METRE = 10000 / 254
_XMP_TAG = 700
_ICC_TAG = 34675
_IFD_TAGS = (34665, 34853)  # of EXIF and GPS: directories, not values


def lacks(picture: Picture, target: PictureFormat) -> list[str]:
    """What a kind of file cannot hold of a picture, one phrase each."""
    metadata = picture.metadata
    found = []
    if picture.has_alpha and not target.alpha:
        found.append(f"alpha (transparency), which {target.name} does not hold")
    if picture.bits > target.bits:
        found.append(f"{picture.bits - target.bits} of {picture.bits} bits, of which {target.name} holds {target.bits}")
    for name, value in metadata.parts().items():
        if name not in target.keeps and not _is_ordinary(name, value):
            found.append(f"its {name}, which {target.name} does not hold")
    for name, value in ((formats.EXIF, metadata.exif), (formats.XMP, metadata.xmp)):
        if name in target.keeps and len(value) > target.longest_metadata:
            found.append(
                f"its {name}, {len(value) >> 10} kB, of which {target.name} holds {target.longest_metadata >> 10}"
            )
    return found


def for_format(picture: Picture, target: PictureFormat) -> Picture:
    """The picture as a kind of file can hold it: what lacks() names is gone."""
    pixels, metadata = picture.pixels, picture.metadata
    if formats.EXIF not in target.keeps:
        pixels = turned(pixels, exif_tags.orientation(metadata.exif))
    if picture.has_alpha and not target.alpha:
        pixels = np.ascontiguousarray(pixels[..., :-1])
    if picture.bits > target.bits:
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    notices = picture.notices
    if pixels.shape[2] == 2 and pixels.itemsize == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
        notices = (*notices, "gray with alpha of 16 bits is written as RGB with alpha, which more programs read")
    names = {
        **{formats.ICC: "icc", formats.EXIF: "exif", formats.XMP: "xmp", formats.DENSITY: "density"},
        **{formats.TEXT: "text", formats.COMMENT: "comment", formats.SEGMENTS: "segments"},
        **{formats.IPTC: "iptc", formats.COLOR: "color"},
    }
    gone = {names[name]: getattr(Metadata(), names[name]) for name in names if name not in target.keeps}
    for name in ("exif", "xmp"):
        if len(getattr(metadata, name)) > target.longest_metadata:
            gone[name] = b""
    return replace(picture, pixels=pixels, notices=notices, metadata=replace(metadata, **gone))


def write_picture(picture: Picture, target: PictureFormat, path: Path) -> None:
    """Write a picture that the format can hold; see for_format(). Raises SinkError.

    JPEG: quantised at least as finely as quality 95 and as the input, chroma as coarse as the input's, 4:4:4 where that
    was no JPEG. WebP: lossless where the input was. PNG and TIFF are compressed without loss.
    """
    writers = {"PNG": _png, "JPEG": _jpeg, "TIFF": _tiff, "WEBP": _webp, "AVIF": _avif, "BMP": _bmp}
    with says_what_failed(path):
        try:
            with path.open("wb") as file:
                writers[target.name](picture, file)
        except (ValueError, struct.error, cv2.error) as error:
            raise SinkError(f"{path} cannot be written as {target.name}: {error}") from error


def _is_ordinary(name: str, value: Any) -> bool:
    """Whether leaving it out changes nothing: the colours of sRGB, 72 pixels an inch."""
    if name == formats.COLOR:
        chunks = dict(value)
        gamma = chunks.get(b"gAMA", b"\0\0\xb1\x8f")  # 0.45455
        return b"cICP" not in chunks and (b"sRGB" in chunks or (b"cHRM" not in chunks and gamma == b"\0\0\xb1\x8f"))
    return name == formats.DENSITY and all(round(side) in (72, 96) for side in value)


def _image(picture: Picture) -> Image.Image:
    pixels = picture.pixels
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)  # 2 to 4 channels: LA, RGB, RGBA


def _png(picture: Picture, file: Any) -> None:
    pixels = picture.pixels
    if pixels.shape[2] == 2:  # OpenCV has no gray with alpha
        buffer = io.BytesIO()
        _image(picture).save(buffer, "PNG")
        data: Any = buffer.getbuffer()
    else:
        order = [2, 1, 0, 3][: pixels.shape[2]] if pixels.shape[2] > 1 else [0]
        ok, encoded = cv2.imencode(".png", pixels[..., order])
        if not ok:
            raise SinkError("the picture cannot be written as PNG")
        data = encoded.data
    after_header = 8 + 25  # signature and IHDR
    file.write(data[:after_header])
    for name, content in _png_chunks(picture.metadata):
        file.write(struct.pack(">I4s", len(content), name) + content)
        file.write(struct.pack(">I", zlib.crc32(name + content)))
    file.write(data[after_header:])


def _png_chunks(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    yield from metadata.color
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.density:
        yield b"pHYs", struct.pack(">IIB", *(round(side * _INCHES_IN_METRE) for side in metadata.density), 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    text = PngImagePlugin.PngInfo()
    for key, value in metadata.text:
        text.add_text(key, value) if value.isascii() else text.add_itxt(key, value)
    if metadata.comment:
        text.add_itxt("Comment", metadata.comment.decode(errors="replace"))
    if metadata.xmp:
        text.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode(errors="replace"))
    for chunk in text.chunks:
        yield chunk[0], chunk[1]


def _jpeg(picture: Picture, file: Any) -> None:
    metadata, coding = picture.metadata, picture.jpeg
    options: dict[str, Any] = {"quality": _FINE, "subsampling": 0}
    if coding is not None:
        options = {"qtables": _finer(picture, coding.tables), "progressive": coding.progressive}
        if not picture.is_gray:
            options["subsampling"] = coding.sampling if coding.sampling >= 0 else 0
    if metadata.density:
        options["dpi"] = metadata.density
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    options["extra"] = b"".join(
        struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload for marker, payload in metadata.segments
    )
    exif = b"Exif\0\0" + metadata.exif if metadata.exif else b""
    _image(picture).save(file, "JPEG", icc_profile=metadata.icc, exif=exif, comment=metadata.comment, **options)


def _finer(picture: Picture, tables: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    """Each step the smaller one of the input's and quality 95's."""
    buffer = io.BytesIO()
    Image.new("L" if picture.is_gray else "RGB", (8, 8)).save(buffer, "JPEG", quality=_FINE)
    with Image.open(buffer) as image:
        usual = [table for _, table in sorted(image.quantization.items())]  # type: ignore[attr-defined]
    pairs = zip(usual, (tables * 2)[: len(usual)], strict=True)
    return [[min(step) for step in zip(fine, table, strict=True)] for fine, table in pairs]


def _webp(picture: Picture, file: Any) -> None:
    _image(picture).convert("RGBA" if picture.has_alpha else "RGB").save(
        file,
        "WEBP",
        lossless=picture.lossless,
        quality=80 if picture.lossless else _FINE,  # of a lossless one: effort
        exact=True,  # also what lies under transparent pixels
        icc_profile=picture.metadata.icc,
        exif=picture.metadata.exif,
        xmp=picture.metadata.xmp,
    )


def _avif(picture: Picture, file: Any) -> None:
    metadata = picture.metadata
    named = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    options = {name: value for name, value in named.items() if value}
    sampling = "4:0:0" if picture.is_gray else "4:4:4"
    _image(picture).save(file, "AVIF", quality=_AVIF_QUALITY, subsampling=sampling, **options)


def _bmp(picture: Picture, file: Any) -> None:
    density = {"dpi": picture.metadata.density} if picture.metadata.density else {}
    _image(picture).save(file, "BMP", **density)


def _tiff(picture: Picture, file: Any) -> None:
    """By hand but for the tags: Pillow has no colour of 16 bits, OpenCV no metadata."""
    pixels, metadata = picture.pixels, picture.metadata
    height, width, channels = pixels.shape
    rows = max(_STRIP_BYTES // (width * channels * pixels.itemsize), 1)
    strips = [zlib.compress(_predicted(pixels[at : at + rows]), 6) for at in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    if sum(lengths) > _TIFF_LIMIT:
        raise SinkError("a TIFF holds 4 GB, this picture is larger; write a PNG")
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    for tag, value in _photo_tags(metadata.exif):
        tags[tag] = value
    tags[256], tags[257], tags[258] = width, height, (8 * pixels.itemsize,) * channels
    tags[259], tags[317] = 8, 2  # deflate of the differences between neighbours
    tags[262], tags[277], tags[284] = (1 if picture.is_gray else 2), channels, 1
    if picture.has_alpha:
        tags[338] = 2  # not premultiplied
    offsets = np.cumsum([0, *lengths[:-1]])
    tags[273], tags[278], tags[279] = tuple(int(at) for at in offsets), rows, tuple(lengths)
    if metadata.density:
        tags[282], tags[283], tags[296] = *metadata.density, 2
    for tag, value in ((_ICC_TAG, metadata.icc), (_XMP_TAG, metadata.xmp), *metadata.iptc):
        if value:
            tags[tag] = value
    tags.save(file)
    for strip in strips:
        file.write(strip)


def _predicted(rows: np.ndarray) -> bytes:
    """TIFF's predictor 2: each sample less the same one of the pixel before."""
    out = rows.astype(rows.dtype.newbyteorder("<"))
    out[:, 1:] -= rows[:, :-1]
    return out.tobytes()


def _photo_tags(exif: bytes) -> Iterator[tuple[int, Any]]:
    if not exif:
        return
    read = Image.Exif()
    read.load(b"Exif\0\0" + exif)
    for tag, value in read.items():
        if tag in _IFD_TAGS:
            yield tag, dict(read.get_ifd(tag))
        elif tag not in (256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 283, 284, 296, 513, 514):
            yield tag, value
