"""Doing many files, one after the other or several at once; one that fails does not stop the rest."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from rtsr import job
from rtsr.display import Display, show_progress
from rtsr.errors import ConfigError, RtsrError, SinkError
from rtsr.folders import Item
from rtsr.options import Options
from rtsr.pictures.enlarge import engine_shape
from rtsr.pictures.job import EngineShelf, for_pictures, upscale_picture
from rtsr.pictures.read import picture_size
from rtsr.processes import start_worker

DONE, SKIPPED, FAILED = "done", "skipped", "failed"
_ENDING_S = 10.0  # for a worker to leave its job in order


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file. status: done, skipped or failed; sentence: why it failed or was skipped."""

    name: str
    output: str
    status: str
    seconds: float = 0.0
    size: tuple[int, int] | None = None
    sentence: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def in_order(items: Iterable[Item]) -> list[Item]:
    """Pictures first, those that share an engine's compiled graph one after the other; then films."""

    def key(item: Item) -> tuple[object, ...]:
        if not item.is_picture:
            return (1, (0, 0), str(item.input))
        try:
            width, height = picture_size(item.input)
        except RtsrError:  # said when its turn comes
            return (0, (0, 0), str(item.input))
        return (0, engine_shape(height, width), str(item.input))

    return sorted(items, key=key)


def run(items: list[Item], options: Options, jobs: int, quiet: bool, each: Callable[[Outcome], None]) -> None:
    """Do the items, at most `jobs` at once; each() gets the outcome of one as it ends, in the caller's thread.

    KeyboardInterrupt ends what is in work in order (a film's segments stay) and goes on to the caller.
    """
    if min(jobs, len(items)) > 1:
        _in_processes(items, options, min(jobs, len(items)), each)
        return
    with EngineShelf() as shelf:
        said: set[str] = set()
        for item in items:
            with show_progress(quiet) if not item.is_picture else _plain(quiet) as display:
                each(do(item, options, shelf, _Once(display, said)))


def do(item: Item, options: Options, shelf: EngineShelf, display: Display) -> Outcome:
    """Upscale one file; whatever goes wrong is in the outcome."""
    begun = time.perf_counter()

    def ended(status: str, size: tuple[int, int] | None = None, sentence: str = "") -> Outcome:
        seconds = round(time.perf_counter() - begun, 3)
        return Outcome(item.name, str(item.output), status, seconds, size, sentence)

    try:
        _make_folder(item)
        if item.is_picture:
            mine = for_pictures(options)
            size = upscale_picture(item.input, item.output, mine, shelf=shelf, notice=display.notice).output_size
        else:
            report = job.upscale(
                item.input,
                item.output,
                options,
                progress=display.progress,
                notice=display.notice,
                building=display.building,
            )
            display.finished(report)
            size = report.output_size
    except RtsrError as error:
        return ended(FAILED, sentence=str(error))
    except MemoryError:
        return ended(FAILED, sentence="out of memory; a smaller --model or --scale needs less")
    except Exception as error:
        if os.environ.get("RTSR_DEBUG") == "1":
            raise
        return ended(FAILED, sentence=f"{type(error).__name__}: {error} (this should not happen: please report it)")
    return ended(DONE, size)


def _make_folder(item: Item) -> None:
    try:
        item.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"the folder {item.output.parent} cannot be made: {error.strerror}") from error


class _Once(Display):
    """Says each sentence once, however many files it is true of."""

    def __init__(self, display: Display, said: set[str]):
        self._display, self._said = display, said
        self.progress, self.finished, self.building = display.progress, display.finished, display.building  # type: ignore[method-assign]

    def notice(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._display.notice(sentence)


@contextmanager
def _plain(quiet: bool) -> Iterator[Display]:
    from rtsr.display import Lines

    yield Display() if quiet else Lines()


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    connection: Connection
    item: Item | None = None


def _in_processes(items: list[Item], options: Options, jobs: int, each: Callable[[Outcome], None]) -> None:
    """A process each, so that one that the system kills takes nothing with it but the file in work."""
    waiting = list(reversed(items))
    workers = [_Worker(*start_worker(_work, options)) for _ in range(jobs)]
    try:
        for worker in workers:
            _give(worker, waiting)
        while busy := [worker for worker in workers if worker.item is not None]:
            ready = wait([worker.connection for worker in busy])
            for worker in (worker for worker in busy if worker.connection in ready):
                each(_outcome(worker))
                if worker.process.exitcode is not None:
                    worker.process, worker.connection = start_worker(_work, options)
                _give(worker, waiting)
    finally:
        for worker in workers:
            worker.connection.close()
            if worker.item is not None:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(_ENDING_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _outcome(worker: _Worker) -> Outcome:
    """What a worker tells, or why it cannot."""
    try:
        return worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        return _killed(worker)


def _give(worker: _Worker, waiting: list[Item]) -> None:
    worker.item = waiting.pop() if waiting else None
    if worker.item is None:
        return
    try:
        worker.connection.send(worker.item)
    except OSError:  # it has ended since; that shows when its answer is read
        return


def _killed(worker: _Worker) -> Outcome:
    item, code = worker.item, worker.process.exitcode
    assert item is not None, "a worker that ended had work"
    how = f"signal {-code}, often for want of memory" if code and code < 0 else f"code {code}"
    return Outcome(item.name, str(item.output), FAILED, sentence=f"{item.input}: its process was ended ({how})")


def _work(connection: Connection, options: Options) -> None:
    """A worker's life, which the caller ends with SIGTERM."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    with EngineShelf() as shelf:
        try:
            while True:
                connection.send(do(connection.recv(), options, shelf, Display()))
        except (EOFError, KeyboardInterrupt, BrokenPipeError):
            return


def still_to_do(items: list[Item], options: Options, skip_existing: bool) -> tuple[list[Item], list[Outcome]]:
    """Items still to do, and outcomes of those that are done already. Raises ConfigError if some exist unasked."""
    there = [item for item in items if item.output.exists()]
    if there and not skip_existing and not options.overwrite:
        raise ConfigError(
            f"{len(there)} of {len(items)} outputs exist already ({there[0].output}{', ...' * (len(there) > 1)}); "
            "--skip-existing leaves them, --overwrite replaces them"
        )
    if not skip_existing:
        return items, []
    skipped = [Outcome(item.name, str(item.output), SKIPPED, sentence="exists already") for item in there]
    done = {item.output for item in there}
    return [item for item in items if item.output not in done], skipped
