"""The window: OpenCV's HighGUI, its keys, the line to drag and the lens."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from rtsr.errors import ConfigError, RtsrError
from rtsr.live.contract import Shown
from rtsr.live.pictures import ScreenPictures
from rtsr.live.session import Session
from rtsr.live.view import overlay_lines, with_overlay

TITLE = "rtsr live"
KEYS = "s split, z lens, t tier, d detail, p snapshot, r record, f full screen, q quit"
_LARGEST = (1600, 900)  # to open with; it can be drawn larger
_OVERLAY_S = 0.25  # figures that change more often cannot be read
_LENS_ZOOM = 3
_DRAG_REACH = 0.03  # of the width: how near the line a button must go down


class WindowSink:
    """Lives in the main thread: show() draws, pump() takes keys and the mouse.

    Raises ConfigError if there is no display, or OpenCV has no windows.
    """

    name = "window"
    is_view = True

    def __init__(self, session: Session, overlay: bool = True):
        if why := why_no_window():
            raise ConfigError(f"--window: {why}; --web shows the picture in a browser")
        os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")  # Qt misses fonts that it does not need
        self._session = session
        self._overlay = overlay
        self._lines: list[str] = []
        self._lines_at = 0.0
        self._screen = ScreenPictures(session.output_spec.color)
        self._picture: np.ndarray | None = None
        self._lens = self._full = self._dragging = self._opened = False
        self._mouse = (0, 0)
        self._closed = False
        self._split_before = 0.5

    def show(self, picture: Shown) -> None:
        frame = picture.large
        if self._overlay:
            now = time.monotonic()
            if now - self._lines_at >= _OVERLAY_S:
                self._lines, self._lines_at = overlay_lines(self._session.stats()), now
            frame = with_overlay(frame, self._lines)
        self._picture = self._screen.bgr(frame)
        self._draw()
        self._pump_once()

    def pump(self) -> None:
        """Keys and mouse. Raises nothing of what a key does: that is told in the overlay."""
        if self._opened and not self._closed:
            self._pump_once()

    def close(self) -> None:
        if self._opened and not self._closed:
            cv2.destroyWindow(TITLE)
            cv2.pollKey()
        self._closed = True

    def _open(self, height: int, width: int) -> None:
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        share = min(_LARGEST[0] / width, _LARGEST[1] / height, 1.0)
        cv2.resizeWindow(TITLE, round(width * share), round(height * share))
        cv2.setMouseCallback(TITLE, self._on_mouse)
        self._opened = True

    def _draw(self) -> None:
        picture = self._picture
        if picture is None or self._closed:
            return
        if not self._opened:
            self._open(*picture.shape[:2])
        cv2.imshow(TITLE, with_lens(picture, self._mouse) if self._lens else picture)

    def _pump_once(self) -> None:
        key = cv2.pollKey()
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:  # its button was clicked
            self._closed = True
            self._session.quit()
        elif key != -1:
            self.press(key & 0xFF)

    def press(self, key: int) -> None:
        """What a key does. key: its code."""
        session = self._session
        actions: dict[int, Callable[[], object]] = {
            ord("s"): self._toggle_split,
            ord("z"): self._toggle_lens,
            ord("t"): self._next_tier,
            ord("d"): lambda: session.note(detail_sentence(session.tier_names)),
            ord("p"): session.snapshot,
            ord("r"): lambda: session.record(session.stats().recording is None),
            ord("f"): self._toggle_full,
            ord("q"): session.quit,
            27: session.quit,
        }
        try:
            actions.get(key, lambda: None)()
        except RtsrError as error:
            session.note(str(error))

    def _toggle_split(self) -> None:
        if self._session.split is None:
            self._session.set_split(self._split_before)
        else:
            self._split_before = self._session.split
            self._session.set_split(None)

    def _toggle_lens(self) -> None:
        self._lens = not self._lens

    def _toggle_full(self) -> None:
        self._full = not self._full
        cv2.setWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN, float(self._full))

    def _next_tier(self) -> None:
        """The rate's choice, then each tier in turn."""
        choices: list[str | None] = [None, *self._session.tier_names]
        tier = choices[(choices.index(self._session.pinned) + 1) % len(choices)]
        self._session.set_tier(tier)
        self._session.note(f"tier {tier}" if tier else "the tier follows the rate")

    def _on_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        """x, y: in pixels of the picture."""
        self._mouse = x, y
        if self._picture is None:
            return
        width = self._picture.shape[1]
        line = self._session.split
        if event == cv2.EVENT_LBUTTONDOWN and line is not None:
            self._dragging = abs(x / width - line) <= _DRAG_REACH
        elif event == cv2.EVENT_LBUTTONUP:
            self._dragging = False
        if self._dragging and line is not None:
            self._session.set_split(x / width)


def with_lens(picture: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """A third of the picture's height around the mouse, three times larger on the spot. A new array (H, W, 3)."""
    height, width = picture.shape[:2]
    side = height // 3
    half = side // (2 * _LENS_ZOOM)
    x = min(max(at[0], half), width - half)
    y = min(max(at[1], half), height - half)
    large = cv2.resize(
        picture[y - half : y + half, x - half : x + half], (side, side), interpolation=cv2.INTER_NEAREST_EXACT
    )
    cv2.rectangle(large, (0, 0), (side - 1, side - 1), (255, 255, 255), 2)
    left = min(max(at[0] - side // 2, 0), width - side)
    top = min(max(at[1] - side // 2, 0), height - side)
    out = picture.copy()
    out[top : top + side, left : left + side] = large
    return out


def detail_sentence(tiers: list[str]) -> str:
    """What there is of the detail dial for these tiers."""
    from rtsr.manifest import installed_engines

    known = {engine.tier for engine in installed_engines() if engine.end == "detail"}
    if not known:
        return "no detail engines are installed; the picture is the faithful one"
    if known & set(tiers):
        return f"detail engines: choose --model {sorted(known & set(tiers))[0]}-detail"
    return f"these tiers have no detail end; {', '.join(sorted(known))} has: --model {sorted(known)[0]}-detail"


def why_no_window() -> str | None:
    """Why no window can be opened here; None if one can. Qt would end the process instead of raising."""
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        return "this build of OpenCV has no windows (opencv-python-headless); `pip install opencv-python` has"
    if not sys.platform.startswith("linux"):
        return None
    display = os.environ.get("DISPLAY")
    if not display:
        return "there is no X display ($DISPLAY is not set)"
    local = re.fullmatch(r"(?:unix)?:(\d+)(?:\.\d+)?", display)
    if local and not Path(f"/tmp/.X11-unix/X{local[1]}").exists():
        return f"there is no X display {display}"
    return None
