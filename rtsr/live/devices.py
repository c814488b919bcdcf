"""Cameras and screens by name: what FFmpeg opens for them on each platform, and what there is."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from rtsr.errors import ConfigError, SourceError
from rtsr.live.stream import Opening

_REGION = re.compile(r"(\d+)x(\d+)(?:\+(\d+)\+(\d+))?")
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
# V4L2's ioctls and their structures (linux/videodev2.h), 64 bits
_ENUM_FMT, _ENUM_SIZES, _ENUM_INTERVALS = 0xC0405602, 0xC02C564A, 0xC034564B
_CAPTURE, _DISCRETE = 1, 1
_MOST = 100  # formats, sizes and rates a driver can list: some never stop


@dataclass(frozen=True, slots=True)
class Mode:
    """What a camera can give: FFmpeg's size text, frames a second (highest first), and the driver's format name."""

    format: str
    size: str
    rates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Camera:
    """id: what --webcam takes; name: for people."""

    id: str
    name: str
    modes: tuple[Mode, ...] = field(default=())


def parse_size(option: str, text: str | None) -> tuple[int, int] | None:
    """(width, height) from `1280x720`. Raises ConfigError."""
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{option} {text!r} is no size; write WIDTHxHEIGHT, as 1280x720")
    return int(match[1]), int(match[2])


def camera(
    which: str, size: tuple[int, int] | None, rate: Fraction | None, cameras: Callable[[], list[Camera]] | None = None
) -> Opening:
    """What to open for `--webcam WHICH`: a number, a part of a name, or a device file. Raises ConfigError."""
    platform = _platform()
    asked = {"video_size": f"{size[0]}x{size[1]}"} if size else {}
    if rate:
        asked["framerate"] = str(rate)
    if platform == "linux":
        return _v4l2(which, asked, cameras or list_cameras)
    if platform == "darwin":
        # It has no default rate that every camera takes, and gives its own pixel format.
        return Opening(f"{which}:none", f"camera {which}", "camera", "avfoundation", {"framerate": "30", **asked})
    found = (cameras or list_cameras)()
    name = found[int(which)].name if which.isdigit() and int(which) < len(found) else which
    return Opening(f"video={name}", f"camera {name}", "camera", "dshow", asked)


def screen(region: str, rate: Fraction | None, display: str | None = None) -> Opening:
    """What to open for `--screen REGION`: `WxH`, `WxH+X+Y`, or empty for all of it. Raises ConfigError."""
    match = _REGION.fullmatch(region)
    if region and match is None:
        raise ConfigError(f"--screen {region!r} is no region; write WIDTHxHEIGHT+X+Y, as 640x360+100+50")
    options = {"framerate": str(rate or 30)}
    x, y = (match[3] or "0", match[4] or "0") if match else ("0", "0")
    if match:
        options["video_size"] = f"{match[1]}x{match[2]}"
    name = f"screen {region}".strip()
    platform = _platform()
    if platform == "darwin":
        if match:
            raise ConfigError("--screen takes no region on macOS: it captures the main screen")
        return Opening("Capture screen 0:none", name, "screen", "avfoundation", {"capture_cursor": "1", **options})
    if platform == "win32":
        options |= {"offset_x": x, "offset_y": y} if match else {}
        return Opening("desktop", name, "screen", "gdigrab", options)
    display = display or os.environ.get("DISPLAY")
    if not display:
        raise ConfigError("--screen needs an X display, and $DISPLAY is not set (Wayland alone cannot be captured)")
    return Opening(f"{display}+{x},{y}", name, "screen", "x11grab", options)


def list_cameras(folder: Path = Path("/sys/class/video4linux")) -> list[Camera]:
    """The cameras of this machine; their sizes and rates on Linux, where the driver tells them without being opened."""
    if _platform() == "linux":
        found = []
        for entry in sorted(folder.glob("video*"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0)):
            device = Path("/dev") / entry.name
            if modes := v4l2_modes(device):  # what has none is no camera: a radio's or a codec's second node
                found.append(Camera(str(device), (entry / "name").read_text().strip(), tuple(modes)))
        return found
    import av.device

    devices = av.device.enumerate_input_devices(CAMERA_FORMATS[_platform()])
    videos = [device for device in devices if "video" in getattr(device, "media_types", ["video"])]
    return [Camera(str(i), getattr(device, "description", "") or device.name) for i, device in enumerate(videos)]


def v4l2_modes(device: Path, ioctl: Callable[[int, int, bytearray], object] | None = None) -> list[Mode]:
    """All that a capture device offers, as its driver lists it; nothing for what cannot be asked."""
    if ioctl is None:
        from fcntl import ioctl  # which Windows has not
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return []
    modes = []
    try:
        for index in range(_MOST):
            request = bytearray(struct.pack("=3I32sI4I", index, _CAPTURE, 0, b"", 0, 0, 0, 0, 0))
            if not _ask(ioctl, handle, _ENUM_FMT, request):
                break
            _, _, _, text, code, *_ = struct.unpack("=3I32sI4I", request)
            name = text.split(b"\0")[0].decode(errors="replace")
            modes += [Mode(name, f"{w}x{h}", rates) for w, h, rates in _sizes(ioctl, handle, code)]
    finally:
        os.close(handle)
    return modes


def _sizes(
    ioctl: Callable[[int, int, bytearray], object], handle: int, code: int
) -> list[tuple[int, int, tuple[float, ...]]]:
    sizes = []
    for index in range(_MOST):
        request = bytearray(struct.pack("=11I", index, code, *(0,) * 9))
        if not _ask(ioctl, handle, _ENUM_SIZES, request):
            break
        _, _, kind, *numbers = struct.unpack("=11I", request)
        if kind != _DISCRETE:  # any size up to a largest
            sizes.append((numbers[1], numbers[4], _rates(ioctl, handle, code, numbers[1], numbers[4])))
            break
        sizes.append((numbers[0], numbers[1], _rates(ioctl, handle, code, numbers[0], numbers[1])))
    return sizes


def _rates(
    ioctl: Callable[[int, int, bytearray], object], handle: int, code: int, width: int, height: int
) -> tuple[float, ...]:
    rates = []
    for index in range(_MOST):
        request = bytearray(struct.pack("=13I", index, code, width, height, *(0,) * 9))
        if not _ask(ioctl, handle, _ENUM_INTERVALS, request):
            break
        _, _, _, _, kind, above, below, *_ = struct.unpack("=13I", request)
        if above:
            rates.append(below / above)
        if kind != _DISCRETE:
            break
    return tuple(sorted(set(rates), reverse=True))


def _ask(ioctl: Callable[[int, int, bytearray], object], handle: int, request: int, data: bytearray) -> bool:
    try:
        ioctl(handle, request, data)
    except OSError:  # EINVAL ends every list
        return False
    return True


def _v4l2(which: str, asked: dict[str, str], cameras: Callable[[], list[Camera]]) -> Opening:
    if which.startswith("/"):
        device, name = which, which
    elif which.isdigit():
        device = name = f"/dev/video{which}"
    else:
        fitting = [c for c in cameras() if which.lower() in c.name.lower()]
        if not fitting:
            raise SourceError(f"no camera is called {which!r}; `rtsr live --list` names those there are")
        device, name = fitting[0].id, fitting[0].name
    # JPEG is what cameras give large pictures at full rate in; those that have none are opened again without.
    return Opening(device, f"camera {name}", "camera", "v4l2", asked, {"input_format": "mjpeg"})


def _platform() -> str:
    return "linux" if sys.platform.startswith("linux") else sys.platform
