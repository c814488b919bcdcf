"""A small live session to hang the page on: SyntheticSource, a real engine, real controls; for tests of the page."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

import rtsr
from rtsr.backends import EngineChoice, open_engine
from rtsr.errors import ConfigError
from rtsr.frames import ColorTags, batched
from rtsr.live.contract import LiveStats, Shown
from rtsr.live.pictures import ScreenPictures
from rtsr.sources.synthetic import SyntheticSource

TIERS = ("nano", "fast")


class SmallSession:
    """Upscales the synthetic source at its own rate and shows each picture to `sinks`. Use as a context manager.

    It is the Controls of its sinks: calls are kept in `calls`, and tiers really change.
    """

    def __init__(self, folder: Path, width: int = 160, height: int = 96, scale: int = 4, rate: int = 15):
        self.folder, self.scale = folder, scale
        self._source = SyntheticSource(width, height, 192, rate)
        self.spec = replace(self._source.spec, rate=Fraction(rate), color=ColorTags(5, range=1))
        self.sinks: list = []
        self.calls: list[tuple[str, object]] = []
        self.last: Shown | None = None
        self.over = threading.Event()
        self._tier, self._recording = TIERS[0], False
        self.has_dial, self._detail = False, 0.0
        self._engines = {tier: open_engine(EngineChoice(scale, tier)) for tier in TIERS}
        self._recent: deque[tuple[float, float]] = deque(maxlen=60)
        self._thread = threading.Thread(target=self._work, name="rtsr-small-session")

    def __enter__(self) -> SmallSession:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self._thread.join()
        for engine in self._engines.values():
            engine.close()

    def _work(self) -> None:
        number = 0
        interval = float(1 / (self.spec.rate or 1))
        begun = time.monotonic()
        while not self.over.is_set():
            for frame in self._source.frames():
                self.over.wait(begun + number * interval - time.monotonic())
                if self.over.is_set():
                    return
                at = time.monotonic()
                number += 1
                frame = replace(frame, y=np.ascontiguousarray(frame.y), uv=np.ascontiguousarray(frame.uv), pts=number)
                (batch,) = batched([frame], 1)
                (large,) = self._engines[self._tier].infer(batch).frames()
                self.last = Shown(frame, large, at, number, self._tier)
                for sink in list(self.sinks):
                    sink.show(self.last)
                self._recent.append((time.monotonic(), (time.monotonic() - at) * 1000))

    def stats(self) -> LiveStats:
        took = sorted(ms for _, ms in list(self._recent)) or [0.0]
        since = time.monotonic() - 2
        fps = sum(when > since for when, _ in list(self._recent)) / 2
        size = self.spec.width, self.spec.height
        return LiveStats(
            tier=self._tier,
            backend="openvino",
            input_size=size,
            output_size=(size[0] * self.scale, size[1] * self.scale),
            fps_in=fps,
            fps_out=fps,
            target_fps=None,
            latency_p50_ms=took[len(took) // 2],
            latency_p95_ms=took[int(len(took) * 0.95)],
            latency_worst_ms=took[-1],
            dropped={"infer": 0},
            recording="talk.mp4" if self._recording else None,
            notices=[],
            tiers=TIERS,
            detail=self._detail if self.has_dial else None,
            no_detail="" if self.has_dial else f"{self._tier} has no detail end",
        )

    def set_tier(self, tier: str | None) -> None:
        self.calls.append(("tier", tier))
        if tier in TIERS:
            self._tier = tier

    def set_detail(self, amount: float) -> None:
        if not self.has_dial:
            raise ConfigError(f"{self._tier} has no detail end")
        self.calls.append(("detail", amount))
        self._detail = amount

    def set_split(self, at: float | None) -> None:
        self.calls.append(("split", at))

    def snapshot(self) -> tuple[Path, Path]:
        self.calls.append(("snapshot", None))
        if self.last is None:
            raise rtsr.errors.RtsrError("there is no picture yet to take")
        pictures = ScreenPictures(self.spec.color)
        large = self.last.large
        size = large.y.shape[2], large.y.shape[1]
        paths = self.folder / "snapshot-before.png", self.folder / "snapshot-after.png"
        for path, frame in zip(paths, (self.last.small, large), strict=True):
            cv2.imwrite(str(path), pictures.bgr(frame, size))
        return paths

    def record(self, on: bool) -> Path | None:
        self.calls.append(("record", on))
        self._recording = on
        path = self.folder / "talk.mp4"
        if not on:
            path.write_bytes(b"a recording")
        return path

    def quit(self) -> None:
        self.calls.append(("quit", None))
        self.over.set()


def serve(folder: Path) -> None:
    """For a look by hand: `python tests/web_session.py`."""
    from rtsr.live.web import WebSink

    with SmallSession(folder, 320, 180, 4, 30) as session:
        sink = WebSink(session, session.spec, session.scale, notice=print)
        session.sinks.append(sink)
        print(sink.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            session.over.wait()
        session.sinks.clear()
        sink.close()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        serve(Path(folder))
