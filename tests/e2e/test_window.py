"""The window on a real X server without a screen, keys and mouse by xdotool."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from commands import command, environment

pytestmark = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")), reason="make test-e2e installs xvfb and xdotool"
)
WIDTH, HEIGHT = 1000, 700


@pytest.fixture
def display() -> Iterator[str]:
    """A fresh X server; its name."""
    reader, writer = os.pipe()
    words = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        name = f":{pipe.readline().strip()}"
    yield name
    server.terminate()
    server.wait()


def xdotool(display: str, *words: object) -> str:
    done = subprocess.run(
        ["xdotool", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "DISPLAY": display},
    )
    return done.stdout


def screenshot(display: str) -> np.ndarray:
    """The whole screen, gray (H, W)."""
    with av.open(display, format="x11grab", options={"video_size": f"{WIDTH}x{HEIGHT}", "draw_mouse": "0"}) as grabbed:
        picture = next(grabbed.decode(video=0))
    if folder := os.environ.get("RTSR_SHOTS"):
        picture.to_image().save(Path(folder) / f"window-{time.monotonic_ns()}.png")
    return picture.to_ndarray(format="gray")


def until(condition: Callable[[], bool]) -> None:
    """Wait as long as a busy machine may take."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def white_columns(display: str) -> np.ndarray:
    """Which columns of the window's lower half are white from top to bottom: where the line stands."""
    return np.flatnonzero((screenshot(display)[200:340, :640] > 225).all(axis=0))


def test_keys_and_mouse(display: str, tmp_path: Path) -> None:
    small = ("--source", "testsrc", "--size", "160x90", "--backend", "reference", "--scale", "4", "--split")
    words = command("live", *small, "--window", "--no-overlay", "--folder", tmp_path, "--json")
    session = subprocess.Popen(
        words, env=environment(DISPLAY=display), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        until(lambda: "rtsr" in xdotool(display, "search", "--onlyvisible", "--name", "rtsr live", "getwindowname"))
        until(lambda: white_columns(display).size > 0)
        line = int(white_columns(display).mean())
        assert abs(line - 320) < 10
        xdotool(display, "mousemove", line, 250, "sleep", 0.5, "mousedown", 1, "sleep", 0.5, "mousemove", 480, 250)
        until(lambda: white_columns(display).size > 0 and abs(int(white_columns(display).mean()) - 480) < 10)
        xdotool(display, "sleep", 0.3, "mouseup", 1)
        xdotool(display, "key", "s")
        until(lambda: white_columns(display).size == 0)
        xdotool(display, "key", "z")
        # The lens has a white frame: 120 pixels around the mouse.
        until(lambda: bool((screenshot(display)[250 - 60 : 250 - 57, 440:520] > 225).all(axis=1).any()))
        xdotool(display, "key", "z")
        xdotool(display, "key", "p")
        until(lambda: len(list(tmp_path.glob("*.png"))) == 2)
        xdotool(display, "key", "r")
        until(lambda: len(list(tmp_path.glob("*.mkv"))) == 1)
        time.sleep(2)
        xdotool(display, "key", "r")
        xdotool(display, "key", "d")
        xdotool(display, "sleep", 1, "key", "q")
        out, said = session.communicate(timeout=60)
    finally:
        session.kill()
        session.wait()
    assert session.returncode == 0, said
    summary = json.loads(out)
    assert summary["latency"]["frames"] > 10
    (recording,) = tmp_path.glob("*.mkv")
    assert any("detail" in note for note in summary["notices"])
    with av.open(str(recording)) as container:
        assert sum(1 for _ in container.decode(video=0)) > 1


@pytest.mark.skipif(not shutil.which("openbox"), reason="make test-e2e installs openbox")
def test_full_screen_and_closing_need_a_window_manager(display: str) -> None:
    manager = subprocess.Popen(["openbox"], env={**os.environ, "DISPLAY": display}, stderr=subprocess.DEVNULL)
    words = command("live", "--source", "testsrc", "--size", "160x90", "--backend", "reference", "--window", "--json")
    session = subprocess.Popen(
        words, env=environment(DISPLAY=display), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def covered() -> bool:
        """Whether the picture, of 640x360, reaches the screen's left and right rims."""
        middle = screenshot(display)[HEIGHT // 2 - 100 : HEIGHT // 2 + 100]
        return bool(middle[:, :20].max() > 40 and middle[:, -20:].max() > 40)

    try:
        until(lambda: "rtsr" in xdotool(display, "search", "--onlyvisible", "--name", "rtsr live", "getwindowname"))
        xdotool(display, "search", "--onlyvisible", "--name", "rtsr live", "windowfocus", "--sync")
        assert not covered()
        xdotool(display, "key", "f")
        until(covered)
        xdotool(display, "key", "f")
        until(lambda: not covered())
        xdotool(display, "key", "alt+F4")
        out, said = session.communicate(timeout=60)
    finally:
        session.kill()
        session.wait()
        manager.terminate()
        manager.wait()
    assert session.returncode == 0, said
    assert json.loads(out)["sink_errors"] == []


def test_the_screen_is_a_source(display: str) -> None:
    """A part of the black screen, captured and upscaled."""
    words = command("live", "--screen", "160x96+10+10", "--rate", "15", "--backend", "reference", "--null", "--json")
    done = subprocess.run(
        [*words, "--duration", "2"], capture_output=True, text=True, timeout=60, env=environment(DISPLAY=display)
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["output_size"] == [640, 384] and summary["upscaled"] > 0
    assert summary["latency"]["p50_ms"] < 10_000


def test_a_closed_display_is_a_sentence() -> None:
    done = subprocess.run(
        command("live", "--source", "testsrc", "--backend", "reference", "--window"),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(DISPLAY=":98765"),
    )
    assert done.returncode == 2
    assert "there is no X display :98765" in done.stderr
