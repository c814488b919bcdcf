"""Ctrl-C and a polite kill in the middle of a job: one sentence, an exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from clips import Video, steady_pts, write_clip
from commands import SMALL, Outcome, command, environment

SLOW = ("--codec", "libx264", "--preset", "veryslow", "--scale", "4")  # minutes of work, so never over too soon


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    video = Video(width=320, height=180, pts=steady_pts(240), options={"preset": "ultrafast"})
    return write_clip(tmp_path / "in.mp4", video)


def interrupted(clip: Path, number: signal.Signals, *options: str) -> Outcome:
    """Start a long job, wait until frames are being encoded, send the signal, wait for the end."""
    output = clip.with_name("out.mkv")
    running = subprocess.Popen(
        command("upscale", clip, "-o", output, *SMALL, *SLOW, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        wait_for_work(clip.with_name("out.mkv.rtsr"), running)
        running.send_signal(number)
        stdout, stderr = running.communicate(timeout=120)
    finally:
        running.kill()
    return Outcome(running.returncode, stdout.decode(), stderr.decode())


def wait_for_work(folder: Path, running: subprocess.Popen[bytes]) -> None:
    """Until a segment is begun and the process has used over a second of CPU, most of it in the encoder."""
    while not any(folder.glob("000000.*")) or cpu_seconds(running.pid) < 1.5:
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_job_leaves_nothing(number: signal.Signals, clip: Path) -> None:
    before = clip.read_bytes()
    outcome = interrupted(clip, number)
    assert outcome.code == 130
    assert [p.name for p in clip.parent.iterdir()] == ["in.mp4"]
    assert clip.read_bytes() == before
    assert "interrupted" in outcome.sentence


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_an_interrupted_job_keeps_its_promise_of_one_document(clip: Path) -> None:
    outcome = interrupted(clip, signal.SIGINT, "--json")
    assert json.loads(outcome.stdout)["exit_code"] == outcome.code == 130
