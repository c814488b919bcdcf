"""VMAF and VMAF-NEG of luma frames, by an ffmpeg binary that has libvmaf.

The imageio-ffmpeg package ships such a binary; it is a tool of evaluation, not of the product.
"""

import json
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
MODELS = r"'version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=vmaf_neg'"


def measure(frames: list[Picture], truth: list[Picture]) -> dict[str, float]:
    """{"vmaf": 0..100, "vmaf_neg": 0..100}, means over frames (H, W); empty where there is no libvmaf."""
    if binary := ffmpeg():
        with tempfile.TemporaryDirectory() as folder:
            return by_binary(binary, frames, truth, Path(folder))
    return {}


@lru_cache
def ffmpeg() -> str:
    """An ffmpeg with the libvmaf filter: imageio-ffmpeg's, else the one on the path; empty if there is none."""
    candidates = ["ffmpeg"]
    try:
        import imageio_ffmpeg

        candidates.insert(0, imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        pass
    for binary in candidates:
        try:
            filters = subprocess.run([binary, "-hide_banner", "-filters"], capture_output=True, text=True).stdout
        except OSError:
            continue
        if " libvmaf " in filters:
            return binary
    return ""


def by_binary(binary: str, frames: list[Picture], truth: list[Picture], folder: Path) -> dict[str, float]:
    """Raises CalledProcessError with ffmpeg's words if it fails."""
    height, width = (side // 2 * 2 for side in truth[0].shape)
    for name, clip in (("sr", frames), ("hr", truth)):
        with (folder / f"{name}.yuv").open("wb") as file:
            for y in clip:  # yuv420p with neutral chroma: a conversion from grey would move the range
                file.write(np.ascontiguousarray(y[:height, :width]).tobytes() + b"\x80" * (height * width // 2))
    size = f"{width}x{height}"
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", size, "-r", "30"]
    graph = f"[0:v][1:v]libvmaf=model={MODELS}:log_fmt=json:log_path={folder / 'log.json'}:n_threads=1"
    command = [binary, "-v", "error", *raw, "-i", f"{folder / 'sr.yuv'}", *raw, "-i", f"{folder / 'hr.yuv'}"]
    subprocess.run([*command, "-lavfi", graph, "-f", "null", "-"], check=True, capture_output=True)
    pooled = json.loads((folder / "log.json").read_text())["pooled_metrics"]
    return {name: round(pooled[name]["mean"], 3) for name in ("vmaf", "vmaf_neg")}
