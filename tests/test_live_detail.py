"""The dial in a live session: engines of another share take over between two frames, and the figures say which."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import rtsr
from detail_engines import SCALE, TIER
from live_fakes import Gallery, small_ladder

from rtsr.backends import EngineChoice, open_engine
from rtsr.errors import ConfigError, EngineError
from rtsr.frames import FrameBatch
from rtsr.live.contract import Shown
from rtsr.live.pattern import PatternSource
from rtsr.live.session import Session
from rtsr.live.tiers import Tier, ladder, why_no_detail
from rtsr.live.view import overlay_lines
from rtsr.live.window import next_detail

SIZE = 48, 64  # height, width
PATIENCE_S = 60


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until, "it does not come"
        time.sleep(0.005)


def picture() -> FrameBatch:
    random = np.random.default_rng(1)
    y, uv = random.integers(0, 256, (1, 1, *SIZE), np.uint8), random.integers(0, 256, (1, 2, 24, 32), np.uint8)
    return FrameBatch(y, uv, (0,), Fraction(1, 25))


def by_engine(detail: float, batch: FrameBatch) -> np.ndarray:
    with closing(open_engine(EngineChoice(SCALE, TIER, backend="openvino", detail=detail))) as engine:
        return engine.infer(batch).y


def dial_session(*, detail: float | None = None, rate: int = 20) -> Session:
    tiers = ladder(EngineChoice(SCALE, TIER, backend="openvino", detail=detail))
    return Session(PatternSource(64, 48, Fraction(rate)), tiers, SCALE)


def test_the_old_engine_works_until_the_new_one_is_ready(both_ends: Path) -> None:
    may_open, opening = threading.Event(), threading.Event()

    def open_it(detail: float, size: object, ready: object):
        if detail == 1:
            opening.set()
            assert may_open.wait(PATIENCE_S)
        return open_engine(EngineChoice(SCALE, TIER, backend="openvino", detail=detail))

    tier, batch = Tier(TIER, open_it), picture()
    faithful, detailed = by_engine(0, batch), by_engine(1, batch)
    with closing(tier):
        tier.prepare(SIZE)
        turning = threading.Thread(target=tier.turn, args=(1.0, SIZE), name="rtsr-test-turn")
        turning.start()
        assert opening.wait(PATIENCE_S)
        for _ in range(3):
            assert (tier.infer(batch).y == faithful).all() and tier.detail == 0
        may_open.set()
        turning.join()
        assert tier.is_ready(SIZE) and tier.detail == 1
        assert (tier.infer(batch).y == detailed).all()
    assert (faithful != detailed).any()


def test_an_engine_that_does_not_open_leaves_the_one_in_use(both_ends: Path) -> None:
    def open_it(detail: float, size: object, ready: object):
        if detail:
            raise EngineError("no room")
        return open_engine(EngineChoice(SCALE, TIER, backend="openvino"))

    with closing(Tier(TIER, open_it)) as tier:
        tier.prepare(SIZE)
        with pytest.raises(EngineError, match="no room"):
            tier.turn(1.0, SIZE)
        assert tier.detail == 0 and (tier.infer(picture()).y == by_engine(0, picture())).all()


def test_a_turn_changes_the_picture_between_two_frames_of_a_running_session(both_ends: Path) -> None:
    session, gallery = dial_session(), Gallery()
    session.add(gallery)
    assert session.stats().detail == 0 and session.stats().no_detail == ""
    running = threading.Thread(target=session.run, name="rtsr-test-session")
    running.start()
    try:
        wait_for(lambda: len(gallery.pictures) > 3)
        session.set_detail(1.0)
        wait_for(lambda: session.stats().detail == 1)
        seen = len(gallery.pictures)
        wait_for(lambda: len(gallery.pictures) > seen + 3)
    finally:
        session.quit()
        running.join()
    with (
        closing(open_engine(EngineChoice(SCALE, TIER, backend="openvino"))) as faithful,
        closing(open_engine(EngineChoice(SCALE, TIER, backend="openvino", detail=1))) as detailed,
    ):

        def made(shown: Shown) -> tuple[bool, bool]:
            small = shown.small
            batch = FrameBatch(small.y[None], small.uv[None], (0,), Fraction(1, 25))
            return tuple((engine.infer(batch).y[0] == shown.large.y).all() for engine in (faithful, detailed))  # type: ignore[return-value]

        by = [made(shown) for shown in gallery.pictures]
    turned = by.index((False, True))
    # One picture may have been in work when the figures changed. None is of neither engine, none goes back.
    assert turned <= seen + 1
    assert by == [(True, False)] * turned + [(False, True)] * (len(by) - turned)
    numbers = [shown.number for shown in gallery.pictures]
    lost = numbers[-1] - numbers[0] + 1 - len(numbers)
    assert lost <= sum(session.summary().dropped.values())  # each is counted; the turn itself loses none


def test_steps_are_taken_where_there_is_nothing_between(both_ends: Path) -> None:
    session = dial_session(detail=0.3)
    try:
        stats = session.stats()
        assert (stats.detail, session.detail) == (0.5, 0.3)
        assert "nano detail 0.5 (openvino)" in overlay_lines(stats)[0]
        session.set_detail(0.9)
        wait_for(lambda: session.stats().detail == 1)
        session.set_detail(float("nan"))
        wait_for(lambda: session.stats().detail == 0)
        assert session.detail == 0
    finally:
        session.close_unused()


def test_a_tier_without_a_detail_end_says_so(both_ends: Path) -> None:
    session = Session(PatternSource(64, 48, Fraction(20)), ladder(EngineChoice(2, "fast")), 2)
    try:
        stats = session.stats()
        assert stats.detail is None and stats.no_detail == "fast x2 has no detail end; models with one: nano x2 stream"
        with pytest.raises(ConfigError, match=r"^fast x2 has no detail end"):
            session.set_detail(0.5)
    finally:
        session.close_unused()
    assert why_no_detail(TIER, SCALE, "stream") == "" != why_no_detail(TIER, SCALE, "clean")
    bicubic = small_ladder()[0]
    assert bicubic.detail is None and "no detail end" in bicubic.no_detail


def test_the_key_goes_by_quarters_and_begins_again() -> None:
    seen = [0.0]
    for _ in range(5):
        seen.append(next_detail(seen[-1]))
    assert seen == [0, 0.25, 0.5, 0.75, 1, 0]
    assert [next_detail(0.3), next_detail(0.99)] == [0.5, 1]


def test_the_command_begins_with_the_share(both_ends: Path) -> None:
    live = ("live", "--source", "testsrc", "--size", "64x48", "--null", "--duration", "0.5", "--scale", SCALE, "--json")
    done = rtsr(*live, "--model", TIER, "--detail", "0.4")  # the nearest step is 0.5
    assert done.code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["detail"], told["backend"]) == (0.5, "openvino")
    assert "nano detail 0.5 (openvino)" in done.stderr
    refused = rtsr(*live, "--model", "fast", "--detail", "0.5")
    assert refused.code == 2 and "no detail end; models with one: nano" in refused.sentence
