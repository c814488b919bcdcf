"""A stand-in for the packages tensorrt and tensorrt_rtx on the stand-in GPU of cuda_stand_in.py.

Its plan is the ONNX graph that it was given; executing one runs that on the CPU, with the addresses that were set, in
its stream's order. What the real packages demand is demanded here: see IExecutionContext.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from cuda_stand_in import Driver, Misuse, Stream

SCRATCH = 512  # bytes that each context claims to compute in


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    Severity = Severity

    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    pass


class TensorRt:
    """One of the two packages. builds: how many plans were built. fails: what the next build dies of. step: called at
    each step of a build, for tests that hold it up."""

    def __init__(self, driver: Driver, name: str = "tensorrt", version: str = "11.4.0"):
        self.driver, self.name, self.version = driver, name, version
        self.builds = 0
        self.fails = ""
        self.step: Callable[[], None] = lambda: None

    @property
    def is_rtx(self) -> bool:
        return self.name == "tensorrt_rtx"

    def install(self, patch: pytest.MonkeyPatch) -> None:
        module = ModuleType(self.name)
        module.__dict__.update(
            __version__=self.version,
            __spec__=ModuleSpec(self.name, None),
            ILogger=ILogger,
            IProgressMonitor=IProgressMonitor,
            NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
            ExecutionContextAllocationStrategy=SimpleNamespace(STATIC=0, ON_PROFILE_CHANGE=1, USER_MANAGED=2),
            ComputeCapability=SimpleNamespace(SM75=1, SM80=2, SM86=3, SM89=4, SM120=5, SM121=6),
            Builder=lambda log: Builder(self, log),
            OnnxParser=OnnxParser,
            Runtime=lambda log: Runtime(self, log),
        )
        patch.setitem(sys.modules, self.name, module)

    @property
    def made_for(self) -> dict[str, str]:
        """What a plan is good for: this version, and for TensorRT this GPU."""
        return {"version": self.version, "gpu": "any" if self.is_rtx else self.driver.devices[0]}


class Builder:
    def __init__(self, package: TensorRt, log: ILogger):
        self._package, self._log = package, log

    def create_network(self, flags: int = 0) -> SimpleNamespace:
        assert flags == 1 << 1, "strongly typed"
        return SimpleNamespace(graph=b"")

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self._package)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: SimpleNamespace, config: BuilderConfig) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 4)
        for step in range(4):
            self._package.step()
            monitor.phase_start("Inner", "Building engine", 2)
            for inner in range(2):
                if not monitor.step_complete("Inner", inner):
                    return None
            monitor.phase_finish("Inner")
            if not monitor.step_complete("Building engine", step):
                return None
        monitor.phase_finish("Building engine")
        if self._package.fails:
            self._log.log(Severity.ERROR, self._package.fails)
            return None
        self._package.builds += 1
        config.measured = b"timings"
        about = {**self._package.made_for, "profile": config.profile.shapes}
        return json.dumps(about).encode() + b"\n" + network.graph


class BuilderConfig:
    def __init__(self, package: TensorRt):
        self._package = package
        self.profile = Profile()
        self.progress_monitor: Any = None
        self.measured = b""

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> bytes:
        if self._package.is_rtx:
            raise Misuse("a timing cache makes TensorRT-RTX look for a GPU")
        return serialized_timing_cache

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.measured = cache
        return cache in (b"", b"timings")

    def get_timing_cache(self) -> SimpleNamespace:
        return SimpleNamespace(serialize=lambda: self.measured)


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]) -> None:
        self.shapes[input] = [min, opt, max]


class OnnxParser:
    """Takes what ONNX Runtime takes. The real parser is asked in tests/rtx."""

    def __init__(self, network: SimpleNamespace, log: ILogger):
        self._network = network
        self._error = ""

    def parse(self, model: bytes) -> bool:
        try:
            _session(model)
        except Exception as error:
            self._error = str(error)
            return False
        self._network.graph = model
        return True

    def get_error(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: self._error)


class Runtime:
    def __init__(self, package: TensorRt, log: ILogger):
        self._package, self._log = package, log

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._package.driver.require_current("deserialize_cuda_engine")
        try:
            about, graph = serialized_engine.split(b"\n", 1)
            made_for = json.loads(about)
        except ValueError:
            made_for, graph = {}, b""
        if {key: made_for.get(key) for key in self._package.made_for} != self._package.made_for:
            self._log.log(Severity.ERROR, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed")
            return None
        return ICudaEngine(self._package, self._log, graph, made_for["profile"])


class ICudaEngine:
    def __init__(self, package: TensorRt, log: ILogger, graph: bytes, profile: dict[str, list[list[int]]]):
        self.package, self.log, self.profile = package, log, profile
        self.session = _session(graph)
        self.device_memory_size_v2 = SCRATCH

    def create_execution_context(self, strategy: Any = 0) -> IExecutionContext:
        config = strategy if isinstance(strategy, RuntimeConfig) else None
        if self.package.is_rtx and config is None:
            raise Misuse("kernels that are compiled without a runtime cache are compiled at each start")
        assert (config.strategy if config else strategy) == 2, "user managed"
        return IExecutionContext(self)

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()


class RuntimeConfig:
    def __init__(self) -> None:
        self.strategy = 0

    def set_execution_context_allocation_strategy(self, strategy: int) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> SimpleNamespace:
        return SimpleNamespace(deserialize=lambda blob: blob == b"kernels", serialize=lambda: b"kernels")

    def set_runtime_cache(self, cache: SimpleNamespace) -> bool:
        return True


class IExecutionContext:
    """Demands the documented order: memory to work in, shapes, then addresses, then execution; no graph captured in
    the first run after a change of shape; one thing at a time in shared scratch memory."""

    def __init__(self, engine: ICudaEngine):
        self._engine = engine
        self._scratch = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._runs = 0

    def set_device_memory(self, memory: int, size: int) -> None:
        if memory % 256 or size < SCRATCH:
            raise Misuse(f"{size} bytes at {memory:#x}: too few, or not aligned")
        self._scratch = memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.profile[name]
        if len(shape) != len(least) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            self._engine.log.log(Severity.ERROR, f"{name}: {shape} is outside of the profile")
            return False
        self._shapes[name], self._addresses, self._runs = tuple(shape), {}, 0
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.profile if name not in self._shapes]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self.infer_shapes():
            raise Misuse(f"the address of {name} was set before the shapes of all inputs")
        if memory % 256:
            raise Misuse(f"{name} at {memory:#x} is not aligned")
        self._addresses[name] = memory
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return self._runs > 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        driver, session = self._engine.package.driver, self._engine.session
        stream: Stream = driver.stream_of(stream_handle)
        if not self._scratch:
            raise Misuse("executed without memory to work in")
        if stream.capture is not None and not self._runs:
            raise Misuse("a graph was captured in the first run after a change of shape")
        shapes = {tensor.name: self._shapes[tensor.name] for tensor in session.get_inputs()}
        pictures = {name: shape[0] for name, shape in shapes.items()}
        for tensor in session.get_outputs():
            shapes[tensor.name] = (pictures[tensor.name.removesuffix("_out").replace("check", "y")], *tensor.shape[1:])
        if missing := shapes.keys() - self._addresses.keys():
            raise Misuse(f"executed without the address of {missing}")
        dtypes = {name: np.dtype(np.float32 if name == "check" else np.uint8) for name in shapes}
        spans = {
            name: driver.span(self._addresses[name], math.prod(shape) * dtypes[name].itemsize, name not in pictures)
            for name, shape in shapes.items()
        }
        arrays = {
            name: span.memory.at(span.start, span.stop).view(dtypes[name]).reshape(shapes[name])
            for name, span in spans.items()
        }

        def run() -> None:
            results = session.run(None, {name: arrays[name] for name in pictures})
            for tensor, result in zip(session.get_outputs(), results, strict=True):
                arrays[tensor.name][:] = np.asarray(result)

        stream.enqueue("execute", run, *spans.values(), driver.span(self._scratch, SCRATCH, True))
        self._runs += 1
        return True


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
