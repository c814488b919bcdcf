"""Whether two machines make the same of a film: the versions of what they use, and a trial of the job's own parts."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, replace

import av
import cv2
import numpy as np

from rtsr import __version__
from rtsr.backends import Engine
from rtsr.frames import ChromaSiting, FrameBatch, VideoSpec
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.video import EncodedVideo

_FRAMES = 3
_THREADS = re.compile(rb"[ /](?:frame-)?threads=(\d+)")  # in what x264 and x265 write into their streams


@dataclass(frozen=True, slots=True)
class Likeness:
    """versions: of each library that touches the picture. upscaled, encoded: sha256 of what the job's engine and its
    encoder make of a few frames of noise at the film's size."""

    rtsr: str
    versions: dict[str, str]
    upscaled: str
    encoded: str


def try_out(engine: Engine, encoder: Encoder, spec: VideoSpec, size: tuple[int, int]) -> Likeness:
    """What this machine makes of a few frames of noise. Raises EngineError, ConfigError as the job itself would."""
    upscaled, file = hashlib.sha256(), io.BytesIO()
    video = EncodedVideo(file, encoder.segment_format, spec, size, encoder)
    for batch in engine.stream(_noise(spec)):
        upscaled.update(batch.y.tobytes())
        upscaled.update(batch.uv.tobytes())
        for frame in batch.frames():
            video.write(frame)
    video.finish()
    return Likeness(__version__, _versions(engine), upscaled.hexdigest(), hashlib.sha256(file.getvalue()).hexdigest())


def with_threads_named(encoder: Encoder, spec: VideoSpec, size: tuple[int, int]) -> Encoder:
    """The encoder with as many threads as it chooses on this machine: x264's and x265's output depends on the number,
    which depends on the cores. Others are left alone."""
    if not encoder.name.startswith(("libx264", "libx265")) or "threads" in encoder.options:
        return encoder
    file = io.BytesIO()
    telling = {key: value.replace("info=0", "info=1") for key, value in encoder.options.items()}
    video = EncodedVideo(file, encoder.segment_format, spec, size, replace(encoder, options=telling))
    for batch in _noise(replace(spec, width=size[0], height=size[1]), frames=1):
        for frame in batch.frames():
            video.write(frame)
    video.finish()
    found = _THREADS.search(file.getvalue())
    return replace(encoder, options={**encoder.options, "threads": found[1].decode()}) if found else encoder


def _noise(spec: VideoSpec, frames: int = _FRAMES) -> list[FrameBatch]:
    random, pixels = np.random.default_rng(1), spec.pixels
    step = max(int(1 / ((spec.rate or 24) * spec.time_base)), 1)
    chroma = pixels.chroma_size(spec.height, spec.width)

    def samples(planes: int, height: int, width: int) -> np.ndarray:
        return random.integers(0, 1 << pixels.bits, (1, planes, height, width), np.uint16).astype(pixels.dtype)

    return [
        FrameBatch(
            samples(pixels.full_planes, spec.height, spec.width),
            samples(pixels.chroma_planes, *chroma),
            (number * step,),
            spec.time_base,
            (step,),
            spec.siting or ChromaSiting.LEFT,
            pixels,
        )
        for number in range(frames)
    ]


def _versions(engine: Engine) -> dict[str, str]:
    versions = {"PyAV": av.__version__, "FFmpeg": av.ffmpeg_version_info, "OpenCV": cv2.__version__}
    if engine.backend == "openvino":
        import openvino

        versions["OpenVINO"] = openvino.get_version()
    return versions
