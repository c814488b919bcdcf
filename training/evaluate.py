"""Measure engines as the papers do: `python -m training.evaluate engines/fast-x4-clean-int8.onnx bicubic:4`.

Prints a table and one JSON line. Engines run under OpenVINO, the backend that ships for CPUs. `bicubic:S` and
`lanczos:S` are the interpolations at scale S. --clips adds real video: shrunk by the scale, coded by x264, upscaled,
compared with the original frames.
"""

import argparse
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.plane import VideoPlane
from numpy.typing import NDArray

from training.metrics import psnr, rgb_to_y, ssim
from training.resize import imresize

Picture = NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]  # luma (H, W) -> (s*H, s*W)
SETS = ("Set5", "Set14", "BSD100")


def open_upscaler(what: str) -> tuple[Upscale, int]:
    """An engine file, `bicubic:S` or `lanczos:S` -> a function on luma pictures, and its scale."""
    kind, _, factor = what.partition(":")
    if kind == "bicubic":
        return lambda y: imresize(y, int(factor)), int(factor)
    if kind == "lanczos":
        return lambda y: lanczos(y, int(factor)), int(factor)
    return engine_upscaler(Path(what))


def lanczos(y: Picture, scale: int) -> Picture:
    """OpenCV's Lanczos (8x8 taps)."""
    return cv2.resize(y, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4).astype(np.uint8)


def engine_upscaler(path: Path) -> tuple[Upscale, int]:
    """Open an exported engine of either flavour. float32 is asked for: OpenVINO would take bfloat16 where it can."""
    import openvino as ov

    manifest = json.loads(path.with_suffix(".json").read_text())
    scale, planes = manifest["scale"], manifest["output"] == "planes"
    engine = ov.compile_model(ov.Core().read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def upscale(y: Picture) -> Picture:
        height, width = y.shape
        inputs = {"y": y[None, None]}
        if planes:
            inputs["uv"] = np.full((1, 2, (height + 1) // 2, (width + 1) // 2), 128, np.uint8)
        result = engine(inputs)
        return np.asarray(result["y_out"])[0, 0] if planes else shuffle(np.asarray(result["y_phases"])[0], scale)

    return upscale, scale


def shuffle(phases: Picture, scale: int) -> Picture:
    """(H, W, s*s) -> (s*H, s*W), as torch's pixel_shuffle."""
    height, width, _ = phases.shape
    blocks = phases.reshape(height, width, scale, scale)
    return blocks.transpose(0, 2, 1, 3).reshape(height * scale, width * scale)


def measure_sets(upscale: Upscale, scale: int, folder: Path) -> dict[str, dict[str, float]]:
    """{"psnr_y": {set: dB}, "ssim_y": {set: 0..1}} over the sets that `folder` has, with their own LR files."""
    result: dict[str, dict[str, float]] = {"psnr_y": {}, "ssim_y": {}}
    for name in SETS:
        files = sorted((folder / name / f"LRx{scale}").glob("*.png"))
        if not files:
            continue
        scores = []
        for file in files:
            lr = read_y(file)
            hr = read_y(folder / name / "HR" / file.name)[: lr.shape[0] * scale, : lr.shape[1] * scale]
            sr = upscale(lr)
            scores.append((psnr(sr, hr, scale), ssim(sr, hr, scale)))
        mean = np.mean(scores, axis=0)
        result["psnr_y"][name], result["ssim_y"][name] = round(float(mean[0]), 3), round(float(mean[1]), 4)
    return result


@lru_cache(maxsize=512)
def read_y(file: Path) -> Picture:
    """Luma of a picture file; kept in memory, as many engines are measured on the same ones. Don't write to it."""
    bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SystemExit(f"{file} is not a picture that can be read")
    return rgb_to_y(np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8))


class ClipCase(NamedTuple):
    """One clip at one CRF: original luma frames, what x264 left of the shrunk ones, and how plain resizes do."""

    name: str
    truth: list[Picture]
    coded: list[Picture]
    rivals: dict[str, float]


@lru_cache
def clip_cases(folder: Path, scale: int, crfs: tuple[int, ...] = (23, 28)) -> list[ClipCase]:
    """All clips of a folder, shrunk (MATLAB bicubic) and coded; kept in memory, as many engines ask for the same."""
    cases = []
    for file in sorted(p for p in folder.iterdir() if p.suffix in {".mp4", ".mkv", ".webm", ".mov"}):
        frames = read_frames(file)
        truth = [frame[0] for frame in frames]
        small = [[imresize(plane, 1 / scale) for plane in frame] for frame in frames]
        for crf in crfs:
            coded = x264(small, crf)
            rivals = {
                "bicubic": mean_psnr([imresize(lr, scale) for lr in coded], truth, scale),
                "lanczos": mean_psnr([lanczos(lr, scale) for lr in coded], truth, scale),
            }
            cases.append(ClipCase(f"{file.stem.split('_')[0]} crf{crf}", truth, coded, rivals))
    return cases


def measure_clips(upscale: Upscale, scale: int, folder: Path) -> dict[str, dict[str, float]]:
    """{"clip crfN": {"engine": dB, "bicubic": dB, "lanczos": dB}}: PSNR-Y, mean over frames, after an x264 encode."""
    return {
        case.name: {"engine": mean_psnr([upscale(lr) for lr in case.coded], case.truth, scale), **case.rivals}
        for case in clip_cases(folder, scale)
    }


def mean_psnr(frames: list[Picture], truth: list[Picture], scale: int) -> float:
    return round(float(np.mean([psnr(sr, hr, scale) for sr, hr in zip(frames, truth, strict=True)])), 3)


def read_frames(file: Path, most: int = 12) -> list[list[Picture]]:
    """The first frames of a clip as [y, u, v] planes; clips wider than 1920 are halved, so that the truth is clean."""
    frames = []
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            planes = [plane_array(plane) for plane in frame.reformat(format="yuv420p").planes]
            if frame.width > 1920:
                planes = [imresize(plane, 0.5) for plane in planes]
            height, width = (side - side % 24 for side in planes[0].shape)  # whole chroma samples at every scale
            frames.append([planes[0][:height, :width], *(p[: height // 2, : width // 2] for p in planes[1:])])
            if len(frames) == most:
                break
    return frames


def plane_array(plane: VideoPlane) -> Picture:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].copy()


def x264(frames: list[list[Picture]], crf: int) -> list[Picture]:
    """Encode [y, u, v] frames with libx264 (preset medium) and decode them again; luma only."""
    height, width = frames[0][0].shape
    file = BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"crf": str(crf), "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for planes in frames:
            frame = av.VideoFrame(width, height, "yuv420p")
            for target, source in zip(frame.planes, planes, strict=True):
                padded = np.zeros((target.height, target.line_size), np.uint8)
                padded[:, : target.width] = source
                target.update(padded.tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return [plane_array(frame.planes[0]) for frame in container.decode(video=0)]


def flat_error(upscale: Upscale, scale: int) -> tuple[int, int]:
    """(largest error, largest spread within a patch) on flat patches of the levels 16..235, in code values.

    More than 1 shows as a fixed grid on walls and skies.
    """
    levels, side, margin = np.arange(16, 236), 40, 14  # margin: beyond the reach of the deepest net
    tiles = levels.reshape(11, 20).astype(np.uint8).repeat(side, 0).repeat(side, 1)
    large = side * scale
    blocks = upscale(tiles).reshape(11, large, 20, large).transpose(0, 2, 1, 3).reshape(220, large, large)
    inner = blocks[:, margin * scale : -margin * scale, margin * scale : -margin * scale].astype(int)
    error = np.abs(inner - levels[:, None, None]).max()
    spread = (inner.max(axis=(1, 2)) - inner.min(axis=(1, 2))).max()
    return int(error), int(spread)


def measure(what: str, sets: Path, clips: Path | None = None) -> dict:
    """All figures of one engine or interpolation."""
    upscale, scale = open_upscaler(what)
    result: dict = measure_sets(upscale, scale, sets)
    if clips:
        result["clips"] = measure_clips(upscale, scale, clips)
    return result


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.evaluate", description=(__doc__ or "").split("\n")[0])
    p.add_argument("engines", nargs="+", help="engines/NAME.onnx, bicubic:S or lanczos:S")
    p.add_argument("--sets", type=Path, default=Path("../shared/data/test"), help="folder with Set5, Set14, BSD100")
    p.add_argument("--clips", type=Path, help="folder of high-resolution clips")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    figures = {}
    for what in args.engines:
        figures[Path(what).stem] = found = measure(what, args.sets, args.clips)
        row = "  ".join(f"{name} {db:.2f} / {found['ssim_y'][name]:.4f}" for name, db in found["psnr_y"].items())
        print(f"{Path(what).stem:28s} {row}")
        for clip, dbs in found.get("clips", {}).items():
            print(f"{'':28s} {clip:20s} " + "  ".join(f"{name} {db:.2f}" for name, db in dbs.items()))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
