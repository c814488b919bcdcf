"""Measure engines as the papers do: `python -m training.evaluate engines/fast-x4-clean-int8.onnx bicubic:4`.

Prints a table and one JSON line. Engines run under OpenVINO, the backend that ships for CPUs. `bicubic:S` and
`lanczos:S` are the interpolations at scale S. --clips adds real video: shrunk by the scale, coded by x264, upscaled,
compared with the original frames.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtsr.metrics import psnr, rgb_to_y, ssim
from training.clips import flicker, measure_clips
from training.degradations import KERNELS, shrink
from training.upscalers import Upscaler, open_upscaler, to_planes, to_rgb

Picture = NDArray[np.uint8]
SETS = ("Set5", "Set14", "BSD100")


def measure_sets(upscaler: Upscaler, folder: Path, perceptual: bool = False) -> dict[str, dict[str, float]]:
    """{"psnr_y": {set: dB}, "ssim_y": {set: 0..1}} over the sets that `folder` has, with their own LR files.

    perceptual: also `squeeze_distance` (distance.py) of the RGB pictures, where its weights are, and `niqe` (niqe.py).
    """
    result: dict[str, dict[str, float]] = {}
    distance = open_distance() if perceptual else None
    for name in SETS:
        rows = []
        for file in sorted((folder / name / f"LRx{upscaler.scale}").glob("*.png")):
            hr = read_rgb(folder / name / "HR" / file.name)
            rows.append(measure_picture(upscaler, read_rgb(file), hr, perceptual, distance))
        for key in rows[0] if rows else ():
            digits = {"psnr_y": 3, "niqe": 3}.get(key, 4)
            values = [row[key] for row in rows if key in row]
            result.setdefault(key, {})[name] = round(float(np.mean(values)), digits)
    return result


def measure_picture(
    upscaler: Upscaler, lr: Picture, hr: Picture, perceptual: bool, distance: Callable | None
) -> dict[str, float]:
    """All figures of one RGB picture; the LR file covers the top left of the HR one."""
    from training.niqe import PATCH, niqe

    scale = upscaler.scale
    hr = hr[: lr.shape[0] * scale, : lr.shape[1] * scale]
    truth = rgb_to_y(hr)
    if not perceptual and not upscaler.colour:
        y = upscaler.luma(rgb_to_y(lr))
        return {"psnr_y": psnr(y, truth, scale), "ssim_y": ssim(y, truth, scale)}
    y, uv = upscaler.planes(*to_planes(lr))
    row = {"psnr_y": psnr(y, truth, scale), "ssim_y": ssim(y, truth, scale)}
    if distance is not None:
        row["squeeze_distance"] = distance(to_rgb(y, uv), hr)
    if perceptual and min(y.shape) >= 2 * PATCH:
        row["niqe"] = niqe(y)
    return row


def open_distance() -> Callable[[Picture, Picture], float] | None:
    """The perceptual distance, or None and a line about it where its weights are missing."""
    from training.distance import WEIGHTS, SqueezeDistance

    if not WEIGHTS.exists():
        print(f"no perceptual distance: {WEIGHTS} is missing", file=sys.stderr)
        return None
    return SqueezeDistance()


def measure_kernels(upscaler: Upscaler, folder: Path) -> dict[str, float]:
    """PSNR-Y on Set5 from LR made by nearest, bilinear and bicubic shrinking of the HR pictures."""
    scale, scores = upscaler.scale, {kernel: [] for kernel in KERNELS}
    for file in sorted((folder / "Set5" / "HR").glob("*.png")):
        hr = read_rgb(file)
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        for kernel, found in scores.items():
            y, _ = upscaler.planes(*to_planes(shrink(hr, scale, kernel)))
            found.append(psnr(y, rgb_to_y(hr), scale))
    return {kernel: round(float(np.mean(found)), 3) for kernel, found in scores.items()}


@lru_cache(maxsize=512)
def read_rgb(file: Path) -> Picture:
    """RGB of a picture file; kept in memory, as many engines are measured on the same ones. Don't write to it."""
    bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SystemExit(f"{file} is not a picture that can be read")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def read_y(file: Path) -> Picture:
    """Luma of a picture file."""
    return rgb_to_y(read_rgb(file))


def flat_error(upscaler: Upscaler, step: int = 1) -> tuple[int, int]:
    """(largest error, largest spread within a patch) on flat patches of the levels 16..235, in code values.

    step: 1, or 11 for every eleventh level.

    More than 1 shows as a fixed grid on walls and skies.
    """
    scale = upscaler.scale
    levels, side, margin = np.arange(16, 236, step), 40, 14  # margin: beyond the reach of the ladder's deepest
    tiles = levels.reshape(-1, 20).astype(np.uint8).repeat(side, 0).repeat(side, 1)
    large = side * scale
    blocks = upscaler.luma(tiles).reshape(-1, large, 20, large).transpose(0, 2, 1, 3).reshape(-1, large, large)
    inner = blocks[:, margin * scale : -margin * scale, margin * scale : -margin * scale].astype(int)
    error = np.abs(inner - levels[:, None, None]).max()
    spread = (inner.max(axis=(1, 2)) - inner.min(axis=(1, 2))).max()
    return int(error), int(spread)


def grid_energy(upscaler: Upscaler) -> dict[str, float]:
    """Energy (code values squared) at the frequencies of the pixel shuffle: a checkerboard, were there one.

    flat: the worst of seven grey levels; gradient: a slow ramp along both axes, in whole code values, as rounded ones
    have a pattern of their own. Everything that repeats every `scale` pixels lies at multiples of 1/scale cycles per
    pixel; a Hann window keeps the ramp itself out of them.
    """
    size, scale = 64, upscaler.scale
    levels = (16, 50, 90, 128, 170, 210, 235)
    flats = [repeating_energy(upscaler.luma(np.full((size, size), level, np.uint8)), scale) for level in levels]
    ramp = np.add.outer(np.arange(size), 2 * np.arange(size)) + 40
    return {
        "flat": round(max(flats), 4),
        "gradient": round(repeating_energy(upscaler.luma(ramp.astype(np.uint8)), scale), 4),
    }


def repeating_energy(y: Picture, scale: int, margin: int = 8) -> float:
    """Variance of the part of y (s*H, s*W) that repeats every `scale` pixels, `margin` LR pixels off the border."""
    inner = y[margin * scale : -margin * scale, margin * scale : -margin * scale].astype(np.float64)
    window = np.outer(*(np.hanning(side + 1)[:-1] for side in inner.shape))
    spectrum = np.fft.fft2((inner - inner.mean()) * window) / window.sum()
    rows, columns = (side // scale for side in inner.shape)
    grid = np.abs(spectrum[::rows, ::columns]) ** 2
    return float(grid.sum() - grid[0, 0])


# What rounding to 8 bits may leave: the variance of an even error of one code value. Bicubic's flat picture has none.
ROUNDING = 1 / 12


def has_grid(upscaler: Upscaler) -> bool:
    """Whether a flat or a gradient picture shows more of a grid than 1.1 times bicubic's, rounding allowed for."""
    ours, bicubic = grid_energy(upscaler), grid_energy(open_upscaler(f"bicubic:{upscaler.scale}"))
    return any(ours[kind] > 1.1 * (bicubic[kind] + ROUNDING) for kind in ours)


def measure_flicker(upscaler: Upscaler, sets: Path) -> float:
    """Of Set14's first picture as a static shot, against bicubic (clips.py)."""
    still = read_y(sorted((sets / "Set14" / "HR").glob("*.png"))[0])
    return flicker(upscaler.luma, upscaler.scale, still)


def measure(what: str, sets: Path, clips: Path | None = None, perceptual: bool = False) -> dict:
    """All figures of one engine or interpolation."""
    upscaler = open_upscaler(what)
    result: dict = measure_sets(upscaler, sets, perceptual)
    if (perceptual or clips) and (sets / "Set14").is_dir():
        result["flicker"] = measure_flicker(upscaler, sets)
    if clips:
        result["clips"] = measure_clips(upscaler.luma, upscaler.scale, clips)
    return result


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").split("\n")[0])
    p.add_argument("engines", nargs="+", help="engines/NAME.onnx, bicubic:S or lanczos:S")
    p.add_argument("--sets", type=Path, default=Path("../shared/data/test"), help="folder with Set5, Set14, BSD100")
    p.add_argument("--clips", type=Path, help="folder of high-resolution clips")
    p.add_argument("--perceptual", action="store_true", help="perceptual distance, NIQE and flicker of a static shot")
    p.add_argument("--kernels", action="store_true", help="Set5 from nearest, bilinear and bicubic LR")
    p.add_argument("--json", type=Path, help="write the figures to this file, for training.report")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    figures = {}
    for what in args.engines:
        name = what.replace(":", "-x") if ":" in what else Path(what).stem
        figures[name] = found = measure(what, args.sets, args.clips, args.perceptual)
        if args.kernels:
            found["kernels"] = measure_kernels(open_upscaler(what), args.sets)
        print(f"{name:28s} {row(found)}")
        for clip, values in found.get("clips", {}).items():
            print(f"{'':28s} {clip:20s} " + "  ".join(f"{who} {value:.2f}" for who, value in values.items()))
    print(json.dumps(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def row(found: dict) -> str:
    """One engine's figures on a line."""
    cells = [f"{name} {db:.2f} / {found['ssim_y'][name]:.4f}" for name, db in found.get("psnr_y", {}).items()]
    for key in ("squeeze_distance", "niqe"):
        cells += [f"{key} " + " ".join(f"{value:.3f}" for value in found[key].values())] if key in found else []
    cells += [f"flicker {found['flicker']:.2f}"] if "flicker" in found else []
    cells += [" ".join(f"{k} {db:.2f}" for k, db in found["kernels"].items())] if "kernels" in found else []
    return "  ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
