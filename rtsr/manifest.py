"""An engine's manifest: what `engines/<name>.json` says about `engines/<name>.onnx`, and where engines are found."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rtsr.errors import ConfigError, EngineError

CONTRACT = 1
_CHOICES: dict[str, tuple[object, ...]] = {
    "scale": (1, 2, 3, 4),
    "end": ("fidelity", "detail"),
    "degradation": ("clean", "kernels", "stream", "wild"),
    "precision": ("float", "fp16", "int8"),
    "output": ("phases", "planes"),
    "contract": (CONTRACT,),
}
_DTYPES = {"uint8", "uint16", "float16", "float32"}
_MOST_BYTES = 1 << 20  # of a manifest
_MOST_LETTERS = 4096  # of one of its texts


@dataclass(frozen=True, slots=True)
class Manifest:
    """One exported engine.

    output: `phases`: graph input `y` (N, 1, H, W), output `y_phases` (N, H, W, scale*scale), to be interleaved by the
    backend, which also enlarges the chroma; `planes`: inputs `y`, `uv`, outputs `y_out`, `uv_out`, complete planes.
    dtypes: of every graph input and output. macs_per_lr_pixel: multiply-accumulates for one input luma pixel.
    detail: how far to the detail end, 0..1; `end` is `detail` exactly where this is more than 0.
    quality: measured figures, as `training.evaluate` writes them.
    """

    name: str
    file: str
    tier: str
    scale: int
    end: str
    degradation: str
    precision: str
    output: str
    recipe: str
    contract: int
    dtypes: dict[str, str]
    parameters: int
    macs_per_lr_pixel: int
    sha256: str
    licence: str
    commit: str
    detail: float = 0.0
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def rgb(self) -> bool:
        """Whether the net works in RGB: its graph takes the picture's matrix and range beside the planes."""
        return "matrix" in self.dtypes

    @property
    def kind(self) -> tuple[object, ...]:
        """What is the same of all engines between one fidelity end and its detail end."""
        return self.tier, self.scale, self.degradation, self.precision, self.output

    def save(self, folder: Path) -> Path:
        """Write `<name>.json` into folder."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
        return path


def load_manifest(path: Path) -> Manifest:
    """Read one manifest and check each of its keys. Raises EngineError that names the file and the key at fault."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise EngineError(f"manifest {path} has more than {_MOST_BYTES} bytes")
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"manifest {path} cannot be read: {error}") from error
    names = {f.name for f in fields(Manifest)}
    if not isinstance(raw, dict):
        raise EngineError(f"manifest {path} is a {type(raw).__name__}, not an object")
    if wrong := (raw.keys() - names) | (names - {"detail", "quality"} - raw.keys()):
        raise EngineError(f"manifest {path} has unknown or missing keys: {sorted(wrong)}")
    for key, allowed in _CHOICES.items():
        if isinstance(raw[key], bool) or not any(raw[key] == value for value in allowed):
            raise EngineError(f"manifest {path}: {key} is {raw[key]!r}, allowed are {allowed}")
    for key, value in raw.items():
        if complaint := _complaint(key, value):
            raise EngineError(f"manifest {path}: {key} {complaint}, not {str(value)[:80]!r}")
    detail = float(raw.get("detail", 0))
    if (raw["end"] == "detail") != (detail > 0):
        raise EngineError(f"manifest {path}: end is {raw['end']!r} and detail is {detail:g}, which do not go together")
    raw["detail"] = detail
    return Manifest(**raw)


def _complaint(key: str, value: object) -> str | None:
    """What a key must hold, if value is not that."""
    if key == "file" and not (isinstance(value, str) and value and Path(value).name == value):
        return "must be a plain name beside the manifest"
    if key == "sha256" and not (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
        return "must be 64 hexadecimal digits"
    if key == "dtypes":
        fits = isinstance(value, dict) and all(isinstance(dtype, str) and dtype in _DTYPES for dtype in value.values())
        return None if fits else f"must give each end of the graph one of {sorted(_DTYPES)}"
    if key == "detail":
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        return None if fits else "must be a number from 0 to 1"
    if key == "quality":
        return None if isinstance(value, dict) and _are_figures(value) else "must hold figures by name"
    if Manifest.__annotations__[key] == "int":
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
        return None if fits else "must be a whole number"
    # Printable, because a terminal obeys what is not.
    fits = isinstance(value, str) and value.isprintable() and 0 < len(value) <= _MOST_LETTERS
    return None if fits else "must be a printable text"


def _are_figures(value: object) -> bool:
    if isinstance(value, dict):
        return all(name.isprintable() and _are_figures(figure) for name, figure in value.items())
    return isinstance(value, int | float) and not isinstance(value, bool)


def engines_folder() -> Path:
    """Where engines lie: $RTSR_ENGINES, else inside the installed package, else in the source tree."""
    if folder := os.environ.get("RTSR_ENGINES"):
        return Path(folder)
    package = Path(__file__).resolve().parent
    installed = package / "engines"
    return installed if installed.is_dir() else package.parent / "engines"


def installed_engines(folder: Path | None = None) -> list[Manifest]:
    """All engines of a folder, by name."""
    return [load_manifest(path) for path in sorted((folder or engines_folder()).glob("*.json"))]


def find_engine(
    tier: str,
    scale: int,
    degradation: str,
    precision: str,
    output: str,
    detail: float = 0.0,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Manifest:
    """The one engine that fits, or a ConfigError that says what there is.

    detail: how far to the detail end, 0..1. Float engines are blended where none is exported for that share; of int8
    ones the nearest is taken, and notice told.
    """
    from rtsr.detail import at_detail  # numpy loads only when an engine does

    engines = installed_engines()
    fitting = [engine for engine in engines if engine.kind == (tier, scale, degradation, precision, output)]
    if any(engine.detail == 0 for engine in fitting):
        return at_detail(fitting, detail, notice)
    tiers = sorted({e.tier for e in engines})
    scales = sorted({e.scale for e in engines if e.tier == tier})
    if tier not in tiers:
        raise ConfigError(f"no model {tier!r}; installed: {', '.join(tiers) or 'none'} (see `rtsr engines`)")
    if scale not in scales:
        raise ConfigError(
            f"model {tier!r} has no engine for scale {scale}; it has {', '.join(map(str, scales))} (see `rtsr engines`)"
        )
    if others := sorted({e.degradation for e in engines if e.kind == (tier, scale, e.degradation, precision, output)}):
        raise ConfigError(
            f"model {tier!r} x{scale} is trained for {' and '.join(others)} input only, not for {degradation}: pass "
            f"--degradation {others[0]}, or take another model (see `rtsr engines`)"
        )
    raise ConfigError(
        f"no {precision} {output} engine for {tier} x{scale}, degradation {degradation!r} (see `rtsr engines`)"
    )


def find_rgb_engine(model: str, scale: int, degradation: str, detail: float = 0.0) -> Manifest | None:
    """The engine of an RGB generator; None if there is none of that name. detail: see find_engine().

    Where a generator exists for one degradation only, that one it is. Raises ConfigError if it lacks the scale or the
    detail end.
    """
    from rtsr.detail import at_detail

    engines = [engine for engine in installed_engines() if engine.rgb and engine.tier == model]
    if not engines:
        return None
    fitting = [e for e in engines if e.scale == scale]
    if not fitting:
        has = ", ".join(str(scale) for scale in sorted({e.scale for e in engines}))
        raise ConfigError(f"model {model!r} has no engine for scale {scale}; it has {has} (see `rtsr engines`)")
    kind = degradation if any(e.degradation == degradation for e in fitting) else fitting[0].degradation
    return at_detail([e for e in fitting if e.degradation == kind], detail)


def is_rgb(model: str) -> bool:
    """Whether a model works in RGB."""
    return any(engine.rgb and engine.tier == model for engine in installed_engines())


def engine_of(sha256: str) -> Manifest | None:
    """What an engine's file is: an installed one, or one that was blended here. None where there is no file."""
    from rtsr.detail import blend_of

    return next((e for e in installed_engines() if e.sha256 == sha256), None) or blend_of(sha256)


def read_engine(engine: Manifest, folder: Path | None = None) -> bytes:
    """The ONNX file's bytes, checked against the manifest's sha256 and by check_engine(), before a runtime sees them.

    Those of a blend are made of its two ends' files. Raises EngineError.
    """
    from rtsr.detail import Blend, blend  # numpy loads only when an engine does
    from rtsr.engine_check import check_engine

    folder = folder or engines_folder()
    if isinstance(engine, Blend):
        what = f"a blend of {' and '.join(end.file for end in engine.ends)}, which changed"
        start, end = (read_engine(one, folder) for one in engine.ends)
        data = blend(start, end, engine.way, engine.name)
    else:
        what = f"{folder / engine.file} is not the file its manifest describes"
        data = _read_file(engine, folder)
    if hashlib.sha256(data).hexdigest() != engine.sha256:
        raise EngineError(f"engine {engine.name}: {what} (sha256 differs)")
    check_engine(data, engine)
    return data


def _read_file(engine: Manifest, folder: Path) -> bytes:
    from rtsr.engine_check import MAX_BYTES

    path = folder / engine.file
    try:
        if not path.is_file() and path.exists():
            raise EngineError(f"engine {engine.name}: {path} is no file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EngineError(f"engine {engine.name}: {path} cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise EngineError(f"engine {engine.name}: {path} has more than {MAX_BYTES >> 20} MiB")
    return data
