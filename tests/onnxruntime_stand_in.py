"""ONNX Runtime with a CUDA provider on the stand-in GPU of cuda_stand_in.py: what it is given is computed by the real
CPU provider, in the order of the stream that the session was told to use.

Rules of the real one are enforced: tensors lie in the GPU's memory; a CUDA graph's number goes with one binding for
ever, as a replay reads and writes what was captured; replaying waits for the stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from cuda_stand_in import Driver, Misuse, Span

from rtsr.backends import ort_gpu, ort_session


class OnnxRuntime:
    """sessions: those opened. replays: CUDA graphs replayed so far. fails: what the next run dies of, "" for nothing.
    opens: the provider that really opens, whatever was asked for."""

    def __init__(self, driver: Driver, opens: str = ""):
        self.driver, self.opens = driver, opens
        self.sessions: list[Session] = []
        self.replays = 0
        self.fails = ""

    def install(self, patch: pytest.MonkeyPatch) -> None:
        module = SimpleNamespace(
            __version__=ort.__version__,
            SessionOptions=ort.SessionOptions,
            RunOptions=ort.RunOptions,
            get_available_providers=lambda: list(ort_session.PROVIDERS.values()),
            preload_dlls=lambda: print("Failed to load something"),
            InferenceSession=self._open,
        )
        patch.setattr(ort_session, "ort", module)
        patch.setattr(ort_gpu, "ort", module)
        patch.setattr(ort_session, "_loads", lambda library: True)

    def _open(self, graph: bytes, settings: ort.SessionOptions, providers: Sequence[Any], enable_fallback: int) -> Any:
        name, options = providers[0]
        if name == ort_session.PROVIDERS["cpu"]:
            return ort.InferenceSession(graph, settings, providers=[name])
        assert not enable_fallback, "its fallback prints and opens something else"
        assert settings.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        self.sessions.append(Session(self, graph, self.opens or name, options))
        return self.sessions[-1]


class Session:
    def __init__(self, runtime: OnnxRuntime, graph: bytes, provider: str, options: dict[str, str]):
        self._runtime, self._provider, self.options = runtime, provider, options
        self._stream = runtime.driver.stream_of(int(options["user_compute_stream"]))
        self._real = ort.InferenceSession(graph, providers=[ort_session.PROVIDERS["cpu"]])
        self._captured: dict[str, Binding] = {}

    def get_providers(self) -> list[str]:
        return [self._provider, ort_session.PROVIDERS["cpu"]]

    def io_binding(self) -> Binding:
        return Binding(self._runtime.driver, self._real.io_binding())

    def run_with_iobinding(self, binding: Binding, run: ort.RunOptions) -> None:
        if self._runtime.fails:
            raise RuntimeError(self._runtime.fails)
        assert run.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        number = run.get_run_config_entry("gpu_graph_id")
        keeps_graphs = "1" in (self.options.get("enable_cuda_graph"), self.options.get("trt_cuda_graph_enable"))
        is_graph = keeps_graphs and number != "-1"
        if is_graph and self._captured.setdefault(number, binding) is not binding:
            raise Misuse(f"CUDA graph {number} was captured with other tensors, and replays with those")
        self._stream.enqueue("run", lambda: self._real.run_with_iobinding(binding.real), *binding.spans)
        if is_graph:
            self._runtime.replays += 1
            self._stream.sync()


class Binding:
    """Addresses on the GPU, checked when they are bound."""

    def __init__(self, driver: Driver, real: ort.IOBinding):
        self._driver, self.real = driver, real
        self.spans: list[Span] = []

    def bind_input(self, name: str, device: str, number: int, dtype: Any, shape: tuple[int, ...], at: int) -> None:
        self._add(device, dtype, shape, at, writes=False)
        self.real.bind_input(name, "cpu", 0, dtype, shape, at)

    def bind_output(self, name: str, device: str, number: int, dtype: Any, shape: tuple[int, ...], at: int) -> None:
        self._add(device, dtype, shape, at, writes=True)
        self.real.bind_output(name, "cpu", 0, dtype, shape, at)

    def _add(self, device: str, dtype: Any, shape: tuple[int, ...], at: int, writes: bool) -> None:
        span = self._driver.span(at, math.prod(shape) * np.dtype(dtype).itemsize, writes)
        if device != "cuda" or span.memory.on_host:
            raise Misuse("a tensor bound to the host's memory: copied at every run")
        self.spans.append(span)
