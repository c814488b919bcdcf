"""`python -m rtsr.live.figures`: the figures of docs/LIVE.md on this machine, each by the command that a user gives."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rtsr.backends import EngineChoice
from rtsr.live.outputs import NullSink
from rtsr.live.pattern import PatternSource
from rtsr.live.session import Session
from rtsr.live.tiers import ladder

_SHORT_S = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was asked for, what came, and whether that is enough."""

    what: str
    asked: str
    measured: str
    holds: bool


def live(*arguments: str) -> dict[str, Any]:
    """The summary of `rtsr live ARGUMENTS --null --json`."""
    command = [sys.executable, "-m", "rtsr", "live", "--source", "testsrc", "--null", "--json", "--quiet", *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def small(seconds: float) -> Row:
    """320x180 at 30 fps x4, fast; growth: the last minute's p95 against the second's (the first has the start)."""
    s = live("--size", "320x180", "--rate", "30", "--model", "fast", "--duration", f"{seconds}")
    parts = [part for part in s["by_minute"] if part["frames"] > 100]
    first, last = parts[min(1, len(parts) - 1)], parts[-1]
    grows = last["p95_ms"] > 1.5 * first["p95_ms"] + 5
    measured = (
        f"{s['fps_out']:.1f} fps by {s['tier']}, p95 {s['latency']['p95_ms']:.1f} ms "
        f"({first['p95_ms']:.1f} early, {last['p95_ms']:.1f} late), "
        f"{s['memory_mb'][0]:.0f} -> {s['memory_mb'][-1]:.0f} MB"
    )
    holds = s["fps_out"] > 29.4 and s["latency"]["p95_ms"] < 100 and not grows and s["tier"] == "fast"
    return Row(f"320x180@30 x4 fast, {seconds:.0f} s", "30 fps, p95 < 100 ms, no growth", measured, holds)


def large() -> Row:
    s = live("--size", "640x360", "--rate", "24", "--duration", f"{_SHORT_S}")
    measured = f"{s['fps_out']:.1f} fps by {s['tier']}, p95 {s['latency']['p95_ms']:.1f} ms"
    return Row("640x360@24 x4, best tier that holds", "24 fps", measured, s["fps_out"] > 23.5)


def overload() -> Row:
    """A tier at least three times too slow for its source, tiers fixed: the source's rate is made to fit the machine's
    speed."""
    size = ("--size", "1280x720", "--model", "balanced", "--hold-fps", "off")
    alone = live(*size, "--rate", "2", "--duration", "10")["latency"]["p50_ms"]  # nothing waits: what a frame takes
    rate = min(int(4.5e3 / alone) + 1, 240)
    s = live(*size, "--rate", f"{rate}", "--duration", f"{_SHORT_S}")
    frame_ms = 1e3 / s["fps_out"]
    p95, times = s["latency"]["p95_ms"], rate * frame_ms / 1e3
    measured = (
        f"{rate} fps come, {s['fps_out']:.1f} go ({times:.1f} times too slow, {frame_ms:.0f} ms a frame); "
        f"p95 {p95:.0f} ms = {p95 / frame_ms:.1f} frame times, worst {s['latency']['worst_ms']:.0f} ms"
    )
    return Row("overload, 1280x720 x4 balanced, --hold-fps off", "< 3 frame times", measured, p95 < 3 * frame_ms)


def switches() -> Row:
    """Every tier of x4 at 320x180@30 in turn, once a second, for 20 seconds."""
    source = PatternSource(320, 180, Fraction(30))
    session = Session(source, ladder(EngineChoice(4, "balanced")), 4)
    session.add(NullSink())

    def turn() -> None:
        time.sleep(2)  # until all of them are ready
        for i in range(18):
            session.set_tier(session.tier_names[i % len(session.tier_names)])
            time.sleep(1)

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    s = session.run(20)
    gaps = sorted(switch.gap_ms for switch in s.switches)
    measured = f"{len(gaps)} switches, median {gaps[len(gaps) // 2]:.0f} ms, worst {gaps[-1]:.0f} ms"
    return Row("tier switch, 320x180@30 x4", "no gap over 200 ms", measured, gaps[-1] <= 200)


def main(arguments: list[str]) -> int:
    seconds = float(arguments[0]) if arguments else 600.0
    rows = []
    for row in (large(), overload(), switches(), small(seconds)):
        rows.append(row)
        print(f"{'ok  ' if row.holds else 'MISS'} {row.what} | {row.asked} | {row.measured}", flush=True)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
