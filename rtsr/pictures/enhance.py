"""`rtsr.enhance_image()`: an array or a picture file in, a larger array out."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from rtsr.errors import ConfigError
from rtsr.options import Options
from rtsr.pictures.formats import picture_format
from rtsr.pictures.job import EngineShelf, enlarged
from rtsr.pictures.picture import Picture
from rtsr.pictures.read import read_picture
from rtsr.pictures.write import for_format, lacks, write_picture

_shelf, _lock = EngineShelf(), threading.Lock()


def enhance_image(
    lr: np.ndarray | str | os.PathLike[str],
    sr_path: str | os.PathLike[str] | None = None,
    visualize: bool | str | os.PathLike[str] = False,
    *,
    scale: int = 4,
    model: str = "balanced",
    degradation: str = "stream",
    backend: str = "auto",
    detail: float | None = None,
) -> np.ndarray:
    """Upscale one picture and return it.

    lr: uint8 or uint16 (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGB and alpha; or a picture file, which comes back
    upright as (H, W, C), C being 1 or 2 (gray, alpha), 3 or 4. sr_path: where to write it too, with the metadata of the
    file it came from; a file there is replaced, and what the format cannot hold is refused. visualize: True also writes
    bicubic and the result side by side, as `<sr_path without suffix>_compare.png`, or as `rtsr_compare.png` in the
    current folder where there is no sr_path; a path writes it there. The others: see rtsr.options.Options.

    Engines stay open for the next call. Any thread may call; calls wait for each other. Raises RtsrError.
    """
    options = Options(scale=scale, model=model, degradation=degradation, backend=backend, detail=detail)
    is_array = isinstance(lr, np.ndarray)
    picture = _of_array(lr) if is_array else read_picture(Path(lr))  # type: ignore[arg-type]
    if sr_path is not None and (losses := lacks(picture, picture_format(Path(sr_path)))):
        raise ConfigError(f"{sr_path} would lose {'; '.join(losses)}; .png and .tif hold the most")
    size = picture.size[0] * scale, picture.size[1] * scale
    with _lock:
        large = enlarged(picture, _shelf.engine(options.engine(scale, picture.bits)), options, size)
    if sr_path is not None:
        kind = picture_format(Path(sr_path))
        write_picture(for_format(large, kind), kind, Path(sr_path))
    if visualize:
        write_side_by_side(picture, large, _where(visualize, sr_path))
    pixels = large.upright()
    return pixels[..., 0] if is_array and lr.ndim == 2 else pixels  # type: ignore[union-attr]


def write_side_by_side(small: Picture, large: Picture, path: Path) -> None:
    """Bicubic left, the result right, upright, each in full size. Raises ConfigError or SinkError."""
    bicubic = cv2.resize(small.pixels, large.size, interpolation=cv2.INTER_CUBIC).reshape(large.pixels.shape)
    both = np.concatenate([replace(large, pixels=pixels).upright() for pixels in (bicubic, large.pixels)], axis=1)
    kind = picture_format(path)
    write_picture(for_format(Picture(both), kind), kind, path)


def _where(visualize: bool | str | os.PathLike[str], sr_path: str | os.PathLike[str] | None) -> Path:
    if not isinstance(visualize, bool):
        return Path(visualize)
    return Path("rtsr_compare.png") if sr_path is None else Path(sr_path).with_name(f"{Path(sr_path).stem}_compare.png")


def _of_array(array: np.ndarray) -> Picture:
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or not pixels.size:
        raise ConfigError(f"a picture is an array (H, W), (H, W, 3) or (H, W, 4); this one is {array.shape}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ConfigError(f"a picture's samples are uint8 or uint16; these are {array.dtype}")
    return Picture(np.ascontiguousarray(pixels))
