"""A film is begun on one engine and goes on with a better one from the start of a segment, and the journal says so."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import Audio, Video, decoded, planes_of, steady_pts, write_clip
from cuda_stand_in import Driver
from tensorrt_stand_in import TensorRt

import rtsr
from rtsr import preparation
from rtsr.backends import Engine, EngineChoice
from rtsr.backends.reference import ReferenceEngine
from rtsr.backends.switching import SwitchingEngine, open_for_job
from rtsr.backends.tiling import TilingEngine
from rtsr.errors import ConfigError, EngineError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.job import Progress
from rtsr.live.stream import TIME_BASE
from rtsr.live.tiers import ladder, open_live
from rtsr.sinks.encoding import Encoding

RATE, SECONDS = 6, 35
SEGMENT = RATE * 10  # frames
LOSSLESS = Encoding("ffv1")
TEN = 10  # frames of a segment, where no film is needed


def batch(pts: int) -> FrameBatch:
    rng = np.random.default_rng(pts)
    y, uv = rng.integers(0, 256, (1, 1, 8, 12), np.uint8), rng.integers(0, 256, (1, 2, 4, 6), np.uint8)
    return FrameBatch(y, uv, (pts,), Fraction(1, 25))


def kinds(results: list[FrameBatch]) -> list[str]:
    """Which of the two engines of `switching` made each result."""
    both = {kind: ReferenceEngine(2, kind) for kind in ("nearest", "bicubic")}
    found = []
    for result in results:
        same = [k for k, e in both.items() if np.array_equal(e.infer(batch(result.pts[0])).y, result.y)]
        assert len(same) == 1
        found.append(same[0])
    return found


@pytest.fixture
def build() -> threading.Event:
    """Set when the better engine may be ready."""
    return threading.Event()


def switching(
    build: threading.Event, notice: Callable[[str], None] = print, error: Exception | None = None, must: bool = False
) -> SwitchingEngine:
    """From nearest to bicubic, once `build` is set."""

    def get_ready(not_wanted: threading.Event) -> None:
        while not build.wait(0.01) and not not_wanted.is_set():
            pass
        if error is not None:
            raise error

    first, better = ReferenceEngine(2, "nearest"), ReferenceEngine(2, "bicubic")
    return SwitchingEngine(first, better, get_ready, lambda pts: pts // TEN, notice, must)


def frames(number: int, at: int, then: Callable[[], None]) -> Iterator[FrameBatch]:
    for pts in range(number):
        if pts == at:
            then()
        yield batch(pts)


def built(engine: SwitchingEngine, build: threading.Event) -> Callable[[], None]:
    """Let the better engine be ready, and wait until it is."""

    def until_it_is() -> None:
        build.set()
        engine._thread.join(timeout=10)

    return until_it_is


@pytest.mark.parametrize("way", ["stream", "infer", "tiled"])
@pytest.mark.parametrize(("ready_at", "switched_at"), [(0, 0), (1, 10), (14, 20), (20, 20), (29, 30)])
def test_it_switches_where_a_segment_begins(build: threading.Event, way: str, ready_at: int, switched_at: int) -> None:
    notices: list[str] = []
    with closing(switching(build, notices.append)) as engine:
        batches = frames(40, ready_at, built(engine, build))
        if way == "infer":
            results = [engine.infer(batch) for batch in batches]
        else:
            results = list((TilingEngine(engine) if way == "tiled" else engine).stream(batches))
        assert [result.pts[0] for result in results] == list(range(40))
        assert kinds(results) == ["nearest"] * switched_at + ["bicubic"] * (40 - switched_at)
        made_by = [engine.made_by(pts) for pts in range(40)]
    assert made_by == ["reference nearest"] * switched_at + ["reference bicubic"] * (40 - switched_at)
    assert notices == [f"reference bicubic takes over from reference nearest at {switched_at / 25:.3f} s"]


def test_what_is_never_ready_is_given_up_at_the_end(build: threading.Event) -> None:
    with closing(switching(build)) as engine:
        assert set(kinds(list(engine.stream(batch(pts) for pts in range(25))))) == {"nearest"}
        engine.close()
        assert not engine._thread.is_alive()


def test_a_better_engine_that_cannot_be_built_is_told_once(build: threading.Event) -> None:
    notices: list[str] = []
    with closing(switching(build, notices.append, EngineError("no plan"))) as engine:
        results = list(engine.stream(frames(40, 3, built(engine, build))))
    assert set(kinds(results)) == {"nearest"}
    assert notices == ["going on with reference: no plan"]


def test_or_ends_the_job_where_it_was_asked_for_by_name(build: threading.Event) -> None:
    with closing(switching(build, error=EngineError("no plan"), must=True)) as engine:
        results = engine.stream(frames(40, 3, built(engine, build)))
        with pytest.raises(EngineError, match="no plan"):
            list(results)


def test_a_fault_of_the_program_is_not_taken_for_one(build: threading.Event) -> None:
    with closing(switching(build, error=ZeroDivisionError("a bug"))) as engine, pytest.raises(ZeroDivisionError):
        list(engine.stream(frames(40, 3, built(engine, build))))


# Whole jobs


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    video = Video(pts=steady_pts(RATE * SECONDS, RATE), last_duration=15_000, options={"g": "24", "crf": "20"})
    return write_clip(tmp_path_factory.mktemp("film") / "in.mkv", video, audio=[Audio(seconds=Fraction(SECONDS))])


@pytest.fixture(scope="module")
def wholly(film: Path) -> dict[str, list[bytes]]:
    """Every picture of the film, made by one engine."""
    pictures = {}
    for kind in ("nearest", "bicubic"):
        engine = ReferenceEngine(2, kind)
        pictures[kind] = []
        for frame in decoded(film):
            y, u, v = planes_of(frame)
            small = FrameBatch(y[None, None], np.stack([u, v])[None], (0,), Fraction(1))
            large = engine.infer(small)
            pictures[kind].append(b"".join(plane.tobytes() for plane in (large.y, large.uv)))
    return pictures


def pictures(path: Path) -> list[bytes]:
    return [b"".join(plane.tobytes() for plane in planes_of(frame)) for frame in decoded(path)]


@pytest.fixture
def while_it_builds(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Jobs begin with nearest, and bicubic is ready once the event is set."""
    build = threading.Event()

    def open_switching(choice: object, spec: object, slot: Callable[[int], int], *rest: object) -> Engine:
        first, better = ReferenceEngine(2, "nearest"), ReferenceEngine(2, "bicubic")

        def get_ready(not_wanted: threading.Event) -> None:
            while not build.wait(0.01) and not not_wanted.is_set():
                pass

        return SwitchingEngine(first, better, get_ready, slot)

    monkeypatch.setattr(preparation, "open_for_job", open_switching)
    return build


def journal(output: Path) -> list[str]:
    """The makers of the finished segments of a job."""
    lines = (output.with_name(output.name + ".rtsr") / "journal.jsonl").read_text().splitlines()
    return [json.loads(line)["engine"] for line in lines[1:]]


def test_a_film_switches_at_a_segment(
    film: Path, wholly: dict[str, list[bytes]], tmp_path: Path, while_it_builds: threading.Event
) -> None:
    def progress(moment: Progress) -> None:
        if moment.stats.written == SEGMENT + 20:
            while_it_builds.set()

    output = tmp_path / "out.mkv"
    report = rtsr.upscale(film, output, scale=2, backend="reference", encoding=LOSSLESS, progress=progress)
    assert report.made_by == ["reference nearest", "reference bicubic"]
    found = pictures(output)
    switched = next(i for i, picture in enumerate(found) if picture != wholly["nearest"][i])
    assert switched % SEGMENT == 0 and switched >= 2 * SEGMENT
    assert found == wholly["nearest"][:switched] + wholly["bicubic"][switched:]


def test_an_interrupted_film_says_what_made_each_segment_and_goes_on_with_the_better(
    film: Path,
    wholly: dict[str, list[bytes]],
    tmp_path: Path,
    while_it_builds: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stops(moment: Progress) -> None:
        if moment.stats.written == SEGMENT + 20:
            raise KeyboardInterrupt

    output = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        rtsr.upscale(film, output, scale=2, backend="reference", encoding=LOSSLESS, progress=stops)
    assert journal(output) == ["reference nearest"]
    monkeypatch.setattr(preparation, "open_for_job", lambda *arguments: ReferenceEngine(2, "bicubic"))
    report = rtsr.upscale(film, output, scale=2, backend="reference", encoding=LOSSLESS)
    assert report.made_by == ["reference nearest", "reference bicubic"]
    assert pictures(output) == wholly["nearest"][:SEGMENT] + wholly["bicubic"][SEGMENT:]


def test_a_job_of_one_engine_goes_on_with_no_other(
    film: Path, tmp_path: Path, while_it_builds: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(moment: Progress) -> None:
        if moment.stats.written == SEGMENT + 20:
            raise KeyboardInterrupt

    output = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        rtsr.upscale(film, output, scale=2, backend="reference", encoding=LOSSLESS, progress=stops)
    monkeypatch.setattr(preparation, "open_for_job", lambda *arguments: ReferenceEngine(2, "nearest"))
    with pytest.raises(ConfigError, match="another engine"):
        rtsr.upscale(film, output, scale=2, backend="reference", encoding=LOSSLESS)


# TensorRT on its stand-in


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engines: Path) -> TensorRt:
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path / "plans"))
    driver = Driver()
    driver.install(monkeypatch)
    package = TensorRt(driver)
    package.install(monkeypatch)
    return package


def test_tensorrt_takes_over_once_its_plan_is_built(film: Path, package: TensorRt, tmp_path: Path) -> None:
    may_build, notices, shares = threading.Event(), list[str](), list[float]()
    package.step = lambda: may_build.wait(20) or None

    def progress(moment: Progress) -> None:
        if moment.stats.written == 20:
            may_build.set()

    def run(name: str, **options: object) -> list[str]:
        options = {"model": "repeat", "backend": "tensorrt", "encoding": LOSSLESS, "progress": progress, **options}
        report = rtsr.upscale(film, tmp_path / name, scale=2, notice=notices.append, **options)  # type: ignore[arg-type]
        assert report.backend == "tensorrt"
        return report.made_by

    assert run("first.mkv") == ["openvino repeat-x2", "tensorrt repeat-x2-float-planes"]
    assert any("works while tensorrt builds its plan" in sentence for sentence in notices)
    assert run("again.mkv") == ["tensorrt repeat-x2-float-planes"]
    first, again = (pictures(tmp_path / name) for name in ("first.mkv", "again.mkv"))
    luma = 4 * 64 * 48  # bytes: both engines repeat its pixels; chroma differs by rounding
    assert [picture[:luma] for picture in first] == [picture[:luma] for picture in again]
    for path in (tmp_path / "plans").iterdir():
        path.unlink()
    assert run("waited.mkv", wait_for_engine=True, building=shares.append) == ["tensorrt repeat-x2-float-planes"]
    assert shares[-1] == 1


def test_auto_goes_on_without_a_plan_that_cannot_be_built(package: TensorRt, film: Path, tmp_path: Path) -> None:
    package.fails = "Could not find any implementation for node conv0"
    for wait in (False, True):
        notices: list[str] = []
        report = rtsr.upscale(
            film,
            tmp_path / f"{wait}.mkv",
            scale=2,
            model="repeat",
            encoding=LOSSLESS,
            wait_for_engine=wait,
            notice=notices.append,
        )
        assert report.made_by == ["openvino repeat-x2"]
        assert any("Could not find any implementation" in sentence for sentence in notices)


def test_tensorrt_rtx_is_waited_for(package: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plans take a second at most."""
    monkeypatch.delitem(sys.modules, "tensorrt")
    package.name = "tensorrt_rtx"
    package.install(monkeypatch)
    spec = VideoSpec(64, 48, Fraction(1, 25))
    choice = EngineChoice(2, "repeat", "stream", "tensorrt")
    with closing(open_for_job(choice, spec, lambda pts: 0, False, print)) as engine:
        assert not isinstance(engine, SwitchingEngine)
    assert package.builds == 1


def test_live_does_not_wait_for_a_plan(package: TensorRt) -> None:
    """The CPU's engine works until the plan is there, then TensorRT from the next frame on; each size has a plan of its
    own, and a tier is compared by what the engine costs that it will run on."""
    may_build, said = threading.Event(), list[str]()
    package.step = lambda: may_build.wait(20) or None
    (tier,) = ladder(EngineChoice(2, "repeat", "stream", "tensorrt"), said.append)
    with closing(tier):
        for height in (32, 48):
            may_build.clear()
            tier.prepare((height, 64))
            assert tier.is_ready((height, 64)) and tier.backend == "openvino"
            small = FrameBatch(
                np.full((1, 1, height, 64), 7, np.uint8), np.full((1, 2, height // 2, 32), 9, np.uint8), (5,), TIME_BASE
            )
            assert (tier.infer(small).y == 7).all() and tier.backend == "openvino"
            tier.first_cost_ms = 1e9
            may_build.set()
            tier._engine._thread.join(timeout=20)  # type: ignore[union-attr]
            assert tier.first_cost_ms < 1e9
            assert (tier.infer(replace(small, pts=(6,))).y == 7).all() and tier.backend == "tensorrt"
    assert package.builds == 2
    assert [sentence.split(" ")[2] for sentence in said] == ["works", "takes"] * 2


def test_plans_are_built_one_at_a_time(package: TensorRt) -> None:
    may_build = threading.Event()
    package.step = lambda: may_build.wait(20) or None
    choice = EngineChoice(2, "repeat", "stream", "tensorrt")
    tiers = [open_live(choice, (height, 64)) for height in (32, 40, 48)]
    tiers.pop().close()  # it has not had its turn
    may_build.set()
    for engine in tiers:
        engine._thread.join(timeout=20)  # type: ignore[attr-defined]
        engine.close()
    assert package.builds == 2
