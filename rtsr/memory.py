"""How much memory a job will take at its peak, from what is known before its first frame.

The figures are measured peaks of real jobs on two cores; tests/test_memory.py compares.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from rtsr.backends import ON_NVIDIA, Engine
from rtsr.backends.cuda.ring import DEPTH, LENT
from rtsr.frames import VideoSpec
from rtsr.manifest import Manifest, engine_of
from rtsr.pixels import PixelFormat
from rtsr.sinks.encoding import Encoder
from rtsr.threads import usable_cores

_BASE = 95 << 20  # Python, numpy, OpenCV and FFmpeg, with nothing in them
_RUNTIME = {"openvino": 40 << 20, "onnxruntime": 60 << 20, "reference": 0}
_QUEUED = 6  # output frames in the queue to the encoder, and one in each hand
_DECODER = 16  # input frames: references, one for each thread, the queue
_LAYERS = 8  # of a net, each with about as many channels as the next
_MOST_PARTS = 64
_PINNED_RESULTS = DEPTH + LENT  # in flight on the GPU, and held by readers
_MOST_STREAMS = 4  # frames that OpenVINO works on at once; one more waits

# Output frames that an encoder holds on two cores at rtsr's default preset: looks ahead at, refers to, filters.
ENCODER_FRAMES = {
    **{"libx264": 72, "libx265": 97, "libsvtav1": 119, "libvpx-vp9": 85},
    **{"prores": 13, "ffv1": 22},
}
_ENCODER_FRAMES = 40


def memory_needed(spec: VideoSpec, size: tuple[int, int], encoder: Encoder, engine: Engine) -> int:
    """Bytes at the peak of a job. size: (width, height) of the output."""
    small = frame_bytes(spec.pixels, spec.width, spec.height)
    enlarged = frame_bytes(spec.pixels, spec.width * engine.scale, spec.height * engine.scale)
    encoded = frame_bytes(encoder.pixels, *size)
    return round(
        _BASE
        + sum(_RUNTIME.get(backend, 0) for backend in {each.backend for each in _engines(engine)})
        + _DECODER * small
        + _QUEUED * enlarged
        + ENCODER_FRAMES.get(encoder.name, _ENCODER_FRAMES) * encoded
        + engine_bytes(engine, spec)
    )


def engine_bytes(engine: Engine, spec: VideoSpec) -> int:
    """What a backend holds for frames of this size while several are in flight; two do where one stands by."""
    if len(several := _engines(engine)) > 1:
        return sum(engine_bytes(each, spec) for each in several)
    manifest = engine_of(engine.sha256)
    if manifest is None:  # interpolation
        return 0
    if engine.backend in ON_NVIDIA:  # what the host has of it: page-locked memory
        return _PINNED_RESULTS * frame_bytes(spec.pixels, spec.width * engine.scale, spec.height * engine.scale)
    cores = usable_cores()
    streams = min(cores, _MOST_STREAMS) if engine.backend == "openvino" else 1
    results = (streams + (engine.backend == "openvino")) * engine.scale**2 * spec.pixels.dtype.itemsize
    return spec.width * spec.height * spec.pixels.full_planes * (results + streams * _activations(manifest))


def _engines(engine: Engine) -> list[Engine]:
    """Those that really work, of one that hands its work on."""
    inner = getattr(engine, "engines", None)
    return [each for one in inner for each in _engines(one)] if inner else [engine]


def available_bytes(root: Path = Path("/")) -> int | None:
    """What a process may still take before the kernel kills one: the system's, or its control group's if that is less.

    None where neither is told (not Linux). root: of the file system, for tests.
    """
    found = []
    meminfo = root / "proc/meminfo"
    if meminfo.is_file() and (match := re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text())):
        found.append(int(match[1]) << 10)
    group = root / "sys/fs/cgroup"
    limit, used = group / "memory.max", group / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdecimal():
        found.append(max(int(most) - int(used.read_text()), 0))
    return min(found, default=None)


def parts_to_fit(engine: Engine, spec: VideoSpec, room: int | None) -> int:
    """How many tiles let an engine's own memory fit in half of `room`; 0 where the whole frame does, several in flight.

    An allocation that the kernel grants and cannot keep ends in a kill, not in an error that could be caught.
    """
    needed = engine_bytes(engine, spec)
    if room is None or needed <= room // 2:
        return 0
    parts = 1
    while needed // (2 * parts) > room // 2 and parts < _MOST_PARTS:
        parts *= 2
    return parts


def frame_bytes(pixels: PixelFormat, width: int, height: int) -> int:
    h, w = pixels.chroma_size(height, width)
    samples = pixels.full_planes * height * width + pixels.chroma_planes * h * w
    return samples * pixels.dtype.itemsize


def _activations(manifest: Manifest) -> int:
    """Bytes for each input pixel: one layer's channels and the next one's, from how much a net computes."""
    channels = math.sqrt(manifest.macs_per_lr_pixel / (9 * _LAYERS))
    return round(2 * channels * (1 if manifest.precision == "int8" else 4))
