"""What a person sees: the line between before and after, and figures in a corner, drawn on the planes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from rtsr.frames import Frame
from rtsr.live.contract import LiveStats, Shown
from rtsr.live.summary import named

_BLACK, _WHITE, _NEUTRAL = 16, 235, 128  # of limited range
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def enlarged(small: Frame, size: tuple[int, int]) -> Frame:
    """The frame as it is without rtsr: bicubic to (height, width), even."""
    height, width = size
    y = cv2.resize(small.y[0], (width, height), interpolation=cv2.INTER_CUBIC)
    uv = [cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_CUBIC) for plane in small.uv]
    return replace(small, y=y[None], uv=np.stack(uv))


def with_split(shown: Shown, at: float) -> Shown:
    """Before to the left of a line at `at` (0..1 of the width), after to the right of it. A new large frame."""
    large, small = shown.large, shown.small
    height, width = large.y.shape[1:]
    scale = width // small.y.shape[2]
    step = 2 * scale
    line = min(max(round(at * width), 0), width)
    # Only what is left of the line is enlarged, in whole chroma samples, and a few more for the filter's reach.
    columns = min((line // step + 4) * 2, small.y.shape[2])
    part = replace(small, y=small.y[:, :, :columns], uv=small.uv[:, :, : columns // 2])
    before = enlarged(part, (height, columns * scale))
    y, uv = large.y.copy(), large.uv.copy()
    y[:, :, :line] = before.y[:, :, :line]
    uv[:, :, : line // 2] = before.uv[:, :, : line // 2]
    thick = max(width // 640, 1)
    left, right = max(line - thick, 0), min(line + thick, width)
    y[:, :, left:right] = _WHITE
    uv[:, :, left // 2 : right // 2] = _NEUTRAL
    return replace(shown, large=replace(large, y=y, uv=uv))


def overlay_lines(stats: LiveStats) -> list[str]:
    """The figures as text."""
    target = f" of {stats.target_fps:g}" if stats.target_fps else ""
    sizes = "{}x{} -> {}x{}".format(*stats.input_size, *stats.output_size)
    lines = [
        f"{stats.fps_out:.1f}{target} fps  {named(stats.tier, stats.detail)} ({stats.backend})  {sizes}",
        f"latency {stats.latency_p50_ms:.0f} ms  p95 {stats.latency_p95_ms:.0f}  worst {stats.latency_worst_ms:.0f}",
        "dropped " + (", ".join(f"{count} {cause}" for cause, count in stats.dropped.items() if count) or "none"),
    ]
    if stats.recording:
        lines.append(f"recording {stats.recording}")
    return lines + stats.notices[-1:]


def with_overlay(frame: Frame, lines: list[str]) -> Frame:
    """Lines of text on a dark box in the upper left corner. A new frame."""
    height, width = frame.y.shape[1:]
    scale = max(height / 1080, 0.4)
    row = round(36 * scale)
    lines = [line.encode("ascii", "replace").decode() for line in lines]  # all that OpenCV's letters have
    box_width = max(cv2.getTextSize(line, _FONT, 0.8 * scale, 1)[0][0] for line in lines) + row
    right, bottom = min(box_width // 2 * 2, width), min((row * len(lines) + row // 2) // 2 * 2, height)
    y, uv = frame.y.copy(), frame.uv.copy()
    y[0, :bottom, :right] = y[0, :bottom, :right] // 4 + _BLACK
    uv[:, : bottom // 2, : right // 2] = _NEUTRAL
    for i, line in enumerate(lines):
        at = (row // 2, row * (i + 1) - row // 4)
        cv2.putText(y[0], line, at, _FONT, 0.8 * scale, _WHITE, max(round(1.6 * scale), 1), cv2.LINE_AA)
    return replace(frame, y=y, uv=uv)
