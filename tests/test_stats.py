"""Stage clocks: the time inside a stage without the time it waited for the stage before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rtsr import stats
from rtsr.stats import PipelineStats, StageClock


class Hand:
    """A clock whose hand is moved by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def hand(monkeypatch: pytest.MonkeyPatch) -> Hand:
    hand = Hand()
    monkeypatch.setattr(stats, "time", hand)
    return hand


def items(hand: Hand, count: int, seconds: float) -> Iterator[int]:
    for i in range(count):
        hand.now += seconds
        yield i


def test_output_counts_what_an_item_takes(hand: Hand) -> None:
    clock = StageClock("decode")
    for _ in clock.output(items(hand, 4, 0.25)):
        hand.now += 10  # the reader's time is not the stage's
    assert (clock.items, clock.total_s, clock.busy_s, clock.ms_per_item) == (4, 1.0, 1.0, 250.0)


def test_waiting_for_the_stage_before_is_not_being_busy(hand: Hand) -> None:
    clock = StageClock("infer")

    def infer(inputs: Iterator[int]) -> Iterator[int]:
        for item in inputs:
            hand.now += 0.5
            yield item

    assert list(clock.output(infer(clock.input(items(hand, 4, 0.25))))) == [0, 1, 2, 3]
    assert (clock.total_s, clock.waiting_s, clock.busy_s) == (3.0, 1.0, 2.0)


def test_the_slowest_stage_is_the_busiest() -> None:
    run = PipelineStats()
    run.decode.total_s, run.infer.total_s, run.encode.total_s = 1.0, 9.0, 2.0
    run.infer.waiting_s = 8.5
    assert run.slowest.name == "encode"


def test_a_stage_that_did_nothing_has_no_cost() -> None:
    assert StageClock("infer").ms_per_item == 0.0


def test_closing_reaches_the_iterable() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    outputs = StageClock("decode").output(source())
    next(outputs)
    outputs.close()  # type: ignore[attr-defined]
    assert closed == [True]
