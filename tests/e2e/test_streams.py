"""Streams over loopback between two processes of this build of PyAV: udp, http, tcp and rtmp in; udp and
rtmp out."""

from __future__ import annotations

import functools
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import command, environment

SENDER = """
import sys, time, av, numpy as np
url, fmt, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
output = av.open(url, "w", format=fmt)
stream = output.add_stream("libx264", rate=25, options={"preset": "ultrafast", "tune": "zerolatency", "g": "12"})
stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
begun = time.monotonic()
for i in range(int(25 * seconds)):
    picture = av.VideoFrame.from_ndarray(np.full((144, 160), 40 + i % 100, np.uint8), format="yuv420p")
    picture.pts = i
    output.mux(stream.encode(picture))
    time.sleep(max(begun + i / 25 - time.monotonic(), 0))
output.mux(stream.encode(None))
output.close()
"""
RECEIVER = """
import sys, av
options = {"listen": "1"} if sys.argv[1].startswith("rtmp") else {}
count, size = 0, None
with av.open(sys.argv[1], options=options, timeout=(60, 5)) as source:
    print("open", flush=True)
    try:
        for frame in source.decode(video=0):
            count, size = count + 1, (frame.width, frame.height)
            if count == 10:
                break
    except av.error.FFmpegError:
        pass
print(count, size)
"""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def live(*arguments: object) -> subprocess.Popen[str]:
    words = command("live", "--backend", "reference", "--scale", "2", "--json", *arguments)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def test_udp_comes_in_and_is_recorded_until_it_stops(tmp_path: Path) -> None:
    url = f"udp://127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    path = tmp_path / "out.mkv"
    session = live("--source", url, "--record", path, "--retry", "0", "--stall", "3")
    sender = python(SENDER, url, "mpegts", 8)
    _, said = session.communicate(timeout=120)
    sender.wait(60)
    assert session.returncode == 3, said
    assert "nothing came" in said.splitlines()[-1]
    import av

    with av.open(str(path)) as recording:
        assert (recording.streams.video[0].width, recording.streams.video[0].height) == (320, 192)
        assert sum(1 for _ in recording.decode(video=0)) > 10


def test_http_plays_at_its_own_pace(tmp_path: Path) -> None:
    python(SENDER, tmp_path / "film.mp4", "mp4", 1).wait(60)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        session = live("--source", f"http://127.0.0.1:{server.server_port}/film.mp4", "--null")
        out, said = session.communicate(timeout=120)
    finally:
        server.shutdown()
        thread.join()
    assert session.returncode == 0, said
    summary = json.loads(out)
    assert summary["captured"] == 25 and summary["seconds"] >= 0.9


@pytest.mark.parametrize(("scheme", "muxer"), [("rtmp", "flv"), ("tcp", "mpegts")])
def test_a_sender_is_waited_for(scheme: str, muxer: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"{scheme}://127.0.0.1:{port}" + ("" if scheme == "tcp" else "/live/x")
    path = tmp_path / "out.mp4"
    session = live("--source", url, "--listen", "--record", path, "--retry", "0", "--stall", "4")
    time.sleep(5)  # it must listen by then
    sender = python(SENDER, url, muxer, 8)
    _, said = session.communicate(timeout=120)
    sender.wait(60)
    assert session.returncode == 3, (said, sender.stderr and sender.stderr.read())
    import av

    with av.open(str(path)) as recording:
        assert (recording.streams.video[0].width, recording.streams.video[0].height) == (320, 192)
        assert sum(1 for _ in recording.decode(video=0)) > 5


@pytest.mark.parametrize("scheme", ["udp", "rtmp"])
def test_it_is_sent(scheme: str) -> None:
    port = free_port(socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM)
    url = f"{scheme}://127.0.0.1:{port}" + ("/live/x" if scheme != "udp" else "")
    receiver = python(RECEIVER, url)
    time.sleep(3)  # it must listen by then
    session = live("--source", "testsrc", "--size", "160x96", "--to", url, "--duration", "15")
    try:
        seen, errors = receiver.communicate(timeout=60)
    finally:
        session.terminate()
        _, said = session.communicate(timeout=60)
    assert seen.splitlines()[-1] == "10 (320, 192)", (seen, errors, said)
    assert session.returncode in (0, 5), said  # 5: the receiver hung up first
