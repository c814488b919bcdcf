"""TensorRT and TensorRT-RTX: plans run on an NVIDIA GPU, uploads and downloads beside the computing.

Never run on a GPU yet: built for real with TensorRT-RTX, run on tests/tensorrt_stand_in.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rtsr.backends import inference_error, is_out_of_memory
from rtsr.backends.cuda.libraries import Gpu
from rtsr.backends.cuda.memory import Layout, cuda_errors, device_memory
from rtsr.backends.cuda.nv12 import Nv12Kernels, Surface
from rtsr.backends.cuda.ring import DEPTH, Ring, Slot
from rtsr.backends.guard import CHECK, Fp32Again, sound
from rtsr.backends.phases import BORDER, fill_bordered
from rtsr.backends.trt_build import Progress, Recipe, keep, kept_plan, logger, plain, ready_plan, recipe, started
from rtsr.backends.trt_graph import Picture
from rtsr.backends.trt_package import Package
from rtsr.errors import EngineError, OutOfMemoryError, RtsrError
from rtsr.frames import FrameBatch
from rtsr.frames_on_gpu import picture_on_gpu
from rtsr.manifest import Manifest

if TYPE_CHECKING:
    from threading import Event

    from cuda.core.cu13._stream import Stream
    from cuda.core.cu13.graph._graph_builder import Graph


class TensorRtEngine:
    """A ladder engine as a plan, for one size of picture at a time; another size makes another plan.

    package: which of the two it runs on. builds_quickly: whether a plan takes no more than a second.
    precision: fp16, fp32 or int8, see tensorrt_graph(). notice: gets what becomes of plans. progress: of a plan that is
    built while a batch waits for it. One thread at a time.
    """

    def __init__(
        self,
        manifest: Manifest,
        package: Package,
        gpu: Gpu,
        precision: str = "fp16",
        notice: Callable[[str], None] = lambda sentence: None,
        progress: Progress = lambda share: None,
    ):
        self.name, self.sha256, self.scale = manifest.name, manifest.sha256, manifest.scale
        self.backend, self.package = "tensorrt", package.name
        self.builds_quickly = package.is_rtx
        self.gpu: int | None = None  # whose decoded pictures it takes as they lie there
        self._manifest, self._package, self._gpu, self._precision = manifest, package, gpu, precision
        self._notice, self._progress = notice, progress
        self._session: _Session | None = None
        self._again = Fp32Again(lambda: TensorRtEngine(manifest, package, gpu, "fp32", notice, progress), notice)
        self._nv12: Nv12Kernels | None = None
        try:
            self._nv12, self.gpu = Nv12Kernels(gpu), gpu.number
        except EngineError as error:
            notice(f"decoded pictures go through memory: {error}")

    def infer(self, batch: FrameBatch) -> FrameBatch:
        """One slot, which takes the least memory; stream() has the greater throughput."""
        (result,) = self._run([batch], depth=1)
        return result

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        return self._run(batches, DEPTH)

    def _run(self, batches: Iterable[FrameBatch], depth: int) -> Iterator[FrameBatch]:
        self._gpu.use()
        waiting: deque[FrameBatch] = deque()
        session = self._session
        try:
            for batch in batches:
                if session is None or not session.takes(batch, depth):
                    while session is not None and waiting:
                        yield self._collect(session, waiting)
                    session = self._open_session(batch, depth)
                if session.is_full:
                    yield self._collect(session, waiting)
                waiting.append(batch)
                self._start(session, batch)
            while session is not None and waiting:
                yield self._collect(session, waiting)
        finally:
            if session is not None and waiting:  # a reader that left early, or an error
                session.drain()

    def close(self) -> None:
        """Free the GPU's memory, and keep the kernels that were compiled on it. Safe to call twice."""
        self._again.close()
        self._close_session()

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
                self._session = _Session(self._package, self._gpu, made, plan, depth, self._nv12)
            except _Refused as refused:  # another driver or build than the key could tell apart: once more, from anew
                self._notice(f"{made.path} does not load ({refused}): built anew")
                made.path.unlink(missing_ok=True)
                plan = ready_plan(self._package, made, self._notice, self._progress)
                self._session = _Session(self._package, self._gpu, made, plan, depth, self._nv12)
        except _Refused as refused:
            raise EngineError(f"{self.package} refuses its own plan of {self.name}: {refused}") from refused
        except OutOfMemoryError as error:
            raise inference_error(self, batch, error) from error
        return self._session

    def _start(self, session: _Session, batch: FrameBatch) -> None:
        try:
            session.start(batch)
        except RtsrError as error:
            raise self._failed(batch, error) from error

    def _collect(self, session: _Session, waiting: deque[FrameBatch]) -> FrameBatch:
        batch = waiting.popleft()
        try:
            return self._again.repaired(batch, *session.collect(batch))
        except RtsrError as error:
            raise self._failed(batch, error) from error

    def _failed(self, batch: FrameBatch, error: Exception) -> EngineError:
        """The error to raise, once the GPU's memory is given up: the next batch opens the plan again."""
        with suppress(RtsrError):  # after a failed launch CUDA refuses everything, freeing too
            self.close()
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

    def __init__(self, package: Package, gpu: Gpu, recipe: Recipe, plan: bytes, depth: int, nv12: Nv12Kernels | None):
        self._package, self._recipe = package, recipe
        self._picture, self._most = recipe.picture, recipe.key.pictures
        self._log = logger(package.trt)
        self._runtime = started(package.trt.Runtime, self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            why = self._log.first_error
            raise (OutOfMemoryError if is_out_of_memory(why) else _Refused)(why)
        self._inputs = Layout.of({name: (shape, np.uint8) for name, shape in self._picture.inputs(self._most).items()})
        self._outputs = Layout.of(recipe.outputs(self._most))
        self._gpu, self._nv12 = gpu, nv12
        self._ring = Ring(gpu, self._inputs.size, self._outputs.size, depth)
        self._scratch = None
        self._slots: list[_Prepared] = []
        try:
            size = max(self._engine.device_memory_size_v2, 1)
            self._scratch = device_memory(gpu, size, self._ring.computing)
            self._kernels_path = recipe.path.with_name(f"{recipe.path.stem}-{plain(gpu.name)}.kernels")
            kernels = self._kernels_path.read_bytes() if self._kernels_path.is_file() else b""
            for _ in range(self._ring.depth):
                context, self._kernels = package.context(self._engine, kernels)
                if context is None:
                    why = self._log.first_error
                    raise (OutOfMemoryError if is_out_of_memory(why) else EngineError)(why)
                context.set_device_memory(int(self._scratch.handle), size)
                self._slots.append(_Prepared(context))
        except BaseException:
            self.close()
            raise

    @property
    def is_full(self) -> bool:
        return self._ring.is_full

    def takes(self, batch: FrameBatch, depth: int) -> bool:
        p = self._picture
        same = (*batch.size, batch.pixels, batch.siting) == (p.height, p.width, p.pixels, p.siting)
        return same and len(batch) <= self._most and depth <= self._ring.depth

    def start(self, batch: FrameBatch) -> None:
        """Bring a batch into a free slot and enqueue all of its work."""
        slot = self._ring.acquire()
        picture = picture_on_gpu(batch, self._gpu.number)
        if picture is not None and self._nv12 is not None:
            take = partial(self._take, self._nv12, picture.surface)
            self._ring.submit(slot, partial(self._compute, n=1), upload=take)
            return
        y = _samples(slot.host_in.array(self._inputs["y"]), batch)
        fill_bordered(y[: len(batch) * batch.pixels.full_planes], batch.y)
        if "uv" in self._inputs:
            _samples(slot.host_in.array(self._inputs["uv"]), batch)[: len(batch)] = batch.uv
        self._ring.submit(slot, lambda slot, stream: self._compute(slot, stream, len(batch)))

    def _take(self, kernels: Nv12Kernels, surface: Surface, slot: Slot, stream: Stream) -> None:
        """A decoder's surface -> device_in, without a way through the host."""
        y, uv = (int(slot.device_in.handle) + self._inputs[name].offset for name in ("y", "uv"))
        kernels.take(surface, y, uv, BORDER, stream)

    def collect(self, batch: FrameBatch) -> tuple[FrameBatch, np.ndarray]:
        """The oldest batch's result; batch: what went in. (N,) bool: which pictures are sound, see guard.py."""
        slot = self._ring.collect()
        arrays = self._ring.results.lend(self._ring.take_result(slot), self._outputs)
        n, planes = len(batch), batch.pixels.full_planes
        y = _samples(arrays["y_out"], batch)[: n * planes]
        y = y.reshape(n, planes, *y.shape[2:])
        check = arrays.get(CHECK)
        is_sound = np.ones(n, bool) if check is None else sound(check[: n * planes], planes)
        if "uv_out" in arrays:
            return batch.with_planes(y, _samples(arrays["uv_out"], batch)[:n]), is_sound
        height, width = y.shape[2:]
        return batch.with_planes(y, np.empty((n, 0, *batch.pixels.chroma_size(height, width)), y.dtype)), is_sound

    def drain(self) -> None:
        self._ring.drain()

    def close(self) -> None:
        slots, self._slots = self._slots, []
        scratch, self._scratch = self._scratch, None
        try:
            self._ring.drain()
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
            self._ring.close()

    def _compute(self, slot: Slot, stream: Stream, n: int) -> None:
        """Run the plan on a slot: as a CUDA graph from the third time on that it is the same work.

        The first run after a change of shape does things that no graph may hold.
        """
        prepared = self._slots[slot.index]
        if prepared.n != n:
            self._set_up(prepared, slot, n)
        if prepared.graph is None and prepared.runs and self._package.can_capture(prepared.context, stream):
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
        context, blocks = prepared.context, ((self._inputs, slot.device_in), (self._outputs, slot.device_out))
        for name, shape in self._picture.inputs(n).items():
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


def _samples(array: np.ndarray, batch: FrameBatch) -> np.ndarray:
    """A graph's bytes as samples: two make one where there are more than 8 bits."""
    return array if batch.bits == 8 else array.view("<u2")[..., 0]
