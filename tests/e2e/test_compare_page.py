"""The page of `rtsr compare` in a real browser, from a file: line, zoom, moments and plots, by hand and by key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import LOSSLESS, Video, draw, steady_pts, write_clip

from rtsr.compare.comparison import Options, compare

sync_api = pytest.importorskip("playwright.sync_api", reason="make test-e2e installs playwright")
CHROMIUM = os.environ.get("RTSR_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="make test-e2e installs chromium")

SIZES = {"desk": ({"width": 1280, "height": 800}, False), "phone": ({"width": 390, "height": 844}, True)}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    pictures = [draw(i, 160, 96) for i in range(24)]
    noisy = [
        (np.clip(y.astype(int) + 3 + i % 5, 0, 255).astype(np.uint8), u, v) for i, (y, u, v) in enumerate(pictures)
    ]
    for name, planes in (("truth", pictures), ("b", noisy)):
        write_clip(folder / f"{name}.mkv", Video(**LOSSLESS, width=160, height=96, pts=steady_pts(24), planes=planes))
    write_clip(folder / "a.mkv", Video(**LOSSLESS, width=40, height=24, pts=steady_pts(24)))
    output = folder / "page.html"
    compare(folder / "a.mkv", folder / "b.mkv", Options(reference=str(folder / "truth.mkv"), output=output, frames=4))
    return output


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("dark", "light")], ids="-".join)
def page(request: pytest.FixtureRequest, page_file: Path) -> Iterator[Any]:
    """The page, which neither complains nor asks any network for anything."""
    (size, scheme), troubles = request.param, []
    viewport, mobile = SIZES[size]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(viewport=viewport, is_mobile=mobile, has_touch=mobile, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda made: made.url.startswith(("file:", "data:")) or troubles.append(made.url))
        page.goto(page_file.as_uri())
        page.wait_for_function("document.getElementById('left').naturalWidth > 0")
        yield page
        if folder := os.environ.get("RTSR_SHOTS"):
            page.screenshot(path=Path(folder, f"compare-{size}-{scheme}.png"), full_page=True)
        browser.close()
    assert troubles == []


def test_everything_by_hand_and_by_key(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[left.naturalWidth, left.naturalHeight, right.naturalWidth]") == [160, 96, 160]
    line, frame = page.locator("#line"), page.locator("#frame")

    line.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert line.get_attribute("aria-valuetext") == "2 % A, 98 % B"
    box = frame.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 40)
    page.mouse.up()
    assert line.get_attribute("aria-valuenow") == "25"

    before = page.inner_text("#zoom")
    page.keyboard.press("+")
    assert page.inner_text("#zoom") != before
    page.keyboard.press("0")
    assert page.inner_text("#zoom") == before
    page.locator("#in").click()
    assert page.inner_text("#zoom") != before

    page.keyboard.press("d")
    assert page.locator("#modes [data-mode=difference]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("s")

    first = page.inner_text("#now-title")
    page.locator("#frames button").nth(2).click()
    assert page.inner_text("#now-title") != first
    page.keyboard.press(",")
    assert page.locator("#frames button").nth(1).get_attribute("aria-pressed") == "true"
    page.select_option("#left-film", "2")
    assert page.inner_text("#left-tag") == "truth.mkv"
    assert page.locator("figure").count() >= 2  # PSNR-Y and SSIM-Y; VMAF where there is a libvmaf
    assert page.locator("figure path.curve").first.get_attribute("d").startswith("M")


def test_the_wheel_zooms_about_the_pointer(page: Any) -> None:
    box = page.locator("#frame").bounding_box()
    at = box["x"] + 0.7 * box["width"], box["y"] + 0.4 * box["height"]
    inside = """([x, y]) => { const box = document.getElementById('left').getBoundingClientRect();
                return [(x - box.left) / box.width, (y - box.top) / box.height]; }"""
    before = page.evaluate(inside, at)
    page.evaluate(
        """([x, y]) => document.getElementById('frame').dispatchEvent(
             new WheelEvent('wheel', { clientX: x, clientY: y, deltaY: -500, bubbles: true, cancelable: true }))""",
        at,
    )
    assert page.locator("#frame.zoomed").count() == 1
    assert page.evaluate(inside, at) == pytest.approx(before, abs=0.01)
