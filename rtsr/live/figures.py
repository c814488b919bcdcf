"""`python -m rtsr.live.figures [ROW ...]`: the figures of docs/LIVE.md on this machine, by the commands of a user."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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


def live(sink: str, *arguments: str) -> dict[str, Any]:
    """The summary of `rtsr live ARGUMENTS --json` into one sink."""
    command = [sys.executable, "-m", "rtsr", "live", "--source", "testsrc", sink, "--json", "--quiet", *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def null(seconds: float) -> Row:
    return small("--null", seconds)


def window(seconds: float) -> Row:
    return small("--window", seconds)


def small(sink: str, seconds: float) -> Row:
    """320x180 at 30 fps x4, fast; growth: the last minute's p95 against the second's (the first has the start)."""
    s = live(sink, "--size", "320x180", "--rate", "30", "--model", "fast", "--duration", f"{seconds}")
    parts = [part for part in s["by_minute"] if part["frames"] > 100] or s["by_minute"][:1]
    first, last = parts[min(1, len(parts) - 1)], parts[-1]
    grows = last["p95_ms"] > 1.5 * first["p95_ms"] + 5
    shown = s["latency"]["frames"] / s["seconds"]
    measured = (
        f"{s['fps_out']:.1f} fps by {s['tier']}, {shown:.1f} shown, p95 {s['latency']['p95_ms']:.1f} ms "
        f"({first['p95_ms']:.1f} early, {last['p95_ms']:.1f} late), "
        f"{s['memory_mb'][0]:.0f} -> {s['memory_mb'][-1]:.0f} MB"
    )
    holds = shown > 29.4 and s["latency"]["p95_ms"] < 100 and not grows and s["tier"] == "fast"
    return Row(f"320x180@30 x4 fast, {sink}, {seconds:.0f} s", "30 fps, p95 < 100 ms, no growth", measured, holds)


def large(seconds: float) -> Row:
    s = live("--null", "--size", "640x360", "--rate", "24", "--duration", f"{min(seconds, _SHORT_S)}")
    measured = f"{s['fps_out']:.1f} fps by {s['tier']}, p95 {s['latency']['p95_ms']:.1f} ms"
    return Row("640x360@24 x4, best tier that holds", "24 fps", measured, s["fps_out"] > 23.5)


def overload(seconds: float) -> Row:
    """A tier at least three times too slow for its source, tiers fixed: the source's rate is made to fit the machine's
    speed."""
    size = ("--size", "1280x720", "--model", "balanced", "--hold-fps", "off")
    alone = live("--null", *size, "--rate", "2", "--duration", "10")["latency"][
        "p50_ms"
    ]  # nothing waits: what a frame takes
    rate = min(int(4.5e3 / alone) + 1, 240)
    s = live("--null", *size, "--rate", f"{rate}", "--duration", f"{min(seconds, _SHORT_S)}")
    frame_ms = 1e3 / s["fps_out"]
    p95, times = s["latency"]["p95_ms"], rate * frame_ms / 1e3
    measured = (
        f"{rate} fps come, {s['fps_out']:.1f} go ({times:.1f} times too slow, {frame_ms:.0f} ms a frame); "
        f"p95 {p95:.0f} ms = {p95 / frame_ms:.1f} frame times, worst {s['latency']['worst_ms']:.0f} ms"
    )
    return Row(
        "overload, 1280x720 x4 balanced, --hold-fps off", "< 3 frame times", measured, p95 < 3 * frame_ms and times >= 3
    )


def switches(seconds: float) -> Row:
    """Every tier of x4 at 320x180@30 in turn, once a second, for 20 seconds whatever was asked for."""
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


ROWS: dict[str, Callable[[float], Row]] = {
    "large": large,
    "overload": overload,
    "switches": switches,
    "null": null,
    "window": window,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m rtsr.live.figures", description="Measure what docs/LIVE.md claims.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)}; all but window if none is told")
    parser.add_argument("--seconds", type=float, default=600.0, help="of null and window; no other takes longer [600]")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.rows if name not in ROWS]:
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    holds = True
    for name in asked.rows or [name for name in ROWS if name != "window"]:
        row = ROWS[name](asked.seconds)
        holds &= row.holds
        print(f"{'ok  ' if row.holds else 'MISS'} {row.what} | {row.asked} | {row.measured}", flush=True)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
