"""The page in a real browser: headless Chromium, driven by Playwright, against a real server and a real engine.

`make test-e2e` installs both. RTSR_CHROMIUM names another Chromium, RTSR_SHOTS a folder that keeps the screenshots.
"""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="make test-e2e installs playwright")
pytest.importorskip("aiortc", reason="the page needs its extra: pip install 'rtsr[live]'")

from web_session import SmallSession  # noqa: E402

from rtsr.live.pictures import ScreenPictures  # noqa: E402
from rtsr.live.web import WebSink  # noqa: E402
from rtsr.sources.synthetic import SyntheticSource  # noqa: E402

CHROMIUM = os.environ.get("RTSR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="make test-e2e installs chromium")

WIDTH, HEIGHT, SCALE = 160, 96, 4
LARGE = [WIDTH * SCALE, HEIGHT * SCALE]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required"),
    *("--use-fake-device-for-media-stream", "--allow-loopback-in-peer-connection"),
]
# "expect" has no business with figures that a busy machine takes its time for.
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallSession]:
    with SmallSession(tmp_path_factory.mktemp("session"), WIDTH, HEIGHT, SCALE, 12) as running:
        yield running


@pytest.fixture
def no_thread_is_left() -> None:
    """In place of the one for all tests: this module's session runs on between them."""


@pytest.fixture(scope="module")
def sink(session: SmallSession) -> Iterator[WebSink]:
    yield from serving(session)


def serving(session: SmallSession, host: str = "127.0.0.1") -> Iterator[WebSink]:
    made = WebSink(session, session.spec, SCALE, host)
    session.sinks.append(made)
    yield made
    session.sinks.remove(made)
    made.close()


@pytest.fixture(scope="module")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A visitor's camera: dark on the left, bright on the right, a square that moves."""
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with av.open(str(path), "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("wrapped_avframe", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(20):
            y = np.full((HEIGHT, WIDTH), 60, np.uint8)
            y[:, WIDTH // 2 :] = 190
            y[10:30, 4 + 6 * i : 24 + 6 * i] = 120
            chroma = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
            picture = av.VideoFrame.from_dlpack((y, chroma, chroma), format="yuv420p")
            picture.pts, picture.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def playwright() -> Iterator:
    with sync_api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def browser(playwright, camera_file: Path) -> Iterator:
    flags = [*FLAGS, "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={camera_file}"]
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
    yield chromium
    chromium.close()


@pytest.fixture
def page(browser) -> Iterator:
    yield from opened(browser)


def opened(browser, **options) -> Iterator:
    """A page of its own that fails the test with any error in its scripts."""
    context = browser.new_context(**{"viewport": {"width": 1000, "height": 760}, **options})
    context.set_default_timeout(PATIENCE_MS)
    fresh = context.new_page()
    errors: list[str] = []
    fresh.on("pageerror", lambda error: errors.append(str(error)))
    fresh.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield fresh
    context.close()
    assert errors == []


def wait(page, condition: str) -> None:
    """Not by Playwright's own function, which evaluates strings in the page: the page's policy forbids that."""
    for _ in range(PATIENCE_MS // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{condition} never came; the page says {page.inner_text('#notice')!r}")


def watch(page, sink: WebSink, way: str = "auto", pictures: int = 4) -> None:
    """Open the page and wait until some pictures have come."""
    page.goto(sink.url)
    if way != "auto":
        page.select_option("#way", way)
    playing(page, pictures)


def playing(page, pictures: int = 4) -> None:
    page.evaluate("rtsr.view.total = 0; rtsr.view.onfirst ??= (() => {"
                  " const show = rtsr.view.show.bind(rtsr.view);"
                  " rtsr.view.show = (...all) => { rtsr.view.total++; show(...all); }; return true; })()")  # fmt: skip
    wait(page, f"rtsr.view.total >= {pictures} && document.getElementById('frame').classList.contains('live')")


@pytest.mark.parametrize(("way", "label"), [("auto", "WebRTC"), ("mp4", "MP4"), ("mjpeg", "MJPEG")])
def test_the_source_plays_over_each_way(page, sink: WebSink, session: SmallSession, way: str, label: str) -> None:
    watch(page, sink, way)
    wait(page, f"document.getElementById('way-why').textContent.startsWith('{label}: ')")
    assert page.evaluate("rtsr.view.layout.large") == LARGE
    assert page.evaluate("rtsr.view.layout.small") == [WIDTH, HEIGHT]
    if label != "MJPEG":
        assert page.evaluate("document.getElementById('video').videoWidth") == LARGE[0]
    # How old what is seen is, read from the pictures themselves.
    wait(page, "rtsr.view.latency.values.length >= 2")
    assert 0 < page.evaluate("rtsr.view.latency.quantile(0.5)") < PATIENCE_MS
    wait(page, "/^\\d/.test(document.getElementById('headline-latency').textContent)")
    assert page.locator("#notice").is_hidden()
    # The colours are those of the upscaled picture, whatever the way.
    seen = page.evaluate(
        "(() => { rtsr.view.setSplit(false); const c = rtsr.view.canvas;"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const sum = [0, 0, 0];"
        " for (let i = 0; i < d.length; i++) if (i % 4 < 3) sum[i % 4] += d[i];"
        " return sum.map(s => s / (d.length / 4)); })()"
    )
    # The colours pan, and on a busy machine the page may be seconds behind: it shows one of the pattern's moments.
    pictures = ScreenPictures(session.spec.color)
    pattern = SyntheticSource(WIDTH, HEIGHT, 192, 12).frames()
    moments = np.stack([pictures.bgr(frame).mean((0, 1))[::-1] for frame in pattern])
    assert np.abs(moments - seen).max(1).min() < 6, seen


def test_before_and_after_are_on_their_sides_of_the_line(page, sink: WebSink) -> None:
    watch(page, sink)
    page.evaluate("document.querySelectorAll('video').forEach((video) => video.pause())")
    differs = page.evaluate(
        "(() => { const v = rtsr.view, c = v.canvas, x = c.getContext('2d');"
        " const read = (from, to) => x.getImageData(from * c.width, 0, (to - from) * c.width, c.height).data;"
        " const mean = (a, b) => a.reduce((s, one, i) => s + Math.abs(one - b[i]), 0) / a.length;"
        " v.setLine(0.25); const middle = read(0.3, 0.7), right = read(0.8, 1), left = read(0, 0.2);"
        " v.setLine(0.75); return [mean(middle, read(0.3, 0.7)), mean(right, read(0.8, 1)), mean(left, read(0, 0.2))];"
        "})()"
    )
    assert differs[0] > 1 and differs[1] == differs[2] == 0


def test_the_line_drags(page, sink: WebSink) -> None:
    watch(page, sink)
    box = page.locator("#picture").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, middle + 20, steps=4)
    page.mouse.up()
    assert page.get_attribute("#line", "aria-valuenow") == "30"
    page.mouse.move(box["x"] + box["width"] * 0.9, middle)  # not pressed any more
    assert page.get_attribute("#line", "aria-valuenow") == "30"
    line = page.locator("#line").bounding_box()
    assert abs(line["x"] + line["width"] / 2 - box["x"] - box["width"] * 0.3) < 2


def test_everything_works_by_keyboard(page, sink: WebSink, session: SmallSession) -> None:
    watch(page, sink)
    focused = []
    while "tier" not in focused and len(focused) < 30:
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id"))
        if focused[-1] == "line":
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Shift+ArrowRight")
            outline = page.evaluate("getComputedStyle(document.querySelector('#line i')).outlineStyle")
            assert outline == "solid"  # where one is, is seen
    wanted = ["show-session", "show-camera", "picture", "line", "split", "lens", "snapshot", "record", "full", "tier"]
    assert [name for name in focused if name in wanted] == wanted
    assert page.get_attribute("#line", "aria-valuenow") == "62"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#line", "aria-valuenow") == "60"
    for key, button in (("s", "split"), ("l", "lens")):
        before = page.get_attribute(f"#{button}", "aria-pressed")
        page.keyboard.press(key)
        assert page.get_attribute(f"#{button}", "aria-pressed") != before
    assert not page.locator("#line").is_visible()
    session.calls.clear()
    page.keyboard.press("t")
    wait(page, "document.getElementById('stat-tier').textContent === 'nano'")
    page.keyboard.press("t")
    wait(page, "document.getElementById('stat-tier').textContent === 'fast'")
    assert session.calls == [("tier", "nano"), ("tier", "fast")]
    session.set_tier("nano")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input, [role=slider], canvas')].filter(one =>"
        " !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)"
        " && one.id !== 'notice-action').map(one => one.id)"
    )
    assert unnamed == []


def test_without_the_split_the_picture_alone_is_sent(page, sink: WebSink) -> None:
    watch(page, sink)
    wait(page, "rtsr.view.latency.values.length >= 1")
    page.click("#split")
    wait(page, f"document.getElementById('video').videoHeight === {LARGE[1]} && !rtsr.view.layout.packed")
    assert page.evaluate("document.getElementById('video').videoWidth") == LARGE[0]
    page.evaluate("rtsr.view.latency.clear()")
    wait(page, "rtsr.view.latency.values.length >= 1")  # known from RTP's clock now
    assert 0 < page.evaluate("rtsr.view.latency.quantile(0.5)") < PATIENCE_MS
    page.click("#split")
    wait(page, "rtsr.view.layout.packed")


def test_figures_move_and_the_detail_dial_says_why_not(page, sink: WebSink) -> None:
    watch(page, sink)
    seen = {page.inner_text("#stats")}
    for _ in range(3):
        page.wait_for_timeout(700)
        seen.add(page.inner_text("#stats"))
    assert len(seen) > 1
    assert page.inner_text("#stat-size") == f"{WIDTH}×{HEIGHT} → {LARGE[0]}×{LARGE[1]}"
    assert page.locator("#detail").is_disabled() and "no detail end" in page.inner_text("#detail-why")


def test_the_detail_dial_is_turned_and_shows_what_came_of_it(page, sink: WebSink, session: SmallSession) -> None:
    session.has_dial = True
    try:
        watch(page, sink)
        wait(page, "!document.getElementById('detail').disabled")
        assert page.inner_text("#detail-why") == ""
        page.locator("#detail").fill("50")
        wait(page, "document.getElementById('stat-tier').textContent.endsWith(', detail 0.5')")
        session.set_detail(1.0)  # somebody else turns it
        wait(page, "document.getElementById('detail').value === '100'")
    finally:
        session.has_dial = False


def test_snapshot_and_recording(page, sink: WebSink, tmp_path: Path) -> None:
    watch(page, sink)
    loads: list = []
    page.on("download", lambda load: loads.append(load))
    page.click("#snapshot")
    while len(loads) < 2:
        page.wait_for_timeout(100)
    for load in loads:
        load.save_as(tmp_path / load.suggested_filename)
    pictures = {path.name: cv2.imread(str(path)) for path in tmp_path.iterdir()}
    shapes = {name: picture.shape for name, picture in pictures.items() if picture is not None}
    assert shapes == {"snapshot-before.png": (*LARGE[::-1], 3), "snapshot-after.png": (*LARGE[::-1], 3)}
    page.click("#record")
    wait(page, "document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    page.click("#record")
    wait(page, "document.getElementById('record').getAttribute('aria-pressed') === 'false'")
    assert page.inner_text("#downloads") == "Save talk.mp4"


@pytest.mark.parametrize(
    ("gone", "label"), [("RTCPeerConnection", "MP4"), ("RTCPeerConnection MediaSource ManagedMediaSource", "MJPEG")]
)
def test_the_next_best_way_is_taken_and_the_reason_said(page, sink: WebSink, gone: str, label: str) -> None:
    page.add_init_script("".join(f"delete window.{name};" for name in gone.split()))
    watch(page, sink)
    wait(page, f"document.getElementById('way-why').textContent.includes('So it is {label}')")
    assert "this browser has no WebRTC" in page.inner_text("#way-why")
    page.click("#show-camera")
    assert "no WebRTC" in page.inner_text("#notice-text")


def test_the_visitors_camera_comes_back_four_times_larger(page, sink: WebSink) -> None:
    watch(page, sink)
    page.click("#show-camera")
    wait(page, "document.getElementById('show-camera').getAttribute('aria-pressed') === 'true'")
    playing(page)
    assert page.evaluate("rtsr.view.layout.small") == [WIDTH, HEIGHT]
    page.click("#split")
    wait(page, f"document.getElementById('video').videoHeight === {LARGE[1]}")
    sent = page.evaluate("(() => { const s = rtsr.camera().getSettings(); return [s.width, s.height]; })()")
    got = page.evaluate(
        "(() => { const v = document.getElementById('video'); return [v.videoWidth, v.videoHeight]; })()"
    )
    assert sent == [WIDTH, HEIGHT] and got == [4 * side for side in sent]
    left, right = page.evaluate(
        "(() => { const c = rtsr.view.canvas, x = c.getContext('2d');"
        " return [0.05, 0.95].map(at => x.getImageData(at * c.width, c.height * 0.8, 1, 1).data[1]); })()"
    )
    assert left < 90 and right > 170  # what the camera sees, not the session's pattern
    wait(page, f"document.getElementById('stat-size').textContent === '{WIDTH}×{HEIGHT} → {LARGE[0]}×{LARGE[1]}'")
    loads: list = []
    page.on("download", lambda load: loads.append(load))
    page.keyboard.press("p")
    while len(loads) < 2:
        page.wait_for_timeout(100)
    assert all(load.suggested_filename.startswith("rtsr-camera-") for load in loads)
    page.click("#show-session")
    wait(page, "rtsr.view.layout && document.getElementById('way-why').textContent.startsWith('WebRTC: ')")
    assert page.evaluate("rtsr.camera()") is None


def test_a_camera_that_is_not_allowed_is_said(playwright, sink: WebSink) -> None:
    flags = [*FLAGS, "--use-fake-ui-for-media-stream=deny"]
    chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
    try:
        for page in opened(chromium):
            watch(page, sink)
            page.click("#show-camera")
            wait(
                page, "document.getElementById('notice-text').textContent.includes('did not give this page the camera')"
            )
            assert page.get_attribute("#notice", "role") == "alert"
            playing(page)  # the session's picture is back
    finally:
        chromium.close()


def test_a_lost_connection_comes_back_by_itself(page, sink: WebSink) -> None:
    watch(page, sink)
    page.evaluate("rtsr.told = []; rtsr.control.addEventListener('lost', () => setTimeout(() =>"
                  " rtsr.told.push(document.getElementById('notice-text').textContent)))")  # fmt: skip
    page.evaluate("rtsr.control.socket.close()")
    wait(page, "rtsr.told.length > 0")
    assert "The connection was lost; trying again in" in page.evaluate("rtsr.told[0]")
    playing(page)
    wait(page, "document.getElementById('notice').hidden")


def test_the_end_of_the_session_is_said(page, session: SmallSession) -> None:
    for sink in serving(session):
        watch(page, sink)
        sink.close()
        wait(page, "document.getElementById('notice-text').textContent === 'The session is over.'")
        assert page.locator("#snapshot").is_disabled()
        page.wait_for_timeout(1000)
        assert not page.evaluate("rtsr.control.open")  # and does not come back


def test_foreign_pages_and_wrong_tokens_are_refused(page, sink: WebSink, session: SmallSession) -> None:
    for behind_token in serving(session, "0.0.0.0"):
        url = urlsplit(behind_token.url)
        local = f"http://127.0.0.1:{url.port}"
        for path in ("/", "/wrong/"):
            assert page.goto(local + path).status == 403
            assert "token" in page.inner_text("body")
        page.goto(local + url.path)
        playing(page)
        with foreign_page() as foreign:
            page.goto(foreign)
            for base in (sink.url, local + url.path):
                tried = page.evaluate(TRY_FROM_ELSEWHERE, base)
                assert tried == {"control": "refused", "mp4": "refused", "stats": "refused", "picture": "refused"}


TRY_FROM_ELSEWHERE = """async (base) => {
  const socket = (path) => new Promise((done) => {
    const one = new WebSocket(base.replace("http", "ws") + path);
    one.onmessage = () => done("let in");
    one.onclose = () => done("refused");
  });
  const picture = new Promise((done) => {
    const one = new Image();
    one.onload = () => done("let in");
    one.onerror = () => done("refused");
    one.src = base + "icon.svg";
  });
  const stats = fetch(base + "stats.json").then(() => "let in", () => "refused");
  return { control: await socket("control"), mp4: await socket("mp4"), stats: await stats, picture: await picture };
}"""


class foreign_page:
    """Another site on this machine."""

    def __enter__(self) -> str:
        class Empty(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<!doctype html>")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}/"

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_without_a_secure_context_the_camera_says_why(page, session: SmallSession) -> None:
    for sink in serving(session, "0.0.0.0"):
        host = urlsplit(sink.url).hostname or ""
        if host.startswith("127.") or not host[0].isdigit():
            pytest.skip("this machine has no address but loopback, which browsers take for secure")
        page.goto(sink.url)
        playing(page)
        page.click("#show-camera")
        assert "only over https or on the machine itself" in page.inner_text("#notice-text")


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize(("name", "size"), [("desk", (1440, 900)), ("phone", (390, 844))])
def test_it_looks_right(browser, sink: WebSink, tmp_path: Path, name: str, size: tuple[int, int], scheme: str) -> None:
    """What a program can tell of it; the screenshots are for people."""
    phone = name == "phone"
    options = {"is_mobile": phone, "has_touch": phone, "device_scale_factor": 2 if phone else 1}
    viewport = {"width": size[0], "height": size[1]}
    for page in opened(browser, viewport=viewport, color_scheme=scheme, **options):
        watch(page, sink)
        page.keyboard.press("l") if not phone else page.tap("#lens")
        folder = Path(os.environ.get("RTSR_SHOTS", tmp_path))
        page.screenshot(path=folder / f"web-{name}-{scheme}.png", full_page=phone, animations="disabled")
        width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room
        back, text = page.evaluate("(({ backgroundColor: b, color: c }) => [b, c])(getComputedStyle(document.body))")
        assert contrast(back, text) > 7 and (luminance(back) < 0.1) == (scheme == "dark")
        for id in ("split", "lens", "snapshot", "record", "full", "tier", "show-camera"):
            box = page.locator(f"#{id}").bounding_box()
            assert box["height"] >= 40 and box["x"] >= 0 and box["x"] + box["width"] <= size[0], id
        picture = page.locator("#picture").bounding_box()
        assert abs(picture["width"] / picture["height"] - WIDTH / HEIGHT) < 0.02
        assert picture["width"] > size[0] * (0.9 if phone else 0.5)


def luminance(color: str) -> float:
    """WCAG's relative luminance of `rgb(r, g, b)`."""
    values = np.array([int(part) / 255 for part in color[4:-1].split(",")])
    linear = np.where(values <= 0.03928, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
