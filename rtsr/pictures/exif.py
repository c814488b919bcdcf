"""The few EXIF tags that upscaling must know, read and changed in place.

The bytes are never written anew: makers' notes hold offsets into them that nobody but the maker knows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_ORIENTATION, _EXIF_IFD, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
_SHORT, _LONG = 3, 4


def orientation(exif: bytes) -> int:
    """How the picture is to be turned, 1 to 8; 1 where nothing sensible is said."""
    value = next((value for tag, _, _, value in _entries(exif) if tag == _ORIENTATION), 1)
    return value if 1 <= value <= 8 else 1


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """The same with the picture's new size where it told the old one."""
    new = {_WIDTH: width, _HEIGHT: height}
    return _changed(exif, {at: (kind, new[tag]) for tag, at, kind, _ in _entries(exif) if tag in new})


def upright(exif: bytes) -> bytes:
    """The same saying that the picture is not to be turned."""
    return _changed(exif, {at: (kind, 1) for tag, at, kind, _ in _entries(exif) if tag == _ORIENTATION})


def _entries(exif: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(tag, where its value lies, type, value) of single SHORTs and LONGs in the first directory and in EXIF's own."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return
    directories = [struct.unpack_from(f"{order}I", exif, 4)[0]]
    for start in directories:
        if start + 2 > len(exif):
            return
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", exif, at)
            if number != 1 or kind not in (_SHORT, _LONG):
                continue
            (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, at + 8)
            if tag == _EXIF_IFD and len(directories) == 1:
                directories.append(value)
            yield tag, at + 8, kind, value


def _changed(exif: bytes, values: dict[int, tuple[int, int]]) -> bytes:
    order = "<" if exif[:2] == b"II" else ">"
    out = bytearray(exif)
    for at, (kind, value) in values.items():
        if kind == _SHORT and value > 0xFFFF:  # the same place holds four bytes
            struct.pack_into(f"{order}H", out, at - 6, _LONG)
            kind = _LONG
        struct.pack_into(order + ("H" if kind == _SHORT else "I"), out, at, value)
    return bytes(out)
