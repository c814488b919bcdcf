"""ONNX Runtime on an NVIDIA GPU: its CUDA or TensorRT provider between the uploads and downloads of a ring.

Never run on a GPU yet: run on tests/onnxruntime_stand_in.py, which computes with the CPU provider.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from rtsr.backends import inference_error, is_out_of_memory
from rtsr.backends.cuda.batches import BatchRing, outputs_of
from rtsr.backends.cuda.libraries import Gpu
from rtsr.backends.cuda.nv12 import Nv12Kernels
from rtsr.backends.cuda.ring import Slot
from rtsr.backends.cuda.surfaces import SurfacePool
from rtsr.backends.gpu_graph import Picture, gpu_graph
from rtsr.backends.guard import Fp32Again, with_check
from rtsr.backends.ort_session import open_session
from rtsr.backends.trt_build import plans_folder
from rtsr.errors import ConfigError, EngineError, OutOfMemoryError, RtsrError, first_line
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, read_engine

if TYPE_CHECKING:
    from cuda.core.cu13._stream import Stream

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
        self.gpu: int | None = None  # whose decoded pictures it takes as they lie there
        self._pool, self._stays = SurfacePool(gpu), False
        self._nv12: Nv12Kernels | None = None
        try:
            self._nv12, self.gpu = Nv12Kernels(gpu), gpu.number
        except EngineError as error:
            notice(f"decoded pictures go through memory: {error}")

    @property
    def redone(self) -> int:
        """Frames that FP16 could not hold and FP32 did again."""
        return self._fp32.redone

    def leave_on_gpu(self) -> None:
        """Let stream() leave single pictures on the GPU from now on, for an encoder that reads them there; who looks at
        their samples downloads them. All encoders must be closed before this is."""
        self._stays = self.gpu is not None

    def infer(self, batch: FrameBatch) -> FrameBatch:
        (result,) = self._run([batch], stays=False)
        return result

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return self._run(batches, self._stays)

    def _run(self, batches: Iterable[FrameBatch], stays: bool) -> Iterator[FrameBatch]:
        self._gpu.use()
        waiting: deque[FrameBatch] = deque()
        try:
            for batch in batches:
                session = self._session
                if session is None or not session.batches.takes(batch):
                    while waiting:
                        yield self._collect(waiting)
                    session = self._open_session(batch)
                if session.batches.is_full:
                    yield self._collect(waiting)
                waiting.append(batch)
                try:
                    session.batches.start(batch, session.compute, stays)
                except RtsrError as error:
                    raise self._failed(batch, error) from error
            while waiting:
                yield self._collect(waiting)
        finally:
            if waiting and self._session is not None:  # a reader that left early, or an error
                self._session.batches.drain()

    def close(self) -> None:
        """Free the GPU's memory. Safe to call twice."""
        self._fp32.close()
        try:
            self._close_session()
        finally:
            self._gpu.use()
            self._pool.close()

    def _close_session(self) -> None:
        if self._session is not None:
            self._gpu.use()
            self._session.close()
            self._session = None

    def _open_session(self, batch: FrameBatch) -> _Session:
        """A session for batches like this one; the old one's memory is free before."""
        self._close_session()
        picture = Picture(*batch.size, self.scale, batch.pixels, batch.siting)
        try:
            ring = BatchRing(
                self._gpu, picture, len(batch), self._precision == "fp16", nv12=self._nv12, pool=self._pool
            )
            self._session = _Session(self._manifest, ring, self._device, self._precision, self._graphs)
        except OutOfMemoryError as error:
            raise inference_error(self, batch, error) from error
        return self._session

    def _collect(self, waiting: deque[FrameBatch]) -> FrameBatch:
        batch = waiting.popleft()
        assert self._session is not None, "it started the batch"
        try:
            result, is_sound = self._session.batches.collect(batch)
        except RtsrError as error:
            raise self._failed(batch, error) from error
        return self._fp32.repaired(batch, result, is_sound)

    def _failed(self, batch: FrameBatch, error: Exception) -> EngineError:
        """The error to raise, once the GPU's memory is given up: the next batch opens another session."""
        with suppress(RtsrError):  # after a failed launch CUDA refuses everything, freeing too
            self._fp32.close()
            self._close_session()
        self._session = None
        return inference_error(self, batch, error)


class _Session:
    """An opened graph and its ring. Every slot has its own memory, so its own binding and its own CUDA graph.

    batches: of fp16 with with_check()'s output; this owns it, and closes it if it does not open. Raises EngineError,
    OutOfMemoryError.
    """

    def __init__(self, engine: Manifest, batches: BatchRing, device: str, precision: str, graphs: bool):
        self.batches = batches
        self._graphs, self._is_watched = graphs, precision == "fp16"
        try:
            options = provider_options(device, int(batches.ring.computing.handle), precision, graphs)
            graph = gpu_graph(read_engine(engine), batches.picture, precision)
            graph = with_check(graph) if self._is_watched else graph
            self._session = open_session(engine.name, graph, device, options)
        except BaseException:
            batches.close()
            raise
        self._bound: dict[tuple[int, int], tuple[ort.IOBinding, ort.RunOptions]] = {}

    def close(self) -> None:
        self.batches.drain()  # before the session, which owns the memory between the layers
        self._bound.clear()
        del self._session
        self.batches.close()

    def compute(self, slot: Slot, stream: Stream, n: int) -> None:
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
        binding, run, batches = self._session.io_binding(), ort.RunOptions(), self.batches
        for name, shape in batches.picture.inputs(n).items():
            at = int(slot.device_in.handle) + batches.inputs[name].offset
            binding.bind_input(name, "cuda", 0, np.uint8, shape, at)
        for name, (shape, dtype) in outputs_of(batches.picture, n, self._is_watched).items():
            at = int(slot.device_out.handle) + batches.outputs[name].offset
            binding.bind_output(name, "cuda", 0, dtype, shape, at)
        # The host waits for the ring's oldest slot alone. (A CUDA graph's replay waits by itself: ONNX Runtime does
        # that, and has no option against it.)
        run.add_run_config_entry("disable_synchronize_execution_providers", "1")
        run.add_run_config_entry("gpu_graph_id", str(slot.index * batches.most + n if self._graphs else -1))
        return binding, run


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
