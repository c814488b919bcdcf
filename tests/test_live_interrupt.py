"""Ctrl-C and SIGTERM in a live session: while engines compile, while it runs, and while it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from commands import environment

# The program with one part slowed down: PATCH says on stdout when it is there.
PROGRAM = """
import sys, time
from rtsr.cli import main
{patch}
sys.argv = ["rtsr", "live", "--source", "testsrc", "--size", "64x48", "--backend", "reference", *sys.argv[1:]]
main()
"""
SLOW_COMPILATION = """
from rtsr.live.tiers import Tier
Tier.prepare = lambda tier, size: (print("there", flush=True), time.sleep(100))
"""
SLOW_END = """
from rtsr.live.outputs import NullSink
NullSink.show = lambda sink, picture: (print("there", flush=True), True)[1]
NullSink.close = lambda sink: (print("ending", flush=True), time.sleep(100))
"""
TOLD_WHEN_SHOWN = """
from rtsr.live.outputs import NullSink
NullSink.show = lambda sink, picture: (print("there", flush=True), True)[1]
"""


def start(patch: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", PROGRAM.format(patch=patch), *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def wait_for(session: subprocess.Popen[str], word: str) -> None:
    assert session.stdout is not None
    while (line := session.stdout.readline()).strip() != word:
        assert line, "it ended too early"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_engines_compile_it_ends_at_once(number: int) -> None:
    session = start(SLOW_COMPILATION, "--null")
    wait_for(session, "there")
    session.send_signal(number)
    _, said = session.communicate(timeout=60)
    assert session.returncode == 130
    assert said.splitlines() == ["rtsr: interrupted before the first picture"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_running_session_ends_with_its_summary_and_its_recording(number: int, tmp_path: Path) -> None:
    session = start(TOLD_WHEN_SHOWN, "--null", "--record", tmp_path / "out.mp4")
    for _ in range(10):
        wait_for(session, "there")
    session.send_signal(number)
    session.send_signal(number)  # as timeout(1) does
    _, said = session.communicate(timeout=60)
    assert session.returncode == 0, said
    assert "frames in" in said
    with av.open(str(tmp_path / "out.mp4")) as recording:
        assert sum(1 for _ in recording.decode(video=0)) >= 1


def test_a_second_time_it_ends_whatever_it_waits_for() -> None:
    session = start(SLOW_END, "--null")
    wait_for(session, "there")
    session.send_signal(signal.SIGINT)
    wait_for(session, "ending")
    time.sleep(1.1)  # what comes sooner belongs to the first
    session.send_signal(signal.SIGINT)
    _, said = session.communicate(timeout=60)
    assert session.returncode == 130
    assert said.splitlines() == ["rtsr: interrupted; a recording may lack its last seconds"]
