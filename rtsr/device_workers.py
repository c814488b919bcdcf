"""Several devices on one job: a worker process for each, with a decoder, an engine and an encoder of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from queue import SimpleQueue

from rtsr.devices import Device
from rtsr.errors import RtsrError
from rtsr.processes import start_worker
from rtsr.segment_board import SegmentBoard
from rtsr.segment_worker import SegmentEncoder, SegmentJob, SegmentResult
from rtsr.sources.cuts import Cut
from rtsr.stats import PipelineStats

_TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Work:
    """How far all workers are. frames: written by each, with its device's name, in the order given. stage_s: seconds
    that decode, infer and encode were busy in finished segments, all workers together."""

    frames: tuple[tuple[str, int], ...]
    stage_s: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Called in the caller's thread: accepted for each segment that counts, progress several times a second, notice
    with a sentence, before_segment before each segment is handed out: what it raises ends the job."""

    accepted: Callable[[SegmentResult], None] = lambda result: None
    progress: Callable[[Work], None] = lambda work: None
    notice: Callable[[str], None] = lambda sentence: None
    before_segment: Callable[[], None] = lambda: None


def encode_on_devices(
    job: SegmentJob,
    board: SegmentBoard,
    folder: Path,
    devices: tuple[Device, ...],
    hooks: Hooks,
) -> Work:
    """Have every segment of the board made in `folder`, one process for each device.

    A worker that dies is replaced and its segment is done again. Whatever is raised, here or in a worker, ends all
    workers; finished segments are in the journal. Raises what a job raises.
    """
    workers = [_Worker(job, folder, device) for device in devices]
    work = Work(tuple((device.name, 0) for device in devices))
    try:
        while not board.is_done:
            for worker in workers:
                if worker.cut is None and (cut := board.take()) is not None:
                    hooks.before_segment()
                    worker.begin(cut)
            for worker in _heard([worker for worker in workers if worker.cut is not None]):
                match worker.receive():
                    case SegmentResult() as result:
                        for sentence in result.notices:
                            hooks.notice(f"{worker.device.name}: {sentence}")
                        counts = board.accept(result)
                        worker.finish(counts)
                        if counts:
                            hooks.accepted(result)
                            stages = zip(work.stage_s, result.stage_s, strict=True)
                            work = replace(work, stage_s=tuple(sum(stage) for stage in stages))
                    case _Died(how):
                        hooks.notice(board.died(worker.give_up(), how))
                    case _Failed(error):
                        raise error
            work = replace(work, frames=tuple((worker.device.name, worker.frames) for worker in workers))
            hooks.progress(work)
    finally:
        for worker in workers:
            worker.kill()
        for left in folder.glob("*.tmp"):
            left.unlink(missing_ok=True)
    return work


@dataclass(frozen=True, slots=True)
class _Died:
    how: str


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class _Worker:
    """A worker process, seen from the one that gives it work. cut: what it works on, None if it waits."""

    def __init__(self, job: SegmentJob, folder: Path, device: Device):
        self.device = device
        self.cut: Cut | None = None
        self._job, self._folder = job, folder
        self._done = self._now = 0  # frames: of segments that count, and of the one in work
        self._start()

    @property
    def frames(self) -> int:
        return self._done + self._now

    @property
    def heard_by(self) -> tuple[Connection, int]:
        """What becomes ready when it says something, and when it dies."""
        return self._pipe, self._process.sentinel

    def begin(self, cut: Cut) -> None:
        self.cut = cut
        with suppress(OSError):  # it has died, which receive() tells
            self._pipe.send(cut)

    def receive(self) -> SegmentResult | _Died | _Failed | None:
        """What it has to say, None for no more than how far it is."""
        try:
            said = self._pipe.recv() if self._pipe.poll() else None
        except (EOFError, OSError):
            said = None
        if isinstance(said, int):
            self._now = said
            return None
        if said is None and not self._process.is_alive():
            self._process.join()
            return _Died(_how(self._process.exitcode))
        return said

    def finish(self, counts: bool) -> None:
        assert self.cut is not None, "it was at work"
        self._done += len(self.cut.pts) if counts else 0
        self.cut, self._now = None, 0

    def give_up(self) -> Cut:
        """Put a new process in the place of a dead one. Returns what that was doing."""
        assert self.cut is not None, "one without work is not asked"
        cut = self.cut
        self.finish(counts=False)
        self.kill()
        self._start()
        return cut

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _start(self) -> None:
        orders = (self._job, self._folder, self.device)
        self._process, self._pipe = start_worker(_serve, *orders, name=f"rtsr-{self.device.name}", daemon=True)


def _heard(workers: list[_Worker]) -> list[_Worker]:
    """Those that have something to say, after waiting for it for a moment."""
    ready = set(wait([source for worker in workers for source in worker.heard_by], _TELL_EVERY_S))
    return [worker for worker in workers if ready.intersection(worker.heard_by)]


def _how(exitcode: int | None) -> str:
    """How a process ended, for people."""
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def _serve(pipe: Connection, job: SegmentJob, folder: Path, device: Device) -> None:
    """A worker process: cuts in, frame counts and SegmentResults or one _Failed out."""
    device.claim()
    cuts: SimpleQueue[Cut] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, cuts), name="rtsr-listen", daemon=True).start()
    told = 0.0

    def tell(stats: PipelineStats) -> None:
        nonlocal told
        if (now := time.perf_counter()) - told >= _TELL_EVERY_S:
            told = now
            pipe.send(stats.written)

    with SegmentEncoder(job) as encoder:
        while True:
            cut = cuts.get()
            try:
                pipe.send(encoder.encode(cut, folder, tell))
            except RtsrError as error:
                pipe.send(_Failed(type(error)(f"device {device.name}: {error}")))
            except Exception as error:  # what a worker raises is raised where it was started
                pipe.send(_Failed(RuntimeError(f"device {device.name}: {type(error).__name__}: {error}")))


def _listen(pipe: Connection, cuts: SimpleQueue[Cut]) -> None:
    """Take orders; when nobody can give any more, end at once, so that no other run meets a stray worker."""
    while True:
        try:
            cuts.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(1)
