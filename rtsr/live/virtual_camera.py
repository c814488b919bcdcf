"""`--virtual-camera`: upscaled pictures as a camera that other programs open. Untested on real devices."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import VideoSpec
from rtsr.live.contract import Shown
from rtsr.live.pictures import ScreenPictures, av_picture


class VirtualCameraSink:
    """A v4l2loopback device on Linux, through FFmpeg's v4l2 muxer; elsewhere pyvirtualcam, if it is installed.

    device: None for the first loopback device. Raises ConfigError where there is none, SinkError when it fails.
    """

    name = "virtual camera"
    is_view = False

    def __init__(self, device: str | None, spec: VideoSpec):
        self._size = spec.width, spec.height
        self._camera: Any = None
        self._output: Any = None
        if sys.platform.startswith("linux"):
            self._open_v4l2(device or _first_loopback(), spec)
        else:
            self._open_pyvirtualcam(device, spec)

    def show(self, picture: Shown) -> bool:
        frame = picture.large
        try:
            if self._camera is not None:
                self._camera.send(self._screen.bgr(frame, self._size))
                return True
            made = av_picture(frame)
            if (made.width, made.height) != self._size:
                made = made.reformat(*self._size)
            made.pts, made.time_base = self._frames, Fraction(1, 1000)
            self._frames += 1
            self._output.mux(self._stream.encode(made))
        except (av.error.FFmpegError, OSError, RuntimeError) as error:
            raise SinkError(f"the virtual camera failed: {error}") from error
        return True

    def close(self) -> None:
        camera, output = self._camera, self._output
        self._camera = self._output = None
        for part in (camera, output):
            if part is not None:
                part.close()

    def _open_v4l2(self, device: str, spec: VideoSpec) -> None:
        try:
            self._output = av.open(device, "w", format="v4l2")
            self._stream: Any = self._output.add_stream("rawvideo", rate=spec.rate or Fraction(30))
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(f"the virtual camera {device} does not open ({error.strerror or error})") from error
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        self._frames = 0

    def _open_pyvirtualcam(self, device: str | None, spec: VideoSpec) -> None:
        try:
            import pyvirtualcam  # pyright: ignore[reportMissingImports] - optional, and GPL-2.0
        except ImportError as error:
            raise ConfigError("--virtual-camera needs pyvirtualcam here (GPL-2.0): pip install pyvirtualcam") from error
        try:
            self._camera = pyvirtualcam.Camera(
                *self._size, float(spec.rate or 30), device=device, fmt=pyvirtualcam.PixelFormat.BGR
            )
        except RuntimeError as error:
            raise ConfigError(f"--virtual-camera: {error}") from error
        self._screen = ScreenPictures(spec.color)


def _first_loopback(folder: Path = Path("/sys/devices/virtual/video4linux")) -> str:
    """v4l2loopback's devices are the virtual ones. Raises ConfigError."""
    for entry in sorted(folder.glob("video*")):
        return f"/dev/{entry.name}"
    raise ConfigError("--virtual-camera found no loopback device; `modprobe v4l2loopback` makes one")
