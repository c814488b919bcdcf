"""ONNX Runtime on the CPU: the always-there second way to run an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rtsr.backends import inference_error
from rtsr.backends.ort_session import open_session
from rtsr.backends.phases import bordered_shape, enlarge_chroma, fill_bordered, interleave
from rtsr.errors import EngineError
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, read_engine


class OrtEngine:
    """A `phases` engine under ONNX Runtime's CPU provider; one frame at a time on all cores."""

    backend = "onnxruntime"

    def __init__(self, manifest: Manifest):
        self.name, self.sha256 = manifest.name, manifest.sha256
        self.scale = manifest.scale
        self._session = open_session(manifest.name, read_engine(manifest), "cpu")
        self._binding = self._session.io_binding()
        self._y = self._phases = np.empty(0, np.uint8)

    def infer(self, batch: FrameBatch) -> FrameBatch:
        if batch.y.dtype != np.uint8:
            raise EngineError(f"{self.name} takes 8-bit video; this is {batch.y.dtype}")
        try:
            if list(self._y.shape) != bordered_shape(batch.y):
                self._bind(bordered_shape(batch.y))
            fill_bordered(self._y, batch.y)
            self._session.run_with_iobinding(self._binding)
            y_large = interleave(self._phases, self.scale, batch.y.shape[1])
            return batch.with_planes(y_large, enlarge_chroma(batch, self.scale))
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise inference_error(self, batch, error) from error

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return map(self.infer, batches)

    def close(self) -> None:
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self._y = self._phases = np.empty(0, np.uint8)

    def _bind(self, shape: list[int]) -> None:
        """Arrays that every run of this shape reads and writes, in place of new ones for each."""
        self.close()
        n, _, height, width = shape
        y, phases = np.empty(shape, np.uint8), np.empty((n, height, width, self.scale**2), np.uint8)
        self._binding.bind_input("y", "cpu", 0, y.dtype, y.shape, y.ctypes.data)
        self._binding.bind_output("y_phases", "cpu", 0, phases.dtype, phases.shape, phases.ctypes.data)
        self._y, self._phases = y, phases
