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


def write_pair(shown: Shown, color: ColorTags, folder: Path) -> tuple[Path, Path]:
    """PNG files of the same size, before (bicubic) and after, named by the time. Raises SinkError."""
    stem = time.strftime("rtsr-%Y%m%d-%H%M%S") + f"-{shown.number}"
    screen = ScreenPictures(color)
    size = shown.large.y.shape[1], shown.large.y.shape[2]
    paths = folder / f"{stem}-before.png", folder / f"{stem}-after.png"
    for path, frame in zip(paths, (enlarged(shown.small, size), shown.large), strict=True):
        ok, data = cv2.imencode(".png", screen.bgr(frame))
        try:
            if not ok:
                raise OSError("encoding failed")
            path.write_bytes(data.tobytes())
        except OSError as error:
            raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error
    return paths
