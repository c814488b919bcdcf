"""prefetch() and latest(): one owned thread that keeps the order, hands errors over and never outlives its block."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from conftest import rtsr_threads

from rtsr.threads import Slot, latest, prefetch


class Numbers:
    """0, 1, 2 ... count - 1, then an error if one was given; notes how far it was read and whether it was closed."""

    def __init__(self, count: int, error: BaseException | None = None):
        self.count, self.error = count, error
        self.read = 0
        self.closed = 0
        self.thread = ""
        self.reached = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for i in range(self.count):
            self.thread = threading.current_thread().name
            with self.reached:
                self.read += 1
                self.reached.notify_all()
            yield i
        if self.error:
            raise self.error

    def close(self) -> None:
        self.closed += 1

    def wait_until_read(self, count: int) -> None:
        with self.reached:
            assert self.reached.wait_for(lambda: self.read >= count, timeout=30)


@pytest.mark.parametrize("depth", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_order_is_kept_and_nothing_is_lost(depth: int, count: int) -> None:
    numbers = Numbers(count)
    with prefetch(numbers, depth, "test") as items:
        assert list(items) == list(range(count))
    assert numbers.closed == 1


def test_the_work_happens_in_a_named_thread() -> None:
    numbers = Numbers(3)
    with prefetch(numbers, 1, "some-name") as items:
        list(items)
    assert numbers.thread == "rtsr-some-name"


@pytest.mark.parametrize("depth", [1, 3])
def test_it_runs_at_most_depth_items_ahead(depth: int) -> None:
    """`depth` wait in the queue and one more is in the thread's hand."""
    numbers = Numbers(100)
    with prefetch(numbers, depth, "test") as items:
        numbers.wait_until_read(depth + 1)
        assert numbers.read == depth + 1
        assert next(items) == 0
        numbers.wait_until_read(depth + 2)
        assert numbers.read == depth + 2


def collect(items: Iterator[int]) -> tuple[list[int], BaseException | None]:
    """All items up to the end or the error, and the error."""
    seen: list[int] = []
    try:
        for item in items:
            seen.append(item)  # noqa: PERF402 - what came before the error must not be lost with it
    except BaseException as error:
        return seen, error
    return seen, None


@pytest.mark.parametrize("before", [0, 1, 5])
def test_an_error_comes_after_the_items_before_it_and_once(before: int) -> None:
    error = ValueError("broken")
    with prefetch(Numbers(before, error), 2, "test") as items:
        assert collect(items) == (list(range(before)), error)
        assert collect(items) == ([], None)
    assert rtsr_threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_no_kind_of_error_is_swallowed(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, prefetch(Numbers(2, error), 2, "test") as items:
        list(items)
    assert caught.value is error


def test_an_error_that_nobody_waits_for_is_not_raised_over_the_readers_own() -> None:
    """The reader fails first; what happens in the thread afterwards is a consequence, not the cause."""
    with pytest.raises(KeyError), prefetch(Numbers(1, ValueError("later")), 1, "test"):
        raise KeyError("the cause")


@pytest.mark.parametrize("taken", [0, 1, 10])
def test_leaving_early_ends_the_thread_and_closes_the_iterable(taken: int) -> None:
    numbers = Numbers(10**9)
    with prefetch(numbers, 3, "test") as items:
        for _ in range(taken):
            next(items)
    assert rtsr_threads() == []
    assert numbers.closed == 1


def test_a_generator_is_closed_in_its_own_thread() -> None:
    """A decoder must be freed by the thread that used it."""
    threads = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            threads.append(threading.current_thread().name)

    with prefetch(endless(), 2, "owner") as items:
        next(items)
    assert threads == ["rtsr-owner"]


def test_an_error_on_closing_is_reported_at_the_end() -> None:
    class Stuck(Numbers):
        def close(self) -> None:
            raise OSError("cannot close")

    with prefetch(Stuck(2), 2, "test") as items:
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(OSError, match="cannot close"):
            next(items)


def test_chained_blocks_end_together_when_the_reader_leaves() -> None:
    numbers = Numbers(10**9)
    with (
        prefetch(numbers, 2, "first") as first,
        prefetch((2 * n for n in first), 2, "second") as second,
    ):
        assert [next(second) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert rtsr_threads() == []
    assert numbers.closed == 1


@pytest.mark.parametrize("broken", ["first", "second"])
def test_chained_blocks_pass_an_error_down(broken: str) -> None:
    def double(items: Iterator[int]) -> Iterator[int]:
        for n in items:
            if broken == "second" and n == 4:
                raise ValueError("second broke")
            yield 2 * n

    numbers = Numbers(4, ValueError("first broke")) if broken == "first" else Numbers(100)
    with (
        prefetch(numbers, 2, "first") as first,
        prefetch(double(first), 2, "second") as second,
    ):
        seen, error = collect(second)
    assert seen == [0, 2, 4, 6]
    assert str(error) == f"{broken} broke"
    assert rtsr_threads() == []


class Gated(Numbers):
    """Numbers that come only as far as they are let; release() ends the waiting for good."""

    def __init__(self, count: int, error: BaseException | None = None):
        super().__init__(count, error)
        self.allowed = threading.Semaphore(0)
        self.released = False

    def __iter__(self) -> Iterator[int]:
        for number in super().__iter__():
            self.allowed.acquire()
            if self.released:
                return
            yield number

    def release(self) -> None:
        self.released = True
        self.allowed.release()


def test_a_reader_that_keeps_up_sees_every_item() -> None:
    numbers = Gated(20)
    with latest(numbers, "test") as items:
        for expected in range(20):
            numbers.allowed.release()
            assert next(items) == expected
        assert list(items) == []
        assert items.dropped == 0
    assert numbers.closed == 1


def test_a_slow_reader_gets_the_newest_and_the_others_are_counted() -> None:
    numbers = Gated(11)
    with latest(numbers, "test", stop=numbers.release) as items:
        for _ in range(10):
            numbers.allowed.release()
        numbers.wait_until_read(11)  # the tenth was put down before the eleventh was reached for
        assert next(items) == 9
        assert items.dropped == 9
        numbers.allowed.release()
        assert list(items) == [10]


def test_latest_works_in_a_named_thread() -> None:
    numbers = Numbers(3)
    with latest(numbers, "some-name") as items:
        list(items)
    assert numbers.thread == "rtsr-some-name"


@pytest.mark.parametrize("before", [0, 1, 5])
def test_latest_raises_an_error_after_the_last_item_and_once(before: int) -> None:
    error = ValueError("broken")
    with latest(Numbers(before, error), "test") as items:
        seen, raised = collect(items)
        assert raised is error
        assert seen[-1:] == ([before - 1] if before else [])
        assert len(seen) + items.dropped == before
        assert collect(items) == ([], None)


@pytest.mark.parametrize("taken", [0, 1, 10])
def test_leaving_latest_early_stops_what_blocks_and_closes_it(taken: int) -> None:
    numbers = Gated(10**9)
    with latest(numbers, "test", stop=numbers.release) as items:
        for _ in range(taken):
            numbers.allowed.release()
            next(items)
    assert rtsr_threads() == []
    assert numbers.closed == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_latest_swallows_no_kind_of_error(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, latest(Numbers(2, error), "test") as items:
        list(items)
    assert caught.value is error


def test_a_slot_keeps_as_many_as_it_is_deep_and_ends_when_closed() -> None:
    slot: Slot[int] = Slot(depth=3)
    for number in range(5):
        slot.put(number)
    slot.close()
    slot.put(5)
    assert not slot.is_over
    assert [slot.get(), slot.get(), slot.get(), slot.get()] == [2, 3, 4, None]
    assert slot.dropped == 2
    assert slot.is_over


def test_a_slot_that_stays_empty_gives_none_in_time() -> None:
    assert Slot[int]().get(timeout_s=0.01) is None
