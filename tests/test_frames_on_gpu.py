"""Pictures that stay on the GPU from the decoder to the engine, with FFmpeg's part played by its own CPU decoder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Video, steady_pts, write_clip
from cuda_stand_in import Driver, Kernel
from tensorrt_stand_in import TensorRt
from torture.films import Pictures, write_film

from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.cuda.libraries import open_gpu
from rtsr.backends.cuda.nv12 import Surface
from rtsr.backends.phases import fill_bordered
from rtsr.backends.tiling import TilingEngine
from rtsr.backends.trt import TensorRtEngine
from rtsr.frames import FrameBatch, VideoSpec, batched
from rtsr.frames_on_gpu import PictureOnGpu, picture_on_gpu
from rtsr.pixels import PixelFormat
from rtsr.sources import nvdec
from rtsr.sources.file import FileSource
from rtsr.sources.media import Media
from rtsr.sources.pictures import PlaneReader

SEMIPLANAR = {planar: name for name, planar in nvdec.PLANAR.items()}


class Gpu:
    """What FFmpeg's decoder has put on the stand-in GPU. downloads: how many pictures came back."""

    def __init__(self, driver: Driver):
        self.driver = driver
        self.downloads = 0

    def picture(self, picture: av.VideoFrame, pixels: PixelFormat, gpu: int, reader: PlaneReader) -> PictureOnGpu:
        """Instead of nvdec.picture_on_gpu(): the surface that NVDEC would have made of this picture."""
        open_gpu().use()  # as FFmpeg does in whatever thread it decodes
        semiplanar = picture.reformat(format=SEMIPLANAR[pixels.name])
        blocks = []
        for plane in semiplanar.planes:
            memory = self.driver.allocate(plane.buffer_size, False).memory
            memory.at(0, memory.size)[:] = np.frombuffer(plane, np.uint8)
            blocks.append((memory.address, plane.line_size))
        (y, y_pitch), (uv, uv_pitch) = blocks

        def download() -> tuple[np.ndarray, np.ndarray]:
            self.downloads += 1
            return reader.planes(semiplanar)

        surface = Surface(picture.width, picture.height, pixels.bits, y, y_pitch, uv, uv_pitch)
        return PictureOnGpu(surface, gpu, blocks, download)


@pytest.fixture
def driver(driver: Driver, monkeypatch: pytest.MonkeyPatch, kernels: dict[str, Kernel]) -> Driver:
    """Runs the kernels, and TensorRT."""
    TensorRt(driver).install(monkeypatch)
    driver.kernels = kernels
    return driver


@pytest.fixture
def gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """NVDEC works: FFmpeg decodes on the CPU, and what it decodes passes for a picture on the GPU."""
    gpu = Gpu(driver)
    monkeypatch.setattr(nvdec, "why_not", lambda *arguments: "")
    monkeypatch.setattr(nvdec, "hwaccel", lambda number: None)
    monkeypatch.setattr(nvdec, "is_on_gpu", lambda picture: True)
    monkeypatch.setattr(nvdec, "picture_on_gpu", gpu.picture)
    return gpu


@pytest.fixture
def engine(driver: Driver, engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TensorRtEngine]:
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path / "plans"))
    with closing(open_engine(EngineChoice(2, "repeat", "stream", "tensorrt"))) as engine:
        assert isinstance(engine, TensorRtEngine)
        yield engine


@pytest.fixture(params=["yuv420p", "yuv420p10le", "yuv420p12le"], scope="module")
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    codec = "libx265" if request.param == "yuv420p12le" else "libx264"
    options = {"bf": "2", "preset": "ultrafast", "crf": "20"}
    video = Video(codec, request.param, width=70, height=50, pts=steady_pts(12), options=options)
    return write_clip(tmp_path_factory.mktemp("film") / "in.mkv", video)


def batches(film: Path, gpu: int | None) -> Iterator[FrameBatch]:
    with closing(FileSource(film)) as source:
        if gpu is not None:
            assert source.decode_on_gpu(gpu) == ""
        yield from batched(source.frames(), 1)


def assert_same(one: list[FrameBatch], other: list[FrameBatch]) -> None:
    assert [batch.pts for batch in one] == [batch.pts for batch in other]
    assert [batch.durations for batch in one] == [batch.durations for batch in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.y, b.y)
        np.testing.assert_array_equal(a.uv, b.uv)


def test_the_result_is_that_of_pictures_in_memory(film: Path, gpu: Gpu, engine: TensorRtEngine) -> None:
    """And nothing is uploaded, nor downloaded but the results."""
    expected = list(engine.stream(batches(film, None)))
    gpu.driver.calls.clear()
    results = list(engine.stream(batches(film, 0)))
    assert_same(results, expected)
    assert len(results) == 12
    assert gpu.downloads == 0
    work = [call.partition(" ")[0] for call in gpu.driver.calls if " on " in call]
    assert work.count("upload") == 0
    assert work.count("download") == 12
    assert sum(name.startswith("take_luma") for name in work) == 12


def test_pictures_of_both_kinds_may_come_in_turn(film: Path, gpu: Gpu, engine: TensorRtEngine) -> None:
    in_memory, there = list(batches(film, None)), list(batches(film, 0))
    mixed = [(there if i % 3 else in_memory)[i] for i in range(12)]
    assert_same(list(engine.stream(mixed)), list(engine.stream(in_memory)))


def test_another_gpu_s_picture_comes_through_memory(film: Path, gpu: Gpu, engine: TensorRtEngine) -> None:
    expected = list(engine.stream(batches(film, None)))
    assert_same(list(engine.stream(batches(film, 1))), expected)
    assert gpu.downloads == 12


def test_tiles_come_through_memory(tmp_path: Path, gpu: Gpu, engine: TensorRtEngine) -> None:
    film = write_clip(tmp_path / "in.mkv", Video(width=200, pts=steady_pts(4)))
    expected = list(engine.stream(batches(film, None)))
    with closing(TilingEngine(engine, parts=2)) as tiled:
        assert_same(list(tiled.stream(batches(film, 0))), expected)
    assert gpu.downloads == 4


def test_who_looks_at_samples_downloads_them_once(film: Path, gpu: Gpu) -> None:
    there, here = next(batches(film, 0)), next(batches(film, None))
    assert (there.y.shape, there.y.dtype, there.uv.shape) == (here.y.shape, here.y.dtype, here.uv.shape)
    assert picture_on_gpu(there, 0) is not None and picture_on_gpu(here, 0) is None
    (frame,) = there.frames()
    assert frame.y.shape == here.y.shape[1:]
    assert gpu.downloads == 0
    np.testing.assert_array_equal(frame.y, here.y[0])
    np.testing.assert_array_equal(there.uv[0, 1], here.uv[0, 1])
    assert there.y.max() == here.y.max()
    bordered = np.empty((1, 1, 50 + 16, 70 + 16), here.y.dtype), np.empty((1, 1, 50 + 16, 70 + 16), here.y.dtype)
    fill_bordered(bordered[0], there.y)
    fill_bordered(bordered[1], here.y)
    np.testing.assert_array_equal(*bordered)
    assert gpu.downloads == 1


def test_interlaced_pictures_are_deinterlaced_in_memory(tmp_path: Path, gpu: Gpu) -> None:
    film = write_film(tmp_path / "in.mkv", Pictures(interlaced="tt", frames=8))
    assert_same(list(batches(film, 0)), list(batches(film, None)))


@pytest.mark.parametrize("color_range", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize("name", list(SEMIPLANAR))
def test_what_is_downloaded_has_the_same_samples(name: str, color_range: int) -> None:
    """FFmpeg's way from NV12, P010 and P016 to planes, which PlaneReader takes, changes no sample of either range."""
    pixels = PixelFormat.of(name)
    assert pixels is not None
    rng = np.random.default_rng(3)
    y, u, v = (rng.integers(0, pixels.white + 1, size).astype(pixels.dtype) for size in ((48, 64), (24, 32), (24, 32)))
    picture = av.VideoFrame(64, 48, SEMIPLANAR[name])
    shift = 0 if pixels.bits == 8 else 16 - pixels.bits
    for plane, samples in zip(picture.planes, (y, np.stack([u, v], -1).reshape(24, 64)), strict=True):
        rows = np.zeros((plane.height, plane.line_size // samples.itemsize), samples.dtype)
        rows[:, :64] = samples << shift
        plane.update(rows.tobytes())
    picture.color_range, picture.colorspace = color_range, 1
    found_y, found_uv = PlaneReader(pixels).planes(picture)
    np.testing.assert_array_equal(found_y, y[None])
    np.testing.assert_array_equal(found_uv, np.stack([u, v]))


def test_without_a_gpu_the_reason_is_told(tmp_path: Path) -> None:
    """By the real packages."""
    film = write_clip(tmp_path / "in.mkv", Video())
    with closing(FileSource(film)) as source:
        why_not = source.decode_on_gpu(0)
        if not why_not:
            pytest.skip("this machine has one")
        assert "NVIDIA" in why_not
        assert sum(1 for _ in source.frames()) == 24  # in memory, as ever


@pytest.mark.parametrize(
    ("codec", "name", "reason"), [("mpeg2video", "yuv420p", "mpeg2video"), ("h264", "yuv444p", "decodes no yuv444p")]
)
def test_what_would_differ_stays_on_the_cpu(codec: str, name: str, reason: str, tmp_path: Path) -> None:
    pixels = PixelFormat.of(name)
    assert pixels is not None
    spec = VideoSpec(64, 48, Fraction(1, 25), pixels=pixels)
    assert reason in nvdec.why_not(Media(str(tmp_path / "in.mkv")), codec, spec, 0)


def test_ffmpeg_works_in_the_context_that_cuda_core_uses(driver: Driver) -> None:
    """Made current in the thread that opens the file: a thread's own, for others have none."""
    found = []

    def work() -> None:
        found.append(nvdec.hwaccel(0))
        driver.require_current("the decoder")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].options == {"primary_ctx": "0", "current_ctx": "1"}
    assert found[0].is_hw_owned


def test_without_its_driver_ffmpeg_s_refusal_is_told(driver: Driver, tmp_path: Path) -> None:
    """cuda.core says that there is a GPU, the real FFmpeg that there is none."""
    film = write_clip(tmp_path / "in.mkv", Video())
    with closing(FileSource(film)) as source:
        if (why_not := source.decode_on_gpu(0)) == "":
            pytest.skip("this machine has one")
        assert why_not == "Operation not permitted"


def test_a_decoder_takes_the_option_for_more_surfaces(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "in.mkv", Video())
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        nvdec.prepare(stream)
        assert len(list(container.decode(stream))) == 24
        assert "extra_hw_frames" not in stream.codec_context.options  # taken, not left as unknown
