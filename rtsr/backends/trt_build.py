"""From an engine to a plan, TensorRT's file for one GPU kind, version and size of picture; and the folder that keeps
plans."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtsr.backends import is_out_of_memory
from rtsr.backends.cuda.libraries import Gpu
from rtsr.backends.gpu_graph import Picture, gpu_graph
from rtsr.backends.guard import with_check
from rtsr.backends.trt_package import Package
from rtsr.errors import EngineError, OutOfMemoryError, first_line
from rtsr.manifest import Manifest, read_engine

_MAGIC = b"rtsr plan 1\n"
Progress = Callable[[float], None]  # gets the share that is done, 0 to 1, from any thread


class BuildCancelled(Exception):
    """Nobody wants the plan any more."""


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a plan depends on. graph_sha256: of the ONNX graph that TensorRT is given, which holds the engine's
    weights, the precision and the picture's size and format. pictures: the most in one batch. driver, gpu: `any` for a
    plan that runs on each."""

    graph_sha256: str
    pictures: int
    package: str
    version: str
    driver: str
    gpu: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build, and where it is kept. engine: name of the engine, for people. is_watched: whether the graph has
    the output that guard.sound() reads."""

    engine: str
    graph: bytes
    picture: Picture
    key: PlanKey
    path: Path
    is_watched: bool

    def __str__(self) -> str:
        return f"{self.engine} at {self.picture.width}x{self.picture.height}"


def plans_folder() -> Path:
    """Where plans are kept: $RTSR_PLANS, else rtsr/plans in the user's cache folder."""
    if folder := os.environ.get("RTSR_PLANS"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rtsr" / "plans"


def recipe(
    package: Package, gpu: Gpu | None, manifest: Manifest, picture: Picture, precision: str, pictures: int = 1
) -> Recipe:
    """How to make a plan of an engine. Raises EngineError if the engine's file is damaged or no ladder."""
    graph = gpu_graph(read_engine(manifest), picture, precision)
    if is_watched := precision == "fp16":
        graph = with_check(graph)
    gpu_name, driver = package.built_on(gpu)
    key = PlanKey(hashlib.sha256(graph).hexdigest(), pictures, package.name, package.version, driver, gpu_name)
    name = f"{manifest.name}-{precision}-{picture.width}x{picture.height}-{key.digest}.plan"
    return Recipe(manifest.name, graph, picture, key, plans_folder() / name, is_watched)


def ready_plan(
    package: Package,
    recipe: Recipe,
    notice: Callable[[str], None] = lambda sentence: None,
    progress: Progress = lambda share: None,
    cancelled: threading.Event | None = None,
) -> bytes:
    """The plan from the folder, or a new one that is kept there.

    Raises EngineError or OutOfMemoryError if it cannot be built, BuildCancelled.
    """
    plan = kept_plan(recipe, notice)
    if plan is None:
        with _turn(cancelled):
            plan, timings = build(package, recipe, progress, cancelled)
        try:
            keep(recipe.path, _header(recipe.key, plan) + plan)
            if timings:
                keep(_timings_path(package, recipe), timings)
        except OSError as error:
            notice(f"the plan of {recipe} cannot be kept in {recipe.path.parent} ({error.strerror}): built each time")
    return plan


_building = threading.Lock()


@contextmanager
def _turn(cancelled: threading.Event | None) -> Iterator[None]:
    """One build at a time: it measures kernels on a GPU that another would keep busy. Raises BuildCancelled."""
    while not _building.acquire(timeout=0.1):
        if cancelled is not None and cancelled.is_set():
            raise BuildCancelled
    try:
        yield
    finally:
        _building.release()


def kept_plan(recipe: Recipe, notice: Callable[[str], None] = lambda sentence: None) -> bytes | None:
    """The plan if it is in the folder, whole and made for this; a damaged one is said and counts as none."""
    try:
        content = recipe.path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        notice(f"{recipe.path} cannot be read ({error.strerror}): built anew")
        return None
    _, _, plan = content.removeprefix(_MAGIC).partition(b"\n")
    if content == _header(recipe.key, plan) + plan:
        return plan
    notice(f"{recipe.path} is damaged, or another plan's: built anew")
    return None


def build(
    package: Package,
    recipe: Recipe,
    progress: Progress = lambda share: None,
    cancelled: threading.Event | None = None,
) -> tuple[bytes, bytes]:
    """Build a plan: within a second for TensorRT-RTX, in up to minutes for TensorRT. The GIL is free meanwhile.

    Returns the plan and what was measured on the way, which makes the next build shorter; empty if nothing was. Raises
    EngineError, OutOfMemoryError, or BuildCancelled soon after `cancelled` is set.
    """
    trt = package.trt
    log = logger(trt)
    builder = started(trt.Builder, log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(recipe.graph):
        raise EngineError(
            f"{package.name} {package.version} cannot parse {recipe}: {first_line(parser.get_error(0).desc())}"
        )
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    shapes = {n: recipe.picture.inputs(n) for n in (1, recipe.key.pictures)}
    for name in shapes[1]:
        most = shapes[recipe.key.pictures][name]
        profile.set_shape(name, shapes[1][name], most, most)
    config.add_optimization_profile(profile)
    config.progress_monitor = monitor = _monitor(trt, progress, cancelled)
    timings = _timings_path(package, recipe)
    package.load_timings(config, timings.read_bytes() if timings.is_file() else b"")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor.was_stopped:
            raise BuildCancelled
        why = log.first_error
        kind = OutOfMemoryError if is_out_of_memory(why) else EngineError
        raise kind(
            f"{package.name} {package.version} cannot build a plan of {recipe}: {why}; another --backend needs none"
        )
    progress(1.0)
    return bytes(plan), package.timings(config)


def keep(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, whoever else writes it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _header(key: PlanKey, plan: bytes) -> bytes:
    about = {**asdict(key), "sha256": hashlib.sha256(plan).hexdigest()}
    return _MAGIC + json.dumps(about).encode() + b"\n"


def _timings_path(package: Package, recipe: Recipe) -> Path:
    return recipe.path.with_name(f"{package.name}-{package.version}-{plain(recipe.key.gpu)}.timings")


def plain(name: str) -> str:
    """A GPU's name as part of a file's."""
    return "".join(c if c.isalnum() else "-" for c in name)


def started(kind: Any, log: Any) -> Any:
    """A builder or a runtime. Raises EngineError where TensorRT makes none, as it does without a GPU."""
    try:
        made = kind(log)
    except TypeError:  # what pybind makes of the null pointer
        made = None
    if made is None:
        raise EngineError(f"TensorRT does not start: {log.first_error}")
    return made


def logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps errors; the first is nearly always the reason."""

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        @property
        def first_error(self) -> str:
            return first_line(self.errors[0]) if self.errors else "it does not say why"

    return Log()


def _monitor(trt: Any, progress: Progress, cancelled: threading.Event | None) -> Any:
    """Phases nest: a phase's share counts as a part of the step of its parent in which it runs."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.was_stopped = False
            self._done = 0.0
            self._lock = threading.Lock()
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps done, steps

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._phases[phase_name] = parent_phase, 0, max(num_steps, 1)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                parent, _, steps = self._phases.get(phase_name, (None, 0, 1))
                self._phases[phase_name] = parent, step + 1, steps
                self._done = max(self._done, self._share())  # a phase that ends before its parent's step does
                self.was_stopped = self.was_stopped or (cancelled is not None and cancelled.is_set())
            progress(min(self._done, 0.99))
            return not self.was_stopped

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._phases.pop(phase_name, None)

        def _share(self) -> float:
            share, width, phase = 0.0, 1.0, None
            while inner := next(((n, *at[1:]) for n, at in self._phases.items() if at[0] == phase), None):
                phase, done, steps = inner
                share += width * done / steps
                width /= steps
            return share

    return Monitor()
