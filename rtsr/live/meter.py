"""Rates and latencies: over the last seconds for people who watch, over the whole session for the summary."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

WINDOW_S = 3.0
_BIN_MS, _BINS = 0.1, 100_000  # up to 10 s; what is later counts as that
_PART_S = 60.0  # parts of a session that are told one by one, so that growth shows


class Rate:
    """How many times a second something happens. Any threads."""

    def __init__(self) -> None:
        self.count = 0
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def tick(self, now: float) -> None:
        with self._lock:
            self.count += 1
            self._times.append(now)
            while self._times[0] < now - WINDOW_S:
                self._times.popleft()

    def per_second(self) -> float:
        """Over the last seconds; 0 as long as there are too few to tell."""
        now = time.monotonic()
        with self._lock:
            times = [t for t in self._times if t >= now - WINDOW_S]
        # What has not come for longer than it should have counts as well.
        if len(times) < 2:
            return 0.0
        step = (times[-1] - times[0]) / (len(times) - 1)
        return 1 / max(step, (now - times[0]) / (len(times) + 1), 1e-9)


class Latencies:
    """Milliseconds from capture to shown. Any threads."""

    def __init__(self) -> None:
        self.worst_ms = 0.0
        self._all = np.zeros(_BINS + 1, np.int64)
        self._recent: deque[tuple[float, float]] = deque()
        self._parts: list[np.ndarray] = []
        self._worst_of_parts: list[float] = []
        self._part_begun = 0.0
        self._lock = threading.Lock()

    def add(self, now: float, ms: float) -> None:
        place = min(max(int(ms / _BIN_MS), 0), _BINS)
        with self._lock:
            if not self._parts or now - self._part_begun >= _PART_S:
                self._part_begun = now
                self._parts.append(np.zeros(_BINS + 1, np.int32))
                self._worst_of_parts.append(0.0)
                self._parts[:-60] = [part[:0] for part in self._parts[:-60]]  # an hour is told part by part
            self._all[place] += 1
            self._parts[-1][place] += 1
            self.worst_ms = max(self.worst_ms, ms)
            self._worst_of_parts[-1] = max(self._worst_of_parts[-1], ms)
            self._recent.append((now, ms))
            while self._recent[0][0] < now - WINDOW_S:
                self._recent.popleft()

    def recent(self) -> tuple[float, float, float]:
        """p50, p95 and worst of the last seconds."""
        with self._lock:
            values = [ms for _, ms in self._recent]
        if not values:
            return 0.0, 0.0, 0.0
        return float(np.percentile(values, 50)), float(np.percentile(values, 95)), max(values)

    def whole(self) -> dict[str, float]:
        """p50, p95 and worst of the session."""
        with self._lock:
            return self._summary(self._all, self.worst_ms)

    def by_minute(self) -> list[dict[str, float]]:
        """The same for each minute, the last one being shorter; the last hour of them."""
        with self._lock:
            pairs = zip(self._parts, self._worst_of_parts, strict=True)
            return [self._summary(part, worst) for part, worst in pairs if part.size]

    def _summary(self, bins: np.ndarray, worst: float) -> dict[str, float]:
        total = int(bins.sum())
        if not total:
            return {"frames": 0, "p50_ms": 0.0, "p95_ms": 0.0, "worst_ms": 0.0}
        below = np.cumsum(bins)
        p50, p95 = (float((np.searchsorted(below, share * total) + 1) * _BIN_MS) for share in (0.5, 0.95))
        return {
            "frames": total,
            "p50_ms": round(p50, 1),
            "p95_ms": round(p95, 1),
            "worst_ms": round(worst, 1),
        }
