"""Colours of every kind of picture that a camera, a screen or a stream gives: on screens, in recordings, on the page.

What comes in is made here by the definitions of BT.601 and BT.709, not by FFmpeg's scaler; so is what is read back.
"""

from __future__ import annotations

import io
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from live_fakes import FakeDevice, small_ladder

from rtsr.frames import ColorTags, Frame
from rtsr.live.contract import Shown
from rtsr.live.pictures import LivePictures, ScreenPictures, described
from rtsr.live.session import Session
from rtsr.live.stream import AvSource, Opening

pytest.importorskip("uvicorn", reason="the page needs its extra: pip install 'rtsr[live]'")

from rtsr.live.web.moment import Feed
from rtsr.live.web.streams import Mp4Stream

PATCHES = np.array(
    [[255, 255, 255], [0, 0, 0], [128, 128, 128], [220, 30, 30], [30, 200, 40], [20, 40, 220], [230, 180, 150]], float
)
SIDE = 32  # pixels of a patch
LIMITED, FULL = 1, 2  # FFmpeg's AVColorRange
BT601, BT709, UNTOLD = 5, 1, 2  # FFmpeg's AVColorSpace
WEIGHTS = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722)}  # of red and blue in luma


def yuv_of(rgb: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """(N, 3) of 0..255 -> Y, Cb, Cr of 8 bits, not rounded."""
    kr, kb = WEIGHTS[matrix]
    r, g, b = rgb.T / 255
    y = kr * r + (1 - kr - kb) * g + kb * b
    u, v = (b - y) / (2 - 2 * kb), (r - y) / (2 - 2 * kr)
    return np.stack(
        (255 * y, 128 + 255 * u, 128 + 255 * v) if full else (16 + 219 * y, 128 + 224 * u, 128 + 224 * v), 1
    )


def rgb_of(yuv: np.ndarray, matrix: int) -> np.ndarray:
    """The way back, from limited range."""
    kr, kb = WEIGHTS[matrix]
    y, u, v = (yuv[:, 0] - 16) / 219, (yuv[:, 1] - 128) / 224 * (2 - 2 * kb), (yuv[:, 2] - 128) / 224 * (2 - 2 * kr)
    r, b = y + v, y + u
    return np.clip(255 * np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], 1), 0, 255)


def picture(fmt: str, samples: np.ndarray, color_range: int, colorspace: int) -> av.VideoFrame:
    """The patches in a row; samples: one row of three for each patch, as the format has them, of 8 bits."""
    deep = 4 if "10" in fmt else 1
    dtype = np.uint16 if deep > 1 else np.uint8
    row = np.repeat(np.round(samples * deep), SIDE, 0).astype(dtype)
    y, u, v = (np.tile(row[:, i], (SIDE, 1)) for i in range(3))
    match fmt:
        case "rgb24":
            planes = [np.stack([y, u, v], 2)]
        case "bgr0":
            planes = [np.stack([v, u, y, 0 * y], 2)]
        case "yuyv422":
            planes = [np.stack([y, np.where(np.arange(row.shape[0]) % 2, v, u)], 2)]
        case "nv12":
            planes = [y, np.stack([u, v], 2)[::2, ::2]]
        case "gray":
            planes = [y]
        case _:
            across, down = (2 if "42" in fmt else 1), (2 if "420" in fmt else 1)
            planes = [y, u[::down, ::across], v[::down, ::across]]
    made = av.VideoFrame(row.shape[0], SIDE, fmt)
    for plane, pixels in zip(made.planes, planes, strict=True):
        lines = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
        plane.update(np.pad(lines, ((0, 0), (0, plane.line_size - lines.shape[1]))).tobytes())
    made.color_range, made.colorspace = color_range, colorspace
    return made


def patches_of(y: np.ndarray, uv: np.ndarray, scale: int = 1) -> np.ndarray:
    """The samples in the middle of each patch, (N, 3)."""
    row, middle = SIDE * scale // 2, SIDE * scale // 2 + SIDE * scale * np.arange(len(PATCHES))
    return np.stack([y[row, middle], *(plane[row // 2, middle // 2] for plane in uv)], 1).astype(float)


# What devices give: pixels, whether black is 0, the tags they carry, and whether it is a camera.
YUV = [
    ("yuyv422", False, 0, UNTOLD, True),  # USB cameras tell nothing, and mean BT.601 of limited range
    ("nv12", False, 0, UNTOLD, True),
    ("yuvj420p", True, FULL, BT601, True),  # Motion JPEG
    ("yuvj422p", True, FULL, BT601, True),
    ("yuv422p", True, FULL, BT601, True),
    ("yuv420p", True, FULL, BT709, False),
    ("yuv420p", False, LIMITED, BT709, False),
    ("yuv444p", False, LIMITED, BT709, False),
    ("yuv420p10le", False, LIMITED, BT709, False),
    ("yuv420p10le", True, FULL, BT709, False),
    ("yuv422p10le", False, LIMITED, BT601, False),
]


@pytest.mark.parametrize(("fmt", "full", "color_range", "colorspace", "is_camera"), YUV)
def test_yuv_keeps_its_colours(fmt: str, full: bool, color_range: int, colorspace: int, is_camera: bool) -> None:
    matrix = BT601 if colorspace == UNTOLD else colorspace
    check_colours(picture(fmt, yuv_of(PATCHES, matrix, full), color_range, colorspace), is_camera, PATCHES)


@pytest.mark.parametrize("fmt", ["rgb24", "bgr0"])
def test_a_screen_keeps_its_colours(fmt: str) -> None:
    check_colours(picture(fmt, PATCHES, 0, UNTOLD), False, PATCHES)


def test_gray_stays_gray() -> None:
    gray = PATCHES.mean(1, keepdims=True).repeat(3, 1)
    check_colours(picture("gray", gray, 0, UNTOLD), True, gray)


def check_colours(taken: av.VideoFrame, is_camera: bool, rgb: np.ndarray) -> None:
    pictures = LivePictures(is_camera)
    y, uv = pictures.planes(taken)
    color = pictures.color(taken)
    assert color.range == LIMITED
    assert np.abs(rgb_of(patches_of(y[0], uv), color.colorspace) - rgb).max() <= 3  # two roundings to 8 bits
    bgr = ScreenPictures(color).bgr(Frame(y, uv, 0, Fraction(1, 30)))
    seen = bgr[SIDE // 2, SIDE // 2 :: SIDE, ::-1].astype(float)
    assert np.abs(seen - rgb).max() <= 4


def test_a_stream_that_changes_its_matrix_midway_keeps_its_colours() -> None:
    pictures = LivePictures()
    for matrix in (BT601, BT709):
        taken = picture("yuv420p", yuv_of(PATCHES, matrix, False), LIMITED, matrix)
        y, uv = pictures.planes(taken)
        assert pictures.color(taken).colorspace == BT601
        assert np.abs(rgb_of(patches_of(y[0], uv), BT601) - PATCHES).max() <= 4


def test_only_what_is_changed_is_told() -> None:
    samples = yuv_of(PATCHES, BT601, False)
    assert described(picture("yuv420p", samples, LIMITED, BT601)) is None
    assert described(picture("yuv420p", samples, FULL, BT601)) == "yuv420p of full range"
    assert described(picture("yuyv422", samples, 0, UNTOLD)) == "yuyv422"


def test_a_motion_jpeg_cameras_colours_reach_the_recording(tmp_path: Path) -> None:
    samples = yuv_of(PATCHES, BT601, True)

    def take() -> av.VideoFrame:
        time.sleep(0.02)
        return picture("yuvj422p", samples, FULL, BT601)

    source = AvSource(
        Opening("/dev/video0", "camera 0", "camera", "v4l2"),
        open_input=lambda *a, **k: FakeDevice(*[take] * 200, then_blocks=False),
    )
    session = Session(source, small_ladder(), 2)
    session.record(True, tmp_path / "out.mkv")
    summary = session.run(0.5)
    assert summary.came_as == "yuvj422p of full range"
    assert any("yuvj422p of full range" in line for line in summary.lines())
    with av.open(str(tmp_path / "out.mkv")) as recording:
        check_h264(next(recording.decode(video=0)), 2)


def test_the_pages_video_has_the_colours() -> None:
    """The MP4 way; the JPEG way is what ScreenPictures gives, and WebRTC the same encoder."""
    pictures = LivePictures(is_camera=True)
    taken = picture("yuyv422", yuv_of(PATCHES, BT601, False), 0, UNTOLD)
    y, uv = pictures.planes(taken)
    frame = Frame(np.ascontiguousarray(y), uv, 0, Fraction(1, 30))
    stream = Mp4Stream(Feed(), print, ColorTags(BT601, range=1), Fraction(30))
    feed = Feed()
    feed.put(Shown(frame, frame, time.monotonic(), 0, "nano"))
    assert feed.last is not None
    part = stream.part(feed.last, True)
    assert part is not None
    with av.open(io.BytesIO(part.header + part.data), "r") as page:
        check_h264(next(page.decode(video=0)), 1)


def check_h264(decoded: av.VideoFrame, scale: int) -> None:
    assert (int(decoded.colorspace), int(decoded.color_range)) == (BT601, LIMITED)
    planes = decoded.to_ndarray(format="yuv420p")
    width, height = decoded.width, decoded.height
    uv = planes[height:].reshape(2, height // 2, width // 2)
    # A lossy codec moves a flat patch by little.
    assert np.abs(rgb_of(patches_of(planes[:height], uv, scale), BT601) - PATCHES).max() <= 8
