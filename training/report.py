"""One HTML page that compares engines: `python -m training.report engines/*.onnx bicubic:4 --out report.html`.

A table of figures (taken from the manifests, or from a JSON of training.evaluate) and crops of the same places, side by
side and labelled, truth last. Everything is inside the one file. --curve adds what `--detail` moves along between an
engine's two ends (detail_curve.py).
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

from rtsr.errors import EngineError
from training.data import DataError
from training.detail_curve import as_html
from training.evaluate import read_rgb
from training.upscalers import Upscaler, open_upscalers

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
    p.add_argument("--curve", type=Path, metavar="ENGINE", action="append", default=[], help="a float fidelity engine")
    p.add_argument("--steps", type=int, default=5, help="stretches of a curve")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        curves = "".join(as_html(file, args.steps, args.sets) for file in args.curve)
        upscalers = open_upscalers(args.engines)
        body = table(gather(args.engines, args.figures)) + curves + crops(upscalers, args.sets)
    except (DataError, EngineError, OSError) as error:
        print(f"report stopped: {error}", file=sys.stderr)
        return 1
    page = f"<!doctype html><meta charset=utf-8><title>rtsr engines</title><style>{STYLE}</style><h1>Engines</h1>{body}"
    args.out.write_text(page)
    print(f"{args.out} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
