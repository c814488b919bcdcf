"""Live sources: the test pattern, devices by a layer that yields what PyAV yields, files at their own pace."""

from __future__ import annotations

import struct
import time
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from live_fakes import FakeDevice, picture, removed

from rtsr.errors import ConfigError, RtsrError, SourceError
from rtsr.live.contract import Captured
from rtsr.live.devices import Camera, camera, parse_size, screen, v4l2_modes
from rtsr.live.pattern import PatternSource
from rtsr.live.sources import SourceChoice, open_live_source
from rtsr.live.stream import AvSource, Opening, shown_url

CAMERA = Opening("/dev/video0", "camera 0", "camera", "v4l2")


def opened(device: FakeDevice, opening: Opening = CAMERA, **options: object) -> AvSource:
    return AvSource(opening, open_input=lambda *a, **k: device, **options)  # type: ignore[arg-type]


def until_the_end(source: AvSource) -> list[Captured]:
    """All that a device gave before it ended, which for a device is an error."""
    seen = []
    with pytest.raises(SourceError, match="the stream ended"):
        for captured in source.frames():
            seen.append(captured)  # noqa: PERF402 - what came before the error counts
    source.close()
    return seen


def test_the_pattern_moves_and_its_frames_are_due_at_its_rate() -> None:
    source = PatternSource(320, 180, Fraction(100))
    frames = list(islice(source.frames(), 5))
    source.close()
    for before, after in pairwise(frames):
        steps = after.number - before.number
        assert after.at - before.at == pytest.approx(steps / 100, abs=1e-6)
        assert not np.array_equal(before.frame.y, after.frame.y)
    assert source.spec.color.range == 1 and source.spec.color.colorspace == 5


def test_a_pattern_that_nobody_fetches_in_time_leaves_frames_out_and_counts_them() -> None:
    source = PatternSource(64, 48, Fraction(200))
    frames = source.frames()
    first = next(frames)
    time.sleep(0.1)
    assert next(frames).number - first.number > 5
    source.close()
    assert next(frames, None) is None


def test_a_camera_gives_upright_even_8_bit_pictures_at_the_moment_of_their_capture() -> None:
    taken = picture(65, 49, level=200, fmt="yuyv422")
    assert taken.pts is not None
    with_time = [lambda: time.sleep(0.05), lambda: picture(65, 49)]
    source = opened(FakeDevice(taken, *with_time, then_blocks=False))
    frames = until_the_end(source)
    assert (source.spec.width, source.spec.height) == (64, 48)
    for captured in frames:
        assert captured.frame.y.shape == (1, 48, 64) and captured.frame.uv.shape == (2, 24, 32)
    assert frames[-1].at <= time.monotonic()
    if frames[0].number == 0:
        assert frames[0].at == pytest.approx(taken.pts / 1e6, abs=1e-3)
        # 200 of full range is 16 + 219 * 200 / 255 of limited range
        assert abs(int(frames[0].frame.y[0, 10, 10]) - 188) <= 2


def test_a_late_reader_gets_the_newest_picture() -> None:
    device = FakeDevice(*[picture(level=i) for i in range(20)])
    source = opened(device)
    time.sleep(0.2)
    numbers = [captured.number for captured in until_the_end(source)]
    assert numbers[-1] == 19
    assert len(numbers) < 20
    assert device.closed == 1


def test_size_and_format_may_change_midway() -> None:
    notices: list[str] = []
    steps = [picture(64, 48), lambda: time.sleep(0.3), picture(96, 64, fmt="nv12"), lambda: time.sleep(0.3)]
    source = opened(FakeDevice(*steps, picture(96, 64, fmt="bgr0")), notice=notices.append)
    shapes = [captured.frame.y.shape for captured in until_the_end(source)]
    assert shapes == [(1, 48, 64), (1, 64, 96), (1, 64, 96)]
    assert notices == ["camera 0: the picture changes from 64x48 to 96x64"]


def test_a_camera_pulled_out_is_one_sentence_after_its_last_picture() -> None:
    device = FakeDevice(picture(), lambda: time.sleep(0.05), removed)
    source = opened(device)
    seen = []
    with pytest.raises(SourceError, match=r"camera 0 was unplugged or stopped \(No such device\)"):
        for captured in source.frames():
            seen.append(captured.number)  # noqa: PERF401 - what came before the error counts
    source.close()
    assert seen == [0]
    assert device.closed == 1


def test_a_driver_that_blocks_is_noticed() -> None:
    device = FakeDevice(picture(), then_blocks=True)
    source = opened(device, stall_s=0.1)
    with pytest.raises(SourceError, match="gives no pictures any more"):
        list(source.frames())
    device.released.set()
    source.close()


def test_a_device_without_a_picture_does_not_open() -> None:
    with pytest.raises(SourceError, match="camera 0: the stream ended"):
        opened(FakeDevice())


def test_a_stream_that_breaks_is_opened_again_with_growing_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtsr.live.reconnect.BACK_OFF_S", (0.01, 0.02))
    devices = [FakeDevice(lambda: time.sleep(0.05), picture(level=i), removed) for i in range(3)]
    waiting, notices = list(devices), list[str]()
    opening = Opening("udp://127.0.0.1:9", "udp://127.0.0.1:9", "stream")

    def open_next(*arguments: object, **options: object) -> FakeDevice:
        if not waiting:
            raise av.error.ConnectionRefusedError(111, "Connection refused", "udp")
        return waiting.pop(0)

    source = AvSource(opening, retry=4, notice=notices.append, open_input=open_next)
    with pytest.raises(SourceError, match=r"cannot be opened \(Connection refused\); 4 attempts to connect again fail"):
        list(source.frames())
    source.close()
    assert [device.closed for device in devices] == [1, 1, 1]
    attempts = [notice.rpartition("; ")[2] for notice in notices if "connecting" in notice]
    assert attempts[:2] == ["connecting again in 0.01 s (1 of 4)", "connecting again in 0.02 s (2 of 4)"]
    assert len(attempts) == 4
    assert sum("connected again" in notice for notice in notices) == 2


def test_without_retry_a_broken_stream_ends_the_source() -> None:
    opening = Opening("rtsp://host/x", "rtsp://host/x", "stream")
    source = opened(FakeDevice(picture(), removed), opening)
    with pytest.raises(SourceError, match="broke off"):
        list(source.frames())
    source.close()


def film(path: Path, frames: int = 10, rate: int = 20) -> Path:
    """A file of a film, each picture brighter than the one before."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(frames):
            made = av.VideoFrame.from_ndarray(np.full((72, 64), 40 + 5 * i, np.uint8), format="yuv420p")
            made.pts = i
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
    return path


def test_a_file_plays_at_its_own_pace(tmp_path: Path) -> None:
    begun = time.monotonic()
    source = open_live_source(SourceChoice(source=str(film(tmp_path / "film.mkv"))))
    frames = list(source.frames())
    source.close()
    assert time.monotonic() - begun >= 9 / 20
    first, last = frames[0], frames[-1]
    assert last.number == 9
    assert last.at - first.at >= (last.number - first.number) / 20 - 0.02


def test_a_looped_file_begins_again(tmp_path: Path) -> None:
    source = open_live_source(SourceChoice(source=str(film(tmp_path / "film.mkv", 4)), loop=True))
    numbers = [captured.number for captured in islice(source.frames(), 7)]
    source.close()
    assert numbers[-1] >= 6


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (SourceChoice(), "say what to upscale"),
        (SourceChoice(webcam="0", source="testsrc"), "say what to upscale"),
        (SourceChoice(source="srt://127.0.0.1:9"), "does not speak srt"),
        (SourceChoice(source="nowhere.mp4"), "no such file"),
        (SourceChoice(source="."), "is a folder"),
        (SourceChoice(webcam="/dev/video98"), "there is no camera /dev/video98"),
        (SourceChoice(webcam="No Such Camera"), "no camera is called 'No Such Camera'"),
        (SourceChoice(screen="640"), "is no region"),
        (SourceChoice(source="testsrc", size=(7, 7)), "cannot be made"),
        (SourceChoice(source="rtsp://127.0.0.1:1/x", loop=True), "--loop is for files"),
        (SourceChoice(source="rtsp://me:secret@127.0.0.1:1/x", retry=0), r"^rtsp://127.0.0.1:1/x cannot be opened"),
    ],
)
def test_what_does_not_open_says_why(choice: SourceChoice, sentence: str) -> None:
    with pytest.raises(RtsrError, match=sentence):
        open_live_source(choice)


def test_a_screen_region_becomes_ffmpegs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    opening = screen("640x360+10+20", Fraction(25), ":7")
    assert (opening.url, opening.format) == (":7+10,20", "x11grab")
    assert opening.options == {"framerate": "25", "video_size": "640x360"}


@pytest.mark.parametrize(
    ("platform", "which", "url", "fmt"),
    [
        ("linux", "2", "/dev/video2", "v4l2"),
        ("linux", "/dev/video7", "/dev/video7", "v4l2"),
        ("linux", "logi", "/dev/video4", "v4l2"),
        ("darwin", "1", "1:none", "avfoundation"),
        ("win32", "0", "video=Logitech BRIO", "dshow"),
    ],
)
def test_a_camera_is_named_as_each_platform_does(
    monkeypatch: pytest.MonkeyPatch, platform: str, which: str, url: str, fmt: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    opening = camera(which, (1280, 720), Fraction(30), lambda: [Camera("/dev/video4", "Logitech BRIO")])
    assert (opening.url, opening.format) == (url, fmt)
    assert opening.options["video_size"] == "1280x720" and opening.options["framerate"] == "30"


def test_a_v4l2_driver_is_asked_for_its_sizes_and_rates() -> None:
    """Through the kernel's structures: a YUYV camera of 640x480 at 30 and 15 fps."""

    def driver(handle: int, request: int, data: bytearray) -> None:
        index, *rest = struct.unpack_from("=2I", data)
        if request == 0xC0405602 and index == 0:
            struct.pack_into("=32sI", data, 12, b"YUYV 4:2:2", 0x56595559)
        elif request == 0xC02C564A and index == 0 and rest == [0x56595559]:
            struct.pack_into("=3I", data, 8, 1, 640, 480)
        elif request == 0xC034564B and index < 2 and struct.unpack_from("=2I", data, 8) == (640, 480):
            struct.pack_into("=3I", data, 16, 1, 1, (15, 30)[index])
        else:
            raise OSError(22, "Invalid argument")

    (mode,) = v4l2_modes(Path("/dev/null"), driver)
    assert (mode.format, mode.size, mode.rates) == ("YUYV 4:2:2", "640x480", (30.0, 15.0))


def test_names_are_shown_without_passwords() -> None:
    assert shown_url("rtsp://me:secret@cam/1") == "rtsp://cam/1"
    with pytest.raises(ConfigError, match="is no size"):
        parse_size("--size", "large")
