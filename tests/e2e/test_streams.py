"""Streams over loopback between two processes of this build of PyAV: udp, http, tcp, rtmp and rtsp in; udp, rtmp and
rtsp out. RTSP as well with GStreamer's server, which shares no code with FFmpeg."""

from __future__ import annotations

import functools
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from commands import command, environment

SENDER = """
import sys, time, av, numpy as np
url, fmt, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
tcp = {"rtsp_transport": "tcp"} if fmt == "rtsp" else {}
output = av.open(url, "w", format=fmt, container_options=tcp)
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
options = {"rtmp": {"listen": "1"}, "rtsp": {"rtsp_flags": "listen", "listen_timeout": "60"}}.get(sys.argv[1][:4], {})
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


@pytest.mark.parametrize(("scheme", "muxer"), [("rtmp", "flv"), ("tcp", "mpegts"), ("rtsp", "rtsp")])
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
    with av.open(str(path)) as recording:
        assert (recording.streams.video[0].width, recording.streams.video[0].height) == (320, 192)
        assert sum(1 for _ in recording.decode(video=0)) > 5


@pytest.mark.parametrize("scheme", ["udp", "rtmp", "rtsp"])
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


def test_a_receiver_that_comes_back_is_connected_again() -> None:
    """RTMP: the first receiver takes ten pictures and leaves; the second one takes ten more at the same address."""
    url = f"rtmp://127.0.0.1:{free_port()}/live/x"
    first = python(RECEIVER, url)
    time.sleep(3)  # it must listen by then
    session = live("--source", "testsrc", "--size", "160x96", "--to", url, "--retry", "20", "--duration", "120")
    try:
        first.communicate(timeout=60)
        second = python(RECEIVER, url)
        seen, errors = second.communicate(timeout=100)
    finally:
        session.send_signal(signal.SIGINT)
        _, said = session.communicate(timeout=60)
    assert seen.splitlines()[-1] == "10 (320, 192)", (seen, errors, said)
    assert "connecting again in 0.5 s (1 of 20)" in said and "connected again" in said


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux's")
@pytest.mark.parametrize("scheme", ["rtmp", "rtsp"])
def test_a_receiver_that_stalls_breaks_the_connection(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}/live/x"
    receiver = python(RECEIVER.replace("== 10", "== 10**6"), url)
    time.sleep(3)  # it must listen by then
    big = ("--size", "640x360", "--bitrate", "40M", "--duration", "100")
    session = live("--source", "testsrc", *big, "--to", url)
    try:
        assert receiver.stdout is not None and receiver.stdout.readline().strip() == "open"
        receiver.send_signal(signal.SIGSTOP)
        _, said = session.communicate(timeout=90)
    finally:
        receiver.kill()
        receiver.communicate()
    assert session.returncode == 5 and "the connection broke" in said.splitlines()[-1], said


SYSTEM_PYTHON = "/usr/bin/python3"  # Debian's packages of GStreamer are for it
BINDINGS = "import gi; gi.require_version('GstRtspServer', '1.0')"
needs_gstreamer = pytest.mark.skipif(
    not Path(SYSTEM_PYTHON).exists()
    or subprocess.run([SYSTEM_PYTHON, "-c", BINDINGS], capture_output=True, check=False).returncode != 0,
    reason="make test-e2e installs GStreamer's RTSP server",
)


@pytest.fixture
def rtsp_server(tmp_path: Path) -> Iterator[str]:
    """Serves a film of four seconds at /film, takes what comes to /in into `sent.h264`; its address."""
    python(SENDER, tmp_path / "film.mp4", "mp4", 4).wait(60)
    server = Path(__file__).with_name("rtsp_server.py")
    words = [SYSTEM_PYTHON, str(server), str(tmp_path / "film.mp4"), str(tmp_path / "sent.h264")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"rtsp://127.0.0.1:{process.stdout.readline().strip()}"
    process.terminate()
    process.communicate()


@needs_gstreamer
def test_an_rtsp_server_is_played(rtsp_server: str, tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    session = live("--source", f"{rtsp_server}/film", "--record", path)
    out, said = session.communicate(timeout=120)
    assert session.returncode == 0, said
    assert json.loads(out)["captured"] > 25
    with av.open(str(path)) as recording:
        assert (recording.streams.video[0].width, recording.streams.video[0].height) == (320, 192)
        assert sum(1 for _ in recording.decode(video=0)) > 10


@needs_gstreamer
def test_an_rtsp_server_is_sent_to(rtsp_server: str, tmp_path: Path) -> None:
    session = live("--source", "testsrc", "--size", "160x96", "--to", f"{rtsp_server}/in", "--duration", "4")
    _, said = session.communicate(timeout=120)
    assert session.returncode == 0, said
    with av.open(str(tmp_path / "sent.h264")) as sent:
        frames = [(frame.width, frame.height) for frame in sent.decode(video=0)]
    assert len(frames) > 10 and set(frames) == {(320, 192)}


def test_an_rtsp_address_where_nothing_is_says_so() -> None:
    session = live("--source", f"rtsp://127.0.0.1:{free_port()}/x", "--null")
    _, said = session.communicate(timeout=60)
    assert session.returncode == 3
    assert "cannot be opened (Connection refused)" in said.splitlines()[-1]
