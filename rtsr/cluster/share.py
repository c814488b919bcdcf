"""A job's segments out to the machines of a cluster, finished files in: what dies or stalls is done again elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import IO, Any

from rtsr.backends import ON_NVIDIA, Engine
from rtsr.cluster.connection import Cluster, connected
from rtsr.cluster.crew import Exchange, Lost, Place, Task, Unfit, Worker, places
from rtsr.cluster.likeness import try_out, with_threads_named
from rtsr.cluster.remote_input import supply_blocks
from rtsr.cluster.worker import EngineFiles
from rtsr.device_workers import Hooks, Work
from rtsr.errors import ClusterError
from rtsr.frames import VideoSpec
from rtsr.journal import Segment
from rtsr.segment_board import SegmentBoard
from rtsr.segment_worker import SegmentJob, SegmentResult
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.cuts import Cut
from rtsr.sources.media import Media

PIECE = 8 << 20  # bytes of a finished segment that are asked for at once
PIECES_IN_FLIGHT = 8  # of all workers together; a worker begins its next segment once its last one is here
MOST_FAILURES = 3  # of a place in a row: then it gets no more work
STALL_FACTOR = 3  # times what a segment usually takes without one new frame
_TELL_EVERY_S, _LOOK_EVERY_S = 0.2, 2.0


def encode_on_cluster(
    job: SegmentJob,
    spec: VideoSpec,
    engine: Engine,
    board: SegmentBoard,
    folder: Path,
    cluster: Cluster,
    hooks: Hooks,
) -> Work:
    """Have every segment of the board made on the cluster; their files come into `folder`. engine: this machine's.

    Whatever is raised ends all workers; finished segments are in the journal. Raises ConfigError (Ray is missing, a
    machine has another version of rtsr), ClusterError (nobody there can do the work), EngineError (a segment failed
    three times), SinkError.
    """
    if not job.input.is_url:
        job = replace(job, input=Media(str(Path(job.input.name).absolute()), job.input.rate))
    job = replace(job, encoder=with_threads_named(job.encoder, spec, job.size))
    with connected(cluster.address) as ray:
        own = try_out(engine, job.encoder, spec, job.size)
        task = Task(job, spec, EngineFiles.of(engine.sha256), own, job.input.fingerprint(), cluster.input)
        return asyncio.run(_Sharing(ray, task, board, folder, cluster, hooks).run())


class _Sharing:
    """One loop: a coroutine for each place, and one that watches over them."""

    def __init__(self, ray: Any, task: Task, board: SegmentBoard, folder: Path, cluster: Cluster, hooks: Hooks):
        self._ray, self._task, self._board, self._folder = ray, task, board, folder
        self._cluster, self._hooks = cluster, hooks
        self._on_gpu = task.job.choice.backend in ON_NVIDIA
        self._exchange = Exchange(ray)
        self._alive: list[Place] = []
        self._lives: dict[Place, asyncio.Task[None]] = {}
        self._unfit: dict[Place, str] = {}
        self._workers: dict[Place, Worker] = {}
        self._frames: dict[str, int] = defaultdict(int)  # by name of the place, in segments that count
        self._stage_s = [0.0, 0.0, 0.0]
        self._wall_s: list[float] = []
        self._failed_at: dict[int, set[str]] = defaultdict(set)  # machines, by segment
        self._pieces = asyncio.Semaphore(PIECES_IN_FLIGHT)

    async def run(self) -> Work:
        supply: asyncio.Task[None] | None = None
        looked = float("-inf")
        try:
            while not self._board.is_done:
                if not self._lives or time.monotonic() - looked > _LOOK_EVERY_S:
                    looked = time.monotonic()
                    self._look_around()
                if supply is None and self._exchange.begun:
                    path = Path(self._task.job.input.name)
                    supply = asyncio.create_task(supply_blocks(self._exchange.actor(), path))
                running = [*self._lives.values(), *([supply] if supply else [])]
                finished, _ = await asyncio.wait(running, timeout=_TELL_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                for life in finished:
                    life.result()
                self._lives = {place: life for place, life in self._lives.items() if life not in finished}
                self._hooks.progress(self._work())
        finally:
            left = [*self._lives.values(), *([supply] if supply else [])]
            for life in left:
                life.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for unfinished in self._folder.glob("*.tmp"):
                unfinished.unlink(missing_ok=True)
        return self._work()

    def _look_around(self) -> None:
        """Begin to work wherever there is a place now. Raises ClusterError if there is none that can."""
        self._alive = places(self._ray.nodes(), self._on_gpu)
        for place in self._alive:
            if place not in self._lives and place not in self._unfit:
                self._lives[place] = asyncio.create_task(self._live(place))
        if not self._lives:
            what = "GPU" if self._on_gpu else "CPU"
            reasons = "; ".join(self._unfit.values()) or f"it has no machine that lends a {what}"
            raise ClusterError(f"nobody in the cluster at {self._cluster.address} can do the work: {reasons}")

    async def _live(self, place: Place) -> None:
        """Work at one place, with a new worker in the stead of each that is lost, for as long as that makes sense."""
        failures, last = 0, ""
        while place in self._alive and failures < MOST_FAILURES:
            worker = Worker(self._ray, place)
            try:
                for sentence in await worker.start(self._task, self._exchange, self._cluster.start_s):
                    self._hooks.notice(sentence)
                self._workers[place] = worker
                await self._serve(worker)
            except Unfit as unfit:
                self._unfit[place] = str(unfit)
                self._hooks.notice(f"{unfit}; it gets no work")
                return
            except Lost as lost:
                failures, last = 1 if worker.done else failures + 1, str(lost)
                self._hooks.notice(last if place.name in last else f"{place.name}: {last}")
            finally:
                self._workers.pop(place, None)
                await worker.dismiss()
            self._alive = places(self._ray.nodes(), self._on_gpu)
        if place in self._alive:
            self._unfit[place] = f"{place.name} failed {failures} times in a row: {last}"
            self._hooks.notice(f"{self._unfit[place]}; it gets no more work")
        else:
            self._hooks.notice(f"{place.name} has left the cluster")

    async def _serve(self, worker: Worker) -> None:
        """Give a worker one segment after the other. Raises Lost."""
        while True:
            cut = self._next_for(worker.place)
            if cut is None:
                await asyncio.sleep(_TELL_EVERY_S)
                continue
            self._hooks.before_segment()
            try:
                result = await self._made(worker, cut)
                if result.segment is not None:
                    await self._fetch(worker, result.segment)
            except Lost as lost:
                self._failed_at[cut.index].add(worker.place.machine)
                raise Lost(self._board.died(cut, f"{worker.place.name}: {lost}")) from lost
            self._count(worker, cut, result)

    def _next_for(self, place: Place) -> Cut | None:
        """The next segment; not one that failed on this machine, while others can try it."""
        passed_by, found = [], None
        others = {at.machine for at in self._workers if at.machine != place.machine}
        while found is None and (cut := self._board.take()) is not None:
            failed = self._failed_at.get(cut.index, set())
            if place.machine in failed and others - failed:
                passed_by.append(cut)
            else:
                found = cut
        for cut in passed_by:
            self._board.give_back(cut)
        return found

    async def _made(self, worker: Worker, cut: Cut) -> SegmentResult:
        """A segment made, its file still with the worker. Raises Lost when nothing happens for too long."""
        actor = worker.actor
        work = asyncio.create_task(worker.ask(actor.encode.remote(cut)))
        count: asyncio.Task[int] | None = None
        moved = time.monotonic()
        try:
            while True:
                await asyncio.wait({work}, timeout=_TELL_EVERY_S)
                if work.done():
                    return work.result()
                if count is None:
                    count = asyncio.create_task(worker.ask(actor.frames.remote()))
                elif count.done():
                    frames, count = count.result(), None
                    if frames > worker.now:
                        worker.now, moved = frames, time.monotonic()
                if (still := time.monotonic() - moved) > self._patience_s:
                    raise Lost(f"no new frame for {still:.0f} s")
        finally:
            worker.now = 0
            for task in filter(None, (work, count)):
                task.cancel()
            await asyncio.gather(*filter(None, (work, count)), return_exceptions=True)

    @property
    def _patience_s(self) -> float:
        """How long a worker may show no new frame."""
        usual = median(self._wall_s) if self._wall_s else 0.0
        return max(self._cluster.patience_s, STALL_FACTOR * usual)

    async def _fetch(self, worker: Worker, segment: Segment) -> None:
        """Bring a finished segment's file here, whole and on disk."""
        target = self._folder / segment.file
        part, digest = target.with_name(target.name + ".tmp"), hashlib.sha256()
        with says_what_failed(target), part.open("wb") as file:
            for offset in range(0, segment.size, PIECE):
                async with self._pieces:
                    reference = worker.actor.piece.remote(segment.file, offset, PIECE)
                    data = await worker.ask(reference, self._patience_s)
                    del reference
                    digest.update(data)
                    await asyncio.to_thread(file.write, data)
            await asyncio.to_thread(_to_disk, file)
        if digest.hexdigest() != segment.sha256:
            raise Lost("its segment arrived damaged")
        with says_what_failed(target):
            part.replace(target)
        await worker.ask(worker.actor.forget.remote(segment.file), self._patience_s)

    def _count(self, worker: Worker, cut: Cut, result: SegmentResult) -> None:
        for sentence in result.notices:
            self._hooks.notice(f"{worker.place.name}: {sentence}")
        if not self._board.accept(result):
            return
        self._hooks.accepted(result)
        worker.done += len(cut.pts)
        self._frames[worker.place.name] += len(cut.pts)
        self._wall_s.append(result.wall_s)
        self._stage_s = [sum(pair) for pair in zip(self._stage_s, result.stage_s, strict=True)]

    def _work(self) -> Work:
        frames = dict(self._frames)
        for place, worker in self._workers.items():
            frames[place.name] = frames.get(place.name, 0) + worker.now
        return Work(tuple(sorted(frames.items())), tuple(self._stage_s))


def _to_disk(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
