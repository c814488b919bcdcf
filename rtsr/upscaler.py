"""Frames in, larger frames out: the Python API for programs that bring their own pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rtsr.backends import EngineChoice, open_engine
from rtsr.frames import Frame, batched


class Upscaler:
    """An opened engine.

        with rtsr.Upscaler(scale=2, model="fast") as upscaler:
            for frame in upscaler.stream(frames): ...

    Raises ConfigError or EngineError on opening; see EngineChoice for the arguments.
    """

    def __init__(
        self,
        scale: int = 4,
        model: str = "balanced",
        backend: str = "auto",
        degradation: str = "stream",
        bits: int = 8,
        detail: float | None = None,
    ) -> None:
        self._engine = open_engine(EngineChoice(scale, model, degradation, backend, bits, detail=detail))
        self.scale = scale

    @property
    def name(self) -> str:
        """Engine and backend, e.g. `fast-x4-stream-int8 (openvino)`."""
        return f"{self._engine.name} ({self._engine.backend})"

    def stream(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Upscale frames in order, several in flight; each result has its frame's pts, time_base and duration."""
        for batch in self._engine.stream(batched(frames, 1)):
            yield from batch.frames()

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
