"""Pictures that stay on the GPU from the engine to the encoder. NVIDIA's encoder is played by libx264, which reads the
same memory through the same frames of FFmpeg's: only that they lie on a CPU is another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Video, steady_pts, write_clip
from cuda_stand_in import Driver, Kernel, Misuse
from onnxruntime_stand_in import OnnxRuntime
from tensorrt_stand_in import TensorRt

from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.cuda import dlpack
from rtsr.backends.cuda.libraries import open_gpu
from rtsr.backends.cuda.memory import device_memory
from rtsr.backends.cuda.nv12 import Nv12Kernels
from rtsr.backends.cuda.surfaces import PITCH, SurfacePool
from rtsr.backends.tiling import TilingEngine
from rtsr.encode_on_gpu import leaves_on_gpu
from rtsr.frames import Frame, FrameBatch, VideoSpec
from rtsr.frames_on_gpu import PictureOnGpu, picture_on_gpu
from rtsr.job import upscale
from rtsr.pixels import PixelFormat
from rtsr.sinks import nvenc
from rtsr.sinks.codecs import CODECS
from rtsr.sinks.encoding import Encoder, Encoding
from rtsr.sinks.video import EncodedVideo

HELD = 7  # pictures that the encoder has not read yet
BACKENDS = ["tensorrt", "onnxruntime-cuda"]


class Nvenc:
    """What NVIDIA's encoder does on the stand-in GPU: it reads a picture some time after it got it, in the default
    stream, and holds its frame until then. made: pictures so far."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.made = 0
        self._held: deque[av.VideoFrame] = deque()

    def take(self, pictures: nvenc.GpuPictures, picture: PictureOnGpu) -> av.VideoFrame:
        """Instead of GpuPictures.make(): that, and what becomes of the frame."""
        frame = _make(pictures, picture)
        assert frame.format.name == {8: "nv12", 10: "p010le"}[picture.surface.bits]
        rows = picture.surface.height * 3 // 2
        span = self.driver.span(picture.surface.y, rows * picture.surface.y_pitch, writes=False)
        now = span.memory.at(span.start, span.stop).copy()

        def read() -> None:
            np.testing.assert_array_equal(span.memory.at(span.start, span.stop), now)

        stream = open_gpu().device.default_stream
        stream.enqueue("nvenc", read, span)  # type: ignore[attr-defined]
        self.made += 1
        self._held.append(frame)
        if len(self._held) > HELD:
            stream.sync()
            self._held.popleft()
        if picture.surface.bits == 8:
            return frame
        # One thread: with several, FFmpeg 8.1's scaler now and then gets P010's samples wrong.
        return frame.reformat(format="yuv420p10le", threads=1)

    def flush(self) -> None:
        open_gpu().device.default_stream.sync()
        self._held.clear()


_make = nvenc.GpuPictures.make


@pytest.fixture
def driver(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, kernels: dict[str, Kernel], engines: Path, tmp_path: Path
) -> Driver:
    """With plans, TensorRT and ONNX Runtime."""
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path / "plans"))
    TensorRt(driver).install(monkeypatch)
    driver.kernels = kernels
    return driver


@pytest.fixture
def encoder(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nvenc]:
    """libx264 takes pictures on the GPU."""
    stand_in = Nvenc(driver)
    monkeypatch.setitem(CODECS, "libx264", replace(CODECS["libx264"], on_gpu=True))
    monkeypatch.setattr(nvenc, "_DEVICE", dlpack.CPU)
    monkeypatch.setattr(nvenc.GpuPictures, "make", lambda self, picture: stand_in.take(self, picture))
    formats = {"nv12": "nv12", "p010le": "yuv420p10le"}  # libx264 knows no P010
    monkeypatch.setattr(nvenc.GpuPictures, "pix_fmt", property(lambda self: formats[self.layout]))
    yield stand_in
    stand_in.flush()


def film(folder: Path, pix_fmt: str = "yuv420p", width: int = 70, height: int = 50, pictures: int = 30) -> Path:
    video = Video("libx264", pix_fmt, width=width, height=height, pts=steady_pts(pictures), options={"crf": "20"})
    return write_clip(folder / "in.mkv", video)


def run(path: Path, output: Path, backend: str = "tensorrt", **named: object) -> list[str]:
    """The whole job; what it said."""
    said: list[str] = []
    named = {"scale": 2, "model": "repeat", "backend": backend, "wait_for_engine": True} | named
    upscale(path, output, notice=said.append, encoding=Encoding("libx264"), **named)
    return said


def downloads(driver: Driver) -> tuple[int, int]:
    """Whole results that crossed the bus, and parts of them: what tells whether a picture is sound."""
    return tuple(sum(call.startswith(f"download{what} on") for call in driver.calls) for what in ("", " a part"))  # type: ignore[return-value]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_the_film_is_that_of_pictures_in_memory(
    pix_fmt: str,
    backend: str,
    driver: Driver,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the byte, and no picture crosses the bus. The encoder holds more pictures than the ring has slots."""
    if backend != "tensorrt":
        OnnxRuntime(driver).install(monkeypatch)
    path = film(tmp_path, pix_fmt)
    run(path, tmp_path / "memory.mkv", backend)
    assert downloads(driver) == (30, 0)
    encoder = request.getfixturevalue("encoder")
    driver.calls.clear()
    said = run(path, tmp_path / "gpu.mkv", backend)
    assert not any("through memory" in sentence for sentence in said)
    assert encoder.made == 30 + 1  # and the one that was tried
    assert downloads(driver) == (0, 30)
    assert (tmp_path / "gpu.mkv").read_bytes() == (tmp_path / "memory.mkv").read_bytes()
    encoder.flush()
    assert driver.used == 0


def test_rooms_serve_again_and_none_while_it_is_read(driver: Driver, encoder: Nvenc, tmp_path: Path) -> None:
    run(film(tmp_path), tmp_path / "out.mkv")
    rooms = [call for call in driver.calls if call == f"allocate device {PITCH * 100 * 3 // 2}"]
    assert HELD < len(rooms) - 1 <= HELD + 14  # the ring's, the pipeline's queue, and those held; one was for the trial


def test_a_room_given_back_too_early_would_be_seen(encoder: Nvenc) -> None:
    gpu = open_gpu()
    pool, stream = SurfacePool(gpu), gpu.device.create_stream()
    planes = device_memory(gpu, 64 * 48 * 3, stream)
    room = pool.take(64, 48, 8, stream)
    nvenc.GpuPictures(0, PixelFormat()).make(pool.lend(room))
    pool.give_back(room)
    assert pool.take(64, 48, 8, stream) is room
    with pytest.raises(Misuse, match="'give_luma_8' uses memory that 'nvenc' in flight uses"):
        Nv12Kernels(gpu).give(int(planes.handle), int(planes.handle) + 64 * 48, room.surface, stream)


@pytest.mark.parametrize("backend", BACKENDS)
def test_who_looks_at_samples_downloads_them(
    backend: str, driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """infer() keeps nothing on the GPU; stream() does, of batches of one."""
    OnnxRuntime(driver).install(monkeypatch)
    rng = np.random.default_rng(1)
    for bits in (8, 10, 12):
        pixels, dtype = PixelFormat(bits=bits), np.uint8 if bits == 8 else np.uint16
        batches = [
            FrameBatch(
                rng.integers(0, 1 << bits, (n, 1, 20, 30)).astype(dtype),
                rng.integers(0, 1 << bits, (n, 2, 10, 15)).astype(dtype),
                tuple(range(n)),
                Fraction(1, 25),
                pixels=pixels,
            )
            for n in (1, 2, 1)
        ]
        with closing(open_engine(EngineChoice(2, "repeat", "stream", backend))) as engine:
            expected = [engine.infer(batch) for batch in batches]
            engine.leave_on_gpu()  # type: ignore[attr-defined]
            results = list(engine.stream(batches))
            assert [picture_on_gpu(result) is not None for result in results] == [True, False, True]
            assert picture_on_gpu(engine.infer(batches[0])) is None
            for result, same in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result.y, same.y)
                np.testing.assert_array_equal(result.uv, same.uv)
            del results, result
        assert driver.used == 0


def test_pictures_in_memory_go_into_the_same_film(driver: Driver, encoder: Nvenc, tmp_path: Path) -> None:
    """A frame that was done again, tiles, captions: whatever comes in memory is uploaded by FFmpeg."""
    rng = np.random.default_rng(2)
    spec, size = VideoSpec(32, 24, Fraction(1, 25), rate=Fraction(25)), (64, 48)
    made = Encoding("libx264", preset="ultrafast").resolve(tmp_path / "out.mkv", spec)
    pool, gpu = SurfacePool(open_gpu()), open_gpu()
    frames, there = [], []
    for i in range(6):
        y = rng.integers(0, 256, (1, 48, 64)).astype(np.uint8)
        uv = rng.integers(0, 256, (2, 24, 32)).astype(np.uint8)
        frames.append(Frame(y, uv, i, spec.time_base))
        room = pool.take(64, 48, 8, gpu.device.default_stream)
        rows = driver.span(room.surface.y, 72 * PITCH, True).memory.at(0, 72 * PITCH).reshape(72, PITCH)
        rows[:48, :64], rows[48:, :64] = y[0], uv.transpose(1, 2, 0).reshape(24, 64)
        there.append(Frame(*pool.lend(room).as_arrays(spec.pixels), i, spec.time_base))

    def encoded(pictures: list[Frame]) -> bytes:
        path, gpu = tmp_path / "out.mp4", nvenc.gpu_of(pictures[0], made, size)
        video = EncodedVideo(path, "mp4", spec, size, made, 0, gpu)
        for picture in pictures:
            video.write(picture)
        video.finish()
        return path.read_bytes()

    expected = encoded(frames)
    assert encoder.made == 0
    assert encoded(there) == expected and encoder.made == 6
    assert encoded([*there[:2], *frames[2:4], *there[4:]]) == expected and encoder.made == 10
    assert encoded([*frames[:1], *there[1:]]) == expected and encoder.made == 10  # a file begun in memory stays there
    assert nvenc.gpu_of(there[0], replace(made, pixels=PixelFormat(bits=10)), size) is None
    assert nvenc.gpu_of(there[0], made, (64, 50)) is None
    there.clear()
    encoder.flush()
    pool.close()
    assert driver.used == 0


def test_a_card_that_does_not_take_them_is_told_once(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real FFmpeg, which finds no driver; the film goes through memory, one download a picture."""
    monkeypatch.setitem(CODECS, "libx264", replace(CODECS["libx264"], on_gpu=True))
    path = film(tmp_path, pictures=5)
    said = [sentence for sentence in run(path, tmp_path / "out.mkv") if "through memory" in sentence]
    assert said == ["libx264 gets its pictures through memory, not on the GPU: Operation not permitted"]
    assert downloads(driver) == (5, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pixels": PixelFormat(chroma=(0, 0))}, "takes no 8-bit 4:4:4 there"),
        ({"pixels": PixelFormat(bits=12)}, "takes no 12-bit 4:2:0 there"),
        ({"width": 33}, "they are resized to 64x48"),
        ({"captions": True}, "closed captions"),
    ],
)
def test_what_it_cannot_take_there_is_told(change: dict[str, object], reason: str) -> None:
    spec = replace(VideoSpec(32, 24, Fraction(1, 25)), **change)  # type: ignore[arg-type]
    encoder = Encoder("h264_nvenc", {}, spec.pixels.name, spec.pixels, spec.color, "mp4")
    assert reason in nvenc.needs_memory(encoder, spec, (64, 48), 2)


def test_odd_sizes_and_other_pixels_go_through_memory() -> None:
    spec = VideoSpec(33, 25, Fraction(1, 25))
    encoder = Encoder("h264_nvenc", {}, "yuv420p", spec.pixels, spec.color, "mp4")
    assert nvenc.needs_memory(encoder, spec, (99, 75), 3) == "99x75 is odd"
    ten = replace(encoder, pixels=PixelFormat(bits=10))
    assert nvenc.needs_memory(ten, spec, (66, 50), 2) == "they become 10-bit 4:2:0"
    assert nvenc.needs_memory(encoder, spec, (66, 50), 2) == ""


def test_encoders_and_engines_on_the_cpu_are_left_alone(engines: Path) -> None:
    spec = VideoSpec(32, 24, Fraction(1, 25))
    with closing(TilingEngine(open_engine(EngineChoice(2, "repeat", "stream", "openvino")))) as engine:
        for name in ("libx264", "h264_nvenc"):
            encoder = Encoder(name, {}, "yuv420p", spec.pixels, spec.color, "mp4")
            assert leaves_on_gpu(engine, encoder, spec, (64, 48)) == ""


def test_memory_lent_as_dlpack_lives_until_it_is_let_go() -> None:
    samples = np.arange(48, dtype=np.uint16).reshape(6, 8)
    made = [dlpack.exported(samples.ctypes.data, (6, 5), (8, 1), 16, (dlpack.CPU, 0), samples) for _ in range(2)]
    assert len(dlpack._in_use) == 2
    del made[1]  # which nobody took
    assert len(dlpack._in_use) == 1

    class Exporter:
        def __dlpack__(self, **options: object) -> object:
            return made.pop()

        def __dlpack_device__(self) -> tuple[int, int]:
            return dlpack.CPU, 0

    taken = np.from_dlpack(Exporter())  # type: ignore[arg-type]
    np.testing.assert_array_equal(taken, samples[:, :5])
    assert len(dlpack._in_use) == 1
    del taken
    assert not dlpack._in_use
