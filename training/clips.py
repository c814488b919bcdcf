"""Engines on real video: clips are shrunk, coded by x264 or x265, upscaled, and compared with their original frames."""

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

from rtsr import vmaf
from rtsr.metrics import psnr
from training.degradations import SENSOR_NOISE
from training.resize import imresize
from training.upscalers import lanczos

Picture = NDArray[np.uint8]
Upscale = Callable[[Picture], Picture]  # luma (H, W) -> (s*H, s*W)
ENCODES = (("x264", 23), ("x264", 28), ("x265", 28))  # encoder and CRF
SUFFIXES = {".mp4", ".mkv", ".webm", ".mov"}


class ClipCase(NamedTuple):
    """One clip after one encode: original luma frames, what is left of the shrunk ones, and how plain resizes do."""

    name: str
    truth: list[Picture]
    coded: list[Picture]
    rivals: dict[str, dict[str, float]]


@lru_cache
def clip_cases(folder: Path, scale: int) -> list[ClipCase]:
    """All clips of a folder, shrunk (MATLAB bicubic) and coded; kept in memory, as many engines ask for the same."""
    cases = []
    for file in sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES):
        frames = read_frames(file)
        truth = [frame[0] for frame in frames]
        small = [[imresize(plane, 1 / scale) for plane in frame] for frame in frames]
        for encoder, crf in ENCODES:
            coded = recode(small, encoder, crf)
            rivals = {
                "bicubic": figures([imresize(lr, scale) for lr in coded], truth, scale),
                "lanczos": figures([lanczos(lr, scale) for lr in coded], truth, scale),
            }
            cases.append(ClipCase(f"{file.stem.split('_')[0]} {encoder} crf{crf}", truth, coded, rivals))
    return cases


def measure_clips(upscale: Upscale, scale: int, folder: Path) -> dict[str, dict[str, float]]:
    """{"clip x264 crfN": {"engine": dB, "bicubic": dB, "lanczos": dB, ...}}, all means over frames, by ENCODES.

    Beside PSNR-Y: `_tof` (temporal_error), `_vmaf` and `_vmaf_neg` of each of the three, where libvmaf is at hand.
    """
    result = {}
    for case in clip_cases(folder, scale):
        ours = figures([upscale(lr) for lr in case.coded], case.truth, scale)
        row = {who: found["psnr_y"] for who, found in {"engine": ours, **case.rivals}.items()}
        for key in ("tof", "vmaf", "vmaf_neg"):
            found = {"engine": ours, **case.rivals}
            row |= {f"{who}_{key}": found[who][key] for who in found if key in found[who]}
        result[case.name] = row
    return result


def figures(frames: list[Picture], truth: list[Picture], scale: int) -> dict[str, float]:
    """All that is measured on one upscaled clip."""
    found = {"psnr_y": mean_psnr(frames, truth, scale), "tof": temporal_error(frames, truth)}
    return found | vmaf.measure(frames, truth)


def mean_psnr(frames: list[Picture], truth: list[Picture], scale: int) -> float:
    return round(float(np.mean([psnr(sr, hr, scale) for sr, hr in zip(frames, truth, strict=True)])), 3)


def temporal_error(frames: list[Picture], truth: list[Picture]) -> float:
    """tOF (TecoGAN, Chu et al. 2020, arXiv:1811.09393): mean distance in pixels between the motion of frames and truth.

    Dense flow between neighbours by DIS (Kroeger et al. 2016), not the paper's Farneback: 0 where both move alike.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    errors = []
    for i in range(len(frames) - 1):
        ours, theirs = (flow.calc(clip[i], clip[i + 1], None) for clip in (frames, truth))  # type: ignore[call-overload]
        errors.append(np.abs(ours - theirs).sum(-1).mean())
    return round(float(np.mean(errors)), 4) if errors else 0.0


def flicker(upscale: Upscale, scale: int, still: Picture, frames: int = 12, crf: int = 28) -> float:
    """How much a static shot flickers, against bicubic: mean standard deviation over time, as a ratio.

    still: luma (H, W). It is shrunk, given sensor noise that differs from frame to frame, and coded.
    """
    rng = np.random.default_rng(0)
    lr = imresize(still, 1 / scale)
    lr = lr[: lr.shape[0] // 2 * 2, : lr.shape[1] // 2 * 2]
    grey = np.full((lr.shape[0] // 2, lr.shape[1] // 2), 128, np.uint8)
    noisy = [(lr + rng.normal(0, SENSOR_NOISE, lr.shape)).round().clip(0, 255).astype(np.uint8) for _ in range(frames)]
    coded = recode([[y, grey, grey] for y in noisy], "x264", crf)

    def over_time(enlarge: Upscale) -> float:
        return float(np.stack([enlarge(y) for y in coded]).astype(np.float32).std(0).mean())

    return round(over_time(upscale) / over_time(lambda y: imresize(y, scale)), 3)


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


def recode(frames: list[list[Picture]], encoder: str, crf: int) -> list[Picture]:
    """Encode [y, u, v] frames with x264 or x265 (preset medium) and decode them again; luma only."""
    height, width = frames[0][0].shape
    file = BytesIO()
    with av.open(file, "w", format="matroska") as container:
        options = {"crf": str(crf), "preset": "medium"}
        if encoder == "x265":
            options["x265-params"] = "log-level=none"  # it writes to stderr past FFmpeg's own log
        stream = container.add_stream(f"lib{encoder}", rate=Fraction(30), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"  # type: ignore[union-attr]
        for planes in frames:
            frame = av.VideoFrame(width, height, "yuv420p")
            for target, source in zip(frame.planes, planes, strict=True):
                padded = np.zeros((target.height, target.line_size), np.uint8)
                padded[:, : target.width] = source
                target.update(padded.tobytes())
            container.mux(stream.encode(frame))  # type: ignore[union-attr]
        container.mux(stream.encode(None))  # type: ignore[union-attr]
    file.seek(0)
    with av.open(file, "r") as container:
        return [plane_array(frame.planes[0]) for frame in container.decode(video=0)]
