"""The figures in engines' manifests: `python -m training.quality engines/*.json --clips ../shared/data/clips_hr`.

Measures each engine anew and writes what was found into its manifest; training.export does so for new ones. --speed
measures milliseconds alone, all engines in one run, taking turns, so that what else the machine does hits all alike;
--flicker the flicker of a static shot alone.
"""

import argparse
import statistics
import sys
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from rtsr import bench_machine
from rtsr.manifest import Manifest, load_manifest, read_engine
from training.clips import measure_clips
from training.evaluate import flat_error, grid_energy, measure, measure_flicker, measure_kernels
from training.upscalers import ALONE, any_frame, open_engine

WIDTH, HEIGHT = 640, 360  # of the frame that is timed
ROUNDS = 15
SLOW_S = 0.5  # an engine that takes longer runs in three rounds only
CLIP_KEYS = ("", "_vmaf_neg")  # PSNR-Y and VMAF-NEG, as clips.measure_clips names them


def add_quality(manifest: Manifest, folder: Path, sets: Path, clips: Path | None) -> None:
    """Measure an engine in `folder` and write the figures into its manifest.

    An int8 engine is set against its float twin, a stream one on clips against its clean twin. A planes engine has its
    phases twin's luma to the bit (tests/training), so it gets that one's figures.
    """
    phases = folder / f"{manifest.name.removesuffix('-planes')}.json"
    if manifest.name.endswith("-planes") and phases.exists():
        twin = load_manifest(phases).quality
        manifest.quality.update({key: value for key, value in twin.items() if key != "ms_640x360"})
        manifest.save(folder)
        return
    file = folder / manifest.file
    coded = clips if manifest.degradation == "stream" else None
    body, _, precision = manifest.name.rpartition("-")
    has_ends = manifest.end == "detail" or (folder / f"{body}-detail-{precision}.json").exists()
    quality = measure(str(file), sets, coded, perceptual=manifest.rgb or has_ends)
    upscaler = open_engine(file)
    quality["flat_max_error"] = flat_error(upscaler)[0]
    quality["grid_energy"] = grid_energy(upscaler)
    if manifest.degradation == "kernels":
        quality["kernels_psnr_y"] = measure_kernels(upscaler, sets)
    if coded:
        quality["clips_mean"] = clip_means(manifest, folder, coded, quality["clips"])
    floats = folder / f"{manifest.name.replace('-int8', '-float')}.json"
    if manifest.precision == "int8" and floats.exists():
        exact = load_manifest(floats).quality
        quality["float_psnr_y"], quality["int8_loss_db"] = exact["psnr_y"], int8_loss(quality, exact)
    manifest.quality.update(quality)
    manifest.save(folder)
    print(f"{manifest.name}: {quality}", flush=True)


def int8_loss(int8: dict, floats: dict) -> float:
    """The largest loss of PSNR-Y in dB, of any set or clip."""
    losses = [floats["psnr_y"][name] - db for name, db in int8["psnr_y"].items()]
    known = floats.get("clips", {})
    losses += [known[name]["engine"] - db["engine"] for name, db in int8.get("clips", {}).items() if name in known]
    return round(max(losses), 3)


def clip_means(manifest: Manifest, folder: Path, clips: Path, found: dict) -> dict[str, float]:
    """Means over all clips and encodes: `engine`, `bicubic`, `lanczos` and, of the clean twin, `clean`."""
    means = {
        f"{who}{key}": round(float(np.mean([row[f"{who}{key}"] for row in found.values()])), 3)
        for who in ("engine", "bicubic", "lanczos")
        for key in CLIP_KEYS
        if all(f"{who}{key}" in row for row in found.values())
    }
    clean = folder / f"{manifest.name.replace('-stream', '-clean')}.json"
    if clean.exists():
        twin = load_manifest(clean)
        means |= {name.replace("engine", "clean"): db for name, db in clean_means(folder / twin.file, clips).items()}
    return means


@lru_cache
def clean_means(file: Path, clips: Path) -> dict[str, float]:
    """A clean engine on coded clips: `engine` and `engine_vmaf_neg`."""
    upscaler = open_engine(file)
    found = measure_clips(upscaler.luma, upscaler.scale, clips).values()
    keys = [f"engine{key}" for key in CLIP_KEYS if all(f"engine{key}" in row for row in found)]
    return {key: round(float(np.mean([row[key] for row in found])), 3) for key in keys}


def add_speed(manifests: list[Manifest], folder: Path) -> None:
    """Write `ms_640x360`, the median of an engine alone on all cores, into manifests, under the machine's name."""
    import openvino as ov

    inputs = any_frame(WIDTH, HEIGHT)
    runs, times = {}, {}
    for manifest in manifests:
        model = ov.Core().read_model(read_engine(manifest, folder))
        given = {name: inputs[name] for name in manifest.dtypes if name in inputs}
        model.reshape({name: value.shape for name, value in given.items()})
        runs[manifest.name] = ov.compile_model(model, "CPU", ALONE), given
        times[manifest.name] = []
    for turn in range(ROUNDS):
        for name, (engine, given) in runs.items():
            if turn >= 3 and times[name][-1] > SLOW_S:
                continue
            began = time.perf_counter()
            engine(given)
            times[name].append(time.perf_counter() - began)
    for manifest in manifests:
        ms = round(1000 * statistics.median(times[manifest.name][1:]), 2)
        manifest.quality["ms_640x360"] = {machine(): ms}
        manifest.save(folder)
        print(f"{manifest.name:40s} {ms:9.2f} ms", flush=True)


def add_flicker(manifests: list[Manifest], folder: Path, sets: Path) -> None:
    """Write `flicker` into manifests."""
    for manifest in manifests:
        manifest.quality["flicker"] = measure_flicker(open_engine(folder / manifest.file), sets)
        manifest.save(folder)
        print(f"{manifest.name:40s} {manifest.quality['flicker']:9.3f}", flush=True)


def machine() -> str:
    """This machine, for people."""
    found = bench_machine.machine()
    return f"{found['cores']} cores {found['cpu']}"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.quality", description=(__doc__ or "").split("\n")[0])
    p.add_argument("manifests", type=Path, nargs="+", help="engines/NAME.json; float ones before their int8 twins")
    p.add_argument("--speed", action="store_true", help="milliseconds for a frame of 640x360, nothing else")
    p.add_argument("--flicker", action="store_true", help="flicker of a static shot against bicubic's, nothing else")
    p.add_argument("--sets", type=Path, default=Path("../shared/data/test"))
    p.add_argument("--clips", type=Path, help="folder of high-resolution clips; measured for stream engines")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    manifests = [load_manifest(path) for path in args.manifests]
    folder = args.manifests[0].parent
    if args.speed or args.flicker:
        phases = [manifest for manifest in manifests if not manifest.name.endswith("-planes")]
        if args.speed:
            add_speed(phases, folder)
        if args.flicker:
            add_flicker(phases, folder, args.sets)
        return 0
    for manifest in manifests:
        add_quality(manifest, folder, args.sets, args.clips)
    return 0


if __name__ == "__main__":
    sys.exit(main())
