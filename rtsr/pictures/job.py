"""`rtsr upscale photo.png -o photo_4x.png`: one picture in, the same larger out, or a sentence that says why not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2

from rtsr.backends import Engine, EngineChoice, open_cpu_engine, open_engine
from rtsr.errors import ConfigError, IncompleteError
from rtsr.frames import VideoSpec
from rtsr.manifest import is_rgb
from rtsr.memory import available_bytes
from rtsr.options import Options
from rtsr.pictures.enlarge import enlarge_picture
from rtsr.pictures.exif import with_size
from rtsr.pictures.formats import PictureFormat, picture_format
from rtsr.pictures.picture import Picture
from rtsr.pictures.read import read_picture
from rtsr.pictures.verify import compare_pictures
from rtsr.pictures.write import for_format, lacks, write_picture
from rtsr.sinks.encoding import Encoding

_COPIES = 3.5  # of the enlarged picture that are held at once: planes, samples, the encoder's own, the one read back
_FOR_PICTURES = {
    "scale",
    "to",
    "model",
    "backend",
    "degradation",
    "overwrite",
    "drop_unsupported",
    "restart",
    "precision",
    "detail",
}
_SHORTEST = 16_384  # bytes of memory for a picture are not worth a check below this many pixels


@dataclass(frozen=True, slots=True)
class PictureReport:
    """What became of one picture."""

    input: str
    output: str
    engine: str
    backend: str
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    pixels: str
    wall_s: float
    notices: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class EngineShelf:
    """Engines that stay open from one picture to the next. One thread at a time."""

    def __init__(self) -> None:
        self._engines: dict[EngineChoice, Engine] = {}

    def engine(self, choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> Engine:
        """Opened at the first call. `auto` means the CPU: a TensorRT plan is built for one size, in minutes.

        notice: see open_engine(). Raises ConfigError or EngineError.
        """
        if choice not in self._engines:
            is_ladder = not is_rgb(choice.generator)
            opened = open_cpu_engine if choice.backend == "auto" and is_ladder else open_engine
            self._engines[choice] = opened(choice, notice)
        return self._engines[choice]

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()

    def __enter__(self) -> EngineShelf:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def upscale_picture(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: Options | None = None,
    *,
    shelf: EngineShelf | None = None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> PictureReport:
    """Upscale a still picture. ICC profile, EXIF, XMP, resolution and text go through; see docs/PICTURES.md.

    shelf: engines to use and to leave open. Raises ConfigError for what cannot work, before anything is written,
    SourceError, EngineError or SinkError when a part fails, IncompleteError when the written file lacks something: it
    stays as `<output>.part` then.
    """
    options, begun = options or Options(), time.perf_counter()
    source, target = Path(input), Path(output)
    kind = picture_format(target)
    check_options(options)
    _check_output(source, target, options.overwrite)
    picture, notices = prepared(source, kind, options)
    for sentence in notices:
        notice(sentence)
    scale, size = options.scale_and_size(_spec(picture))
    _check_size(target, kind, size)
    _check_memory(picture, scale)
    with EngineShelf() as own:
        engine = (shelf or own).engine(options.engine(scale, picture.bits), notice)
        large = enlarged(picture, engine, options, size, notice)
        part = target.with_name(target.name + ".part")
        _write(large, picture, kind, target, part)
        name, backend = engine.name, engine.backend
    wall = round(time.perf_counter() - begun, 3)
    return PictureReport(str(source), str(target), name, backend, picture.size, size, large.kind, wall, notices)


def picture_plan(input: str | os.PathLike[str], output: str | os.PathLike[str], options: Options) -> dict[str, object]:
    """What upscale_picture() would do. Raises what it raises before the work."""
    source, target = Path(input), Path(output)
    kind = picture_format(target)
    check_options(options)
    _check_output(source, target, options.overwrite)
    picture, notices = prepared(source, kind, options)
    scale, size = options.scale_and_size(_spec(picture))
    _check_size(target, kind, size)
    _check_memory(picture, scale)
    return {
        "input": str(source),
        "output": str(target),
        "picture": f"{'x'.join(map(str, picture.size))} -> {'x'.join(map(str, size))}, {picture.kind}",
        "format": kind.name,
        "kept": ", ".join(picture.metadata.parts()),
        "notes": "; ".join(notices),
    }


def prepared(source: Path, kind: PictureFormat, options: Options) -> tuple[Picture, list[str]]:
    """The picture as the output can hold it, and what a user should know of that. Raises ConfigError for what would be
    lost without being asked for, and whatever reading raises."""
    whole = read_picture(source)
    losses = [*whole.losses, *lacks(whole, kind)]
    if losses and not options.drop_unsupported:
        raise ConfigError(
            f"{source}: the output would lose {'; '.join(losses)}. Nothing was done: choose another output (.png and "
            ".tif hold the most), or pass --drop-unsupported to go on without"
        )
    picture = for_format(whole, kind)
    return picture, [*picture.notices, *(f"left out: {loss}" for loss in losses)]


def enlarged(
    picture: Picture,
    engine: Engine,
    options: Options,
    size: tuple[int, int],
    notice: Callable[[str], None] = lambda sentence: None,
) -> Picture:
    """The picture `size` (width, height) large, its EXIF saying so. Raises EngineError."""
    in_rgb = options.backend != "reference" and is_rgb(options.engine(engine.scale, picture.bits).generator)
    pixels = enlarge_picture(picture.pixels, engine, in_rgb, notice)
    if (pixels.shape[1], pixels.shape[0]) != size:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
    metadata = replace(picture.metadata, exif=with_size(picture.metadata.exif, *size))
    return replace(picture, pixels=pixels, metadata=metadata)


def check_options(options: Options) -> None:
    """Raise ConfigError for what only films have."""
    usual = Options(scale=options.scale, to=options.to)
    for each in fields(Options):
        if each.name in _FOR_PICTURES or getattr(options, each.name) == getattr(usual, each.name):
            continue
        if each.name == "encoding":
            found = next(
                f.name for f in fields(Encoding) if getattr(options.encoding, f.name) != getattr(Encoding(), f.name)
            )
            name = {"options": "codec-option"}.get(found, found)
        else:
            name = each.name
        raise ConfigError(f"--{name.replace('_', '-')} is for films; a picture has none")


def _write(large: Picture, picture: Picture, kind: PictureFormat, target: Path, part: Path) -> None:
    """Write, read back, compare, and only then give the file its name."""
    try:
        write_picture(large, kind, part)
        findings = compare_pictures(picture, read_picture(part)).findings
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if findings:
        raise IncompleteError(f"{part} does not match the input: {'; '.join(findings)}; rename it if it is enough")
    part.replace(target)


def _spec(picture: Picture) -> VideoSpec:
    width, height = picture.size
    return VideoSpec(width, height, Fraction(1))


def _check_output(source: Path, target: Path, overwrite: bool) -> None:
    for name in (target, target.with_name(target.name + ".part")):
        if name.exists() and source.exists() and name.samefile(source):
            raise ConfigError(f"{name} is the input itself; choose another output")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists already; pass --overwrite to replace it")
    if target.is_dir():
        raise ConfigError(f"output {target} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise ConfigError(f"the output's folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise ConfigError(f"the output's folder {target.parent} is not writable")


def _check_size(target: Path, kind: PictureFormat, size: tuple[int, int]) -> None:
    if max(size) > kind.largest:
        raise ConfigError(
            f"{target}: {size[0]}x{size[1]} is more than {kind.name} holds ({kind.largest} pixels a side); "
            "use .png, or a smaller --scale"
        )


def _check_memory(picture: Picture, scale: int) -> None:
    """A picture is held whole: better refused than killed by the system halfway."""
    needed, room = round(_COPIES * picture.pixels.nbytes * scale * scale), available_bytes()
    if room is not None and picture.pixels.size > _SHORTEST and needed > room:
        raise ConfigError(
            f"enlarging this picture {scale} times takes about {needed / 1e9:.1f} GB of memory and {room / 1e9:.1f} GB "
            "are free; use a smaller --scale"
        )


def for_pictures(options: Options) -> Options:
    """The same without what only films have, for folders that hold both."""
    return Options(**{name: getattr(options, name) for name in _FOR_PICTURES})
