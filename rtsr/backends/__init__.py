"""Backends run engines. The contract every one of them keeps, and the choice between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from rtsr.errors import ConfigError, EngineError, OutOfMemoryError, RtsrError
from rtsr.frames import ColorTags, FrameBatch
from rtsr.manifest import Manifest, find_engine, find_rgb_engine

# Seen when memory was short: std::bad_alloc, OpenVINO's "Check 'ptr' failed at ... cpu_memory.cpp" and, for a thread
# that gets no stack, "Resource temporarily unavailable"; OpenCV's and ONNX Runtime's "failed to allocate". CUDA says
# CUDA_ERROR_OUT_OF_MEMORY, TensorRT OutOfMemory.
_OUT_OF_MEMORY = re.compile(
    r"bad_alloc|bad allocation|(insufficient|out[ _]?of|not enough)[ _]?memory|cpu_memory\.cpp|temporarily unavailable"
    "|(failed|unable) to allocate",
    re.IGNORECASE,
)

ON_NVIDIA = ("tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt")
BACKENDS = ("auto", "openvino", "onnxruntime", *ON_NVIDIA, "reference")
PRECISIONS = ("fp16", "fp32", "int8")
_DETAIL = "-detail"


class Engine(Protocol):
    """An upscaler of planes.

    name: engine name for people, e.g. `fast-x4-stream-int8`. sha256: of the engine file, empty where there is none.
    backend: which backend runs it, e.g. `openvino`.
    """

    name: str
    sha256: str
    backend: str
    scale: int

    def infer(self, batch: FrameBatch) -> FrameBatch:
        """y (N, 1, H, W), uv (N, 2, H/2, W/2) -> the same planes, scale times larger; same pts and time_base.

        The caller owns the result: later calls don't overwrite it. One thread at a time. Raises EngineError.
        """
        ...

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        """infer() over many batches, in order; how many are in flight is the backend's business."""
        ...

    def close(self) -> None:
        """Free what the backend holds. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Which generator to run, where, and on samples of how many bits. precision: of TensorRT's plan. detail: how far to
    the generator's detail end, 0..1; unsaid it is 0, or 1 for a model called `NAME-detail`."""

    scale: int = 4
    model: str = "balanced"
    degradation: str = "stream"
    backend: str = "auto"
    bits: int = 8
    color: ColorTags = field(default_factory=ColorTags)  # what an RGB generator converts by; the others never ask

    precision: str = "fp16"
    detail: float | None = None

    def __post_init__(self) -> None:
        if self.detail is not None and not 0 <= self.detail <= 1:
            raise ConfigError(f"--detail {self.detail:g} must be from 0, the faithful end, to 1, the detail end")
        if self.model.endswith(_DETAIL) and self.detail not in (None, 1):
            raise ConfigError(f"--model {self.model} means --detail 1, not {self.detail:g}; give one of them")
        if self.backend == "reference" and self.share:
            raise ConfigError(f"--detail {self.share:g}: backend reference is interpolation, which has no detail end")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"unknown precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        if self.scale not in (2, 3, 4):
            raise ConfigError(f"scale {self.scale} is not supported; use 2, 3 or 4")
        if self.backend not in BACKENDS:
            raise ConfigError(f"unknown backend {self.backend!r}; known: {', '.join(BACKENDS)}")
        if self.degradation not in ("stream", "clean"):
            raise ConfigError(f"unknown degradation {self.degradation!r}; known: stream, clean")

    @property
    def generator(self) -> str:
        """The model's name without its end."""
        return self.model.removesuffix(_DETAIL)

    @property
    def share(self) -> float:
        """How far to the detail end, 0..1."""
        return float(self.model.endswith(_DETAIL)) if self.detail is None else self.detail


def open_engine(choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> Engine:
    """Open what was asked for, or stop: nothing falls back in silence.

    `auto` takes TensorRT where that is installed and a GPU answers, then ONNX Runtime's CUDA provider likewise, else
    OpenVINO, else ONNX Runtime on the CPU; notice gets why one that is installed does not open. On CPUs 8-bit video
    runs through int8 engines, deeper video through float ones under OpenVINO. What it took is in `Engine.backend`.
    Raises ConfigError (no such engine, package missing) or EngineError (it does not open).
    """
    if choice.backend == "reference":
        from rtsr.backends.reference import ReferenceEngine

        return ReferenceEngine(choice.scale)
    if rgb := find_rgb_engine(choice.generator, choice.scale, choice.degradation, choice.share):
        return _open_rgb(rgb, choice)
    if choice.backend == "tensorrt":
        return _open_tensorrt(choice, notice)
    if choice.backend.startswith("onnxruntime-"):
        return _open_onnxruntime_on(choice.backend.removeprefix("onnxruntime-"), choice, notice)
    if choice.backend == "auto" and (find_spec("tensorrt") or find_spec("tensorrt_rtx")):
        try:
            return _open_tensorrt(choice, notice)
        except RtsrError as error:
            notice(f"backend tensorrt does not open, going on with the next: {error}")
    return open_without_tensorrt(choice, notice)


def open_without_tensorrt(choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> Engine:
    """What open_engine() takes for `auto` where TensorRT does not work."""
    if choice.backend == "auto" and _onnxruntime_has_cuda():
        try:
            return _open_onnxruntime_on("cuda", choice, notice)
        except RtsrError as error:
            notice(f"backend onnxruntime-cuda does not open, going on with the next: {error}")
    return open_cpu_engine(choice, notice)


def open_cpu_engine(choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> Engine:
    """What open_engine() takes where there is no GPU."""
    engine = _find(choice, "int8" if choice.bits == 8 else "float", "phases", notice)
    match choice.backend:
        case "openvino":
            return _open_openvino(engine, choice.bits)
        case "onnxruntime":
            return _open_onnxruntime(engine, choice.bits)
        case _:
            try:
                return _open_openvino(engine, choice.bits)
            except ConfigError:  # not installed; an engine that fails to open is an error, not a reason to switch
                return _open_onnxruntime(engine, choice.bits)


def _open_tensorrt(choice: EngineChoice, notice: Callable[[str], None]) -> Engine:
    from rtsr.backends.cuda.libraries import open_gpu
    from rtsr.backends.trt_package import load_package

    gpu = open_gpu()
    package = load_package(gpu)
    try:
        from rtsr.backends.trt import TensorRtEngine
    except ImportError as error:
        raise ConfigError(f"backend tensorrt lacks a package ({error}): pip install onnx") from error
    return TensorRtEngine(find_ladder(choice, notice), package, gpu, choice.precision, notice)


def _open_onnxruntime_on(device: str, choice: EngineChoice, notice: Callable[[str], None]) -> Engine:
    """On a GPU, through the provider `cuda` or `tensorrt`."""
    try:
        from rtsr.backends.ort_session import OLDEST, require_libraries, require_provider
    except ImportError as error:
        raise ConfigError(f"backend onnxruntime is not installed ({error}): pip install 'rtsr[cuda]'") from error
    from rtsr.backends.cuda.libraries import open_gpu

    require_provider(device)
    gpu = open_gpu()
    gpu.require(OLDEST, "onnxruntime-gpu", "openvino")
    require_libraries(device)
    try:
        from rtsr.backends.ort_gpu import OrtGpuEngine
    except ImportError as error:
        raise ConfigError(f"backend {choice.backend} lacks a package ({error}): pip install 'rtsr[cuda]'") from error
    return OrtGpuEngine(find_ladder(choice, notice), device, gpu, choice.precision, notice)


def _onnxruntime_has_cuda() -> bool:
    """Whether the onnxruntime that is installed was built for CUDA; it is not imported for that."""
    spec = find_spec("onnxruntime")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return any(any(Path(folder, "capi").glob("*onnxruntime_providers_cuda.*")) for folder in folders)


def backend_on(backend: str, device: str | None) -> str:
    """The backend that `--backend` and `--device` name together. Raises ConfigError for what does not go together."""
    if device is None or (device == "cpu" and backend not in ON_NVIDIA):
        return backend
    if (together := f"{backend}-{device}") not in BACKENDS:
        raise ConfigError(f"--device {device} does not go with --backend {backend}: it is for --backend onnxruntime")
    return together


def find_ladder(choice: EngineChoice, notice: Callable[[str], None] = lambda sentence: None) -> Manifest:
    """The engine that a plan is made of. Raises ConfigError if there is none."""
    how = ("int8", "phases") if choice.precision == "int8" else ("float", "planes")
    return _find(choice, *how, notice)


def _find(choice: EngineChoice, precision: str, output: str, notice: Callable[[str], None]) -> Manifest:
    return find_engine(choice.generator, choice.scale, choice.degradation, precision, output, choice.share, notice)


def _open_openvino(engine: Manifest, bits: int) -> Engine:
    try:
        from rtsr.backends.openvino import OpenVinoEngine  # openvino loads only when asked for
    except ImportError as error:
        raise ConfigError(f"backend openvino is not installed ({error}): pip install openvino") from error
    return OpenVinoEngine(engine, bits)


def _open_rgb(engine: Manifest, choice: EngineChoice) -> Engine:
    if choice.backend not in ("auto", "openvino"):
        raise ConfigError(f"{engine.name} works in RGB, which runs under openvino only: pass --backend openvino")
    try:
        from rtsr.backends.rgb import RgbEngine
    except ImportError as error:
        raise ConfigError(f"backend openvino is not installed ({error}): pip install openvino") from error
    return RgbEngine(engine, choice.bits, choice.color)


def _open_onnxruntime(engine: Manifest, bits: int) -> Engine:
    if bits != 8:
        raise ConfigError(f"backend onnxruntime takes 8-bit video; this has {bits} bits: pass --backend openvino")
    try:
        from rtsr.backends.ort import OrtEngine
    except ImportError as error:
        raise ConfigError(f"backend onnxruntime is not installed ({error}): pip install 'rtsr[onnx]'") from error
    return OrtEngine(engine)


def inference_error(engine: Engine, batch: FrameBatch, error: object) -> EngineError:
    """One sentence for whatever a runtime threw while it worked on a batch; OutOfMemoryError if that was the reason."""
    height, width = batch.size
    where = f"on {width}x{height} at {batch.seconds:.3f} s"
    kind = OutOfMemoryError if isinstance(error, MemoryError) or is_out_of_memory(str(error)) else EngineError
    return kind(f"{engine.backend} failed in {engine.name} {where}: {error}")


def is_out_of_memory(message: str) -> bool:
    """Whether a runtime's own words mean that memory ran out."""
    return _OUT_OF_MEMORY.search(message) is not None
