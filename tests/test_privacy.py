"""Nothing is sent or fetched unless a URL is given, and no input makes rtsr open what was not named."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import pytest
from clips import Video, steady_pts, write_clip
from commands import rtsr
from no_network import forbid_network, needs_seccomp

from rtsr.errors import SourceError
from rtsr.live.stream import AvSource, Opening
from rtsr.sources.file import FileSource

offline = partial(rtsr, before=forbid_network)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    write_clip(path, Video(pts=steady_pts(6)))
    return path


@needs_seccomp
def test_the_guard_ends_a_process_that_opens_a_socket() -> None:
    code = "import socket; socket.socket(socket.AF_UNIX); print('local', flush=True); socket.socket()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, preexec_fn=forbid_network)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"local\n")


@needs_seccomp
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "reference"])
def test_upscaling_and_verifying_open_no_connection(backend: str, clip: Path, tmp_path: Path) -> None:
    if backend != "reference":
        pytest.importorskip(backend)
    output = tmp_path / "out.mp4"
    made = offline("upscale", clip, "-o", output, "--model", "nano", "--scale", "2", "--backend", backend)
    assert made.code == 0, made.stderr
    checked = offline("verify", clip, output)
    assert checked.code == 0, checked.stderr


@needs_seccomp
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("engines",),
        ("plan", "{clip}", "-o", "{folder}/out.mkv", "--model", "nano"),
        ("compare", "{clip}", "{clip}"),
        ("upscale", "{clip.parent}", "-o", "{folder}/larger", "--model", "nano", "--scale", "2"),
        ("benchmark", "--input", "{clip}", "--model", "nano", "--frames", "6"),
        ("compare", "{clip}", "{clip}", "-o", "{folder}/page.html"),
        ("live", "--source", "testsrc", "--size", "64x48", "--null", "--duration", "0.5"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_command_opens_a_connection(arguments: tuple[str, ...], clip: Path, tmp_path: Path) -> None:
    done = offline(*(word.format(clip=clip, folder=tmp_path) for word in arguments))
    assert done.code == 0, done.stderr


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", asked
        http.shutdown()
        thread.join()


HLS = """#EXTM3U
#EXT-X-TARGETDURATION:10
#EXTINF:10,
{target}
#EXT-X-ENDLIST
"""
CONCAT = "ffconcat version 1.0\nfile '{target}'\n"
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=somebody's
c=IN IP4 127.0.0.1
t=0 0
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
 mediaPresentationDuration="PT10S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">
<BaseURL>{target}</BaseURL></Representation></AdaptationSet></Period></MPD>
"""
LISTS = {
    "list.m3u8": HLS,
    "list.ffconcat": CONCAT,
    "list.sdp": SDP,
    "list.mpd": DASH,
    "list.mp4": HLS,
    "list.mkv": CONCAT,
}


def open_as_a_film(path: Path) -> None:
    FileSource(path).close()


def open_live(path: Path) -> None:
    AvSource(Opening(f"file:{path}", path.name, "file")).close()


@pytest.mark.parametrize("opened", [open_as_a_film, open_live])
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("to", ["server", "private"])
def test_a_local_list_leads_nowhere(
    name: str, to: str, opened: object, server: tuple[str, list[str]], clip: Path, tmp_path: Path
) -> None:
    address, asked = server
    (tmp_path / "private.mp4").write_bytes(clip.read_bytes())
    target = f"{address}/film.ts" if to == "server" else "private.mp4"
    (tmp_path / name).write_text(LISTS[name].format(target=target))
    with pytest.raises(SourceError, match=name):
        opened(tmp_path / name)  # type: ignore[operator]
    assert asked == []


def test_the_lists_do_lead_somewhere_else_where(server: tuple[str, list[str]], clip: Path, tmp_path: Path) -> None:
    """FFmpeg as it comes opens the private film; it asks the server only if it is allowed to."""
    address, asked = server
    (tmp_path / "list.m3u8").write_text(HLS.format(target=f"{address}/film.ts"))
    with pytest.raises(av.error.FFmpegError):
        av.open(str(tmp_path / "list.m3u8"), options={"protocol_whitelist": "file,http,tcp"})
    assert asked
    (tmp_path / "private.mp4").write_bytes(clip.read_bytes())
    (tmp_path / "list.ffconcat").write_text(CONCAT.format(target="private.mp4"))
    with av.open(str(tmp_path / "list.ffconcat")) as container:
        assert container.streams.video
