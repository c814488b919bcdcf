"""Engines and interpolations behind one face, so that one ruler measures them all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rtsr.manifest import Manifest, load_manifest, read_engine
from training.resize import imresize

Picture = NDArray[np.uint8]
Planes = tuple[Picture, Picture]  # y (H, W), uv (2, H, W): 4:4:4

BT601 = (0.299, 0.114)  # kr, kb
LIMITED = (16.0, 219.0, 224.0)  # code values of black, of luma's span, of chroma's span


ALONE = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}  # for OpenVINO: one frame on all cores


@dataclass(frozen=True)
class Upscaler:
    """planes: y (H, W), uv (2, H, W) uint8, BT.601 limited -> the same, `scale` times larger."""

    scale: int
    planes: Callable[[Picture, Picture], Planes]
    colour: bool = False  # whether luma depends on chroma

    def luma(self, y: Picture) -> Picture:
        """(H, W) -> (s*H, s*W), of a grey picture."""
        return self.planes(y, np.full((2, *y.shape), 128, np.uint8))[0]

    def rgb(self, rgb: Picture) -> Picture:
        """(H, W, 3) -> (s*H, s*W, 3), through the planes, as in the application."""
        return to_rgb(*self.planes(*to_planes(rgb)))


def open_upscaler(what: str) -> Upscaler:
    """An engine file, `bicubic:S` or `lanczos:S`."""
    kind, _, factor = what.partition(":")
    if kind == "bicubic":
        return interpolation(lambda plane: imresize(plane, int(factor)), int(factor))
    if kind == "lanczos":
        return interpolation(lambda plane: lanczos(plane, int(factor)), int(factor))
    return open_engine(Path(what))


def open_upscalers(named: Sequence[str]) -> dict[str, Upscaler]:
    """What open_upscaler() opens, by engine name or as it was asked for."""
    return {what if ":" in what else Path(what).stem: open_upscaler(what) for what in named}


def any_frame(width: int, height: int) -> dict[str, NDArray]:
    """Every input that a graph may have, by name, for a 4:2:0 frame of noise: to time engines with."""
    rng = np.random.default_rng(0)
    return {
        "y": rng.integers(16, 236, (1, 1, height, width), np.uint8),
        "uv": rng.integers(16, 241, (1, 2, height // 2, width // 2), np.uint8),
        "matrix": np.array(BT601, np.float32),
        "range": np.array(LIMITED, np.float32),
    }


def interpolation(enlarge: Callable[[Picture], Picture], scale: int) -> Upscaler:
    return Upscaler(scale, lambda y, uv: (enlarge(y), np.stack([enlarge(plane) for plane in uv])))


def lanczos(y: Picture, scale: int) -> Picture:
    """OpenCV's Lanczos (8x8 taps)."""
    return cv2.resize(y, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4).astype(np.uint8)


def enlarge_chroma(uv: Picture, scale: int) -> Picture:
    """OpenCV's cubic, as the backends enlarge the chroma of luma engines."""
    large = [cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for plane in uv]
    return np.stack(large).astype(np.uint8)


def open_engine(path: Path) -> Upscaler:
    """An exported engine of any flavour."""
    manifest = load_manifest(path.with_suffix(".json"))
    return open_graph(read_engine(manifest, path.parent), manifest)


def open_graph(onnx: bytes, manifest: Manifest) -> Upscaler:
    """A graph as its manifest describes it. float32 is asked for: OpenVINO would take bfloat16 where it can."""
    import openvino as ov

    scale = manifest.scale
    engine = ov.compile_model(ov.Core().read_model(onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def phases(y: Picture, uv: Picture) -> Planes:
        return shuffle(np.asarray(engine({"y": y[None, None]})["y_phases"])[0], scale), enlarge_chroma(uv, scale)

    def luma_planes(y: Picture, uv: Picture) -> Planes:
        halves = tuple((side + 1) // 2 for side in y.shape)
        grey = np.full((1, 2, *halves), 128, np.uint8)
        return np.asarray(engine({"y": y[None, None], "uv": grey})["y_out"])[0, 0], enlarge_chroma(uv, scale)

    def rgb_planes(y: Picture, uv: Picture) -> Planes:
        settings = {"matrix": np.array(BT601, np.float32), "range": np.array(LIMITED, np.float32)}
        result = engine({"y": y[None, None], "uv": uv[None], **settings})
        return np.asarray(result["y_out"])[0, 0], np.asarray(result["uv_out"])[0]

    if manifest.rgb:
        return Upscaler(scale, rgb_planes, colour=True)
    return Upscaler(scale, phases if manifest.output == "phases" else luma_planes)


def shuffle(phases: Picture, scale: int) -> Picture:
    """(H, W, s*s) -> (s*H, s*W), as torch's pixel_shuffle."""
    height, width, _ = phases.shape
    blocks = phases.reshape(height, width, scale, scale)
    return blocks.transpose(0, 2, 1, 3).reshape(height * scale, width * scale)


def to_planes(rgb: Picture) -> Planes:
    """(H, W, 3) RGB -> y (H, W), uv (2, H, W), BT.601 limited, rounded as MATLAB's rgb2ycbcr does."""
    kr, kb = BT601
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, 2, 0)
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    black, luma, chroma = LIMITED
    return codes(y * luma + black), codes(np.stack([u, v]) * chroma + 128)


def to_rgb(y: Picture, uv: Picture) -> Picture:
    """The way back from to_planes()."""
    kr, kb = BT601
    black, luma_span, chroma_span = LIMITED
    luma, (u, v) = (y - black) / luma_span, (uv - 128.0) / chroma_span
    b, r = luma + 2 * (1 - kb) * u, luma + 2 * (1 - kr) * v
    g = (luma - kr * r - kb * b) / (1 - kr - kb)
    return codes(np.stack([r, g, b], axis=-1) * 255)


def codes(x: NDArray[np.floating]) -> Picture:
    """Round half up and clip to 0..255."""
    return np.floor(x + 0.5).clip(0, 255).astype(np.uint8)
