"""What a live session was: for a person in a few lines, for a program as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Switch:
    """A change of tier. gap_ms: the longest pause between two upscaled frames in the second from then on."""

    at_s: float
    before: str
    after: str
    gap_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """captured: frames that the source had; upscaled: of those; latency: p50_ms, p95_ms, worst_ms from capture to
    shown, by_minute the same for each minute, with fps. dropped: by cause. memory_mb: resident, each minute and last.
    came_as: the source's pixels, if they had to be made 8-bit 4:2:0 of limited range.
    """

    source: str
    came_as: str | None
    seconds: float
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    tier: str
    detail: float | None
    backend: str
    target_fps: float | None
    captured: int
    upscaled: int
    fps_in: float
    fps_out: float
    latency: dict[str, float]
    by_minute: list[dict[str, float]]
    dropped: dict[str, int]
    switches: list[Switch]
    memory_mb: list[float]
    notices: list[str]
    sink_errors: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        drops = ", ".join(f"{count} {cause}" for cause, count in self.dropped.items() if count) or "none"
        latency = self.latency
        lines = [
            f"{self.source}: {self.upscaled} of {self.captured} frames in {self.seconds:.1f} s, "
            f"{self.fps_out:.1f} fps, {'x'.join(map(str, self.input_size))} -> "
            f"{'x'.join(map(str, self.output_size))}, {named(self.tier, self.detail)} ({self.backend})",
            f"capture to shown: p50 {latency['p50_ms']:.1f} ms, p95 {latency['p95_ms']:.1f}, "
            f"worst {latency['worst_ms']:.1f}; dropped: {drops}",
        ]
        if self.came_as:
            lines.append(f"the pictures came as {self.came_as} and were made 8-bit 4:2:0 of limited range")
        if self.switches:
            worst = max(switch.gap_ms for switch in self.switches)
            lines.append(f"{len(self.switches)} changes of tier, the longest pause {worst:.0f} ms")
        return lines


def named(tier: str, detail: float | None) -> str:
    """`balanced`, or `balanced detail 0.5`."""
    return f"{tier} detail {detail:g}" if detail else tier


def memory_mb() -> float:
    """Resident memory of this process; 0 where the system does not tell."""
    try:
        return round(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6, 1)
    except (OSError, IndexError, ValueError):
        return 0.0
