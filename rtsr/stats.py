"""How long each stage was busy, as opposed to waiting for its neighbours."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class StageClock:
    """Wall time of one stage: `total_s` inside it, of which `waiting_s` for the stage before. items: its outputs."""

    name: str
    total_s: float = 0.0
    waiting_s: float = 0.0
    items: int = 0

    @property
    def busy_s(self) -> float:
        return max(self.total_s - self.waiting_s, 0.0)

    @property
    def ms_per_item(self) -> float:
        return self.busy_s / self.items * 1e3 if self.items else 0.0

    def output(self, items: Iterable[T]) -> Iterator[T]:
        """Count the items that the stage produces, and the time it takes for each."""
        with closing(self._timed(items, "total_s")) as timed:
            for item in timed:
                self.items += 1
                yield item
                del item

    def input(self, items: Iterable[T]) -> Iterator[T]:
        """Count the time that the stage waits for its input."""
        return self._timed(items, "waiting_s")

    def _timed(self, items: Iterable[T], total: str) -> Generator[T, None, None]:
        """Yield items, add the time each took to arrive to an attribute, and close what they come from."""
        iterator = iter(items)
        try:
            while True:
                begun = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    setattr(self, total, getattr(self, total) + time.perf_counter() - begun)
                yield item
                del item
        finally:
            if close := getattr(iterator, "close", None):
                close()


@dataclass(slots=True)
class PipelineStats:
    """Counts and clocks of one run. Frames: `decoded` came from the source, `written` went into the sink."""

    decode: StageClock = field(default_factory=lambda: StageClock("decode"))
    infer: StageClock = field(default_factory=lambda: StageClock("infer"))
    encode: StageClock = field(default_factory=lambda: StageClock("encode"))
    written: int = 0
    begun: float = field(default_factory=time.perf_counter)
    last_seconds: float = 0.0  # presentation time of the last frame written

    @property
    def decoded(self) -> int:
        return self.decode.items

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def stages(self) -> tuple[StageClock, StageClock, StageClock]:
        return self.decode, self.infer, self.encode

    @property
    def slowest(self) -> StageClock:
        return max(self.stages, key=lambda clock: clock.busy_s)
