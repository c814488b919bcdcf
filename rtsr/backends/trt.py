"""TensorRT and TensorRT-RTX: plans run on an NVIDIA GPU, uploads and downloads beside the computing.

Never run on a GPU yet: built for real with TensorRT-RTX, run on tests/tensorrt_stand_in.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtsr.backends import inference_error, is_out_of_memory
from rtsr.backends.cuda.batches import BatchRing
from rtsr.backends.cuda.libraries import Gpu
from rtsr.backends.cuda.memory import cuda_errors, device_memory
from rtsr.backends.cuda.nv12 import Nv12Kernels
from rtsr.backends.cuda.ring import DEPTH, Slot
from rtsr.backends.cuda.surfaces import SurfacePool
from rtsr.backends.gpu_graph import Picture
from rtsr.backends.guard import Fp32Again
from rtsr.backends.trt_build import Progress, Recipe, keep, kept_plan, logger, plain, ready_plan, recipe, started
from rtsr.backends.trt_package import Package
from rtsr.errors import EngineError, OutOfMemoryError, RtsrError
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest

if TYPE_CHECKING:
    from threading import Event

    from cuda.core.cu13._stream import Stream
    from cuda.core.cu13.graph._graph_builder import Graph


class TensorRtEngine:
    """A ladder engine as a plan, for one size of picture at a time; another size makes another plan.

    package: which of the two it runs on. builds_quickly: whether a plan takes no more than a second.
    precision: fp16, fp32 or int8, see gpu_graph(). notice: gets what becomes of plans. progress: of a plan that is
    built while a batch waits for it. graphs: replay each slot's work as a CUDA graph. One thread at a time.
    """

    def __init__(
        self,
        manifest: Manifest,
        package: Package,
        gpu: Gpu,
        precision: str = "fp16",
        notice: Callable[[str], None] = lambda sentence: None,
        progress: Progress = lambda share: None,
        graphs: bool = True,
    ):
        self.name, self.sha256, self.scale = manifest.name, manifest.sha256, manifest.scale
        self.backend, self.package = "tensorrt", package.name
        self.builds_quickly = package.is_rtx
        self.gpu: int | None = None  # whose decoded pictures it takes as they lie there
        self._manifest, self._package, self._gpu, self._precision = manifest, package, gpu, precision
        self._notice, self._progress, self._graphs = notice, progress, graphs
        self._session: _Session | None = None
        self._again = Fp32Again(
            lambda: TensorRtEngine(manifest, package, gpu, "fp32", notice, progress, graphs), notice
        )
        self._pool, self._stays = SurfacePool(gpu), False
        self._nv12: Nv12Kernels | None = None
        try:
            self._nv12, self.gpu = Nv12Kernels(gpu), gpu.number
        except EngineError as error:
            notice(f"decoded pictures go through memory: {error}")

    def leave_on_gpu(self) -> None:
        """Let stream() leave single pictures on the GPU from now on, for an encoder that reads them there; who looks at
        their samples downloads them. All encoders must be closed before this is."""
        self._stays = self.gpu is not None

    def infer(self, batch: FrameBatch) -> FrameBatch:
        """One slot, which takes the least memory; stream() has the greater throughput."""
        (result,) = self._run([batch], depth=1, stays=False)
        return result

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return self._run(batches, DEPTH, self._stays)

    def _run(self, batches: Iterable[FrameBatch], depth: int, stays: bool) -> Iterator[FrameBatch]:
        self._gpu.use()
        waiting: deque[FrameBatch] = deque()
        session = self._session
        try:
            for batch in batches:
                if session is None or not session.batches.takes(batch, depth):
                    while session is not None and waiting:
                        yield self._collect(session, waiting)
                    session = self._open_session(batch, depth)
                if session.batches.is_full:
                    yield self._collect(session, waiting)
                waiting.append(batch)
                self._start(session, batch, stays)
            while session is not None and waiting:
                yield self._collect(session, waiting)
        finally:
            if session is not None and waiting:  # a reader that left early, or an error
                session.batches.drain()

    def close(self) -> None:
        """Free the GPU's memory, and keep the kernels that were compiled on it. Safe to call twice."""
        self._again.close()
        try:
            self._close_session()
        finally:
            self._gpu.use()
            self._pool.close()

    def _close_session(self) -> None:
        if self._session is not None:
            self._gpu.use()
            self._session.close()
            self._session = None

    def picture(self, batch: FrameBatch) -> Picture:
        """What a plan for such batches is written for."""
        return Picture(*batch.size, self.scale, batch.pixels, batch.siting)

    def is_ready(self, picture: Picture, pictures: int = 1) -> bool:
        """Whether the plan is in the folder."""
        return kept_plan(self._recipe(picture, pictures)) is not None

    def make_plan(
        self, picture: Picture, pictures: int = 1, progress: Progress | None = None, cancelled: Event | None = None
    ) -> None:
        """Put the plan into the folder, from any thread. Raises EngineError, BuildCancelled."""
        self._gpu.use()
        made = self._recipe(picture, pictures)
        ready_plan(self._package, made, self._notice, progress or self._progress, cancelled)

    def _recipe(self, picture: Picture, pictures: int) -> Recipe:
        return recipe(self._package, self._gpu, self._manifest, picture, self._precision, pictures)

    def _open_session(self, batch: FrameBatch, depth: int) -> _Session:
        """A session for batches like this one; the old one's memory is free before."""
        self._close_session()
        try:
            made = self._recipe(self.picture(batch), len(batch))
            plan = ready_plan(self._package, made, self._notice, self._progress)
            try:
                self._session = self._load(made, plan, depth)
            except _Refused as refused:  # another driver or build than the key could tell apart: once more, from anew
                self._notice(f"{made.path} does not load ({refused}): built anew")
                made.path.unlink(missing_ok=True)
                plan = ready_plan(self._package, made, self._notice, self._progress)
                self._session = self._load(made, plan, depth)
        except _Refused as refused:
            raise EngineError(
                f"{self.package} refuses its own plan of {self.name}: {refused}; install it and the driver anew, "
                "or pass another --backend"
            ) from refused
        except OutOfMemoryError as error:
            raise inference_error(self, batch, error) from error
        return self._session

    def _load(self, made: Recipe, plan: bytes, depth: int) -> _Session:
        return _Session(self._package, self._gpu, made, plan, depth, self._graphs, self._nv12, self._pool)

    def _start(self, session: _Session, batch: FrameBatch, stays: bool) -> None:
        try:
            session.batches.start(batch, session.compute, stays)
        except RtsrError as error:
            raise self._failed(batch, error) from error

    def _collect(self, session: _Session, waiting: deque[FrameBatch]) -> FrameBatch:
        batch = waiting.popleft()
        try:
            return self._again.repaired(batch, *session.batches.collect(batch))
        except RtsrError as error:
            raise self._failed(batch, error) from error

    def _failed(self, batch: FrameBatch, error: Exception) -> EngineError:
        """The error to raise, once the GPU's memory is given up: the next batch opens the plan again."""
        with suppress(RtsrError):  # after a failed launch CUDA refuses everything, freeing too
            self._again.close()
            self._close_session()
        self._session = None
        return inference_error(self, batch, error)


class _Refused(EngineError):
    """A plan that TensorRT does not load."""


@dataclass(slots=True)
class _Prepared:
    """What a slot's execution context was last set up for. n: pictures; 0 for none. runs: since then."""

    context: Any
    n: int = 0
    runs: int = 0
    graph: Graph | None = None


class _Session:
    """A loaded plan with a ring of slots, an execution context and a CUDA graph for each. The contexts share their
    scratch memory: one stream runs them, one after the other. Raises _Refused, EngineError, OutOfMemoryError."""

    def __init__(
        self,
        package: Package,
        gpu: Gpu,
        recipe: Recipe,
        plan: bytes,
        depth: int,
        graphs: bool,
        nv12: Nv12Kernels | None,
        pool: SurfacePool,
    ):
        self._package, self._recipe, self._graphs = package, recipe, graphs
        self._log = logger(package.trt)
        self._runtime = started(package.trt.Runtime, self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            why = self._log.first_error
            raise (OutOfMemoryError if is_out_of_memory(why) else _Refused)(why)
        self.batches = BatchRing(gpu, recipe.picture, recipe.key.pictures, recipe.is_watched, depth, nv12, pool)
        self._scratch = None
        self._slots: list[_Prepared] = []
        try:
            size = max(self._engine.device_memory_size_v2, 1)
            self._scratch = device_memory(gpu, size, self.batches.ring.computing)
            self._kernels_path = recipe.path.with_name(f"{recipe.path.stem}-{plain(gpu.name)}.kernels")
            kernels = self._kernels_path.read_bytes() if self._kernels_path.is_file() else b""
            for _ in range(self.batches.ring.depth):
                context, self._kernels = package.context(self._engine, kernels)
                if context is None:
                    why = self._log.first_error
                    raise (OutOfMemoryError if is_out_of_memory(why) else EngineError)(why)
                context.set_device_memory(int(self._scratch.handle), size)
                self._slots.append(_Prepared(context))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        slots, self._slots = self._slots, []
        scratch, self._scratch = self._scratch, None
        try:
            self.batches.drain()
            with cuda_errors("freeing the GPU's memory"):
                for prepared in slots:
                    if prepared.graph is not None:
                        prepared.graph.close()
                if scratch is not None:
                    scratch.close()
            if slots and self._kernels is not None:
                with suppress(OSError):  # a cache: compiled again next time
                    keep(self._kernels_path, bytes(self._kernels.serialize()))
        finally:
            self.batches.close()

    def compute(self, slot: Slot, stream: Stream, n: int) -> None:
        """Run the plan on a slot: as a CUDA graph from the third time on that it is the same work.

        The first run after a change of shape does things that no graph may hold.
        """
        prepared = self._slots[slot.index]
        if prepared.n != n:
            self._set_up(prepared, slot, n)
        is_next = self._graphs and prepared.graph is None and prepared.runs
        if is_next and self._package.can_capture(prepared.context, stream):
            builder = stream.create_graph_builder().begin_building("thread_local")
            try:
                self._execute(prepared, stream)
            finally:
                builder.end_building()
            prepared.graph = builder.complete()
            builder.close()
        if prepared.graph is not None:
            prepared.graph.launch(stream)
        else:
            self._execute(prepared, stream)
        prepared.runs += 1

    def _set_up(self, prepared: _Prepared, slot: Slot, n: int) -> None:
        """Shapes, then addresses, as TensorRT wants them."""
        if prepared.graph is not None:
            prepared.graph.close()
        prepared.graph, prepared.runs = None, 0
        context, batches = prepared.context, self.batches
        blocks = (batches.inputs, slot.device_in), (batches.outputs, slot.device_out)
        for name, shape in self._recipe.picture.inputs(n).items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"the plan does not take {name} of {shape}: {self._log.first_error}")
        if missing := context.infer_shapes():
            raise EngineError(f"the plan lacks the shape of {', '.join(missing)}")
        for layout, block in blocks:
            for name, tensor in layout.items():
                context.set_tensor_address(name, int(block.handle) + tensor.offset)
        prepared.n = n

    def _execute(self, prepared: _Prepared, stream: Stream) -> None:
        with cuda_errors(f"{self._recipe}"):
            if not prepared.context.execute_async_v3(int(stream.handle)):
                why = self._log.first_error
                raise (OutOfMemoryError if is_out_of_memory(why) else EngineError)(why)
