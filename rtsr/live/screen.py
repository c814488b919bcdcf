"""The window's own process: OpenCV's HighGUI and nothing else.

PyAV and opencv-python each bring their own libxcb; in one process the first window never appears. So the session keeps
PyAV, this process keeps Qt, and pictures go from one to the other through a file in memory.

stdin, a JSON object a line: {"file", "width", "height", "split"}: show the BGR picture in that file. End of input ends
the process. stdout, a word a line: `ready`, `shown`, `key CODE`, `split AT`, `closed`.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from typing import Any

os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")

import cv2
import numpy as np

TITLE = "rtsr live"
_LARGEST = (1600, 900)  # to open with; it can be drawn larger
_TURN_S = 0.005  # between two looks at keys and mouse
_LENS_ZOOM = 3
_DRAG_REACH = 0.03  # of the width: how near the line a button must go down


class Screen:
    """The window, its lens and the line that can be dragged. Everything in the main thread."""

    def __init__(self) -> None:
        self._picture: np.ndarray | None = None
        self._file, self._memory = "", np.empty(0, np.uint8)
        self._split: float | None = None
        self._lens = self._full = self._dragging = self._opened = False
        self._mouse = (0, 0)

    def show(self, order: dict[str, Any]) -> None:
        height, width = order["height"], order["width"]
        if order["file"] != self._file:
            self._file = order["file"]
            self._memory = np.memmap(self._file, np.uint8, "r", shape=(height, width, 3))
        self._picture, self._split = self._memory, order["split"]
        self._draw()
        self.turn()
        say("shown")

    def turn(self) -> bool:
        """Keys and the mouse; False once the window is closed."""
        if not self._opened:
            return True
        key = cv2.pollKey()
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            say("closed")
            return False
        match key & 0xFF if key != -1 else None:
            case None:
                pass
            case 122:  # z
                self._lens = not self._lens
                self._draw()
            case 102:  # f
                self._full = not self._full
                cv2.setWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN, float(self._full))
            case code:
                say(f"key {code}")
        return True

    def _draw(self) -> None:
        picture = self._picture
        if picture is None:
            return
        height, width = picture.shape[:2]
        if not self._opened:
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            share = min(_LARGEST[0] / width, _LARGEST[1] / height, 1.0)
            cv2.resizeWindow(TITLE, round(width * share), round(height * share))
            cv2.setMouseCallback(TITLE, self._on_mouse)
            self._opened = True
        cv2.imshow(TITLE, with_lens(picture, self._mouse) if self._lens else picture)

    def _on_mouse(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        """x, y: in pixels of the picture."""
        self._mouse = x, y
        if self._picture is None or self._split is None:
            self._dragging = False
            return
        at = x / self._picture.shape[1]
        if event == cv2.EVENT_LBUTTONDOWN:
            self._dragging = abs(at - self._split) <= _DRAG_REACH
        elif event == cv2.EVENT_LBUTTONUP:
            self._dragging = False
        if self._dragging:
            say(f"split {min(max(at, 0.0), 1.0):.4f}")


def with_lens(picture: np.ndarray, at: tuple[int, int]) -> np.ndarray:
    """A ninth of the picture's height around the mouse, three times larger on the spot. A new array (H, W, 3)."""
    height, width = picture.shape[:2]
    side = height // 3
    half = side // (2 * _LENS_ZOOM)
    x = min(max(at[0], half), width - half)
    y = min(max(at[1], half), height - half)
    seen = picture[y - half : y + half, x - half : x + half]
    large = cv2.resize(seen, (side, side), interpolation=cv2.INTER_NEAREST)
    cv2.rectangle(large, (0, 0), (side - 1, side - 1), (255, 255, 255), 2)
    left = min(max(at[0] - side // 2, 0), width - side)
    top = min(max(at[1] - side // 2, 0), height - side)
    out = picture.copy()
    out[top : top + side, left : left + side] = large
    return out


def say(word: str) -> None:
    print(word, flush=True)


def main() -> None:
    orders: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            orders.put(line)
        orders.put("")

    threading.Thread(target=read, name="rtsr-orders", daemon=True).start()
    screen = Screen()
    say("ready")
    while True:
        try:
            line = orders.get(timeout=_TURN_S)
        except queue.Empty:
            if not screen.turn():
                break
            continue
        if not line:
            break
        screen.show(json.loads(line))
    cv2.destroyAllWindows()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):  # the session tells what ended it
        main()
    os._exit(0)  # whatever Qt still wants
