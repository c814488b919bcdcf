"""A worker on a machine of the cluster, seen from the caller: started, compared with this machine, asked, dismissed."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtsr import __version__
from rtsr.cluster.likeness import Likeness
from rtsr.cluster.remote_input import BlockExchange
from rtsr.cluster.worker import ClusterWorker, EngineFiles, through_caller
from rtsr.errors import ConfigError, RtsrError, first_line
from rtsr.frames import VideoSpec
from rtsr.segment_worker import SegmentJob

_ANSWERS_AT_ONCE = 4  # encode() runs for minutes; the others are asked meanwhile
_CLOSE_S = 5.0


class Lost(Exception):
    """A worker that died, stalled or failed, in a few words; another can take its place."""


class Failed(Lost):
    """What it was asked for raised an error there."""


class Silent(Lost):
    """It did not answer in time."""


class Unfit(Exception):
    """A machine that cannot work on this job, in a sentence."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker runs: a machine, or one GPU of it. machine: Ray's id of the node; name: for people."""

    machine: str
    name: str
    cpus: float
    gpus: int = 0


def places(nodes: list[dict[str, Any]], on_gpu: bool) -> list[Place]:
    """One place for each GPU, or for each machine with a CPU to lend, since a CPU engine uses all cores by itself.

    nodes: as ray.nodes() tells them.
    """
    found: list[Place] = []
    names: Counter[str] = Counter()
    for node in sorted((node for node in nodes if node["Alive"]), key=lambda node: node["NodeID"]):
        cpus, gpus = node["Resources"].get("CPU", 0), int(node["Resources"].get("GPU", 0))
        count = gpus if on_gpu else int(cpus >= 1)
        for _ in range(count):
            name = node["NodeManagerHostname"]
            names[name] += 1
            if names[name] > 1:
                name = f"{name}#{names[name]}"
            found.append(Place(node["NodeID"], name, cpus / count, int(on_gpu)))
    return found


@dataclass(frozen=True, slots=True)
class Task:
    """What every worker is given. own: what this machine makes of the trial. fingerprint: of the input. input: `auto`,
    or `caller` to read it through the caller even where its path is seen."""

    job: SegmentJob
    spec: VideoSpec
    engine: EngineFiles
    own: Likeness
    fingerprint: dict[str, object]
    input: str = "auto"


class Worker:
    """A Ray actor at one place. now: frames of the segment in work; done: of segments that count. ray: the module."""

    def __init__(self, ray: Any, place: Place):
        self.place = place
        self.now = self.done = 0
        self._ray = ray
        self.actor = (
            ray.remote(ClusterWorker)
            .options(
                num_cpus=place.cpus,
                num_gpus=place.gpus,
                max_restarts=0,
                max_concurrency=_ANSWERS_AT_ONCE,
                scheduling_strategy=_on(ray, place.machine, soft=False),
            )
            .remote()
        )

    async def ask(self, reference: Any, timeout_s: float | None = None) -> Any:
        """What a call of the actor returns. Raises Lost for whatever keeps it from that."""
        return await asked(self._ray, reference, timeout_s)

    async def start(self, task: Task, exchange: Exchange, patience_s: float) -> list[str]:
        """Get ready to encode. Returns what a user should know, one sentence each.

        Raises Lost; Unfit for a machine that cannot do what this one would; ConfigError for another version of rtsr.
        """
        name = self.place.name
        try:
            version = await self.ask(self.actor.version.remote(), patience_s)
        except Silent as silent:
            raise Unfit(f"no worker started on {name}: {silent}; are others using it?") from silent
        if version != __version__:
            raise ConfigError(f"{name} has rtsr {version} and this machine {__version__}; install the same everywhere")
        media, job = task.job.input, task.job
        if not media.is_url:
            sees = task.input == "auto" and await self.ask(self.actor.sees.remote(media, task.fingerprint), patience_s)
            if not sees and media.is_pictures:
                raise Unfit(f"{name} does not see {media}, and numbered pictures are read from a shared folder only")
            if not sees:
                job = through_caller(job, Path(media.name).stat().st_size, exchange.actor())
        try:
            theirs = await self.ask(self.actor.prepare.remote(job, task.spec, task.engine), patience_s)
        except Failed as failed:
            raise Unfit(f"{name} cannot do this job: {failed}") from failed
        return [f"{name} reads the input through this machine"] * (job is not task.job) + _compare(
            name, task.own, theirs
        )

    async def dismiss(self) -> None:
        """End it and what it keeps on its machine."""
        try:
            await self.ask(self.actor.close.remote(), _CLOSE_S)
        except Lost:
            pass  # it is dead, or stalled: what it kept stays there
        finally:
            self._ray.kill(self.actor)


class Exchange:
    """The actor through which the input is read, begun when somebody needs it."""

    def __init__(self, ray: Any):
        self._ray, self._actor = ray, None

    @property
    def begun(self) -> bool:
        return self._actor is not None

    def actor(self) -> Any:
        if self._actor is None:
            here = self._ray.get_runtime_context().get_node_id()  # a Ray client's: the machine that it talks to
            strategy = _on(self._ray, here, soft=True)
            self._actor = self._ray.remote(BlockExchange).options(num_cpus=0, scheduling_strategy=strategy).remote()
        return self._actor


async def asked(ray: Any, reference: Any, timeout_s: float | None) -> Any:
    """What a call of an actor returns. Raises Lost."""

    async def answer() -> Any:
        return await reference

    try:
        return await asyncio.wait_for(answer(), timeout_s)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        known = isinstance(cause, RtsrError)
        raise Failed(str(cause) if known else f"{type(cause).__name__}: {first_line(cause)}") from error
    except ray.exceptions.RayError as error:
        raise Lost(_how(error)) from error
    except TimeoutError as error:
        raise Silent(f"no answer for {timeout_s:.0f} s") from error


def _on(ray: Any, machine: str, soft: bool) -> Any:
    """Where an actor runs. soft: anywhere else if that machine is gone."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(machine, soft=soft)


def _how(error: Exception) -> str:
    """The part of Ray's message that tells what happened."""
    text = " ".join(str(error).split())
    for mark in ("Worker exit detail:", "ModuleNotFoundError:", "The node with node id", "error message:"):
        if mark in text:
            return text[text.index(mark) :].removeprefix("Worker exit detail:").strip().partition(". ")[0]
    return f"{type(error).__name__}: {first_line(error)}"


def _compare(name: str, own: Likeness, theirs: Likeness) -> list[str]:
    """Raise Unfit where a machine makes other pictures; a sentence where only versions differ."""
    differ = [
        f"{what} {theirs.versions.get(what, 'none')} there, {version} here"
        for what, version in own.versions.items()
        if theirs.versions.get(what) != version
    ]
    for what, mine, its in (("engine", own.upscaled, theirs.upscaled), ("encoder", own.encoded, theirs.encoded)):
        if mine != its:
            why = "; ".join(differ) or "the versions are the same, so the processors differ"
            raise Unfit(f"on {name} the {what} makes another result than here ({why})")
    if differ:
        return [f"{name} has {'; '.join(differ)}: a trial came out the same, but the film's bytes may differ"]
    return []
