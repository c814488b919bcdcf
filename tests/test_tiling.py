"""Out of memory: less is tried, nothing is lost, and a frame made of tiles is the frame made whole, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from commands import environment

from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.backends.reference import INTERPOLATIONS, ReferenceEngine
from rtsr.backends.tiling import ALIGN, HALO, TilingEngine, spans
from rtsr.errors import EngineError, OutOfMemoryError
from rtsr.frames import ChromaSiting, FrameBatch
from rtsr.pixels import YUV420P, PixelFormat

TIME_BASE = Fraction(1001, 30000)


def noise(
    height: int,
    width: int,
    pixels: PixelFormat = YUV420P,
    n: int = 1,
    pts: int = 0,
    siting: ChromaSiting = ChromaSiting.LEFT,
) -> FrameBatch:
    """Random samples in the upper half, which every convolution of a net hears; steps of random height in the lower."""
    rng = np.random.default_rng(height * width + pts)
    planes = []
    for count, (h, w) in (
        (pixels.full_planes, (height, width)),
        (pixels.chroma_planes, pixels.chroma_size(height, width)),
    ):
        plane = rng.integers(0, pixels.white + 1, (n, count, h, w)).astype(pixels.dtype)
        coarse = plane[..., h // 2 :: 5, ::5].repeat(5, 2).repeat(5, 3)
        plane[..., h // 2 :, :] = coarse[..., : h - h // 2, :w]
        planes.append(plane)
    return FrameBatch(*planes, tuple(range(pts, pts + n)), TIME_BASE, (1,) * n, siting, pixels)


def assert_equal(found: FrameBatch, expected: FrameBatch) -> None:
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.uv, expected.uv)
    assert (found.pts, found.durations, found.pixels) == (expected.pts, expected.durations, expected.pixels)


def assert_no_seam(engine: Engine, batch: FrameBatch, parts: Iterable[int] = (2, 8), apart: float = 0) -> None:
    """apart: how many code values the tiled picture may differ by."""
    expected = engine.infer(batch)
    for count in parts:
        found = TilingEngine(engine, parts=count).infer(batch)
        if not apart:
            assert_equal(found, expected)
        for a, b in ((found.y, expected.y), (found.uv, expected.uv)):
            assert a.shape == b.shape
            assert not a.size or np.abs(a.astype(int) - b).max() <= apart


def test_spans_cover_a_side_once_and_overlap_enough() -> None:
    for side, count in product((*range(1, 700), 1080, 1081, 2160, 3839, 7680), (1, 2, 3, 4, 8, 64)):
        cut = spans(side, count)
        assert 1 <= len(cut) <= count
        assert (cut[0].first, cut[-1].last) == (0, side)
        assert all(a.last == b.first for a, b in pairwise(cut))
        assert len({span.size for span in cut}) == 1
        for span in cut:
            assert span.first < span.last
            assert span.start % ALIGN == 0
            assert span.start == 0 == span.first or span.first - span.start >= HALO
            assert span.start + span.size == side == span.last or span.start + span.size - span.last >= HALO


def test_more_tiles_are_smaller_ones() -> None:
    sizes = [spans(3840, count)[0].size for count in (1, 2, 4, 8, 16, 32)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 3840 and sizes[1] <= 3840 // 2 + 2 * HALO + ALIGN and sizes[-1] < 256


@pytest.mark.parametrize("degradation", ["stream", "clean"])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("model", ["nano", "fast", "balanced"])
@pytest.mark.parametrize(("backend", "bits"), [("openvino", 8), ("openvino", 10), ("onnxruntime", 8)])
def test_tiled_equals_untiled_with_every_net(backend: str, bits: int, model: str, scale: int, degradation: str) -> None:
    pytest.importorskip(backend)
    with closing(open_engine(EngineChoice(scale, model, degradation, backend, bits))) as engine:
        assert_no_seam(engine, noise(269, 403, PixelFormat("yuv", bits)))


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_tiled_equals_untiled_with_every_interpolation(interpolation: str, scale: int, bits: int) -> None:
    pixels = PixelFormat("yuv", bits)
    apart = thirds(pixels) if scale == 3 and (bits > 8 or interpolation == "lanczos") else 0
    assert_no_seam(ReferenceEngine(scale, interpolation), noise(271, 803, pixels), apart=apart)


def thirds(pixels: PixelFormat) -> float:
    """How far a tile's samples may be off at x3, in code values.

    OpenCV computes where a sample lies in 32-bit floats: of thirds, these have other errors at another place. They are
    at most 2**-15 of a sample's width here, and a picture changes by little more than its whole range in one.
    """
    return 1 + pixels.white / 2**14


@pytest.mark.parametrize("siting", ChromaSiting, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "pixels",
    [PixelFormat("yuv", bits, chroma) for bits in (8, 12) for chroma in ((1, 1), (1, 0), (0, 0), (2, 0), (2, 2))]
    + [PixelFormat("gray", 8, (0, 0)), PixelFormat("rgb", 10, (0, 0)), PixelFormat("rgb", 8, (0, 0), alpha=True)]
    + [PixelFormat("yuv", 10, (1, 1), alpha=True)],
    ids=str,
)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_every_format_in_any_size(scale: int, pixels: PixelFormat, siting: ChromaSiting) -> None:
    engine = ReferenceEngine(scale, "bicubic")
    for height, width in ((263, 701), (320, 515), (9, 514), (450, 3)):
        batch = noise(height, width, pixels, siting=siting)
        assert_no_seam(engine, batch, (2, 16), thirds(pixels) if scale == 3 and pixels.bits > 8 else 0)


class Small:
    """A real engine with room for so many pixels at once and so many batches in flight: what a machine is short of."""

    def __init__(self, pixels: int, in_flight: int = 4, scale: int = 2):
        self.engine = ReferenceEngine(scale, "nearest")
        self.name, self.sha256, self.backend, self.scale = "nearest", "", "reference", scale
        self.pixels, self.in_flight = pixels, in_flight
        self.asked: list[tuple[int, int]] = []

    def infer(self, batch: FrameBatch) -> FrameBatch:
        self.asked.append(batch.size)
        if batch.size[0] * batch.size[1] * len(batch) > self.pixels:
            raise OutOfMemoryError("no room")
        return self.engine.infer(batch)

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        """Holds three batches before it gives the first, as backends do that work on several."""
        waiting: list[FrameBatch] = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) > self.in_flight:
                raise OutOfMemoryError("too many at once")
            if len(waiting) == 3:
                yield self.infer(waiting.pop(0))
        while waiting:
            yield self.infer(waiting.pop(0))

    def close(self) -> None:
        self.closed = True


def film(sizes: Iterable[tuple[int, int]], n: int = 1) -> list[FrameBatch]:
    return [noise(h, w, pts=n * i, n=n) for i, (h, w) in enumerate(sizes)]


def assert_all_done(engine: Small, batches: list[FrameBatch], sentences: int) -> list[str]:
    notices: list[str] = []
    results = list(TilingEngine(engine, notices.append).stream(iter(batches)))
    assert len(results) == len(batches)
    for batch, result in zip(batches, results, strict=True):
        assert_equal(result, engine.engine.infer(batch))
    assert len(notices) == sentences
    return notices


def test_enough_memory_costs_nothing() -> None:
    engine = Small(10**9)
    assert_all_done(engine, film([(300, 400)] * 5), sentences=0)
    assert engine.asked == [(300, 400)] * 5


def test_too_many_in_flight_goes_on_one_at_a_time() -> None:
    (notice,) = assert_all_done(Small(10**9, in_flight=2), film([(300, 400)] * 9), sentences=1)
    assert "one frame at a time" in notice


def test_a_batch_too_large_is_done_frame_by_frame() -> None:
    assert_all_done(Small(300 * 400), film([(300, 400)] * 5, n=3), sentences=1)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("at", [0, 1, 4, 8])
def test_frames_too_large_are_done_in_tiles_and_it_stays_so(at: int, n: int) -> None:
    """Some batches are through when memory runs out, others are in flight, more are to come; all in order, once."""
    sizes = [(100, 120)] * at + [(500, 700)] * 5
    engine = Small(500 * 700 // 2)
    *_, last = assert_all_done(engine, film(sizes, n), sentences=3)
    assert "500" in last and "4 tiles" in last
    large = [size for size in engine.asked if size > (100, 120)]
    assert len(set(large[-8:])) == 1, "every tile of every later frame has the size that worked"


def test_infer_shrinks_as_stream_does() -> None:
    small, notices = Small(80_000), []
    engine, batch = TilingEngine(small, notices.append), noise(500, 700)
    assert_equal(engine.infer(batch), small.engine.infer(batch))
    assert_equal(engine.infer(batch), small.engine.infer(batch))
    assert len(notices) == len(set(notices)) > 2


def test_when_the_smallest_tile_is_too_much_it_says_so() -> None:
    notices: list[str] = []
    engine = TilingEngine(Small(1000), notices.append)
    with pytest.raises(EngineError, match=r"reference .* 700x500 .* smaller --scale") as caught:
        list(engine.stream(iter(film([(500, 700)] * 3))))
    assert not isinstance(caught.value, OutOfMemoryError)
    assert len(notices) < 10


def test_other_errors_come_through_unchanged() -> None:
    def broken() -> Iterator[FrameBatch]:
        yield noise(20, 30)
        raise OutOfMemoryError("the decoder's, not the engine's")

    with pytest.raises(OutOfMemoryError, match="decoder"):
        list(TilingEngine(ReferenceEngine(2)).stream(broken()))


def test_a_reader_that_leaves_early_ends_the_engines_stream() -> None:
    ended = []

    class Watched(Small):
        def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
            try:
                yield from super().stream(batches)
            finally:
                ended.append(True)

    stream = TilingEngine(Watched(10**9)).stream(iter(film([(30, 40)] * 9)))
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert ended == [True]


EXHAUSTED = """
import hashlib, resource, sys
from fractions import Fraction
import numpy as np
from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.tiling import TilingEngine
from rtsr.errors import EngineError
from rtsr.frames import FrameBatch

backend, room, tiled = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tiled"
rng = np.random.default_rng(0)
frames = [
    FrameBatch(rng.integers(0, 256, (1, 1, 2160, 3840), np.uint8), rng.integers(0, 256, (1, 2, 1080, 1920), np.uint8),
               (i,), Fraction(1, 24))
    for i in range(int(sys.argv[4]))
]
engine = open_engine(EngineChoice(2, "nano", "stream", backend))
engine.infer(FrameBatch(frames[0].y[..., :64, :64], frames[0].uv[..., :32, :32], (0,), Fraction(1, 24)))
if room:
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (room << 20), resource.RLIM_INFINITY))
if tiled:
    engine = TilingEngine(engine, lambda sentence: print("notice", sentence, flush=True))
try:
    for result in engine.stream(iter(frames)):
        print("frame", result.pts[0], hashlib.sha256(result.y).hexdigest(), hashlib.sha256(result.uv).hexdigest())
        del result
except EngineError as error:
    print(type(error).__name__, error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)  # for the libraries' own ends, which may crash
"""


def exhausted(backend: str, room: int, way: str, frames: int) -> list[str]:
    """What some 4K frames in a process with so many MiB to spare print; 0 is no limit."""
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, backend, str(room), way, str(frames)],
        capture_output=True,
        text=True,
        env=environment(MALLOC_ARENA_MAX="2"),  # each arena reserves 64 MiB of addresses that it does not use
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS and /proc are Linux")
@pytest.mark.parametrize(("backend", "room", "frames"), [("openvino", 150, 3), ("onnxruntime", 400, 1)])
def test_when_memory_really_runs_out(backend: str, room: int, frames: int) -> None:
    """Not enough for a 4K frame, but for its tiles; the pixels are those of an unlimited run."""
    pytest.importorskip(backend)
    failed = exhausted(backend, room, "plain", frames)
    assert failed[0].startswith("OutOfMemoryError")
    lines = exhausted(backend, room, "tiled", frames)
    assert any("tiles of" in line for line in lines if line.startswith("notice"))
    assert [line for line in lines if not line.startswith("notice")] == exhausted(backend, 0, "plain", frames)
