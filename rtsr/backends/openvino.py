"""OpenVINO: the default on CPUs. The int8 graphs run as nothing but int8 convolutions there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import openvino as ov
import openvino.opset13 as ops

from rtsr.backends import inference_error
from rtsr.backends.phases import bordered_shape, enlarge_chroma, fill_bordered, interleave
from rtsr.errors import EngineError, first_line
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, read_engine
from rtsr.threads import usable_cores

MAX_STREAMS = 4  # each holds one output frame; more of them gain nothing once every core is busy


class OpenVinoEngine:
    """A `phases` engine on the CPU plugin: several frames at once, each on a share of the cores.

    The graph is compiled for the frame size of the first batch (static shapes take the fast kernels) and again
    whenever the size changes. bits: of a sample, in and out; more than 8 takes a float engine.
    """

    backend = "openvino"

    def __init__(self, manifest: Manifest, bits: int = 8):
        self.name, self.sha256 = manifest.name, manifest.sha256
        self.scale = manifest.scale
        self._core = ov.Core()
        try:
            self._model = self._core.read_model(read_engine(manifest))
            if bits > 8:
                self._model = deepen(self._model, bits)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot read engine {manifest.name}: {first_line(error)}") from error
        self._bits = bits
        self._shape: tuple[int, ...] = ()
        self._requests: list[ov.InferRequest] = []

    def infer(self, batch: FrameBatch) -> FrameBatch:
        """All cores on one batch, which takes the least memory; stream() has the greater throughput."""
        (result,) = self._run([batch], streams=1, requests=1)
        return result

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        streams = min(usable_cores(), MAX_STREAMS)
        # One more than streams, so that a finished request waiting to be collected leaves no core idle.
        return self._run(batches, streams, requests=streams + 1)

    def _run(self, batches: Iterable[FrameBatch], streams: int, requests: int) -> Iterator[FrameBatch]:
        waiting: deque[tuple[ov.InferRequest, FrameBatch]] = deque()
        free = list(self._requests)
        try:
            for batch in batches:
                if (requests, *batch.y.shape) != self._shape:
                    while waiting:
                        yield self._collect(*waiting.popleft())
                    free.clear()  # and with it the old requests' memory
                    self._compile(batch, streams, requests)
                    free = list(self._requests)
                if not free:
                    oldest = waiting.popleft()
                    yield self._collect(*oldest)
                    free.append(oldest[0])
                self._start(free[-1], batch)
                waiting.append((free.pop(), batch))
            while waiting:
                yield self._collect(*waiting.popleft())
        finally:
            for request, _ in waiting:  # a reader that left early: nothing may run on into freed memory
                request.cancel()
            self._requests = [] if waiting else self._requests
            self._shape = () if waiting else self._shape

    def close(self) -> None:
        self._requests, self._shape = [], ()

    def _compile(self, batch: FrameBatch, streams: int, requests: int) -> None:
        if batch.bits != self._bits:
            raise EngineError(f"{self.name} was opened for {self._bits}-bit video; this has {batch.bits} bits")
        options = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": usable_cores(),
            "ENABLE_CPU_PINNING": False,  # decoder and encoder want the same cores
            "INFERENCE_PRECISION_HINT": "f32",  # what an engine leaves in float stays float: same result everywhere
        }
        self.close()  # two compiled models at once take twice the memory
        try:
            self._model.reshape({"y": bordered_shape(batch.y)})
            compiled = self._core.compile_model(self._model, "CPU", options)
            self._requests = [compiled.create_infer_request() for _ in range(requests)]
        except (RuntimeError, MemoryError) as error:
            raise self._failed(batch, error) from error
        self._shape = requests, *batch.y.shape

    def _start(self, request: ov.InferRequest, batch: FrameBatch) -> None:
        try:
            fill_bordered(request.get_input_tensor().data, batch.y)
            request.start_async()
        except (RuntimeError, MemoryError) as error:
            raise self._failed(batch, error) from error

    def _collect(self, request: ov.InferRequest, batch: FrameBatch) -> FrameBatch:
        try:
            request.wait()
            y = interleave(request.get_output_tensor().data, self.scale, batch.y.shape[1])
            return batch.with_planes(y, enlarge_chroma(batch, self.scale))
        except (RuntimeError, MemoryError, cv2.error) as error:
            raise self._failed(batch, error) from error

    def _failed(self, batch: FrameBatch, error: Exception) -> EngineError:
        """The error to raise, once the requests and their memory are given up: the next batch compiles again."""
        self.close()
        return inference_error(self, batch, error if isinstance(error, MemoryError) else first_line(error))


def deepen(model: ov.Model, bits: int) -> ov.Model:
    """A float `phases` engine for uint16 samples of `bits` bits: y and y_phases become uint16, the net stays.

    The net maps code values 0..255 to code values before its final Round; both ends are scaled to 0..2**bits - 1.
    """
    white = float((1 << bits) - 1)
    (old,) = model.get_parameters()
    y = ops.parameter(old.get_partial_shape(), ov.Type.u16, name="y")
    eight = ops.multiply(ops.convert(y, "f32"), np.float32(255 / white))
    (cast,) = (target.get_node() for target in old.output(0).get_target_inputs())
    cast.output(0).replace(eight.output(0))
    (rounding,) = (node for node in model.get_ops() if node.get_type_name() == "Round")
    deep = ops.multiply(rounding.input_value(0), np.float32(white / 255))
    samples = ops.convert(ops.clamp(ops.round(deep, "half_to_even"), 0.0, white), "u16")
    result = ops.transpose(samples, np.array([0, 2, 3, 1]))
    return ov.Model([result], [y], model.get_friendly_name())  # pyright: ignore[reportGeneralTypeIssues] - its stubs
