"""What `--detail` moves along: `python -m training.detail_curve engines/fast_srgan-x4-clean-float.onnx`.

PSNR-Y and perceptual distance of the engines between a fidelity end and its detail end, blended as the application
blends them, as a table in Markdown; training.report draws them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rtsr.detail import blend
from rtsr.errors import EngineError
from rtsr.manifest import load_manifest, read_engine
from training.data import DataError
from training.evaluate import measure_sets
from training.upscalers import open_graph


class Point(NamedTuple):
    """share: of the way to the detail end. psnr_y in dB; distance: see distance.py, 0 where its weights are missing."""

    share: float
    psnr_y: float
    distance: float


def measure_curve(fidelity: Path, steps: int, sets: Path) -> list[Point]:
    """Means over the test sets at steps + 1 shares. fidelity: a float engine, NAME-float.onnx, with NAME-detail-float
    beside it. Raises DataError, EngineError."""
    start = load_manifest(fidelity.with_suffix(".json"))
    other = fidelity.with_name(fidelity.name.replace("-float", "-detail-float"))
    if start.precision != "float" or not other.exists():
        raise DataError(f"{fidelity} has no detail end beside it: {other.name} is missing")
    end = load_manifest(other.with_suffix(".json"))
    graphs = read_engine(start, fidelity.parent), read_engine(end, other.parent)
    points = []
    for share in np.linspace(0, 1, steps + 1).round(4).tolist():
        found = measure_sets(open_graph(blend(*graphs, share, start.name), start), sets, perceptual=True)
        if not found:
            raise DataError(f"{sets} has no test set for x{start.scale}")
        psnr, distance = (
            float(np.mean(list(found.get(key, {"": 0}).values()))) for key in ("psnr_y", "squeeze_distance")
        )
        points.append(Point(share, psnr, distance))
    return points


def as_markdown(points: Sequence[Point]) -> str:
    rows = "\n".join(f"| {p.share:g} | {p.psnr_y:.2f} | {p.distance:.3f} |" for p in points)
    return f"| detail | PSNR-Y | distance |\n|---|---|---|\n{rows}"


def as_html(fidelity: Path, steps: int, sets: Path) -> str:
    """The curve as heading, table and plot. Raises as measure_curve()."""
    points = measure_curve(fidelity, steps, sets)
    lines = "".join(f"<tr><td>{p.share:.2f}</td><td>{p.psnr_y:.3f}</td><td>{p.distance:.4f}</td></tr>" for p in points)
    head = "<tr><th>detail</th><th>PSNR-Y</th><th>squeeze distance</th></tr>"
    plotted = plot([(p.distance, p.psnr_y) for p in points])
    return f"<h2>{fidelity.stem}: from fidelity to detail</h2><table>{head}{lines}</table>{plotted}"


def plot(points: list[tuple[float, float]]) -> str:
    """A line through (distance, PSNR) points as inline SVG, axes labelled with their ends."""
    xs, ys = zip(*points, strict=True)
    width, height, edge = 420, 220, 40

    def place(x: float, y: float) -> str:
        across = edge + (x - min(xs)) / ((max(xs) - min(xs)) or 1) * (width - 2 * edge)
        down = height - edge - (y - min(ys)) / ((max(ys) - min(ys)) or 1) * (height - 2 * edge)
        return f"{across:.1f},{down:.1f}"

    line = " ".join(place(x, y) for x, y in points)
    labels = (
        f'<text x="{edge}" y="{height - 8}">{min(xs):.3f} squeeze distance {max(xs):.3f}</text>'
        f'<text x="2" y="{edge}">{max(ys):.2f} dB</text><text x="2" y="{height - edge}">{min(ys):.2f} dB</text>'
    )
    box = f'<svg width="{width}" height="{height}" font-size="11">'
    return f'{box}<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>{labels}</svg>'


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m training.detail_curve", description=(__doc__ or "").split("\n")[0])
    p.add_argument("engine", type=Path, help="a float fidelity engine; its detail end lies beside it")
    p.add_argument("--sets", type=Path, default=Path("../shared/data/test"))
    p.add_argument("--steps", type=int, default=4, help="stretches of the curve")
    args = p.parse_args(argv)
    try:
        print(as_markdown(measure_curve(args.engine, args.steps, args.sets)))
    except (DataError, EngineError, OSError) as error:
        print(f"no curve: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
