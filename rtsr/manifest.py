"""An engine's manifest: what `engines/<name>.json` says about `engines/<name>.onnx`, and where engines are found."""

from __future__ import annotations

import hashlib
import json
import os
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


@dataclass(frozen=True, slots=True)
class Manifest:
    """One exported engine.

    output: `phases`: graph input `y` (N, 1, H, W), output `y_phases` (N, H, W, scale*scale), to be interleaved by the
    backend, which also enlarges the chroma; `planes`: inputs `y`, `uv`, outputs `y_out`, `uv_out`, complete planes.
    dtypes: of every graph input and output. macs_per_lr_pixel: multiply-accumulates for one input luma pixel.
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
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def rgb(self) -> bool:
        """Whether the net works in RGB: its graph takes the picture's matrix and range beside the planes."""
        return "matrix" in self.dtypes

    def save(self, folder: Path) -> Path:
        """Write `<name>.json` into folder."""
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
        return path


def load_manifest(path: Path) -> Manifest:
    """Read and check one manifest. Raises EngineError that names the file and the key at fault."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EngineError(f"manifest {path} cannot be read: {error}") from error
    names = {f.name for f in fields(Manifest)}
    if not isinstance(raw, dict):
        raise EngineError(f"manifest {path} is a {type(raw).__name__}, not an object")
    if wrong := (raw.keys() - names) | (names - {"quality"} - raw.keys()):
        raise EngineError(f"manifest {path} has unknown or missing keys: {sorted(wrong)}")
    for key, allowed in _CHOICES.items():
        if isinstance(raw[key], bool) or not any(raw[key] == value for value in allowed):
            raise EngineError(f"manifest {path}: {key} is {raw[key]!r}, allowed are {allowed}")
    if not isinstance(raw["file"], str) or not raw["file"] or Path(raw["file"]).name != raw["file"]:
        raise EngineError(f"manifest {path}: file {raw['file']!r} must be a plain name beside the manifest")
    return Manifest(**raw)


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


def find_engine(tier: str, scale: int, degradation: str, precision: str, output: str) -> Manifest:
    """The one engine that fits, or a ConfigError that lists what there is."""
    engines = installed_engines()
    wanted = (tier, scale, degradation, precision, output)
    for engine in engines:
        if (engine.tier, engine.scale, engine.degradation, engine.precision, engine.output) == wanted:
            return engine
    tiers = sorted({e.tier for e in engines})
    scales = sorted({e.scale for e in engines if e.tier == tier})
    if tier not in tiers:
        raise ConfigError(f"no model {tier!r}; installed: {', '.join(tiers) or 'none'} (see `rtsr engines`)")
    if scale not in scales:
        raise ConfigError(
            f"model {tier!r} has no engine for scale {scale}; it has {', '.join(map(str, scales))} (see `rtsr engines`)"
        )
    raise ConfigError(
        f"no {precision} {output} engine for {tier} x{scale}, degradation {degradation!r} (see `rtsr engines`)"
    )


def find_rgb_engine(model: str, scale: int, degradation: str) -> Manifest | None:
    """The engine of an RGB generator; None if there is none of that name. `NAME-detail` is its detail end.

    Where a generator exists for one degradation only, that one it is. Raises ConfigError if it lacks the scale.
    """
    tier, _, end = model.partition("-")
    engines = [e for e in installed_engines() if e.rgb and e.tier == tier and e.end == (end or "fidelity")]
    if not engines:
        return None
    fitting = [e for e in engines if e.scale == scale]
    if not fitting:
        has = ", ".join(str(scale) for scale in sorted({e.scale for e in engines}))
        raise ConfigError(f"model {model!r} has no engine for scale {scale}; it has {has} (see `rtsr engines`)")
    return next((e for e in fitting if e.degradation == degradation), fitting[0])


def read_engine(engine: Manifest, folder: Path | None = None) -> bytes:
    """The ONNX file's bytes, checked against the manifest's sha256. Raises EngineError."""
    path = (folder or engines_folder()) / engine.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"engine {engine.name}: {path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != engine.sha256:
        raise EngineError(f"engine {engine.name}: {path} is not the file its manifest describes (sha256 differs)")
    return data
