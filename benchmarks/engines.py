"""The application's own engines and pipeline, measured: on the device alone, with transfers, and from film to film."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import numpy as np

from benchmarks.rows import BATCHES, ON_GPU, Job
from rtsr import pipeline
from rtsr.backends import ON_NVIDIA, Engine, EngineChoice, open_engine
from rtsr.backends.tiling import TilingEngine
from rtsr.encode_on_gpu import leaves_on_gpu
from rtsr.frames import FrameBatch, batched
from rtsr.manifest import find_engine, read_engine
from rtsr.sinks.encoding import Encoding
from rtsr.sources.synthetic import SyntheticSource

ALIVE = 8  # results that a reader holds, as in the pipeline
ENCODINGS = {"x264 ultrafast": ("libx264", "ultrafast"), "nvenc": ("h264_nvenc", "p1"), ON_GPU: ("h264_nvenc", "p1")}


def choice_of(job: Job, backend: str, precision: str = "fp16") -> EngineChoice:
    return EngineChoice(job.scale, job.tier, job.degradation, backend, precision=precision)


def opened(job: Job, backend: str, graphs: bool | None = None, precision: str = "fp16") -> Engine:
    """An engine, with its CUDA graphs on or off. What it has to say stops the measuring: figures are of one thing."""
    engine: Any = open_engine(choice_of(job, backend, precision), _fail)
    if graphs is False:
        engine._graphs = False
    return engine


def _fail(sentence: str) -> None:
    raise RuntimeError(sentence)


def batches_of(job: Job, n: int, count: int) -> list[FrameBatch]:
    frames = SyntheticSource(job.width, job.height, n * count).frames()
    return list(batched(frames, n))


def measure_engine(job: Job, backend: str, n: int, graphs: bool | None, quick: bool) -> dict[str, Any]:
    """stream_ms_per_frame: frames in ordinary memory to frames in ordinary memory, several in flight. On a GPU also
    compute_ms_per_frame: the graph alone, on tensors of the device; transfer_ms_per_frame: up and down alone."""
    held = batches_of(job, n, 4)
    with closing(opened(job, backend, graphs)) as engine:
        for batch in engine.stream(held * 2):  # warm up: kernels chosen, graphs captured
            del batch
        begun = time.perf_counter()
        _drain(engine, held)
        count = max(2, min(400, round((0.02 if quick else 0.7) * len(held) / (time.perf_counter() - begun))))
        rounds = []
        for _ in range(3):
            begun = time.perf_counter()
            _drain(engine, [held[i % len(held)] for i in range(count)])
            rounds.append(1e3 * (time.perf_counter() - begun) / (count * n))
        figures: dict[str, Any] = {"stream_ms_per_frame": median(rounds), "engine": engine.name}
        if backend in ON_NVIDIA:
            figures |= on_device(engine, held[0], quick)
        figures |= work_of(job)
    return figures


def _drain(engine: Engine, batches: list[FrameBatch]) -> None:
    alive: deque[FrameBatch] = deque(maxlen=ALIVE)
    alive.extend(engine.stream(batches))


def on_device(engine: Any, batch: FrameBatch, quick: bool) -> dict[str, float]:
    """Inside the session of a GPU engine that has just run such batches. The engine is closed afterwards."""
    session, n = engine._session, len(batch)
    ring = session.batches.ring
    slot = ring.acquire()

    def compute() -> None:
        session.compute(slot, ring.computing, n)

    for _ in range(4):
        compute()
    ring.computing.sync()
    calls, rounds = 10 if quick else 100, []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(calls):
            compute()
        ring.computing.sync()
        rounds.append(1e3 * (time.perf_counter() - begun) / (calls * n))
    moves = []
    for _ in range(calls):
        begun = time.perf_counter()
        ring.submit(slot, lambda slot, stream: None)
        ring.collect()
        moves.append(1e3 * (time.perf_counter() - begun) / n)
        slot = ring.acquire()
    return {"compute_ms_per_frame": median(rounds), "transfer_ms_per_frame": median(moves)}


def work_of(job: Job) -> dict[str, float]:
    """Of a frame. gflop: of the convolutions. gb: what they read and write in FP16 if each reads its input and writes
    its output once, and the bytes of y in and out; chroma and borders are left out."""
    manifest = find_engine(job.tier, job.scale, job.degradation, "float", "planes")
    pixels = job.width * job.height
    work = {"gflop": 2 * manifest.macs_per_lr_pixel * pixels / 1e9}
    try:
        from rtsr.backends.gpu_graph import read_ladder
    except ImportError:
        return work
    channels = sum(sum(layer.weight.shape[:2]) for layer in read_ladder(read_engine(manifest)))
    return work | {"gb": pixels * (2 * channels + 1 + job.scale**2) / 1e9}


def measure_sameness(job: Job, backend: str) -> dict[str, Any]:
    """same_for_batches, same_without_graphs (GPUs only): whether every byte of eight pictures is the same."""
    eight, _ = eight_pictures(job)
    found: dict[str, Any] = {}
    with closing(opened(job, backend)) as engine:
        results = {n: list(engine.stream(batched(eight.frames(), n))) for n in sorted(BATCHES, reverse=True)}
        flat = {n: np.concatenate([r.y for r in parts]) for n, parts in results.items()}
        found["same_for_batches"] = all(np.array_equal(flat[1], other) for other in flat.values())
    if backend in ON_NVIDIA:
        with closing(opened(job, backend, graphs=False)) as engine:
            found["same_without_graphs"] = np.array_equal(engine.infer(eight).y, flat[8])
    return found


def measure_precision(job: Job, backend: str) -> dict[str, Any]:
    """psnr_y_change_db: of FP16 against FP32, on a picture that was shrunk and is enlarged again."""
    eight, truth = eight_pictures(job)
    one = next(batched(eight.frames(), 1))
    found = {}
    for precision in ("fp16", "fp32"):
        with closing(opened(job, backend, precision=precision)) as engine:
            found[precision] = psnr(engine.infer(one).y[0, 0], truth)
    return {"psnr_y_change_db": found["fp16"] - found["fp32"], "psnr_y_db": found["fp32"]}


def eight_pictures(job: Job) -> tuple[FrameBatch, np.ndarray]:
    """Eight small pictures, and the large luma that the first was made of."""
    truth = next(SyntheticSource(job.width * job.scale, job.height * job.scale, 1).frames())
    blurred = cv2.GaussianBlur(truth.y[0], (0, 0), 0.8)
    small = cv2.resize(blurred, (job.width, job.height), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(0)
    uv = rng.integers(0, 256, (8, 2, job.height // 2, job.width // 2)).astype(np.uint8)
    y = np.stack([np.roll(small, 5 * i, axis=1) for i in range(8)])[:, None]
    return FrameBatch(y, uv, tuple(range(8)), Fraction(1, 25)), blurred


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9)))


def measure_pipeline(job: Job, backend: str, sink_name: str, folder: Path, quick: bool) -> dict[str, Any]:
    """From a film to a sink, with the application's own pipeline, source and sinks. Decoded in software but for ON_GPU;
    NVENC takes the pictures where they lie in both of its rows, or the row says why not."""
    from rtsr.sinks.null import NullSink
    from rtsr.sources.file import FileSource

    clip, frames = film(job, folder, quick)

    def once() -> dict[str, Any]:
        with closing(FileSource(clip)) as source:
            if sink_name == ON_GPU and (why_not := source.decode_on_gpu(_gpu(engine))):
                raise LookupError(f"the video is not decoded on the GPU: {why_not}")
            sink: Any = NullSink() if sink_name == "null" else _file_sink(job, source.spec, sink_name, folder)
            begun = time.perf_counter()
            with closing(sink), gpu_use(backend in ON_NVIDIA) as use:
                stats = pipeline.run(source, engine, sink)
                sink.finish()
            wall = time.perf_counter() - begun
        assert stats.written == frames
        stages = {f"{clock.name}_ms_per_frame": clock.ms_per_item for clock in stats.stages}
        return {"fps": frames / wall, **stages, **use, "frames": frames, "slowest": stats.slowest.name}

    with closing(TilingEngine(opened(job, backend), _fail)) as engine:
        if "nvenc" in sink_name and engine.gpu is not None:
            spec, size = SyntheticSource(job.width, job.height, 1).spec, (job.width * job.scale, job.height * job.scale)
            encoder = _encoding(sink_name).resolve(folder / "out.mkv", spec)
            if why_not := leaves_on_gpu(engine, encoder, spec, size):
                raise LookupError(f"{encoder.name} does not read pictures on the GPU: {why_not}")
        once()  # warms up
        return once()


def _gpu(engine: TilingEngine) -> int:
    if engine.gpu is None:
        raise LookupError(f"{engine.backend} takes no decoded pictures on the GPU")
    return engine.gpu


def measure_encoder(job: Job, sink_name: str, folder: Path, quick: bool) -> dict[str, Any]:
    """An encoder fed with large pictures from memory."""
    count = 12 if quick else 120
    large = list(batched(SyntheticSource(job.width * job.scale, job.height * job.scale, 12).frames(), 1))
    spec = SyntheticSource(job.width, job.height, 1).spec
    with closing(_file_sink(job, spec, sink_name, folder)) as sink:
        begun = time.perf_counter()
        for i in range(count):
            sink.write(replace(large[i % 12], pts=(i,)))
        sink.finish()
        return {"fps": count / (time.perf_counter() - begun), "frames": count}


def _file_sink(job: Job, spec: Any, name: str, folder: Path) -> Any:
    from rtsr.sinks.file import FileSink

    return FileSink(folder / "out.mkv", spec, job.scale, _encoding(name))


def _encoding(name: str) -> Encoding:
    codec, preset = ENCODINGS[name]
    return Encoding(codec, preset=preset)


def film(job: Job, folder: Path, quick: bool) -> tuple[Path, int]:
    """A made clip of the job's size, and its frames; kept for the next row."""
    from rtsr.bench_stages import make_clip

    frames = 24 if quick else 240
    path = folder / f"{job.width}x{job.height}.mp4"
    if not path.exists():
        part = path.with_suffix(".part.mp4")
        make_clip(part, job.width, job.height, frames)
        part.replace(path)
    return path, frames


@contextmanager
def gpu_use(wanted: bool) -> Iterator[dict[str, float]]:
    """gpu_busy_share while the body runs, as NVML tells it: in how much of the time a kernel ran. Filled at the end;
    empty where the package nvidia-ml-py is missing."""
    found: dict[str, float] = {}
    nvml = import_module("pynvml") if wanted and find_spec("pynvml") else None
    if nvml is None:
        yield found
        return
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    samples: list[int] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.05):
            samples.append(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    thread = threading.Thread(target=sample, name="benchmark-nvml", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        if samples:
            found["gpu_busy_share"] = mean(samples) / 100
