"""ONNX Runtime on an NVIDIA GPU: its CUDA or TensorRT provider between the uploads and downloads of a ring.

Never run on a GPU yet: run on tests/onnxruntime_stand_in.py, which computes with the CPU provider.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import numpy as np
import onnxruntime as ort

from rtsr.backends import inference_error, is_out_of_memory
from rtsr.backends.cuda.libraries import Gpu
from rtsr.backends.cuda.memory import Layout
from rtsr.backends.cuda.ring import DEPTH, Ring, Slot
from rtsr.backends.guard import CHECK, Fp32Again, sound, with_check
from rtsr.backends.ort_session import open_session
from rtsr.backends.phases import fill_bordered
from rtsr.backends.trt_build import plans_folder
from rtsr.backends.trt_graph import Picture, tensorrt_graph
from rtsr.errors import ConfigError, EngineError, OutOfMemoryError, RtsrError, first_line
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, read_engine

PRECISIONS = ("fp16", "fp32")


class OrtGpuEngine:
    """A ladder engine on a GPU, for one size of picture at a time; another size opens another session.

    device: `cuda` or `tensorrt`, whose libraries are loaded. precision: fp16, whose overflow is done
    again in fp32, or fp32. notice: gets that. graphs: replay each slot's work as a CUDA graph. One thread at a time.
    Raises ConfigError for another precision.
    """

    def __init__(
        self,
        manifest: Manifest,
        device: str,
        gpu: Gpu,
        precision: str = "fp16",
        notice: Callable[[str], None] = lambda sentence: None,
        graphs: bool = True,
    ):
        if precision not in PRECISIONS:
            raise ConfigError(f"onnxruntime on a GPU computes in fp16 or fp32, not in {precision}: pass one of them")
        self.name, self.sha256, self.scale = manifest.name, manifest.sha256, manifest.scale
        self.backend = f"onnxruntime-{device}"
        self._manifest, self._device, self._gpu = manifest, device, gpu
        self._precision, self._graphs = precision, graphs
        self._fp32 = Fp32Again(lambda: OrtGpuEngine(manifest, device, gpu, "fp32", graphs=graphs), notice)
        self._session: _Session | None = None

    @property
    def redone(self) -> int:
        """Frames that FP16 could not hold and FP32 did again."""
        return self._fp32.redone

    def infer(self, batch: FrameBatch) -> FrameBatch:
        (result,) = self.stream([batch])
        return result

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        self._gpu.use()
        waiting: deque[FrameBatch] = deque()
        try:
            for batch in batches:
                session = self._session
                if session is None or not session.takes(batch):
                    while waiting:
                        yield self._collect(waiting)
                    session = self._open_session(batch)
                if session.is_full:
                    yield self._collect(waiting)
                waiting.append(batch)
                try:
                    session.start(batch)
                except RtsrError as error:
                    raise self._failed(batch, error) from error
            while waiting:
                yield self._collect(waiting)
        finally:
            if waiting and self._session is not None:  # a reader that left early, or an error
                self._session.drain()

    def close(self) -> None:
        self._fp32.close()
        if self._session is not None:
            self._gpu.use()
            self._session.close()
            self._session = None

    def _open_session(self, batch: FrameBatch) -> _Session:
        """A session for batches like this one; the old one's memory is free before."""
        if self._session is not None:
            self._session.close()
            self._session = None
        picture = Picture(*batch.size, self.scale, batch.pixels, batch.siting)
        try:
            self._session = _Session(
                self._manifest, picture, len(batch), self._device, self._gpu, self._precision, self._graphs
            )
        except OutOfMemoryError as error:
            raise inference_error(self, batch, error) from error
        return self._session

    def _collect(self, waiting: deque[FrameBatch]) -> FrameBatch:
        batch = waiting.popleft()
        assert self._session is not None, "it started the batch"
        try:
            result, is_sound = self._session.collect(batch)
        except RtsrError as error:
            raise self._failed(batch, error) from error
        return self._fp32.repaired(batch, result, is_sound)

    def _failed(self, batch: FrameBatch, error: Exception) -> EngineError:
        """The error to raise, once the GPU's memory is given up: the next batch opens another session."""
        with suppress(RtsrError):  # after a failed launch CUDA refuses everything, freeing too
            self.close()
        self._session = None
        return inference_error(self, batch, error)


class _Session:
    """An opened graph with a ring of slots. Every slot has its own memory, so its own binding and its own CUDA graph.

    most: pictures in a batch, at the most. Raises EngineError, OutOfMemoryError.
    """

    def __init__(
        self, engine: Manifest, picture: Picture, most: int, device: str, gpu: Gpu, precision: str, graphs: bool
    ):
        self._picture, self._most, self._graphs = picture, most, graphs
        self._is_checked = precision == "fp16"
        self._inputs = Layout.of({name: (shape, np.uint8) for name, shape in picture.inputs(most).items()})
        self._outputs = Layout.of({name: (shape, _dtype(name)) for name, shape in self._shapes(most).items()})
        self._ring = Ring(gpu, self._inputs.size, self._outputs.size, DEPTH)
        try:
            options = provider_options(device, int(self._ring.computing.handle), precision, graphs)
            graph = tensorrt_graph(read_engine(engine), picture, precision)
            graph = with_check(graph) if self._is_checked else graph
            self._session = open_session(engine.name, graph, device, options)
        except BaseException:
            self._ring.close()
            raise
        self._bound: dict[tuple[int, int], tuple[ort.IOBinding, ort.RunOptions]] = {}

    @property
    def is_full(self) -> bool:
        return self._ring.is_full

    def takes(self, batch: FrameBatch) -> bool:
        p = self._picture
        same = (*batch.size, batch.pixels, batch.siting) == (p.height, p.width, p.pixels, p.siting)
        return same and len(batch) <= self._most

    def start(self, batch: FrameBatch) -> None:
        """Copy a batch into a free slot and enqueue all of its work."""
        slot = self._ring.acquire()
        y = _samples(slot.host_in.array(self._inputs["y"]), batch)
        fill_bordered(y[: len(batch) * batch.pixels.full_planes], batch.y)
        if "uv" in self._inputs:
            _samples(slot.host_in.array(self._inputs["uv"]), batch)[: len(batch)] = batch.uv
        self._ring.submit(slot, lambda slot, stream: self._compute(slot, len(batch)))

    def collect(self, batch: FrameBatch) -> tuple[FrameBatch, np.ndarray]:
        """The oldest batch's result, and (N,) bool: which of its pictures are sound. batch: what went in."""
        slot = self._ring.collect()
        arrays = self._ring.results.lend(self._ring.take_result(slot), self._outputs)
        n, planes = len(batch), batch.pixels.full_planes
        is_sound = sound(arrays[CHECK][: n * planes], planes) if self._is_checked else np.ones(n, bool)
        y = _samples(arrays["y_out"], batch)[: n * planes]
        y = y.reshape(n, planes, *y.shape[2:])
        if "uv_out" in arrays:
            return batch.with_planes(y, _samples(arrays["uv_out"], batch)[:n]), is_sound
        height, width = y.shape[2:]
        uv = np.empty((n, 0, *batch.pixels.chroma_size(height, width)), y.dtype)
        return batch.with_planes(y, uv), is_sound

    def drain(self) -> None:
        self._ring.drain()

    def close(self) -> None:
        self._ring.drain()  # before the session, which owns the memory between the layers
        self._bound.clear()
        del self._session
        self._ring.close()

    def _compute(self, slot: Slot, n: int) -> None:
        """Enqueue the graph on the ring's computing stream, which is the session's."""
        if (slot.index, n) not in self._bound:
            self._bound[slot.index, n] = self._bind(slot, n)
        try:
            self._session.run_with_iobinding(*self._bound[slot.index, n])
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            kind = OutOfMemoryError if is_out_of_memory(str(error)) else EngineError
            raise kind(first_line(error)) from error

    def _bind(self, slot: Slot, n: int) -> tuple[ort.IOBinding, ort.RunOptions]:
        """A slot's memory as the graph's tensors, for n pictures."""
        binding, run = self._session.io_binding(), ort.RunOptions()
        for name, shape in self._picture.inputs(n).items():
            at = int(slot.device_in.handle) + self._inputs[name].offset
            binding.bind_input(name, "cuda", 0, np.uint8, shape, at)
        for name, shape in self._shapes(n).items():
            at = int(slot.device_out.handle) + self._outputs[name].offset
            binding.bind_output(name, "cuda", 0, _dtype(name), shape, at)
        # The host waits for the ring's oldest slot alone. (A CUDA graph's replay waits by itself: ONNX Runtime does
        # that, and has no option against it.)
        run.add_run_config_entry("disable_synchronize_execution_providers", "1")
        run.add_run_config_entry("gpu_graph_id", str(slot.index * self._most + n if self._graphs else -1))
        return binding, run

    def _shapes(self, n: int) -> dict[str, tuple[int, ...]]:
        """Of all outputs, for n pictures."""
        check = {CHECK: (n * self._picture.pixels.full_planes, 2)} if self._is_checked else {}
        return self._picture.outputs(n) | check


def _dtype(output: str) -> type[np.float32 | np.uint8]:
    return np.float32 if output == CHECK else np.uint8


def provider_options(device: str, stream: int, precision: str, graphs: bool) -> dict[str, str]:
    """What `cuda` and `tensorrt` are told. stream: handle of the stream to compute on."""
    common = {"device_id": "0", "has_user_compute_stream": "1", "user_compute_stream": str(stream)}
    if device == "cuda":
        return {
            **common,
            "cudnn_conv_algo_search": "EXHAUSTIVE",  # one size of picture for a whole film: tried once, used long
            "cudnn_conv_use_max_workspace": "1",
            "prefer_nhwc": "1",  # what tensor cores read
            "use_tf32": "0",  # fp32 is what the others are compared with
            "enable_cuda_graph": str(int(graphs)),
        }
    folder = plans_folder() / "onnxruntime"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        **common,
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_cuda_graph_enable": str(int(graphs)),
    }


def _samples(array: np.ndarray, batch: FrameBatch) -> np.ndarray:
    """A graph's bytes as samples: two make one where there are more than 8 bits."""
    return array if batch.bits == 8 else array.view("<u2")[..., 0]
