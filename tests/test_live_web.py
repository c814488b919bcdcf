"""The page's server as a browser meets it: who is let in, what is served, what the streams decode to."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the page needs its extra: pip install 'rtsr[live]'")
pytest.importorskip("starlette", reason="the page needs its extra: pip install 'rtsr[live]'")
ws = pytest.importorskip("websockets.sync.client", reason="the page needs its extra: pip install 'rtsr[live]'")

from conftest import rtsr_threads  # noqa: E402
from web_session import SmallSession  # noqa: E402

from rtsr.errors import ConfigError  # noqa: E402
from rtsr.frames import ColorTags, Frame  # noqa: E402
from rtsr.live.contract import Shown  # noqa: E402
from rtsr.live.web import WebSink, app, control, guard  # noqa: E402
from rtsr.live.web.h264 import H264, timed  # noqa: E402
from rtsr.live.web.moment import GAP, pack, stamp_bits  # noqa: E402

WIDTH, HEIGHT, SCALE = 160, 96, 4


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSession]:
    with SmallSession(tmp_path_factory.mktemp("session"), WIDTH, HEIGHT, SCALE) as running:
        yield running
    assert rtsr_threads() == []


@pytest.fixture
def no_thread_is_left() -> None:
    """In place of the one for all tests: session and page of this module run on between them, see session()."""


@pytest.fixture(scope="module")
def sink(session: SmallSession) -> Iterator[WebSink]:
    yield from _serving(session)


@pytest.fixture(scope="module")
def open_sink(session: SmallSession) -> Iterator[WebSink]:
    """On all addresses, so behind a token."""
    yield from _serving(session, host="0.0.0.0")


def _serving(session: SmallSession, host: str = "127.0.0.1") -> Iterator[WebSink]:
    said: list[str] = []
    made = WebSink(session, session.spec, SCALE, host, notice=said.append)
    session.sinks.append(made)
    yield made
    session.sinks.remove(made)
    made.close()
    made.close()  # safe to call twice
    assert said == []


def get(sink: WebSink, path: str = "", headers: dict[str, str] | None = None, base: str | None = None):
    """Status, headers and body of a GET below the sink's address (or of a path of one's own)."""
    url = urlsplit(sink.url)
    connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=10)
    try:
        connection.putrequest("GET", (url.path if base is None else base) + path, skip_host=bool(headers))
        if headers:
            headers = {"Host": f"127.0.0.1:{url.port}", **headers}
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def connect(sink: WebSink, path: str, **options):
    """A socket to the page, by 127.0.0.1 whatever it listens on."""
    url = urlsplit(sink.url)
    return ws.connect(f"ws://127.0.0.1:{url.port}{url.path}{path}", max_size=None, open_timeout=10, **options)


def heard(page, kind: str) -> dict:
    """The next message of a kind."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        message = json.loads(page.recv(timeout=10))
        if message["type"] == kind:
            return message
    raise AssertionError(f"no {kind} came")


def refused(sink: WebSink, path: str, **options) -> bool:
    from websockets.exceptions import InvalidStatus

    try:
        connect(sink, path, **options).close()
    except InvalidStatus as error:
        return error.response.status_code == 403
    return False


# Who is let in


def test_the_page_and_its_files(sink: WebSink) -> None:
    status, headers, body = get(sink)
    assert status == 200 and b"rtsr" in body and headers["content-type"].startswith("text/html")
    named = set(re.findall(rb'(?:src|href)="([\w.]+)"', body)) - {b"mjpeg"}
    scripts = {name for path, (name, _) in app.FILES.items() if path.endswith(".js")}
    assert {name.decode() for name in named} | scripts == {name for path, (name, _) in app.FILES.items() if path != "/"}
    for name in named | {script.encode() for script in scripts}:
        assert get(sink, name.decode())[0] == 200, name


def test_every_answer_carries_the_headers_that_keep_others_out(sink: WebSink) -> None:
    for path in ("", "stats.json", "nothing-here"):
        headers = {name.lower(): value for name, value in get(sink, path)[1].items()}
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_loopback_has_no_token_and_anything_else_has(sink: WebSink, open_sink: WebSink) -> None:
    assert urlsplit(sink.url).hostname == "127.0.0.1" and urlsplit(sink.url).path == "/"
    token = urlsplit(open_sink.url).path.strip("/")
    assert len(token) >= 22  # 128 bits
    assert get(open_sink)[0] == 200


@pytest.mark.parametrize("path", ["/", "/wrong/", "/stats.json", "/%2e%2e/", "/{token}x/", "/{short}/", "//{token}/"])
def test_a_wrong_token_is_refused(open_sink: WebSink, path: str) -> None:
    token = urlsplit(open_sink.url).path.strip("/")
    status, _, body = get(open_sink, base=path.format(token=token, short=token[:-1]))
    assert status == 403 and b"token" in body and token.encode() not in body


def test_a_wrong_token_opens_no_socket(open_sink: WebSink) -> None:
    port = urlsplit(open_sink.url).port
    from websockets.exceptions import InvalidStatus

    for path in ("control", "wrong/control", "wrong/mp4"):
        with pytest.raises(InvalidStatus):
            ws.connect(f"ws://127.0.0.1:{port}/{path}", open_timeout=10)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil:{port}"]
)
def test_a_rebound_name_is_refused(sink: WebSink, host: str) -> None:
    """DNS rebinding: another's name that now leads here."""
    port = urlsplit(sink.url).port
    assert get(sink, headers={"Host": host.format(port=port)})[0] == 403


def test_names_of_this_machine_are_let_in(sink: WebSink, open_sink: WebSink) -> None:
    port, open_port = urlsplit(sink.url).port, urlsplit(open_sink.url).port
    for host in ("localhost", "127.0.0.1", "LOCALHOST", "[::1]"):
        assert get(sink, headers={"Host": f"{host}:{port}"})[0] == 200, host
    for host in ("192.168.1.20", "[fd00::2]", socket.gethostname()):
        assert get(open_sink, headers={"Host": f"{host}:{open_port}"})[0] == 200, host
    assert get(sink, headers={"Host": f"192.168.1.20:{port}"})[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1"])
def test_a_foreign_origin_is_refused(sink: WebSink, origin: str) -> None:
    origin = origin.format(port=urlsplit(sink.url).port)
    assert get(sink, "stats.json", {"Origin": origin})[0] == 403
    for path in ("control", "mp4"):
        assert refused(sink, path, origin=origin)


def test_the_own_origin_is_let_in(sink: WebSink) -> None:
    own = sink.url.rstrip("/")
    assert get(sink, "stats.json", {"Origin": own})[0] == 200
    with connect(sink, "control", origin=own) as page:
        assert heard(page, "hello")["scale"] == SCALE


def test_another_page_may_link_here_but_not_use_what_is_here(sink: WebSink) -> None:
    """An <img> of another page sends no Origin; browsers tell it apart by Sec-Fetch-Site."""
    for site in ("cross-site", "same-site"):
        assert get(sink, "mjpeg", {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "image"})[0] == 403
        assert get(sink, "", {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": "document"})[0] == 200


@pytest.mark.parametrize(
    "path",
    ["../sink.py", "..%2fsink.py", "%2e%2e/sink.py", "static/app.js", "app.js/../../sink.py", "/etc/passwd",
     "file/../../../etc/passwd", "file/%2e%2e%2fapp.py", "file/unknown", "index.html"],
)  # fmt: skip
def test_no_path_leads_out(sink: WebSink, path: str) -> None:
    status, _, body = get(sink, path)
    assert status == 404 and b"import" not in body and b"root:" not in body


def test_what_is_too_large_ends_the_socket_and_not_the_server(sink: WebSink) -> None:
    from websockets.exceptions import ConnectionClosed

    with connect(sink, "control") as page:
        heard(page, "hello")
        with pytest.raises(ConnectionClosed):
            page.send(json.dumps({"type": "tier", "tier": "x" * (80 << 10)}))
            for _ in range(50):
                page.recv(timeout=10)
    assert get(sink)[0] == 200


def test_a_port_that_is_taken_is_a_sentence(sink: WebSink, session: SmallSession) -> None:
    with pytest.raises(ConfigError, match="another --web PORT"):
        WebSink(session, session.spec, SCALE, port=urlsplit(sink.url).port or 0)
    with pytest.raises(ConfigError, match="--host"):
        WebSink(session, session.spec, SCALE, host="no-such-host.invalid")


def test_what_counts_as_loopback() -> None:
    hosts = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "192.168.1.2", "example")
    assert [guard.is_loopback(host) for host in hosts] == [True, True, True, False, False, False]


# Limits


def test_viewers_beyond_the_limit_are_told_so(sink: WebSink, monkeypatch: pytest.MonkeyPatch) -> None:
    from websockets.exceptions import InvalidStatus

    with ExitStack() as viewers:
        for _ in range(app.MAX_VIEWERS):
            viewers.enter_context(connect(sink, "mp4"))
        with pytest.raises(InvalidStatus):
            connect(sink, "mp4")
        status, _, body = get(sink, "mjpeg")
        assert status == 503 and b"most" in body
    until = time.monotonic() + 10
    while json.loads(get(sink, "stats.json")[2])["viewers"] and time.monotonic() < until:
        time.sleep(0.05)
    assert json.loads(get(sink, "stats.json")[2])["viewers"] == 0  # every seat is free again
    with connect(sink, "mp4") as one:
        assert "codec" in json.loads(one.recv(timeout=10))


def test_pages_beyond_the_limit_are_told_so(sink: WebSink) -> None:
    with ExitStack() as pages:
        for _ in range(control.MAX_PAGES):
            heard(pages.enter_context(connect(sink, "control")), "hello")
        with connect(sink, "control") as late:
            assert "open already" in heard(late, "error")["text"]


# What comes


def test_stats_as_json(sink: WebSink, session: SmallSession) -> None:
    status, headers, body = get(sink, "stats.json")
    told = json.loads(body)
    assert status == 200 and headers["content-type"] == "application/json"
    assert told["input_size"] == [WIDTH, HEIGHT] and told["output_size"] == [WIDTH * SCALE, HEIGHT * SCALE]
    assert told["tier"] in told["tiers"] and told["detail"] is None and told["viewers"] == 0
    assert {"fps_in", "fps_out", "latency_p50_ms", "latency_p95_ms", "dropped", "backend"} <= told.keys()


def test_mp4_fragments_decode_to_the_pictures(sink: WebSink, session: SmallSession) -> None:
    with connect(sink, "mp4") as viewer:
        codec = json.loads(viewer.recv(timeout=10))["codec"]
        header = viewer.recv(timeout=10)
        fragments = [viewer.recv(timeout=10) for _ in range(8)]
    assert re.fullmatch(r"avc1\.[0-9a-f]{6}", codec) and header[4:8] == b"ftyp"
    with av.open(io.BytesIO(b"".join([header, *fragments]))) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.codec.canonical_name == "h264"
        frames = list(container.decode(stream))
    assert len(frames) == len(fragments)
    assert frames[0].key_frame and all(b.pts > a.pts for a, b in pairwise(frames))
    assert int(frames[0].colorspace) == 5 and int(frames[0].color_range) == 1  # as the source says
    check_packed(frames[-1].to_ndarray(format="gray"))


def test_each_viewer_begins_with_a_keyframe_of_one_encoder(sink: WebSink) -> None:
    with connect(sink, "mp4") as first:
        for _ in range(5):
            first.recv(timeout=10)
        with connect(sink, "mp4") as second:
            second.recv(timeout=10)
            header, begin = second.recv(timeout=10), second.recv(timeout=10)
        assert any(first.recv(timeout=10) == begin for _ in range(60))  # not encoded twice
    with av.open(io.BytesIO(header + begin)) as container:
        assert len(list(container.decode(video=0))) == 1


@pytest.mark.parametrize("query", ["", "?split"])
def test_mjpeg_parts_are_pictures(sink: WebSink, session: SmallSession, query: str) -> None:
    url = urlsplit(sink.url)
    connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=10)
    connection.request("GET", "/mjpeg" + query)
    response = connection.getresponse()
    assert response.getheader("content-type") == f"multipart/x-mixed-replace; boundary={app.BOUNDARY}"
    for _ in range(3):
        assert response.readline().strip() == f"--{app.BOUNDARY}".encode()
        assert response.readline().strip() == b"Content-Type: image/jpeg"
        length = int(response.readline().split(b":")[1])
        response.readline()
        picture = cv2.imdecode(np.frombuffer(response.read(length), np.uint8), cv2.IMREAD_COLOR)
        response.readline()
        if query:
            check_packed(picture[..., 1])
        else:
            assert picture.shape[:2] == (HEIGHT * SCALE, WIDTH * SCALE)
    response.close()
    connection.close()


def check_packed(gray: np.ndarray) -> None:
    """A packed picture: both halves of one moment, and a stamp that says their size and time."""
    large_height, large_width = HEIGHT * SCALE, WIDTH * SCALE
    assert gray.shape[1] == large_width
    large = gray[:large_height].astype(float)
    small = gray[large_height + GAP : large_height + GAP + HEIGHT, :WIDTH].astype(float)
    shrunk = cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    # One frame of the source moves 3 pixels, which alone would be far off: the pattern has fine rings.
    assert np.abs(shrunk - small).mean() < 9
    bits = read_bits(gray)
    width, height = bits >> 27 & 0x1FFF, bits >> 14 & 0x1FFF
    assert (width, height) == (WIDTH, HEIGHT)
    milliseconds = bits >> 40
    age = (int(time.monotonic() * 1000) - milliseconds) % (1 << 24)
    assert age < 60_000
    assert bits == stamp_bits(milliseconds / 1000 + 0.0001, width, height)


def read_bits(gray: np.ndarray) -> int:
    per_row = gray.shape[1] // 8
    rows = -(-64 // per_row)
    bits = 0
    for i in range(64):
        y = gray.shape[0] - rows * 8 + i // per_row * 8 + 4
        bits = bits << 1 | int(gray[y, i % per_row * 8 + 4] > 127)
    return bits


@pytest.mark.parametrize("size", [(160, 96), (64, 48), (34, 18)])
def test_any_size_is_packed_and_read_again(size: tuple[int, int]) -> None:
    width, height = size
    rng = np.random.default_rng(1)

    def frame(scale: int) -> Frame:
        w, h = width * scale, height * scale
        y = rng.integers(16, 236, (1, h, w), dtype=np.uint8)
        uv = rng.integers(16, 240, (2, h // 2, w // 2), dtype=np.uint8)
        return Frame(y, uv, 0, Fraction(1, 30))

    small, large = frame(1), frame(2)
    packed = pack(Shown(small, large, 1234.567, 1, "nano"))
    rows, columns = packed.y.shape[1:]
    assert rows % 2 == columns % 2 == 0 and columns == width * 2
    assert np.array_equal(packed.y[:, : height * 2], large.y)
    top = height * 2 + GAP
    assert np.array_equal(packed.y[:, top : top + height, :width], small.y)
    assert np.array_equal(packed.uv[:, top // 2 : (top + height) // 2, : width // 2], small.uv)
    assert read_bits(packed.y[0]) == stamp_bits(1234.567, width, height)


# What a page can do


def test_the_control_socket_does_what_the_buttons_say(sink: WebSink, session: SmallSession) -> None:
    session.calls.clear()
    with connect(sink, "control") as page:
        hello = heard(page, "hello")
        assert hello["source"] == [WIDTH, HEIGHT] and set(hello["camera_tiers"]) >= {"nano", "fast"}
        assert heard(page, "stats")["tier"] == "nano"
        page.send(json.dumps({"type": "ping", "id": 7}))
        pong = heard(page, "pong")
        assert pong["id"] == 7 and abs(pong["now"] / 1000 - time.monotonic()) < 10
        page.send(json.dumps({"type": "tier", "tier": "fast"}))
        while heard(page, "stats")["tier"] != "fast":
            pass
        page.send(json.dumps({"type": "tier", "tier": None}))
        page.send(json.dumps({"type": "record", "on": True}))
        assert heard(page, "recording") == {"type": "recording", "on": True, "name": "talk.mp4", "url": None}
        page.send(json.dumps({"type": "record", "on": False}))
        done = heard(page, "recording")
        assert get(sink, done["url"])[2] == b"a recording"
        page.send(json.dumps({"type": "detail", "amount": 0.5}))
        assert heard(page, "error")["text"] == "fast has no detail end"
        session.has_dial = True
        page.send(json.dumps({"type": "detail", "amount": 0.25}))
        while (told := heard(page, "stats"))["detail"] != 0.25:
            pass
        assert told["no_detail"] == ""
        session.has_dial = False
    assert [call for call in session.calls if call[0] != "snapshot"] == [
        ("tier", "fast"), ("tier", None), ("record", True), ("record", False), ("detail", 0.25)
    ]  # fmt: skip
    session.set_tier("nano")


def test_a_snapshot_is_a_pair_to_fetch(sink: WebSink) -> None:
    with connect(sink, "control") as page:
        page.send(json.dumps({"type": "snapshot"}))
        files = heard(page, "snapshot")["files"]
    assert [file["name"] for file in files] == ["snapshot-before.png", "snapshot-after.png"]
    for file in files:
        status, headers, body = get(sink, file["url"])
        picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
        assert status == 200 and picture.shape == (HEIGHT * SCALE, WIDTH * SCALE, 3)
        assert "attachment" in headers["content-disposition"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "7", "{}", '{"type": 3}', '{"type": "no"}', '{"type": "ping"}', '{"type": ["a"]}',
     '{"type": "detail", "amount": "x"}'],
)  # fmt: skip
def test_nonsense_is_answered_and_does_no_harm(sink: WebSink, text: str) -> None:
    with connect(sink, "control") as page:
        page.send(text)
        assert "unknown" in heard(page, "error")["text"]
        page.send(json.dumps({"type": "ping", "id": 1}))
        assert heard(page, "pong")["id"] == 1


def test_an_offer_that_is_none_is_answered(sink: WebSink) -> None:
    pytest.importorskip("aiortc", reason="WebRTC needs the extra: pip install 'rtsr[live]'")
    with connect(sink, "control") as page:
        page.send(json.dumps({"type": "offer", "id": 1, "sdp": "v=0 and nothing more"}))
        assert "WebRTC" in heard(page, "error")["text"]
    assert json.loads(get(sink, "stats.json")[2])["viewers"] == 0


def test_the_end_of_the_session_is_said(session: SmallSession) -> None:
    from websockets.exceptions import ConnectionClosed

    sink = WebSink(session, session.spec, SCALE)
    with connect(sink, "control") as page, connect(sink, "mp4"):
        heard(page, "hello")
        sink.close()
        assert heard(page, "over")["text"] == "The session is over."
        with pytest.raises(ConnectionClosed):
            page.recv(timeout=10)


# The encoder behind WebRTC


def test_webrtc_has_more_than_aiortcs_limits() -> None:
    """Bitrate, rate and keyframes of the encoder that aiortc gets for H.264; fails if a new aiortc asks otherwise."""
    pytest.importorskip("aiortc", reason="WebRTC needs the extra: pip install 'rtsr[live]'")
    import aiortc.rtcrtpsender
    from aiortc import RTCRtpCodecParameters

    from rtsr.live.web.rtc import lift_limits

    lift_limits(with_loopback=True)
    encoder = aiortc.rtcrtpsender.get_encoder(RTCRtpCodecParameters("video/H264", 90000, payloadType=99))
    encoder.target_bitrate = 20_000_000
    assert encoder.target_bitrate == 20_000_000
    rng = np.random.default_rng(2)
    decoder = av.CodecContext.create("h264", "r")
    keyframes, size = [], 0
    for i in range(6):
        y, uv = rng.integers(16, 236, (1, 96, 160), dtype=np.uint8), np.full((2, 48, 80), 128, np.uint8)
        picture = timed(Frame(y, uv, 0, Fraction(1, 30)), 90_000 + i * 900)  # a hundred frames a second
        packets, stamp = encoder.encode(picture, force_keyframe=i == 4)
        assert stamp == 90_000 + i * 900  # on RTP's clock, not rounded to thirtieths
        stream = b"".join(b"\0\0\0\1" + p if p[0] & 0x1F < 24 else _reassembled(p) for p in packets)
        size += len(stream)
        keyframes += [frame.key_frame for frame in decoder.decode(av.Packet(stream))]
    keyframes += [frame.key_frame for frame in decoder.decode(None)]
    assert keyframes == [True, False, False, False, True, False]


def _reassembled(payload: bytes) -> bytes:
    from aiortc.codecs.h264 import h264_depayload

    return h264_depayload(payload)


def test_nothing_is_held_back_by_the_encoder() -> None:
    encoder = H264((160, 96), ColorTags(5, range=1), Fraction(30))
    frame = Frame(np.full((1, 96, 160), 90, np.uint8), np.full((2, 48, 80), 128, np.uint8), 0, Fraction(1, 30))
    for i in range(4):
        assert len(encoder.encode(timed(frame, i * 3000), keyframe=False)) == 1


def test_the_package_carries_the_page() -> None:
    for name, _ in app.FILES.values():
        assert (app.STATIC / name).is_file(), name
    assert {path.name for path in Path(app.STATIC).iterdir()} == {name for name, _ in app.FILES.values()}
