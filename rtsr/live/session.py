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
from dataclasses import dataclass, replace
from pathlib import Path

from rtsr.errors import ConfigError, RtsrError, SinkError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.live.contract import LIVE_RATE, Captured, LiveSink, LiveSource, LiveStats, Shown
from rtsr.live.meter import Latencies, Rate
from rtsr.live.outputs import Output
from rtsr.live.record import RecordSink
from rtsr.live.snapshot import write_pair
from rtsr.live.summary import Summary, Switch, memory_mb
from rtsr.live.tiers import RateHolder, Tier, Tiers
from rtsr.live.view import with_split
from rtsr.threads import latest

_TICK_S = 0.02  # how often the main thread looks whether the session is over
_RECORD_DEPTH = 8  # a recording may be late, but should be whole
_MOST_NOTICES = 20
_GAP_WATCH_S = 1.0  # after a switch


@dataclass(frozen=True, slots=True)
class Hold:
    """The rate to hold. on: whether tiers change for it at all; fps: frames a second, None for the source's own."""

    on: bool = True
    fps: float | None = None


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
        hold: Hold = Hold(),
        split: float | None = None,
        folder: Path = Path(),
        notice: Callable[[str], None] = lambda sentence: None,
    ):
        self._source, self.scale, self._hold = source, scale, hold
        self.has_run = False
        self._folder, self._say = folder, notice
        self.notices: list[str] = []
        self.tiers = Tiers(tiers, (source.spec.height, source.spec.width), self.note)
        self._holder = RateHolder(len(tiers))
        self._pinned: int | None = None
        self._place = len(tiers) - 1
        self._split = split
        self._outputs: list[Output] = []
        self._recording: Output | None = None
        self._lock = threading.RLock()
        self._running = False
        self._over = threading.Event()
        self._error: BaseException | None = None
        self._rate_in, self._rate_out, self._latency = Rate(), Rate(), Latencies()
        self._dropped_before: dict[str, int] = {}
        self._missed = 0
        self._frames: latest[Captured] | None = None
        self._last: Shown | None = None
        self._begun = time.monotonic()
        self._switches: list[Switch] = []
        self._memory: list[float] = []
        self._seconds: float | None = None
        self.sink_errors: list[str] = []

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
        output = Output(
            sink,
            depth=depth,
            dress=self._dress if sink.is_view else lambda shown: shown,
            shown=lambda now, ms: self._was_shown(output, now, ms),
            failed=self._sink_failed,
        )
        with self._lock:
            self._outputs.append(output)
            if self._running:
                output.start()
        return output

    def close_unused(self) -> None:
        """Free everything of a session that is not going to run."""
        self._source.close()
        for output in self._outputs:
            output.close_here()
        self.tiers.close()

    # --- the way of a frame

    def run(self, duration_s: float | None = None) -> Summary:
        """Until the source ends, duration_s is over, quit() or Ctrl-C. Everything is closed afterwards.

        Raises what ended the session if that was an error; `summary()` still tells.
        """
        self.has_run = True
        self._begun = time.monotonic()
        infer = threading.Thread(target=self._infer, name="rtsr-infer", daemon=True)
        with self._lock:
            self._running = True
            for output in self._outputs:
                output.start()
        infer.start()
        try:
            while not self._over.is_set():
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
        self._source.close()
        infer.join()
        with self._lock:
            self._running = False
            outputs = list(self._outputs)
        for output in outputs:
            output.end()
        self.tiers.close()

    def _infer(self) -> None:
        try:
            with latest(self._counted(), "capture", stop=self._source.close) as frames:
                self._frames = frames
                last = time.monotonic()
                for captured in frames:
                    tier = self._tier_for(captured)
                    shown = _upscaled(captured, tier)
                    del captured
                    self._last = shown
                    self._hand_out(shown)
                    now = time.monotonic()
                    self._rate_out.tick(now)
                    self._watch_gap(now, now - last)
                    last = now
        except BaseException as error:  # raised in run(), whatever it is
            self._error = self._error or error
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

    def _hand_out(self, shown: Shown) -> None:
        with self._lock:
            outputs = list(self._outputs)
        for output in outputs:
            output.slot.put(shown)

    def _tier_for(self, captured: Captured) -> Tier:
        """The tier that a frame goes through: pinned, or what holds the rate; never one that is still to compile."""
        size = captured.frame.y.shape[1], captured.frame.y.shape[2]
        self.tiers.make_ready(size)
        tiers = self.tiers.all
        wanted = self._pinned
        if wanted is None and self._hold.on:
            wanted = self._decide(size)
        elif wanted is None:
            wanted = len(tiers) - 1
        if wanted != self._place and tiers[wanted].is_ready(size):
            seconds = time.monotonic() - self._begun
            self._switches.append(Switch(seconds, tiers[self._place].name, tiers[wanted].name))
            self._place = wanted
        return tiers[self._place]

    def _decide(self, size: tuple[int, int]) -> int:
        tiers, place = self.tiers.all, self._place
        here = tiers[place]
        up = tiers[min(place + 1, len(tiers) - 1)]
        next_ms = here.cost_ms * up.first_cost_ms / here.first_cost_ms
        if self._holder.place != place:
            self._holder.start_from(place)
        return self._holder.decide(time.monotonic(), here.cost_ms, next_ms, self._target(), up.is_ready(size))

    def _target(self) -> float:
        """Frames a second to hold: what was asked for, but no more than the source gives."""
        rate = float(self._source.spec.rate or 0) or self._rate_in.per_second() or float(LIVE_RATE)
        return min(self._hold.fps or rate, rate)

    def _watch_gap(self, now: float, gap_s: float) -> None:
        if self._switches and now - self._begun - self._switches[-1].at_s <= _GAP_WATCH_S:
            self._switches[-1].gap_ms = max(self._switches[-1].gap_ms, 1e3 * gap_s)

    def _dress(self, shown: Shown) -> Shown:
        split = self._split
        return shown if split is None else with_split(shown, split)

    def _was_shown(self, output: Output, now: float, ms: float) -> None:
        if self._outputs[:1] == [output]:
            self._latency.add(now, ms)

    def _sink_failed(self, output: Output, error: BaseException) -> None:
        """One sink less; the session goes on while there is another."""
        with self._lock:
            if output in self._outputs:
                self._outputs.remove(output)
                self._dropped_before[output.sink.name] = output.slot.dropped
            self._recording = None if output is self._recording else self._recording
            is_last = not self._outputs
        known = isinstance(error, RtsrError)
        self._error = self._error or (error if is_last or not known else None)
        if known and not is_last:
            self.note(str(error))
        self.sink_errors.append(str(error))
        if self._error is not None:
            self._over.set()

    # --- Controls

    def stats(self) -> LiveStats:
        spec = self._source.spec
        last, tier = self._last, self.tiers.all[self._place]
        shape = last.small.y.shape if last else (1, spec.height, spec.width)
        p50, p95, worst = self._latency.recent()
        recording = self._recording
        return LiveStats(
            tier=tier.name,
            backend=tier.backend,
            input_size=(shape[2], shape[1]),
            output_size=(shape[2] * self.scale, shape[1] * self.scale),
            fps_in=self._rate_in.per_second(),
            fps_out=self._rate_out.per_second(),
            target_fps=self._target() if self._hold.on else None,
            latency_p50_ms=p50,
            latency_p95_ms=p95,
            latency_worst_ms=worst,
            dropped=self._dropped(),
            recording=str(recording.sink.path) if recording and isinstance(recording.sink, RecordSink) else None,
            notices=list(self.notices),
            seconds=time.monotonic() - self._begun,
            tiers=tuple(self.tier_names),
        )

    @property
    def tier_names(self) -> list[str]:
        """What set_tier() takes, quickest first."""
        return [tier.name for tier in self.tiers.all]

    @property
    def pinned(self) -> str | None:
        """The tier that set_tier() asked for; None while the rate decides."""
        return None if self._pinned is None else self.tiers.all[self._pinned].name

    @property
    def split(self) -> float | None:
        """Where the line stands."""
        return self._split

    def set_tier(self, tier: str | None) -> None:
        self._pinned = None if tier is None else self.tiers.named(tier)

    def set_detail(self, amount: float) -> None:
        raise ConfigError("these engines have no detail dial")

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
            recording = self._recording
            if on and recording is None:
                path = path or self._folder / time.strftime("rtsr-%Y%m%d-%H%M%S.mkv")
                sink = RecordSink(path, self.output_spec, self._source, overwrite)
                self._recording = self.add(sink, _RECORD_DEPTH)
                return path
            if not on:
                self._recording = None
                if recording is not None:
                    self._outputs.remove(recording)
                    self._dropped_before["record"] = self._dropped_before.get("record", 0) + recording.slot.dropped
        if recording is None or not isinstance(recording.sink, RecordSink):
            return None
        if not on:
            recording.end()
            self.note(f"recorded {recording.sink.path}")
        return recording.sink.path

    def quit(self) -> None:
        self._over.set()

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
            seconds=round(seconds, 3),
            input_size=stats.input_size,
            output_size=stats.output_size,
            tier=stats.tier,
            backend=stats.backend,
            target_fps=stats.target_fps,
            captured=self._rate_in.count + self._missed,
            upscaled=self._rate_out.count,
            fps_in=round(self._rate_in.count / seconds, 2),
            fps_out=round(self._rate_out.count / seconds, 2),
            latency=self._latency.whole(),
            by_minute=parts,
            dropped=stats.dropped,
            switches=list(self._switches),
            memory_mb=[*self._memory, memory_mb()],
            notices=stats.notices,
            sink_errors=list(self.sink_errors),
        )

    def _dropped(self) -> dict[str, int]:
        frames = self._frames
        counts = {"source": self._missed, "infer": frames.dropped if frames else 0, **self._dropped_before}
        with self._lock:
            outputs = list(self._outputs)
        for output in outputs:
            counts[output.sink.name] = counts.get(output.sink.name, 0) + output.slot.dropped
        return counts


def _upscaled(captured: Captured, tier: Tier) -> Shown:
    small = captured.frame
    batch = FrameBatch(
        small.y[None], small.uv[None], (small.pts,), small.time_base, (small.duration,), small.siting, small.pixels
    )
    (large,) = tier.infer(batch).frames()
    return Shown(small, large, captured.at, captured.number, tier.name)
