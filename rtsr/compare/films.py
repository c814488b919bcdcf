"""What is compared: films or pictures, opened and described, and how their frames come to one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rtsr.color import matrix_of
from rtsr.compare.bicubic import Bicubic
from rtsr.compare.still import StillSource
from rtsr.errors import ConfigError, SourceError
from rtsr.frames import ColorTags, Frame, VideoSpec
from rtsr.metrics import rgb_to_y
from rtsr.pictures.formats import is_picture
from rtsr.pixels import PixelFormat
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.pictures import PictureMaker
from rtsr.sources.file import FileSource
from rtsr.sources.media import Media

NEARLY = 8  # pixels: an upscaled picture lacks up to scale - 1 that the original's size has beyond a multiple of it
_SHAPES_DIFFER = 0.02  # of the aspect ratio, from which on one sees that a picture is stretched
_RGB = PixelFormat("rgb", 8, (0, 0))
_SCREEN = Encoder("rawvideo", {}, "bgr24", _RGB, ColorTags(0, range=2), "")
_UNKNOWN_MATRIX, _FULL, _PQ, _HLG = 2, 2, 16, 18  # FFmpeg's AVColorSpace, AVColorRange, AVColorTransferCharacteristic

Size = tuple[int, int]  # width, height


class Film:
    """A film or a picture. role: `A`, `B` or `Reference`; name: the file's, as short as tells it from the others.

    size: (width, height) as shown, that is upright. color: its tags, the matrix that it does not tell as players assume
    it. pixels: what its samples are, for people. Raises SourceError or ConfigError.
    """

    def __init__(self, role: str, media: Media, start: Fraction | None, end: Fraction | None):
        self.role, self.media, self.name = role, media, Path(media.name).name
        self.is_picture = is_picture(media.name)
        self.source: FileSource | StillSource
        self.source = StillSource(Path(media.name)) if self.is_picture else FileSource(media, start, end, listen=False)
        self.spec: VideoSpec = self.source.spec
        self.pixels = self.source.kind if isinstance(self.source, StillSource) else str(self.spec.pixels)
        spec = self.spec
        turned = round(spec.rotation / 90) % 2
        self.size: Size = (spec.height, spec.width) if turned else (spec.width, spec.height)
        self.aspect = 1 / (spec.sample_aspect_ratio or 1) if turned else spec.sample_aspect_ratio or Fraction(1)
        self.color = replace(spec.color, colorspace=matrix_of(spec.color.colorspace, spec.height))

    def facts(self) -> dict[str, Any]:
        """Plain types for JSON."""
        spec = self.spec
        return {
            "file": str(self.media),
            "width": self.size[0],
            "height": self.size[1],
            "pixels": self.pixels,
            "fps": round(float(spec.rate), 3) if spec.rate and not self.is_picture else None,
            "duration_s": round(float(spec.duration), 3) if spec.duration and not self.is_picture else None,
        }

    def troubles(self) -> list[str]:
        """What was damaged or mended in it, complete once it was read; a picture's is told with the canvas."""
        if self.is_picture:
            return []
        return [f"{self.role} ({self.name}): {each}" for each in (*self.source.damage, *self.source.notices)]

    def close(self) -> None:
        self.source.close()


def give_short_names(films: Sequence[Film]) -> None:
    """Where different files have one name, add their folders'; where one file comes twice, its roles."""
    paths = [Path(film.media.name) for film in films]
    for film, path in zip(films, paths, strict=True):
        if any(other.name == path.name and other.resolve() != path.resolve() for other in paths):
            film.name = str(Path(path.resolve().parent.name, path.name))
    names = [film.name for film in films]
    for film in films:
        if names.count(film.name) > 1:
            film.name = f"{film.name} ({film.role})"


def agree_on_matrix(films: Sequence[Film]) -> list[str]:
    """Players assume BT.601 of small video that tells no matrix, BT.709 of large: a film and its enlarged copy would
    differ in colour. Here all that tell none have the matrix of one that does, else the smallest's. Returns notices."""
    yuv = [film for film in films if film.spec.pixels.family == "yuv"]
    silent = [film for film in yuv if film.spec.color.colorspace == _UNKNOWN_MATRIX]
    told = [film for film in yuv if film not in silent] or sorted(silent, key=lambda film: film.size[1])
    notices = []
    for film in silent:
        if film.color.colorspace != (matrix := told[0].color.colorspace):
            film.color = replace(film.color, colorspace=matrix)
            notices.append(f"{film.role} ({film.name}) tells no colour matrix and is shown with that of {told[0].role}")
    return notices


@dataclass(frozen=True, slots=True)
class Canvas:
    """The size at which all are compared. notices: what was done to whom, one sentence each.

    stored_luma: whether luma can be compared as it is stored; else it is made of RGB. border: pixels that the figures
    leave out on each side: the scale, as the papers do.
    """

    size: Size
    stored_luma: bool
    border: int
    notices: tuple[str, ...]


def canvas_for(films: Sequence[Film], border: int | None = None) -> Canvas:
    """The reference's size, else that of the larger film; less what an upscaled one lacks of whole multiples.

    border: as asked for; None: by the sizes. Raises ConfigError.
    """
    last = films[-1]
    whole = last.size if last.role == "Reference" else max((film.size for film in films), key=lambda s: s[0] * s[1])
    near = [film.size for film in films if all(abs(a - b) < NEARLY for a, b in zip(film.size, whole, strict=True))]
    size = min(w for w, _ in near), min(h for _, h in near)
    notices = [sentence for film in films for sentence in _fitting_notices(film, size)]
    profiles = {film.source.icc for film in films if isinstance(film.source, StillSource)}
    if len(profiles) > 1:
        notices.append(
            "the pictures have different ICC profiles, which are not applied: colours are compared as stored"
        )
    smallest = min(film.size[0] for film in films)
    if border is None:
        border = round(size[0] / smallest) if 1.5 * smallest < size[0] else 4
    if min(size) - 2 * border < 11:
        raise ConfigError(f"pictures of {size[0]}x{size[1]} are too small to compare with a border of {border} pixels")
    stored = len({_luma_kind(film) for film in films}) == 1 and films[0].spec.pixels.family != "rgb"
    if not stored and any(film.spec.pixels.family != "rgb" for film in films):
        notices.append("colour matrix, range or kind of pixels differ: luma is made anew of the RGB of each (BT.601)")
    return Canvas(size, stored, border, tuple(notices))


def _fitting_notices(film: Film, size: Size) -> list[str]:
    (width, height), (across, down), spec = film.size, size, film.spec
    called, found = f"{film.role} ({film.name})", []
    if _is_near(film.size, size):
        if film.size != size:
            found.append(f"{called} is cut from {width}x{height} to {across}x{down}, what all have")
    else:
        verb = "smaller and is enlarged" if width * height < across * down else "larger and is shrunk"
        found.append(f"{called} is {verb} from {width}x{height} to {across}x{down} with bicubic interpolation")
        if abs(width * down / (height * across) - 1) > _SHAPES_DIFFER:
            found.append(f"{called} has another shape than the others and is stretched")
    found += [f"{called}: {sentence}" for sentence in film.source.notices] if film.is_picture else []
    if spec.pixels.alpha:
        found.append(f"{called} is transparent in places, which is left out")
    if spec.color.trc in (_PQ, _HLG):
        found.append(f"{called} is HDR and is shown without tone mapping")
    return found


def _is_near(size: Size, canvas: Size) -> bool:
    return all(0 <= a - b < NEARLY for a, b in zip(size, canvas, strict=True))


def _luma_kind(film: Film) -> tuple[bool, int, bool]:
    """What lumas must share to be compared as they are stored."""
    return film.spec.pixels.family == "rgb", film.color.colorspace, film.color.range == _FULL


class Fitting:
    """Brings the frames of one film to the canvas. One thread at a time."""

    def __init__(self, film: Film, canvas: Canvas):
        spec = film.spec
        self._film, self._canvas = film, canvas
        self._turns = round(spec.rotation / 90) % 4
        self._screen = PictureMaker(film.color, spec.height, _SCREEN, (spec.width, spec.height))
        self._cut = _is_near(film.size, canvas.size)
        self._resizers: dict[str, Bicubic] = {}
        gray = "gray" if spec.pixels.bits == 8 else f"gray{spec.pixels.bits}le"
        self._gray = gray

    @property
    def is_enlarged(self) -> bool:
        return not self._cut and self._film.size[0] < self._canvas.size[0]

    def bgr(self, frame: Frame) -> np.ndarray:
        """(H, W, 3) uint8 of the canvas's size, full range, by the film's own matrix and range. Don't write to it."""
        return self._fit(self._own_bgr(frame), "bgr24")

    def luma(self, frame: Frame) -> np.ndarray:
        """(H, W) in code values of 8 bits, uint8, or float64 where samples have more bits."""
        if not self._canvas.stored_luma:
            rgb = np.ascontiguousarray(self._own_bgr(frame)[..., ::-1])
            return self._fit(rgb_to_y(rgb), "gray")
        self._check_size(frame)
        y = self._fit(frame.y[0], self._gray)
        bits = frame.pixels.bits
        return y if bits == 8 else y / 2.0 ** (bits - 8)

    def _own_bgr(self, frame: Frame) -> np.ndarray:
        self._check_size(frame)
        own = replace(frame, y=frame.y.copy(), uv=frame.uv.copy())  # the decoder's are read-only, which DLPack refuses
        return self._screen.make(own).to_ndarray()

    def _fit(self, picture: np.ndarray, pix_fmt: str) -> np.ndarray:
        """Upright, and cut or resized to the canvas."""
        picture = np.rot90(picture, self._turns) if self._turns else picture
        width, height = self._canvas.size
        if self._cut:
            return picture[:height, :width]
        if pix_fmt not in self._resizers:
            self._resizers[pix_fmt] = Bicubic(self._film.size, self._canvas.size, pix_fmt)
        return self._resizers[pix_fmt](picture)

    def _check_size(self, frame: Frame) -> None:
        spec = self._film.spec
        height, width = frame.y.shape[1:]
        if (width, height) != (spec.width, spec.height):
            raise SourceError(
                f"{self._film.media}: the picture changes from {spec.width}x{spec.height} to {width}x{height} at "
                f"{frame.seconds:.3f} s; compare the parts with --start and --end"
            )
