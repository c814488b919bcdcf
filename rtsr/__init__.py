"""rtsr: real-time video upscaling that changes nothing but the size of the picture.

    import rtsr
    rtsr.upscale("a.mp4", "b.mp4", scale=4, model="fast")
    for frame in rtsr.Upscaler(scale=4).stream(frames): ...
    array = rtsr.enhance_image("photo.png")

Importing this loads no heavy library; each loads when the part that needs it is opened.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Frame", "FrameBatch", "RtsrError", "Upscaler", "__version__", "enhance_image", "open_source", "upscale"]

if TYPE_CHECKING:
    from rtsr.errors import RtsrError
    from rtsr.frames import Frame, FrameBatch
    from rtsr.job import upscale
    from rtsr.pictures.enhance import enhance_image
    from rtsr.sources import open_source
    from rtsr.upscaler import Upscaler

# Importing openvino reports that to its makers' statistics server, from a forked process that can hang where threads
# run. Without this package it reports nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

_HOMES = {
    "Frame": "rtsr.frames",
    "FrameBatch": "rtsr.frames",
    "RtsrError": "rtsr.errors",
    "Upscaler": "rtsr.upscaler",
    "enhance_image": "rtsr.pictures.enhance",
    "open_source": "rtsr.sources",
    "upscale": "rtsr.job",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rtsr' has no attribute {name!r}")
