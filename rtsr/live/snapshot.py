"""The pair of pictures that a key saves: what came in, enlarged as any player would, and what rtsr made of it."""

from __future__ import annotations

import time
from pathlib import Path

import cv2

from rtsr.errors import SinkError
from rtsr.frames import ColorTags
from rtsr.live.contract import Shown
from rtsr.live.pictures import ScreenPictures
from rtsr.live.view import enlarged


def png_pair(shown: Shown, color: ColorTags) -> dict[str, bytes]:
    """PNG files of one size: `before` (bicubic) and `after`."""
    screen = ScreenPictures(color)
    height, width = shown.large.y.shape[1:]
    pair = {"before": enlarged(shown.small, (height, width)), "after": shown.large}
    return {which: cv2.imencode(".png", screen.bgr(frame))[1].tobytes() for which, frame in pair.items()}


def write_pair(shown: Shown, color: ColorTags, folder: Path) -> tuple[Path, Path]:
    """The pair as files named by the time. Raises SinkError."""
    stem = time.strftime("rtsr-%Y%m%d-%H%M%S") + f"-{shown.number}"
    before, after = (folder / f"{stem}-{which}.png" for which in ("before", "after"))
    for path, data in zip((before, after), png_pair(shown, color).values(), strict=True):
        try:
            path.write_bytes(data)
        except OSError as error:
            raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    return before, after
