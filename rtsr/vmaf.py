"""VMAF and VMAF-NEG of luma frames, by an ffmpeg binary that has libvmaf.

The imageio-ffmpeg package ships such a binary; it is a tool of evaluation, not of the product.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtsr.errors import EngineError

Picture = NDArray[np.uint8]
NAMES = ("vmaf", "vmaf_neg")
_MODELS = r"'version=vmaf_v0.6.1\:name=vmaf|version=vmaf_v0.6.1neg\:name=vmaf_neg'"
SMALLEST = 32  # pixels a side: libvmaf fails on 16, and its models know no such pictures
_LONGEST_END_S = 600  # libvmaf works on what is queued in it


@lru_cache
def ffmpeg() -> str:
    """An ffmpeg with the libvmaf filter: imageio-ffmpeg's, else the one on the path; empty if there is none."""
    candidates = ["ffmpeg"]
    with suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        candidates.insert(0, imageio_ffmpeg.get_ffmpeg_exe())
    for binary in candidates:
        try:
            filters = subprocess.run([binary, "-hide_banner", "-filters"], capture_output=True, text=True).stdout
        except OSError:
            continue
        if " libvmaf " in filters:
            return binary
    return ""


def measure(frames: Sequence[Picture], truth: Sequence[Picture]) -> dict[str, float]:
    """{"vmaf": 0..100, "vmaf_neg": 0..100}, means over frames (H, W); empty where there is no libvmaf."""
    if not ffmpeg():
        return {}
    height, width = truth[0].shape
    with Vmaf(width, height) as vmaf:
        for frame, true in zip(frames, truth, strict=True):
            vmaf.write(frame, true)
        return {name: round(float(np.mean(values)), 3) for name, values in vmaf.finish().items()}


class Vmaf:
    """Both figures of every `every`-th of the pairs written; the motion between all of them counts.

    width, height: of the frames; an odd last row or column is cut. Each pair goes to ffmpeg's stdin as one picture,
    the truth below the other, so that no file is needed. Raises OSError where ffmpeg() is not runnable.
    """

    def __init__(self, width: int, height: int, every: int = 1, threads: int = 1):
        self._width, self._height = width // 2 * 2, height // 2 * 2
        self._folder = tempfile.TemporaryDirectory(prefix="rtsr-vmaf-")
        size = f"{self._width}:{self._height}"
        graph = (
            f"[0:v]split[p][q];[p]crop={size}:0:0[sr];[q]crop={size}:0:{self._height}[hr];"
            f"[sr][hr]libvmaf=model={_MODELS}:log_fmt=json:log_path=log.json:n_threads={threads}:n_subsample={every}"
        )
        raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{self._width}x{2 * self._height}", "-r", "30"]
        self._process = subprocess.Popen(
            [ffmpeg(), "-v", "error", *raw, "-i", "pipe:0", "-lavfi", graph, "-f", "null", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder.name,
        )
        # Neutral chroma: a conversion from grey would move the range.
        self._chroma = b"\x80" * (self._width * self._height)

    def write(self, frame: Picture, truth: Picture) -> None:
        """One pair of luma planes (H, W), uint8. Raises EngineError with ffmpeg's words."""
        assert self._process.stdin is not None
        try:
            for y in (frame, truth):
                self._process.stdin.write(np.ascontiguousarray(y[: self._height, : self._width]).data)
            self._process.stdin.write(self._chroma)
        except BrokenPipeError:
            self._end()

    def finish(self) -> dict[str, list[float]]:
        """{"vmaf": [...], "vmaf_neg": [...]}, one value a measured pair. Raises EngineError with ffmpeg's words."""
        self._end()
        frames = json.loads(Path(self._folder.name, "log.json").read_text())["frames"]
        return {name: [frame["metrics"][name] for frame in frames] for name in NAMES}

    def close(self) -> None:
        """End ffmpeg, whatever it does. Safe to call twice."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stderr):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Vmaf:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _end(self) -> None:
        _, words = self._process.communicate(timeout=_LONGEST_END_S)
        if self._process.returncode:
            raise EngineError(f"ffmpeg's libvmaf failed: {words.decode(errors='replace').strip()}")
