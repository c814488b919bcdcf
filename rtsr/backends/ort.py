"""ONNX Runtime on the CPU: the always-there second way to run an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnxruntime as ort

from rtsr.backends import inference_error
from rtsr.backends.phases import bordered_shape, enlarge_chroma, fill_bordered, interleave
from rtsr.errors import EngineError
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, read_engine

PROVIDER = "CPUExecutionProvider"


class OrtEngine:
    """A `phases` engine under ONNX Runtime's CPU provider; one frame at a time on all cores."""

    backend = "onnxruntime"

    def __init__(self, manifest: Manifest):
        self.name, self.sha256 = manifest.name, manifest.sha256
        self.scale = manifest.scale
        try:
            self._session = ort.InferenceSession(read_engine(manifest), providers=[PROVIDER])
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise EngineError(f"ONNX Runtime cannot open engine {manifest.name}: {error}") from error
        if (opened := self._session.get_providers()[0]) != PROVIDER:
            raise EngineError(f"ONNX Runtime was asked for {PROVIDER} and opened {opened}")

    def infer(self, batch: FrameBatch) -> FrameBatch:
        if batch.y.dtype != np.uint8:
            raise EngineError(f"{self.name} takes 8-bit video; this is {batch.y.dtype}")
        y = np.empty(bordered_shape(batch.y), np.uint8)
        fill_bordered(y, batch.y)
        try:
            (phases,) = self._session.run(["y_phases"], {"y": y})
        except Exception as error:
            raise inference_error(self, batch, error) from error
        return batch.with_planes(interleave(np.asarray(phases), self.scale), enlarge_chroma(batch, self.scale))

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return map(self.infer, batches)

    def close(self) -> None:
        pass
