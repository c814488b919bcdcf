"""A ring of slots over three CUDA streams: one frame is uploaded while another is computed and a third downloaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtsr.backends.cuda.libraries import Gpu, cuda_core
from rtsr.backends.cuda.memory import PinnedMemory, ResultPool, cuda_errors, device_memory

if TYPE_CHECKING:
    from cuda.core.cu13._event import Event
    from cuda.core.cu13._memory._buffer import Buffer
    from cuda.core.cu13._stream import Stream

DEPTH = 4  # one in each of the three stages, and one that the host fills or empties
LENT = 16  # results that readers hold: the queue to the encoder and what it has not copied yet


@dataclass(slots=True, eq=False)
class Slot:
    """Everything that one batch in flight needs. index: its number in the ring, for what is kept beside it (a captured
    graph, an execution context). host_in: what the host fills. host_out: None between take_result() and submit()."""

    index: int
    host_in: PinnedMemory
    device_in: Buffer
    device_out: Buffer
    uploaded: Event
    computed: Event
    finished: Event
    host_out: PinnedMemory | None = None


Stage = Callable[[Slot, "Stream"], None]  # enqueues work for a slot on a stream and returns at once


def upload(slot: Slot, stream: Stream) -> None:
    """host_in -> device_in."""
    slot.device_in.copy_from(slot.host_in.buffer, stream=stream)


def download(slot: Slot, stream: Stream) -> None:
    """device_out -> host_out."""
    assert slot.host_out is not None, "submit() has put it there"
    slot.host_out.buffer.copy_from(slot.device_out, stream=stream)


class Ring:
    """`depth` slots that go round: acquire() -> the host fills slot.host_in -> submit() -> ... -> collect().

    The host waits in collect() alone, for the oldest slot. A slot is given out again only after it was collected, so
    that nothing in it is in flight then. input_bytes, output_bytes: of a slot's blocks. One thread at a time, each of
    which must have called Gpu.use(). Raises OutOfMemoryError, having freed what it got, when the blocks do not fit.
    """

    def __init__(self, gpu: Gpu, input_bytes: int, output_bytes: int, depth: int = DEPTH):
        self.depth = depth
        self.results = ResultPool(output_bytes, LENT)
        self._in_flight: deque[Slot] = deque()
        self._slots: list[Slot] = []
        self._free: deque[Slot] = deque()
        self._streams: list[Stream] = []
        with cuda_errors(f"streams on {gpu.name}"):
            self._streams = [gpu.device.create_stream() for _ in range(3)]
        try:
            for index in range(depth):
                self._slots.append(self._new_slot(gpu, index, input_bytes, output_bytes))
            self.uploading.sync()  # the blocks were allocated in its order; from here on any stream may use them
        except BaseException:
            self.close()
            raise
        self._free.extend(self._slots)

    @property
    def uploading(self) -> Stream:
        return self._streams[0]

    @property
    def computing(self) -> Stream:
        return self._streams[1]

    @property
    def downloading(self) -> Stream:
        return self._streams[2]

    @property
    def is_full(self) -> bool:
        """Whether collect() must come before the next acquire()."""
        return not self._free

    def __len__(self) -> int:
        """Slots in flight."""
        return len(self._in_flight)

    def acquire(self) -> Slot:
        """A slot that nothing in flight uses."""
        slot = self._free.popleft()
        slot.host_out = slot.host_out or self.results.take()
        return slot

    def submit(self, slot: Slot, compute: Stage, upload: Stage = upload, download: Stage = download) -> None:
        """Enqueue a slot's three stages, each on its stream and after the one before it. Returns at once.

        upload and download: for frames that are on the device already, or stay there.
        """
        with cuda_errors("a batch"):
            self._in_flight.append(slot)  # first: whatever was enqueued when one of these fails must be waited for
            upload(slot, self.uploading)
            self.uploading.record(slot.uploaded)
            self.computing.wait(slot.uploaded)
            compute(slot, self.computing)
            self.computing.record(slot.computed)
            self.downloading.wait(slot.computed)
            download(slot, self.downloading)
            self.downloading.record(slot.finished)

    def collect(self) -> Slot:
        """The oldest slot in flight, once it is done. Its content holds until the next acquire()."""
        slot = self._in_flight[0]
        with cuda_errors("a batch"):
            slot.finished.sync()
        self._free.append(self._in_flight.popleft())
        return slot

    def take_result(self, slot: Slot) -> PinnedMemory:
        """A collected slot's host_out, to be lent to a reader; the slot gets another."""
        assert slot.host_out is not None, "a collected slot has one"
        memory, slot.host_out = slot.host_out, None
        return memory

    def drain(self) -> None:
        """Let what is in flight end, and forget it. Raises EngineError on a GPU that no longer answers."""
        with cuda_errors("waiting for the GPU"):
            for stream in self._streams:
                stream.sync()
        self._free.extend(self._in_flight)
        self._in_flight.clear()

    def close(self) -> None:
        """Wait for what is in flight and free everything but what readers hold. Safe to call twice, also after an
        EngineError of a GPU that no longer answers."""
        slots, self._slots = self._slots, []
        try:
            self.drain()
            with cuda_errors("freeing the GPU's memory"):
                for slot in slots:
                    for part in (slot.device_in, slot.device_out, slot.uploaded, slot.computed, slot.finished):
                        part.close()
                for stream in self._streams:
                    stream.close()
        finally:
            self._streams = []
            self._in_flight.clear()
            self._free.clear()

    def _new_slot(self, gpu: Gpu, index: int, input_bytes: int, output_bytes: int) -> Slot:
        with ExitStack() as undo:
            blocks = []
            for size in (input_bytes, output_bytes):
                block = device_memory(gpu, size, self.uploading)
                undo.callback(block.close)
                blocks.append(block)
            # The host sleeps in collect() instead of spinning: the encoder wants the core.
            quietly = cuda_core().EventOptions(blocking_sync=True)
            events = [gpu.device.create_event(), gpu.device.create_event(), gpu.device.create_event(quietly)]
            slot = Slot(index, PinnedMemory(input_bytes), *blocks, *events)
            undo.pop_all()
            return slot
