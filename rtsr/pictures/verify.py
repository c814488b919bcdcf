"""`rtsr verify` for still pictures: is everything of the one in the other?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from rtsr.pictures import formats
from rtsr.pictures.exif import with_size
from rtsr.pictures.picture import Picture
from rtsr.verify import Verdict
from rtsr.verify_pictures import SAME_CHROMA_DB, SAME_LUMA_DB, likeness

_DENSITY_TOLERANCE = 1.0  # pixels an inch: JPEG has whole ones, PNG counts by the metre
_WORSE_DB = 6.0  # than bicubic's
_STORAGE_TAGS = {256, 257, 258, 259, 262, 273, 277, 278, 279, 282, 283, 284, 296, 317, 338, 339, 513, 514}


def compare_pictures(before: Picture, after: Picture) -> Verdict:
    """before: as the output's format can hold it; see for_format()."""
    verdict = Verdict()
    (w, h), (large_w, large_h) = before.size, after.size
    verdict.facts["size"] = [[w, h], [large_w, large_h]]
    distortion = abs(large_w * h - large_h * w) / max(w, h)
    if large_w < w or large_h < h or distortion > 1:
        verdict.findings.append(f"{large_w}x{large_h} is not {w}x{h} enlarged")
        return verdict
    verdict.facts["pixels"] = [before.kind, after.kind]
    verdict.expect(
        after.bits >= before.bits and after.has_alpha >= before.has_alpha, f"{before.kind} became {after.kind}"
    )
    _compare_metadata(before, after, verdict)
    _compare_samples(before, after, verdict)
    return verdict


def _compare_metadata(before: Picture, after: Picture, verdict: Verdict) -> None:
    was, now = before.metadata.parts(), after.metadata.parts()
    verdict.facts["metadata"] = list(was)
    for name, value in was.items():
        found = now.get(name)
        match name:
            case formats.DENSITY:
                same = found is not None and np.allclose(value, found, atol=_DENSITY_TOLERANCE)  # type: ignore[arg-type]
            case formats.EXIF:
                same = found is not None and _same_exif(with_size(value, *after.size), found)  # type: ignore[arg-type]
            case formats.TEXT:
                same = set(value) <= set(found or ())  # type: ignore[arg-type,call-overload]
            case formats.COMMENT:
                told = before.metadata.comment.decode(errors="replace")
                same = found == value or ("Comment", told) in after.metadata.text
            case _:
                same = found == value
        verdict.expect(same, f"its {name} {'is not the same' if found else 'is gone'}")


def _same_exif(was: bytes, now: bytes) -> bool:
    """Byte for byte, or, after a way through TIFF's own tags, the same values."""
    return was == now or _exif_values(was).items() <= _exif_values(now).items()


def _exif_values(data: bytes) -> dict[Any, Any]:
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + data)
    values: dict[Any, Any] = {tag: str(value) for tag, value in exif.items() if tag not in _STORAGE_TAGS}
    for directory in (0x8769, 0x8825):
        if values.pop(directory, None) is not None:
            inner = exif.get_ifd(directory)
            values |= {(directory, tag): str(value) for tag, value in inner.items() if tag not in (0xA002, 0xA003)}
    return values


def _compare_samples(before: Picture, after: Picture, verdict: Verdict) -> None:
    """What both show, the larger one brought down to the smaller one's size."""
    shrunk = cv2.resize(after.pixels, before.size, interpolation=cv2.INTER_AREA).reshape(*before.pixels.shape[:2], -1)
    small, large = _planes(before), _planes(replace(after, pixels=shrunk))
    lowest = float("inf")
    for name in small.keys() & large.keys():
        db = likeness(small[name], large[name], interlaced=False)
        lowest = min(lowest, db)
        wanted = SAME_CHROMA_DB if name in ("U", "V") else SAME_LUMA_DB
        if db < wanted:  # noise, a pattern of single pixels: no interpolation comes back to it
            wide = cv2.resize(small[name], after.size, interpolation=cv2.INTER_CUBIC)
            wanted = min(wanted, likeness(small[name], wide, interlaced=False) - _WORSE_DB)
        verdict.expect(db >= wanted, f"the picture differs from the input's in its {name} ({db:.1f} dB)")
    verdict.facts["lowest_likeness_db"] = round(lowest, 2)


def _planes(picture: Picture) -> dict[str, np.ndarray]:
    """Luma, U and V of what shows, and alpha, as float32 of 8 bits. Under transparent pixels lies nothing."""
    pixels = picture.pixels.astype(np.float32) / (257 if picture.bits == 16 else 1)
    rgb = pixels[..., [0, 0, 0]] if picture.is_gray else pixels[..., :3]
    planes = {}
    if picture.has_alpha:
        planes["alpha"] = pixels[..., -1]
        rgb = rgb * (pixels[..., -1:] / 255)
    luma = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return {"luma": luma, "U": rgb[..., 2] - luma, "V": rgb[..., 0] - luma, **planes}
