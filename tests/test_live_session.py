"""A live session from source to sinks: real interpolation, real files; no claims about speed."""

from __future__ import annotations

import json
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from commands import rtsr
from live_fakes import FakeDevice, Gallery, picture, removed, small_ladder

from rtsr.errors import ConfigError, SinkError, SourceError
from rtsr.live.command import with_values
from rtsr.live.hold import RateHolder
from rtsr.live.meter import Latencies, Rate
from rtsr.live.pattern import PatternSource
from rtsr.live.screen import with_lens
from rtsr.live.session import Session
from rtsr.live.sources import SourceChoice, open_live_source
from rtsr.live.stream import AvSource, Opening
from rtsr.live.view import with_overlay, with_split


def pattern_session(**options: object) -> Session:
    return Session(PatternSource(64, 48, Fraction(60)), small_ladder(), 2, **options)  # type: ignore[arg-type]


def test_pictures_arrive_in_order_twice_as_large_and_every_frame_is_accounted_for() -> None:
    session, gallery = pattern_session(), Gallery()
    session.add(gallery)
    summary = session.run(0.5)
    numbers = [shown.number for shown in gallery.pictures]
    assert numbers == sorted(set(numbers)) and numbers
    assert all(shown.large.y.shape == (1, 96, 128) for shown in gallery.pictures)
    assert gallery.closed == 1
    assert summary.upscaled == len(numbers) + summary.dropped["gallery"]
    # The session can end between the counting of a frame and its taking.
    assert 0 <= summary.captured - summary.dropped["source"] - summary.dropped["infer"] - summary.upscaled <= 2
    assert summary.latency["frames"] == len(numbers)


def test_a_slow_sink_sees_the_newest_and_holds_nobody_up() -> None:
    session, slow, quick = pattern_session(), Gallery(slow_s=0.15), Gallery()
    slow.name = "slow"
    session.add(quick)
    session.add(slow)
    summary = session.run(0.8)
    assert len(slow.pictures) < len(quick.pictures)
    assert summary.dropped["slow"] > 0
    for before, after in pairwise(slow.pictures):
        assert after.number > before.number


def test_a_sink_that_fails_leaves_the_others_alone() -> None:
    session, bad, good = pattern_session(), Gallery(fail_at=1), Gallery()
    session.add(bad)
    session.add(good)
    summary = session.run(0.5)
    assert summary.sink_errors == ["the gallery is full"]
    assert len(good.pictures) > 1
    assert bad.closed == good.closed == 1


def test_the_last_sink_that_fails_ends_the_session() -> None:
    session, bad = pattern_session(), Gallery(fail_at=0)
    session.add(bad)
    with pytest.raises(SinkError, match="the gallery is full"):
        session.run(30)
    assert bad.closed == 1


def read(path: Path) -> tuple[list[float], list[float], tuple[int, int]]:
    """Times of all pictures and of all sound, and the size."""
    with av.open(str(path)) as container:
        kinds: dict[str, list[float]] = {"video": [], "audio": []}
        for frame in container.decode():
            kinds["video" if isinstance(frame, av.VideoFrame) else "audio"].append(float(frame.time or 0))
        video = container.streams.video[0]
        return kinds["video"], kinds["audio"], (video.width, video.height)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_recording_has_the_times_of_capture(tmp_path: Path, suffix: str) -> None:
    session, gallery = pattern_session(), Gallery()
    session.add(gallery)
    path = tmp_path / f"out{suffix}"
    session.record(True, path)
    session.run(0.7)
    times, sound, size = read(path)
    assert size == (128, 96) and not sound
    captured = {round(shown.at - gallery.pictures[0].at, 2) for shown in gallery.pictures}
    common = {round(t, 2) for t in times} & captured
    assert len(common) >= 0.5 * min(len(times), len(captured))
    assert times == sorted(set(times))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_camera_pulled_out_ends_in_one_sentence_and_a_whole_recording(tmp_path: Path, suffix: str) -> None:
    steps: list[object] = []
    for i in range(6):
        steps += [lambda i=i: picture(level=20 * i), lambda: time.sleep(0.05)]
    steps += [lambda: picture(96, 64), lambda: time.sleep(0.3), removed]  # another size in between
    device = FakeDevice(*steps)  # type: ignore[arg-type]
    opening = Opening("/dev/video0", "camera 0", "camera", "v4l2")
    source = AvSource(opening, open_input=lambda *a, **k: device)
    session = Session(source, small_ladder(), 2)
    path = tmp_path / f"out{suffix}"
    session.record(True, path)
    with pytest.raises(SourceError, match="was unplugged"):
        session.run(30)
    times, _, size = read(path)
    assert len(times) >= 2 and size == (128, 96)
    assert device.closed == 1


def film_with_sound(path: Path) -> Path:
    """Half a second at 20 fps with a tone."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=20)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = output.add_stream("aac", rate=48000)
        for i in range(16):
            made = av.VideoFrame.from_ndarray(np.full((72, 64), 40 + 5 * i, np.uint8), format="yuv420p")
            made.pts = i
            output.mux(video.encode(made))
            wave = np.sin(np.arange(2400) * 0.05)[None].astype(np.float32).repeat(2, 0)
            samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            samples.rate, samples.pts = 48000, 2400 * i
            output.mux(audio.encode(samples))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    return path


def test_a_recording_has_the_sources_sound_in_time(tmp_path: Path) -> None:
    source = open_live_source(SourceChoice(source=str(film_with_sound(tmp_path / "in.mkv"))))
    session = Session(source, small_ladder(), 2)
    path = tmp_path / "out.mkv"
    session.record(True, path)
    session.run(30)
    times, sound, _ = read(path)
    assert len(sound) > 5
    assert abs(sound[0] - times[0]) < 0.3 and abs(sound[-1] - times[-1]) < 0.3


def test_recording_begins_and_ends_by_control(tmp_path: Path) -> None:
    session, gallery = pattern_session(folder=tmp_path), Gallery()
    session.add(gallery)
    ended: list[Path | None] = []

    def press() -> None:
        time.sleep(0.2)
        assert session.record(True) == session.record(True)
        assert session.stats().recording is not None
        time.sleep(0.4)
        ended.append(session.record(False))
        session.quit()

    thread = threading.Thread(target=press)
    thread.start()
    session.run(30)
    thread.join()
    (path,) = ended
    assert path is not None and len(read(path)[0]) >= 1


def test_a_recording_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.mkv").write_bytes(b"precious")
    session = pattern_session()
    with pytest.raises(ConfigError, match="exists; --overwrite replaces it"):
        session.record(True, tmp_path / "mine.mkv")
    session.close_unused()
    assert (tmp_path / "mine.mkv").read_bytes() == b"precious"


def test_a_snapshot_is_a_pair_of_one_size(tmp_path: Path) -> None:
    session = pattern_session(folder=tmp_path)
    with pytest.raises(SinkError, match="no picture"):
        session.snapshot()
    session.add(Gallery())
    session.run(0.3)
    before, after = (cv2.imread(str(path)) for path in session.snapshot())
    assert before is not None and after is not None
    assert before.shape == after.shape == (96, 128, 3)


def test_views_get_the_line_and_others_the_whole_picture() -> None:
    session, whole, seen = pattern_session(split=0.5), Gallery(), Gallery()
    seen.is_view, seen.name = True, "view"  # type: ignore[misc]
    session.add(whole)
    session.add(seen)
    session.run(0.4)
    assert all((shown.large.y[0, :, 63:65] == 235).all() for shown in seen.pictures)
    assert not any((shown.large.y[0, :, 63:65] == 235).all() for shown in whole.pictures)


def one_shown() -> object:
    session, gallery = pattern_session(), Gallery()
    session.add(gallery)
    session.run(0.3)
    return gallery.pictures[-1]


def test_left_of_the_line_is_plain_enlargement_and_right_of_it_the_upscaled() -> None:
    """The double of an engine here is bicubic itself: both sides are the picture but for the line."""
    shown = one_shown()
    split = with_split(shown, 0.25)  # type: ignore[arg-type]
    large = shown.large  # type: ignore[attr-defined]
    assert np.array_equal(split.large.y[:, :, 33:], large.y[:, :, 33:])
    assert np.abs(split.large.y[:, :, :31].astype(int) - large.y[:, :, :31]).max() <= 1
    assert (split.large.y[:, :, 31:33] == 235).all()


@pytest.mark.parametrize("at", [0.0, 0.001, 0.999, 1.0])
def test_the_line_may_stand_at_either_rim(at: float) -> None:
    shown = one_shown()
    assert with_split(shown, at).large.y.shape == shown.large.y.shape  # type: ignore[arg-type,attr-defined]


def test_the_overlay_is_drawn_on_a_copy_in_the_corner() -> None:
    frame = one_shown().large  # type: ignore[attr-defined]
    before = frame.y.copy()
    drawn = with_overlay(frame, ["30 fps", "é is replaced"])
    assert np.array_equal(frame.y, before)
    assert not np.array_equal(drawn.y[0, :20, :40], before[0, :20, :40])
    assert np.array_equal(drawn.y[0, -10:], before[0, -10:])


@pytest.mark.parametrize("at", [(0, 0), (50, 40), (127, 95)])
def test_the_lens_stays_inside_the_picture(at: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (96, 128, 3), np.uint8)
    seen = with_lens(picture, at)
    assert seen.shape == picture.shape and not np.array_equal(seen, picture)


def test_tiers_change_by_control_without_a_lost_order() -> None:
    session, gallery = pattern_session(), Gallery()
    session.add(gallery)
    assert session.tier_names == ["bicubic"]
    with pytest.raises(ConfigError, match="no tier 'best'; there are bicubic"):
        session.set_tier("best")
    session.set_tier("bicubic")
    assert session.pinned == "bicubic"
    session.set_tier(None)
    assert session.pinned is None
    session.close_unused()


class Clockwork:
    """Feeds a RateHolder with one frame each 20 ms of its own time."""

    def __init__(self, places: int):
        self.holder, self.now = RateHolder(places), 0.0

    def run(self, seconds: float, costs: list[float], fps: float = 30) -> int:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.02
            place = self.holder.place
            above = costs[min(place + 1, len(costs) - 1)]
            self.holder.decide(self.now, costs[place], above, fps, True)
        return self.holder.place


def test_the_best_tier_that_holds_is_kept() -> None:
    assert Clockwork(3).run(60, [3, 10, 20]) == 2


def test_it_goes_down_until_the_rate_holds_and_no_further() -> None:
    clock = Clockwork(3)
    assert clock.run(5, [3, 20, 60]) == 1
    assert clock.run(60, [3, 20, 60]) == 1


def test_a_short_hitch_changes_nothing() -> None:
    clock = Clockwork(2)
    assert clock.run(0.5, [3, 60]) == 1
    assert clock.run(30, [3, 20]) == 1


def test_it_goes_up_again_when_there_is_room_for_long_enough() -> None:
    clock = Clockwork(2)
    assert clock.run(2, [3, 60]) == 0
    assert clock.run(2, [3, 20]) == 0
    assert clock.run(2, [3, 20]) == 1


def test_a_tier_that_looks_possible_and_is_not_is_tried_ever_more_rarely() -> None:
    """Each trial costs frames: the forecast says 20 ms, the truth is 60."""
    holder, now, trials = RateHolder(2), 0.0, []
    holder.start_from(0)
    while now < 120:
        now += 0.02
        before = holder.place
        if holder.decide(now, 60 if before == 1 else 3, 20, 30, True) > before:
            trials.append(now)
    pauses = [b - a for a, b in pairwise(trials)]
    assert 3 <= len(trials) <= 6
    assert all(b > a for a, b in pairwise(pauses))


def test_latencies_are_summed_up_by_minute_and_as_a_whole() -> None:
    latencies = Latencies()
    for i in range(100):
        latencies.add(i, 10.0 if i < 60 else 20.0)
    assert latencies.whole()["worst_ms"] == 20.0
    first, second = latencies.by_minute()
    assert first["frames"] == 60 and first["p95_ms"] == pytest.approx(10, abs=0.2)
    assert second["frames"] == 40 and second["p50_ms"] == pytest.approx(20, abs=0.2)


def test_a_rate_falls_when_nothing_comes() -> None:
    rate, now = Rate(), time.monotonic()
    for i in range(31):
        rate.tick(now - 3 + i / 30)
    assert 8 < rate.per_second() < 15  # thirty in the first second, none in the two since


def test_options_may_stand_alone() -> None:
    assert with_values(["--webcam", "--split"]) == ["--webcam", "0", "--split"]
    assert with_values(["--webcam", "2", "--web"]) == ["--webcam", "2", "--web", "0"]
    assert with_values(["--screen"]) == ["--screen", ""]


def test_the_command_prints_its_summary_as_json() -> None:
    small = ("--source", "testsrc", "--size", "64x48", "--backend", "reference", "--scale", "2")
    done = rtsr("live", *small, "--null", "--duration", "0.5", "--json")
    assert done.code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["output_size"] == [128, 96] and summary["upscaled"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (("--null",), "say what to upscale", 2),
        (("--source", "testsrc", "--hold-fps", "fast"), "--hold-fps 'fast' is no rate", 2),
        (("--source", "testsrc", "--model", "best", "--null"), "no model 'best'", 2),
        (("--source", "testsrc", "--backend", "reference", "--window"), "--window: there is no X display", 2),
        (("--source", "testsrc", "--backend", "reference", "--to", "srt://h:1"), "cannot send by srt", 2),
        (("--source", "testsrc", "--backend", "reference", "--to", "rtmp://127.0.0.1:1/x"), "cannot be opened", 5),
        (("--webcam", "97", "--null"), "there is no camera /dev/video97", 3),
        (("--source", "testsrc", "--backend", "reference", "--virtual-camera"), "no loopback device", 2),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], sentence: str, code: int) -> None:
    done = rtsr("live", *arguments, DISPLAY="")
    assert (done.code, sentence in done.sentence) == (code, True), done.stderr
