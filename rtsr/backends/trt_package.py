"""TensorRT and TensorRT-RTX: which of the two packages is here, and all that differs between them.

Both have one object model. TensorRT tunes a plan for the GPU at hand (minutes) and keeps the timings; TensorRT-RTX
makes a plan for any GPU within a second, compiles its kernels where it runs first, and keeps those.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from rtsr.backends.cuda.libraries import Gpu
from rtsr.errors import ConfigError, EngineError

_OLDEST = (7, 5)  # compute capability: Turing


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package. name: as pip knows it. trt: its module; neither package has type stubs."""

    name: str
    trt: Any

    @property
    def version(self) -> str:
        return self.trt.__version__

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt-rtx"

    def check(self, gpu: Gpu) -> None:
        """Raise EngineError for a GPU that it does not run on."""
        major, minor = gpu.capability
        gpu.require(_OLDEST, self.name, "openvino")
        if self.is_rtx and not hasattr(self.trt.ComputeCapability, f"SM{major}{minor}"):
            raise EngineError(
                f"tensorrt-rtx does not run on {gpu.name} (compute capability {major}.{minor}), tensorrt does: "
                "pip install 'rtsr[tensorrt]'"
            )

    def built_on(self, gpu: Gpu | None) -> tuple[str, str]:
        """GPU name and driver that a plan is for. Raises EngineError where one cannot be built without a GPU."""
        if self.is_rtx:
            return "any", "any"
        if gpu is None:
            raise EngineError("tensorrt builds plans only where the GPU is; tensorrt-rtx builds them anywhere")
        return gpu.name, f"{gpu.driver[0]}.{gpu.driver[1]}"

    def load_timings(self, config: Any, timings: bytes) -> None:
        """Let the builder go on from what earlier builds measured; what it does not take is measured anew."""
        if self.is_rtx:  # asking for one there queries the GPU
            return
        cache = config.create_timing_cache(timings)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def timings(self, config: Any) -> bytes:
        """What the builder has measured; empty where nothing is."""
        cache = None if self.is_rtx else config.get_timing_cache()
        return bytes(cache.serialize()) if cache is not None else b""

    def context(self, engine: Any, kernels: bytes) -> tuple[Any, Any]:
        """An execution context, and the cache of its kernels (None for TensorRT, whose plan holds them).

        The context's scratch memory is the caller's to give. kernels: of an earlier run, empty if there is none.
        """
        by_caller = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.is_rtx:
            return engine.create_execution_context(by_caller), None
        config = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(by_caller)
        cache = config.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)  # False for a stale one: compiled anew
        config.set_runtime_cache(cache)
        return engine.create_execution_context(config), cache

    def can_capture(self, context: Any, stream: Any) -> bool:
        """Whether work on a stream may become a CUDA graph now; TensorRT-RTX may still be compiling kernels."""
        return not self.is_rtx or context.is_stream_capturable(int(stream.handle))


def load_package(gpu: Gpu | None = None) -> Package:
    """The package for a GPU: TensorRT where it is installed, else TensorRT-RTX.

    Raises ConfigError if neither is installed, EngineError if none of the installed ones runs on the GPU.
    """
    found, reasons = [], []
    for name, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
        try:
            found.append(Package(name, import_module(module)))
        except (ImportError, OSError, RuntimeError) as error:  # a package without its libraries raises the last two
            reasons.append(f"{name}: {error}")
    if not found:
        raise ConfigError(
            f"TensorRT is not installed ({'; '.join(reasons)}): pip install 'rtsr[rtx]' for GeForce and RTX cards, "
            "'rtsr[tensorrt]' for all others"
        )
    if gpu is None:
        return found[-1]  # TensorRT-RTX if there is a choice: the one that builds without a GPU
    for package in found[:-1]:
        try:
            package.check(gpu)
            return package
        except EngineError:
            continue
    found[-1].check(gpu)
    return found[-1]
