"""Which picture files there are, and what each of them can hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtsr.errors import ConfigError

ICC, EXIF, XMP, DENSITY, TEXT, COMMENT, SEGMENTS, IPTC, COLOR = (
    *("ICC profile", "EXIF data", "XMP data", "resolution (pixels per inch)", "text chunks", "comment"),
    *("JPEG application segments", "IPTC and Photoshop data", "gamma or colour chunks"),
)
_LONGEST_SEGMENT = 65_000  # bytes of EXIF or XMP that fit in a JPEG segment, with room for the names in it


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """A kind of picture file that can be written.

    name: Pillow's. bits: of a sample, at most. keeps: which of Metadata it holds. largest: longest side, in pixels.
    """

    name: str
    keeps: frozenset[str]
    bits: int = 8
    alpha: bool = True
    gray: bool = True
    largest: int = (1 << 31) - 1
    longest_metadata: int = 1 << 31


_PNG = PictureFormat("PNG", frozenset({ICC, EXIF, XMP, DENSITY, TEXT, COMMENT, COLOR}), bits=16)
_JPEG = PictureFormat(
    *("JPEG", frozenset({ICC, EXIF, XMP, DENSITY, COMMENT, SEGMENTS})),
    alpha=False,
    largest=65_500,
    longest_metadata=_LONGEST_SEGMENT,
)
_TIFF = PictureFormat("TIFF", frozenset({ICC, EXIF, XMP, DENSITY, IPTC}), bits=16)
FORMATS = {
    **{".png": _PNG, ".jpg": _JPEG, ".jpeg": _JPEG, ".tif": _TIFF, ".tiff": _TIFF},
    ".webp": PictureFormat("WEBP", frozenset({ICC, EXIF, XMP}), gray=False, largest=16_383),
    ".avif": PictureFormat("AVIF", frozenset({ICC, EXIF, XMP}), largest=65_536),
    ".bmp": PictureFormat("BMP", frozenset({DENSITY}), alpha=False),
}
READ_ONLY = {".heic", ".heif"}
PICTURE_SUFFIXES = {*FORMATS, *READ_ONLY}
READABLE = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "AVIF", "HEIF")  # Pillow's names


def picture_format(path: Path) -> PictureFormat:
    """What the suffix of an output asks for. Raises ConfigError."""
    suffix = path.suffix.lower()
    if suffix in READ_ONLY:
        raise ConfigError(f"output {path}: HEIF pictures are read but not written; use .avif, .jpg or .png")
    if suffix not in FORMATS:
        raise ConfigError(
            f"output {path}: the suffix {path.suffix!r} names no picture; use one of {', '.join(FORMATS)}"
        )
    return FORMATS[suffix]


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a still picture: `frames/%05d.png` and URLs are not."""
    path = Path(name)
    return path.suffix.lower() in PICTURE_SUFFIXES and "://" not in name and (path.exists() or not is_pattern(name))


def is_pattern(name: str) -> bool:
    """Whether a name stands for many numbered pictures, as `frames/%05d.png` does."""
    import re

    return bool(re.search(r"%0?\d*d", Path(name).name))
