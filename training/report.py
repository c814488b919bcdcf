"""One HTML page that compares engines: `python -m training.report engines/*.onnx bicubic:4 --out report.html`.

A table of figures (taken from the manifests, or from a JSON of training.evaluate) and crops of the same places, side by
side and labelled, truth last. Everything is inside the one file. --steps K adds the curve between the fidelity and the
detail checkpoint of a recipe: PSNR against perceptual distance at K + 1 mixtures of their weights.
"""

import argparse
import base64
import html
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training import checkpoint, recipe
from training.data import DataError
from training.evaluate import measure_picture, open_distance, read_rgb
from training.loop import upscale
from training.upscalers import Upscaler, open_upscalers, to_planes, to_rgb

Picture = NDArray[np.uint8]
# Places on the benchmark pictures that show what nets get wrong: eye and hair, stripes, thin edges, foliage, text.
CROPS = (("Set5", 1, 40), ("Set5", 3, 40), ("Set5", 5, 40), ("Set14", 2, 40), ("Set14", 13, 40), ("BSD100", 8, 40))
STYLE = """body{font:14px/1.4 sans-serif;margin:2em;background:#fff;color:#222}table{border-collapse:collapse}
td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}
figure{display:inline-block;margin:0 .5em 1em 0}figcaption{font-size:12px;max-width:240px}
img{image-rendering:pixelated}"""


def table(figures: dict[str, dict]) -> str:
    """One row an engine, one column a figure and set."""
    sets = sorted({name for found in figures.values() for name in found.get("psnr_y", {})}, key=SORTED.index)
    keys = [key for key in HEADS if any(key in found for found in figures.values())]
    head = "".join(f"<th>{HEADS[key]} {name}</th>" for key in keys for name in sets)
    rows = []
    for engine, found in figures.items():
        cells = [found.get(key, {}).get(name) for key in keys for name in sets]
        filled = "".join(f"<td>{'' if value is None else f'{value:.3f}'}</td>" for value in cells)
        rows.append(f"<tr><td>{html.escape(engine)}</td>{filled}<td>{found.get('flicker', '')}</td></tr>")
    return f"<table><tr><th>engine</th>{head}<th>flicker</th></tr>{''.join(rows)}</table>"


SORTED = ["Set5", "Set14", "BSD100"]
HEADS = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "squeeze_distance": "squeeze distance", "niqe": "NIQE (own model)"}


def crops(upscalers: dict[str, Upscaler], sets: Path) -> str:
    """The same places through every engine, the input enlarged by repetition first, the truth last."""
    rows = []
    for folder, number, size in CROPS:
        for scale in sorted({upscaler.scale for upscaler in upscalers.values()}):
            name = f"img_{number:03d}.png"
            file = sets / folder / f"LRx{scale}" / name
            if not file.exists():
                continue
            lr, hr = read_rgb(file), read_rgb(sets / folder / "HR" / name)
            top, left = ((side - size) // 2 for side in lr.shape[:2])
            y, x, length = top * scale, left * scale, size * scale
            part = lr[top : top + size, left : left + size]
            shown = [("input", part.repeat(scale, 0).repeat(scale, 1))]
            for label, upscaler in upscalers.items():
                if upscaler.scale == scale:
                    shown.append((label, upscaler.rgb(lr)[y : y + length, x : x + length]))
            shown.append(("truth", hr[y : y + length, x : x + length]))
            rows.append(f"<h3>{folder} {name}, x{scale}</h3>" + "".join(figure(*pair) for pair in shown))
    return "".join(rows)


def figure(label: str, picture: Picture) -> str:
    data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1].tobytes()
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    width = max(200, picture.shape[1])
    return f'<figure><img src="{source}" width="{width}"><figcaption>{html.escape(label)}</figcaption></figure>'


def blend_curve(name: str, steps: int, sets: Path, scale: int = 4) -> str:
    """Set5 at mixtures of a recipe's two checkpoints (network interpolation, ESRGAN section 3.4), as table and plot."""
    ends = [checkpoint.load(run_file(name, end, scale))["ema"] for end in ("", "-detail")]
    chosen = recipe.load(name)
    distance, points = open_distance(), []
    for i in range(steps + 1):
        G = chosen.generator(scale).eval()
        G.load_state_dict(
            {k: v.lerp(ends[1][k], i / steps) if v.is_floating_point() else v for k, v in ends[0].items()}
        )

        def planes(y: Picture, uv: Picture, G=G) -> tuple[Picture, Picture]:
            if chosen.channels == 1:
                from training.upscalers import enlarge_chroma

                return upscale(G, y, scale), enlarge_chroma(uv, scale)
            return to_planes(upscale(G, to_rgb(y, uv), scale))

        rows = []
        for file in sorted((sets / "Set5" / f"LRx{scale}").glob("*.png")):
            hr = read_rgb(sets / "Set5" / "HR" / file.name)
            rows.append(measure_picture(Upscaler(scale, planes, True), read_rgb(file), hr, True, distance))
        means = {
            key: float(np.mean([row[key] for row in rows])) for key in ("psnr_y", "squeeze_distance") if key in rows[0]
        }
        points.append((i / steps, means))
    lines = "".join(
        f"<tr><td>{share:.2f}</td><td>{found['psnr_y']:.3f}</td><td>{found.get('squeeze_distance', 0):.4f}</td></tr>"
        for share, found in points
    )
    head = "<tr><th>detail</th><th>PSNR-Y Set5</th><th>squeeze distance</th></tr>"
    plotted = plot([(f.get("squeeze_distance", 0.0), f["psnr_y"]) for _, f in points])
    return f"<h2>{name}: from fidelity to detail</h2><table>{head}{lines}</table>{plotted}"


def run_file(name: str, end: str, scale: int) -> Path:
    file = Path("runs") / f"{name}-x{scale}-{recipe.load(name).degradation}{end}" / "last.pt"
    if not file.exists():
        raise DataError(f"{file} is missing: train both stages of {name} first")
    return file


def plot(points: list[tuple[float, float]]) -> str:
    """A line through (x, y) points as inline SVG, axes labelled with their ends."""
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


def gather(engines: list[str], measured: Path | None) -> dict[str, dict]:
    """Figures by engine: from the JSON of training.evaluate where it has them, else from the manifest."""
    known = json.loads(measured.read_text()) if measured else {}
    figures = {}
    for what in engines:
        name = what.replace(":", "-x") if ":" in what else Path(what).stem
        manifest = Path(what).with_suffix(".json")
        figures[name] = known.get(name) or (json.loads(manifest.read_text())["quality"] if manifest.exists() else {})
    return figures


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.report", description=(__doc__ or "").split("\n")[0])
    p.add_argument("engines", nargs="+", help="engines/NAME.onnx, bicubic:S or lanczos:S")
    p.add_argument("--out", type=Path, default=Path("report.html"))
    p.add_argument("--figures", type=Path, help="JSON that training.evaluate --json wrote")
    p.add_argument("--sets", type=Path, default=Path("../shared/data/test"))
    p.add_argument("--curve", metavar="RECIPE", action="append", default=[], help="add this recipe's curve")
    p.add_argument("--steps", type=int, default=5, help="mixtures on a curve")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        curves = "".join(blend_curve(name, args.steps, args.sets) for name in args.curve)
        upscalers = open_upscalers(args.engines)
        body = table(gather(args.engines, args.figures)) + curves + crops(upscalers, args.sets)
    except (DataError, OSError) as error:
        print(f"report stopped: {error}", file=sys.stderr)
        return 1
    page = f"<!doctype html><meta charset=utf-8><title>rtsr engines</title><style>{STYLE}</style><h1>Engines</h1>{body}"
    args.out.write_text(page)
    print(f"{args.out} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
