"""A stand-in for cuda.core and its driver: the same calls on ordinary memory, recorded, and strict about CUDA's rules.

Work is done as late as the rules allow: an operation runs only when the host waits for it or for something behind it.
What forgets to wait therefore reads poison. And each operation is compared, by vector clocks, with all earlier ones on
the same bytes: two that touch them, one of them writing, with no order between them, are Misuse, whether or not the
result happens to be right.
"""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

POISON = 0xA5


class Misuse(BaseException):
    """A rule of CUDA's was broken: real hardware would give garbage, sometimes, or crash. No handler may take it for
    an error of CUDA's."""


class CUDAError(Exception):
    """As cuda.core raises it."""


@dataclass(eq=False)
class Span:
    """Bytes that an operation touches."""

    memory: Allocation
    start: int
    stop: int
    writes: bool


@dataclass(eq=False)
class Operation:
    what: str
    stream: Stream
    run: Callable[[], None]
    spans: tuple[Span, ...]
    number: int = 0
    clock: dict[Stream, int] = field(default_factory=dict)
    waits_for: list[Operation] = field(default_factory=list)
    source_sums: dict[Span, int] = field(default_factory=dict)  # of host memory that must stay as it is until then
    is_done: bool = False

    def is_before(self, clock: dict[Stream, int]) -> bool:
        return clock.get(self.stream, 0) >= self.number


class Allocation:
    """Bytes of the device, or page-locked ones of the host."""

    def __init__(self, world: Driver, size: int, on_host: bool):
        self.world, self.size, self.on_host = world, size, on_host
        self.bytes = np.full(size + 256, POISON, np.uint8)
        self.offset = -self.bytes.ctypes.data % 256
        self.address = self.bytes.ctypes.data + self.offset
        self.is_closed = False
        self.touched: list[tuple[Operation, Span]] = []

    def at(self, start: int, stop: int) -> np.ndarray:
        return self.bytes[self.offset + start : self.offset + stop]


class Driver:
    """The machine: what it can do, what it was told (`calls`), and what is still to be done.

    memory: bytes that fit on the device. devices: names of the GPUs. version: as of cuDriverGetVersion.
    """

    def __init__(
        self,
        memory: int = 1 << 30,
        devices: Sequence[str] = ("Stand-in GPU",),
        version: int = 13000,
        capability: tuple[int, int] = (8, 9),
    ):
        self.memory, self.devices, self.version, self.capability = memory, list(devices), version, capability
        self.calls: list[str] = []
        self.allocations: list[Allocation] = []
        self.streams: list[Stream] = []
        self.host: dict[Stream, int] = {}  # the host's vector clock: what it has waited for
        self.current = threading.local()
        self.lost = ""  # what every call says once the GPU no longer answers
        self.kernels: dict[str, Kernel] = {}  # what launch() knows how to run
        self.default_stream: Stream | None = None

    @property
    def used(self) -> int:
        """Bytes on the device."""
        return sum(a.size for a in self.allocations if not a.on_host and not a.is_closed)

    def require_current(self, what: str) -> None:
        if self.lost:
            raise CUDAError(self.lost)
        if getattr(self.current, "device", None) is None:
            raise Misuse(f"{what} in a thread that never called Device.set_current()")

    def allocate(self, size: int, on_host: bool) -> Buffer:
        self.require_current("an allocation")
        if any(stream.capture is not None for stream in self.streams):
            raise Misuse("memory allocated while a graph is captured")
        if not on_host and self.used + size > self.memory:
            raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY: The API call failed because it was unable to allocate memory")
        self.calls.append(f"allocate {'pinned' if on_host else 'device'} {size}")
        memory = Allocation(self, size, on_host)
        self.allocations.append(memory)
        return Buffer(memory)

    def span(self, address: int, size: int, writes: bool) -> Span:
        """The bytes at an address that somebody was given. Misuse if nothing that is allocated lies there."""
        for memory in self.allocations:
            if memory.address <= address and address + size <= memory.address + memory.size and not memory.is_closed:
                return Span(memory, address - memory.address, address - memory.address + size, writes)
        raise Misuse(f"{size} bytes at {address:#x} are no memory of the GPU's, or were freed")

    def stream_of(self, handle: int) -> Stream:
        return next(stream for stream in self.streams if stream.number == handle)

    def run(self, last: Operation) -> None:
        """Do an operation and all that it waits for, and nothing else."""
        todo = [last]
        while todo:
            operation = todo[-1]
            if waiting := [earlier for earlier in operation.waits_for if not earlier.is_done]:
                todo.append(waiting[0])
                continue
            todo.pop()
            if operation.is_done:
                continue
            for span, sum_then in operation.source_sums.items():
                if zlib.crc32(span.memory.at(span.start, span.stop).data) != sum_then:
                    raise Misuse(f"{operation.what}: the host changed its memory while the copy was in flight")
            operation.run()
            operation.is_done = True

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Be cuda.core and cuda.bindings for the length of a test."""
        core = ModuleType("cuda.core")
        core.__dict__.update(
            Device=self._device_class(),
            Buffer=SimpleNamespace(from_handle=self._part),
            LegacyPinnedMemoryResource=lambda: SimpleNamespace(
                allocate=lambda size, *, stream=None: self.allocate(size, True)
            ),
            EventOptions=EventOptions,
            Program=Program,
            ProgramOptions=SimpleNamespace,
            LaunchConfig=SimpleNamespace,
            launch=self._launch,
        )
        bindings, driver = ModuleType("cuda.bindings"), ModuleType("cuda.bindings.driver")
        bindings.__dict__.update(__version__="13.0.0")
        driver.__dict__.update(cuDriverGetVersion=lambda: (0, self.version))
        for module in (core, bindings, driver):
            patch.setitem(sys.modules, module.__name__, module)

    def _launch(self, stream: Stream, config: SimpleNamespace, kernel: str, *values: np.generic) -> None:
        """As cuda.core's: a value's type decides how it is passed, and nobody checks it against the kernel's."""
        known = self.kernels[kernel]
        if [type(value) for value in values] != known.kinds:
            raise Misuse(f"{kernel} takes {known.kinds}; got {[type(value) for value in values]}")
        if config.block[0] * config.block[1] > 1024:
            raise Misuse(f"{kernel}: more than 1024 threads in a block of {config.block}")
        plain = [value.item() for value in values]
        spans = [self.span(address, size, writes) for address, size, writes in known.touches(*plain)]
        stream.enqueue(kernel, lambda: known.run(config.grid, config.block, plain), *spans)

    def _part(self, ptr: int, size: int, mr: object = None, owner: object = None) -> Buffer:
        """Buffer.from_handle(): bytes that somebody else owns."""
        if owner is None:
            raise Misuse("a part of a block that nothing keeps alive")
        span = self.span(ptr, size, writes=False)
        return Buffer(span.memory, span.start, size)

    def _device_class(self) -> type:
        world = self

        class BoundDevice(Device):
            def __init__(self, device_id: int | None = None):
                super().__init__(world, device_id or 0)

            @classmethod
            def get_all_devices(cls) -> tuple[Device, ...]:
                return tuple(cls(i) for i in range(len(world.devices)))

        return BoundDevice


@dataclass
class EventOptions:
    timing_enabled: bool | None = False
    blocking_sync: bool | None = False
    ipc_enabled: bool | None = False


@dataclass(frozen=True)
class Kernel:
    """kinds: of its arguments. run: called with grid, block and the arguments. touches: (address, bytes, writes) of
    what it reads and writes with these arguments."""

    kinds: list[type]
    run: Callable[[Sequence[int], Sequence[int], list[int]], None]
    touches: Callable[..., list[tuple[int, int, bool]]]


class Program:
    """Compiles nothing: a kernel is its name."""

    def __init__(self, code: str, code_type: str, options: object = None):
        self._code = code

    def compile(self, target_type: str) -> Program:
        return self

    def get_kernel(self, name: str) -> str:
        return name


class Device:
    def __init__(self, world: Driver, device_id: int):
        self._world, self.device_id = world, device_id
        self.name = world.devices[device_id]
        self.compute_capability = world.capability

    def set_current(self, ctx: object = None) -> None:
        self._world.current.device = self

    def create_stream(self, obj: object = None, options: object = None) -> Stream:
        self._world.require_current("a stream")
        return Stream(self._world)

    @property
    def default_stream(self) -> Stream:
        self._world.default_stream = self._world.default_stream or Stream(self._world)
        return self._world.default_stream

    def create_event(self, options: EventOptions | None = None) -> Event:
        self._world.require_current("an event")
        return Event(self._world, options or EventOptions())

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        return self._world.allocate(size, on_host=False)

    def sync(self) -> None:
        for stream in self._world.streams:
            stream.sync()


class Buffer:
    """An allocation, or a part of one."""

    def __init__(self, memory: Allocation, start: int = 0, size: int | None = None):
        self.memory, self._start = memory, start
        self._size = memory.size if size is None else size

    @property
    def handle(self) -> int:
        return self.memory.address + self._start

    @property
    def size(self) -> int:
        return self._size

    @property
    def is_closed(self) -> bool:
        return self.memory.is_closed

    def copy_from(self, src: Buffer, *, stream: Stream, options: object = None) -> None:
        if self.size != src.size:
            raise ValueError(f"buffer sizes mismatch: src {src.size}, dst {self.size}")
        target, source = self.span(writes=True), src.span(writes=False)
        what = "upload" if src.memory.on_host else "download" if self.memory.on_host else "copy"

        def copy() -> None:
            target.memory.at(target.start, target.stop)[:] = source.memory.at(source.start, source.stop)

        stream.enqueue(what if self._is_whole() else f"{what} a part", copy, source, target)

    def copy_to(self, dst: Buffer, *, stream: Stream, options: object = None) -> Buffer:
        dst.copy_from(self, stream=stream)
        return dst

    def fill(self, value: int, *, stream: Stream) -> None:
        whole = self.span(writes=True)
        stream.enqueue("fill", lambda: self.memory.at(whole.start, whole.stop).fill(value), whole)

    def span(self, writes: bool) -> Span:
        return Span(self.memory, self._start, self._start + self._size, writes)

    def _is_whole(self) -> bool:
        return self._size == self.memory.size

    def close(self, stream: Stream | None = None) -> None:
        if self.memory.world.lost:
            raise CUDAError(self.memory.world.lost)
        for operation, _ in self.memory.touched:
            if not operation.is_before(self.memory.world.host):
                raise Misuse(f"memory freed while '{operation.what}' on it is in flight")
        self.memory.is_closed = True


class Stream:
    def __init__(self, world: Driver):
        self.world = world
        self.number = len(world.streams) + 1
        self.capture: list[tuple[str, Callable[[], None], tuple[Span, ...]]] | None = None
        self.is_closed = False
        self._last: Operation | None = None
        self._clock: dict[Stream, int] = {}
        self._waits: list[Operation] = []
        world.streams.append(self)

    @property
    def handle(self) -> int:
        return self.number

    def enqueue(self, what: str, run: Callable[[], None], *spans: Span) -> None:
        """Put an operation into the stream, or into the graph that is captured on it."""
        self.world.require_current(what)
        if self.is_closed:
            raise Misuse(f"{what} on a closed stream")
        for span in spans:
            if span.memory.is_closed:
                raise Misuse(f"{what} on memory that was freed")
        if self.capture is not None:
            self.capture.append((what, run, spans))
            return
        operation = Operation(what, self, run, spans)
        self._merge(self.world.host)
        operation.number = self._clock.get(self, 0) + 1
        self._clock[self] = operation.number
        operation.clock = dict(self._clock)
        operation.waits_for = [*self._waits, *([self._last] if self._last else [])]
        self._last, self._waits = operation, []
        self.world.calls.append(f"{what} on {self.number}")
        for span in spans:
            self._touch(operation, span)

    def _touch(self, operation: Operation, span: Span) -> None:
        memory = span.memory
        for earlier, other in memory.touched:
            overlap = span.start < other.stop and other.start < span.stop
            if overlap and (span.writes or other.writes) and not earlier.is_before(operation.clock):
                raise Misuse(f"'{operation.what}' uses memory that '{earlier.what}' in flight uses, without waiting")
        memory.touched = [(o, s) for o, s in memory.touched if not o.is_before(self.world.host)]
        memory.touched.append((operation, span))
        if memory.on_host and span.writes:
            memory.at(span.start, span.stop).fill(POISON)  # whoever reads before the event reads this
        elif memory.on_host:
            operation.source_sums[span] = zlib.crc32(memory.at(span.start, span.stop).data)

    def record(self, event: Event | None = None, options: EventOptions | None = None) -> Event:
        self.world.require_current("record")
        event = event or Event(self.world, options or EventOptions())
        if event.is_closed:
            raise Misuse("a closed event was recorded")
        event.clock, event.behind = dict(self._clock), [*self._waits, *([self._last] if self._last else [])]
        return event

    def wait(self, event_or_stream: Event | Stream) -> None:
        event = event_or_stream.record() if isinstance(event_or_stream, Stream) else event_or_stream
        if event.clock is None:
            raise Misuse("a stream waits for an event that was never recorded, which is no wait at all")
        self._merge(event.clock)
        self._waits.extend(event.behind)

    def sync(self) -> None:
        self.world.require_current("sync")
        if self.capture is not None:
            raise Misuse("a stream was synchronised while a graph is captured on it")
        self.world.calls.append(f"sync stream {self.number}")
        for operation in [*self._waits, *([self._last] if self._last else [])]:
            self.world.run(operation)
        for stream, number in self._clock.items():
            self.world.host[stream] = max(self.world.host.get(stream, 0), number)

    def close(self) -> None:
        self.is_closed = True

    def create_graph_builder(self) -> GraphBuilder:
        return GraphBuilder(self)

    def _merge(self, clock: dict[Stream, int]) -> None:
        for stream, number in clock.items():
            self._clock[stream] = max(self._clock.get(stream, 0), number)


class Event:
    def __init__(self, world: Driver, options: EventOptions):
        self._world, self.options = world, options
        self.clock: dict[Stream, int] | None = None
        self.behind: list[Operation] = []  # what it stands for: each stream runs in order, so its last is enough
        self.is_closed = False

    def sync(self) -> None:
        if self.clock is None:
            raise Misuse("the host waits for an event that was never recorded, which is no wait at all")
        if self._world.lost:
            raise CUDAError(self._world.lost)
        self._world.calls.append("sync event")
        for operation in self.behind:
            self._world.run(operation)
        for stream, number in self.clock.items():
            self._world.host[stream] = max(self._world.host.get(stream, 0), number)

    @property
    def is_done(self) -> bool:
        return all(operation.is_done for operation in self.behind)

    def close(self) -> None:
        self.is_closed = True


class GraphBuilder:
    def __init__(self, stream: Stream):
        self.stream = stream
        self._captured: list[tuple[str, Callable[[], None], tuple[Span, ...]]] | None = None

    def begin_building(self, mode: str | None = "relaxed") -> GraphBuilder:
        if self.stream.capture is not None:
            raise Misuse("two captures on one stream")
        self.stream.capture = []
        return self

    def end_building(self) -> GraphBuilder:
        if self.stream.capture is None:
            raise Misuse("a capture ended that never began")
        self._captured, self.stream.capture = self.stream.capture, None
        return self

    def complete(self, options: object = None) -> Graph:
        if self._captured is None:
            raise Misuse("a graph was completed before end_building()")
        return Graph(self._captured)

    def close(self) -> None:
        self.stream.capture = None


class Graph:
    def __init__(self, captured: list[tuple[str, Callable[[], None], tuple[Span, ...]]]):
        self._captured = captured
        self._is_closed = False

    def launch(self, stream: Stream) -> None:
        if self._is_closed:
            raise Misuse("a closed graph was launched")
        stream.world.calls.append(f"graph on {stream.number}")
        for what, run, spans in self._captured:
            stream.enqueue(what, run, *spans)

    def close(self) -> None:
        self._is_closed = True
