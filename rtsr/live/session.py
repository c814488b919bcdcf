"""A live session: capture -> newest frame -> infer -> every sink its newest picture. Read this first.

                      latest()                    Slot + thread each
    source.frames() ────────────▶ infer thread ──┬─▶ window (draws in a process of its own)
      capture thread              tier by tier   ├─▶ page
                                                 └─▶ recording, stream, ...

Nothing queues: whatever is newer replaces what waits, and what was replaced is counted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.live.contract import LIVE_RATE, Captured, LiveSink, LiveSource, LiveStats, Shown
from rtsr.live.hold import Hold, TierChoice
from rtsr.live.meter import Latencies, Rate
from rtsr.live.outputs import Output, Outputs
from rtsr.live.record import RecordSink
from rtsr.live.snapshot import write_pair
from rtsr.live.summary import Summary, memory_mb
from rtsr.live.tiers import Tier, Tiers
from rtsr.live.view import with_split
from rtsr.threads import latest

_TICK_S = 0.02  # how often the main thread looks whether the session is over
_RECORD_DEPTH = 8  # a recording may be late, but should be whole
_MOST_NOTICES = 20


class Session:
    """Controls of contract.py, and run().

    tiers: quickest first; the last one is opened here, for the source's size, the others in the background. Raises
    EngineError or ConfigError if it does not open. The session owns source, tiers and sinks once run() is called.
    """

    def __init__(
        self,
        source: LiveSource,
        tiers: list[Tier],
        scale: int,
        *,
        hold: Hold | None = None,
        split: float | None = None,
        folder: Path = Path(),
        notice: Callable[[str], None] = lambda sentence: None,
    ):
        self._source, self.scale = source, scale
        self.has_run = False
        self._folder, self._say = folder, notice
        self.notices: list[str] = []
        self._tiers = Tiers(tiers, (source.spec.height, source.spec.width), self.note)
        self._choice = TierChoice(self._tiers, hold or Hold())
        self._split = split
        self._rate_in, self._rate_out, self._latency = Rate(), Rate(), Latencies()
        self._outputs = Outputs(self._latency.add, self._end_with, self.note)
        self._recording: Output | None = None
        self._lock = threading.RLock()  # of the recording
        self._over = threading.Event()
        self._interrupted = False
        self._error: BaseException | None = None
        self._missed = 0
        self._frames: latest[Captured] | None = None
        self._last: Shown | None = None
        self._begun = time.monotonic()
        self._memory: list[float] = []
        self._seconds: float | None = None

    @property
    def source(self) -> LiveSource:
        return self._source

    @property
    def output_spec(self) -> VideoSpec:
        """What the sinks get, as far as the source's first picture tells."""
        spec = self._source.spec
        return replace(spec, width=spec.width * self.scale, height=spec.height * self.scale)

    # --- sinks

    def add(self, sink: LiveSink, depth: int = 1) -> Output:
        """Give a sink its thread. The first one is where latency is measured."""
        return self._outputs.add(sink, depth, self._dress if sink.is_view else lambda shown: shown)

    def close_unused(self) -> None:
        """Free everything of a session that is not going to run."""
        self._source.close()
        self._outputs.end_all()
        self._tiers.close()

    # --- the way of a frame

    def run(self, duration_s: float | None = None) -> Summary:
        """Until the source ends, duration_s is over, quit() or Ctrl-C. Everything is closed afterwards.

        Raises what ended the session if that was an error; `summary()` still tells.
        """
        self.has_run = True
        self._begun = time.monotonic()
        self._choice.begin(self._begun)
        infer = threading.Thread(target=self._infer, name="rtsr-infer", daemon=True)
        try:
            self._outputs.start()
            infer.start()
            while not (self._over.is_set() or self._interrupted):
                if duration_s is not None and time.monotonic() - self._begun >= duration_s:
                    break
                self._turn()
        except KeyboardInterrupt:
            pass  # the usual end
        finally:
            self._end(infer)
        if self._error is not None:
            raise self._error
        return self.summary()

    def _turn(self) -> None:
        """What the main thread does between two looks at the clock."""
        if (time.monotonic() - self._begun) // 60 >= len(self._memory):
            self._memory.append(memory_mb())
        self._over.wait(_TICK_S)

    def _end(self, infer: threading.Thread) -> None:
        self._seconds = time.monotonic() - self._begun
        self._over.set()
        self._tiers.stop()
        self._source.close()
        if infer.ident is not None:  # an interrupt can come before it is started
            infer.join()
        self._outputs.end_all()
        self._tiers.close()

    def _end_with(self, error: BaseException) -> None:
        self._error = self._error or error
        self._over.set()

    def _infer(self) -> None:
        try:
            with latest(self._counted(), "capture", stop=self._source.close) as frames:
                self._frames = frames
                for captured in frames:
                    height, width = captured.frame.y.shape[1:]
                    shown = _upscaled(captured, self._choice.choose((height, width), self._source_fps()))
                    del captured
                    self._last = shown
                    self._outputs.put(shown)
                    now = time.monotonic()
                    self._rate_out.tick(now)
                    self._choice.finished(now)
        except BaseException as error:  # raised in run(), whatever it is
            self._end_with(error)
        finally:
            self._over.set()

    def _counted(self) -> Iterator[Captured]:
        expected = 0
        for captured in self._source.frames():
            self._missed += captured.number - expected
            expected = captured.number + 1
            self._rate_in.tick(time.monotonic())
            yield captured
            del captured

    def _source_fps(self) -> float:
        """What the source says, else what it does."""
        return float(self._source.spec.rate or 0) or self._rate_in.per_second() or float(LIVE_RATE)

    def _dress(self, shown: Shown) -> Shown:
        split = self._split
        return shown if split is None else with_split(shown, split)

    # --- Controls

    def stats(self) -> LiveStats:
        spec = self._source.spec
        last, tier = self._last, self._choice.current
        shape = last.small.y.shape if last else (1, spec.height, spec.width)
        p50, p95, worst = self._latency.recent()
        recording = self._recorder()
        return LiveStats(
            tier=tier.name,
            backend=tier.backend,
            input_size=(shape[2], shape[1]),
            output_size=(shape[2] * self.scale, shape[1] * self.scale),
            fps_in=self._rate_in.per_second(),
            fps_out=self._rate_out.per_second(),
            target_fps=self._choice.target(self._source_fps()),
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            latency_worst_ms=worst,
            dropped=self._dropped(),
            recording=str(recording.path) if recording else None,
            notices=list(self.notices),
            seconds=time.monotonic() - self._begun,
            tiers=tuple(self.tier_names),
            detail=tier.detail,
            no_detail=tier.no_detail,
        )

    @property
    def tier_names(self) -> list[str]:
        """What set_tier() takes, quickest first."""
        return [tier.name for tier in self._tiers.all]

    @property
    def pinned(self) -> str | None:
        """The tier that set_tier() asked for; None while the rate decides."""
        return self._choice.pinned

    @property
    def split(self) -> float | None:
        """Where the line stands."""
        return self._split

    def set_tier(self, tier: str | None) -> None:
        self._choice.pin(tier)

    @property
    def detail(self) -> float:
        """What set_detail() asked for last; what is in use may be the nearest to it."""
        return self._tiers.detail

    def set_detail(self, amount: float) -> None:
        tier = self._choice.current
        if tier.no_detail:
            raise ConfigError(tier.no_detail)
        self._tiers.turn(min(amount, 1.0) if amount > 0 else 0.0, tier)

    def set_split(self, at: float | None) -> None:
        self._split = None if at is None else min(max(at, 0.0), 1.0)

    def snapshot(self) -> tuple[Path, Path]:
        last = self._last
        if last is None:
            raise SinkError("no picture has come yet")
        pair = write_pair(last, self._source.spec.color, self._folder)
        self.note(f"saved {pair[0].name} and {pair[1].name}")
        return pair

    def record(self, on: bool, path: Path | None = None, overwrite: bool = False) -> Path | None:
        """path: None for a name made of the time. Raises ConfigError and SinkError."""
        with self._lock:
            recording, output = self._recorder(), self._recording
            if on and recording is None:
                path = path or self._folder / time.strftime("rtsr-%Y%m%d-%H%M%S.mkv")
                sink = RecordSink(path, self.output_spec, self._source, overwrite)
                self._recording = self.add(sink, _RECORD_DEPTH)
                return path
            if not on:
                self._recording = None
        if recording is not None and output is not None and not on:
            self._outputs.end(output)
            self.note(f"recorded {recording.path}")
        return recording.path if recording is not None else None

    def _recorder(self) -> RecordSink | None:
        """The recording in work; None as well once it has failed."""
        output = self._recording
        if output is None or not self._outputs.has(output):
            return None
        return output.sink if isinstance(output.sink, RecordSink) else None

    def quit(self) -> None:
        self._over.set()

    def interrupt(self) -> None:
        """quit() for a signal's handler, which may run while this thread holds any lock."""
        self._interrupted = True

    def note(self, sentence: str) -> None:
        """Tell a person something: on the terminal, in the overlay and on the page."""
        self.notices = [*self.notices, sentence][-_MOST_NOTICES:]
        self._say(sentence)

    # --- afterwards

    def summary(self) -> Summary:
        """Of what happened so far."""
        seconds = self._seconds or time.monotonic() - self._begun
        stats = self.stats()
        parts = self._latency.by_minute()
        for i, part in enumerate(parts):
            length = min(60.0, seconds - 60.0 * i) if i == len(parts) - 1 else 60.0
            part["fps"] = round(part["frames"] / max(length, 1e-9), 2)
        return Summary(
            source=self._source.name,
            came_as=self._source.came_as,
            seconds=round(seconds, 3),
            input_size=stats.input_size,
            output_size=stats.output_size,
            tier=stats.tier,
            detail=stats.detail,
            backend=stats.backend,
            target_fps=stats.target_fps,
            captured=self._rate_in.count + self._missed,
            upscaled=self._rate_out.count,
            fps_in=round(self._rate_in.count / seconds, 2),
            fps_out=round(self._rate_out.count / seconds, 2),
            latency=self._latency.whole(),
            by_minute=parts,
            dropped=stats.dropped,
            switches=list(self._choice.switches),
            memory_mb=[*self._memory, memory_mb()],
            notices=stats.notices,
            sink_errors=list(self._outputs.errors),
        )

    def _dropped(self) -> dict[str, int]:
        infer = self._frames.dropped if self._frames else 0
        return {"source": self._missed, "infer": infer, **self._outputs.dropped()}


def _upscaled(captured: Captured, tier: Tier) -> Shown:
    small = captured.frame
    batch = FrameBatch(
        small.y[None], small.uv[None], (small.pts,), small.time_base, (small.duration,), small.siting, small.pixels
    )
    (large,) = tier.infer(batch).frames()
    return Shown(small, large, captured.at, captured.number, tier.name)
