"""Detail ends for tests of the dial: a shipped tier's engines with their weights moved a little."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtsr.manifest import Manifest, load_manifest

SHIPPED = Path(__file__).resolve().parent.parent / "engines"
TIER, SCALE = "nano", 2  # the quickest there is
KINDS = ("float", "float-planes", "int8")


def save_both_ends(folder: Path, tier: str = TIER, scale: int = SCALE) -> None:
    """Both ends of a tier: float ones, and int8 ones at detail 0, 0.5 and 1."""
    for kind in KINDS:
        start = copied(folder, f"{tier}-x{scale}-stream-{kind}")
        for detail in (0.5, 1.0) if kind == "int8" else (1.0,):
            save_moved(folder, start, detail)


def copied(folder: Path, name: str) -> Manifest:
    for suffix in (".json", ".onnx"):
        shutil.copy(SHIPPED / f"{name}{suffix}", folder)
    return load_manifest(folder / f"{name}.json")


def save_moved(folder: Path, start: Manifest, detail: float) -> Manifest:
    """An engine like start, its weights `detail` times as far away as those of the detail end."""
    onnx = pytest.importorskip("onnx", reason="onnx makes the test engines: pip install 'rtsr[dev]'")
    model = onnx.load_from_string((folder / start.file).read_bytes())
    random = np.random.default_rng(5)
    for weight in model.graph.initializer:
        if not re.fullmatch(r"[wb]\d+", weight.name):
            continue
        values = onnx.numpy_helper.to_array(weight)
        noise = random.standard_normal(values.shape)
        if values.dtype == np.int8:
            moved = np.clip(np.rint(values + 2 * detail * noise), -127, 127)
        else:
            moved = values * (1 + 0.03 * detail * noise)
        weight.CopyFrom(onnx.numpy_helper.from_array(moved.astype(values.dtype), weight.name))
    data = model.SerializeToString()
    step = "-detail" + (f"{100 * detail:g}" if detail < 1 else "")
    name = start.name.replace("-stream", f"-stream{step}")
    (folder / f"{name}.onnx").write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    made = replace(start, name=name, file=f"{name}.onnx", end="detail", detail=detail, sha256=sha256, quality={})
    made.save(folder)
    return made
