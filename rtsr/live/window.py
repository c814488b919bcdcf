"""The window as a sink: pictures to its process, keys and the mouse back."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from rtsr.errors import ConfigError, RtsrError, SinkError
from rtsr.live.contract import Shown
from rtsr.live.pictures import ScreenPictures
from rtsr.live.session import Session
from rtsr.live.view import overlay_lines, with_overlay

_OVERLAY_S = 0.25  # figures that change more often cannot be read
_START_S = 30.0
_SHOWN_S = 10.0  # a window that takes longer for one picture hangs
_END_S = 5.0


class WindowSink:
    """show() returns when the picture is drawn. overlay: figures in the corner.

    Raises ConfigError if there is no display, or OpenCV has no windows.
    """

    name = "window"
    is_view = True

    def __init__(self, session: Session, overlay: bool = True):
        if why := why_no_window():
            raise ConfigError(f"--window: {why}; --web shows the picture in a browser")
        self._session, self._overlay = session, overlay
        self._lines: list[str] = []
        self._lines_at = 0.0
        self._screen = ScreenPictures(session.output_spec.color)
        self._split_before = 0.5
        self._memory = np.empty((0, 0, 3), np.uint8)
        self._folder = tempfile.TemporaryDirectory(prefix="rtsr-", dir=_memory_folder(), ignore_cleanup_errors=True)
        self._ready, self._shown = threading.Event(), threading.Event()
        self._ended = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rtsr.live.screen"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("RTSR_DEBUG") == "1" else subprocess.DEVNULL,
            text=True,
            process_group=0,  # Ctrl-C is the session's to answer
        )
        self._reader = threading.Thread(target=self._read, name="rtsr-keys", daemon=True)
        self._reader.start()
        if not self._ready.wait(_START_S) or self._ended:
            self.close()
            raise ConfigError(f"--window: no window opens on display {os.environ.get('DISPLAY', '')}")

    def show(self, picture: Shown) -> bool:
        frame = picture.large
        if self._overlay:
            now = time.monotonic()
            if now - self._lines_at >= _OVERLAY_S:
                self._lines, self._lines_at = overlay_lines(self._session.stats()), now
            frame = with_overlay(frame, self._lines)
        bgr = self._screen.bgr(frame)
        if is_new := bgr.shape != self._memory.shape:
            self._make_room(bgr.shape)
        self._memory[:] = bgr
        self._shown.clear()
        order = {"file": str(self._file), "width": bgr.shape[1], "height": bgr.shape[0], "split": self._session.split}
        try:
            assert self._process.stdin is not None, "it was opened with a pipe"
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._ended = True
        drawn = self._shown.wait(_SHOWN_S)
        if is_new:
            with suppress(OSError):  # Windows keeps the name of what is open
                self._file.unlink()  # both have the memory; however this ends, it is freed with them
        if self._ended:
            self._session.quit()
        elif not drawn:
            raise SinkError(f"the window does not draw any more (waited {_SHOWN_S:g} s)")
        return not self._ended

    def close(self) -> None:
        process = self._process
        if process.stdin is not None:
            with suppress(OSError):  # it has gone already
                process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not threading.current_thread():
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()
        self._folder.cleanup()

    def _make_room(self, shape: tuple[int, ...]) -> None:
        self._file = Path(self._folder.name) / f"{shape[1]}x{shape[0]}-{time.monotonic_ns()}"
        self._memory = np.memmap(self._file, np.uint8, "w+", shape=shape)

    def _read(self) -> None:
        """What the window's process says, until it ends."""
        assert self._process.stdout is not None, "it was opened with a pipe"
        for line in self._process.stdout:
            match line.split():
                case ["ready"]:
                    self._ready.set()
                case ["shown"]:
                    self._shown.set()
                case ["split", at]:
                    self._session.set_split(float(at))
                case ["key", code]:
                    self.press(int(code))
                case ["closed"]:
                    self._session.quit()
        self._ended = True
        self._ready.set()
        self._shown.set()

    def press(self, key: int) -> None:
        """What a key does, by its code; what goes wrong is told in the overlay."""
        session = self._session
        actions: dict[int, Callable[[], object]] = {
            ord("s"): self._toggle_split,
            ord("t"): self._next_tier,
            ord("d"): self._next_detail,
            ord("p"): session.snapshot,
            ord("r"): lambda: session.record(session.stats().recording is None),
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

    def _next_tier(self) -> None:
        """The rate's choice, then each tier in turn."""
        choices: list[str | None] = [None, *self._session.tier_names]
        tier = choices[(choices.index(self._session.pinned) + 1) % len(choices)]
        self._session.set_tier(tier)
        self._session.note(f"tier {tier}" if tier else "the tier follows the rate")

    def _next_detail(self) -> None:
        detail = next_detail(self._session.detail)
        self._session.set_detail(detail)
        self._session.note(f"detail {detail:g}")


def next_detail(detail: float) -> float:
    """The next quarter of the way to the detail end, 0..1; 0 again after 1."""
    quarter = math.floor(4 * detail + 1e-6) + 1
    return quarter / 4 if quarter <= 4 else 0.0


def why_no_window() -> str | None:
    """Why no window can be opened here; None if one can. Qt would end its process without a word."""
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


def _memory_folder() -> str | None:
    """Where files never touch a disk; None for the system's own place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
