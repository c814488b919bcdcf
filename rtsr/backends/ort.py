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
            options = ort.SessionOptions()
            options.log_severity_level = 4  # what fails is raised; the log would say it again on stderr
            self._session = ort.InferenceSession(read_engine(manifest), options, providers=[PROVIDER])
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise EngineError(f"ONNX Runtime cannot open engine {manifest.name}: {error}") from error
        if (opened := self._session.get_providers()[0]) != PROVIDER:
            raise EngineError(f"ONNX Runtime was asked for {PROVIDER} and opened {opened}")

    def infer(self, batch: FrameBatch) -> FrameBatch:
        if batch.y.dtype != np.uint8:
            raise EngineError(f"{self.name} takes 8-bit video; this is {batch.y.dtype}")
        try:
            y = np.empty(bordered_shape(batch.y), np.uint8)
            fill_bordered(y, batch.y)
            (phases,) = self._session.run(["y_phases"], {"y": y})
            y_large = interleave(np.asarray(phases), self.scale, batch.y.shape[1])
            return batch.with_planes(y_large, enlarge_chroma(batch, self.scale))
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise inference_error(self, batch, error) from error

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return map(self.infer, batches)

    def close(self) -> None:
        pass
