"""The ring of slots over three streams, on a stand-in that breaks the test when CUDA's rules are broken."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cuda_stand_in
import numpy as np
import pytest
from cuda_stand_in import Driver, Misuse, Span

from rtsr.backends.cuda.libraries import Gpu, open_gpu
from rtsr.backends.cuda.memory import Layout, ResultPool, device_memory
from rtsr.backends.cuda.ring import Ring, Slot
from rtsr.errors import ConfigError, EngineError, OutOfMemoryError

SIZE = 1000


@pytest.fixture
def ring(gpu: Gpu) -> Iterator[Ring]:
    with closing(Ring(gpu, SIZE, SIZE, depth=3)) as ring:
        yield ring


def add_one(slot: Slot, stream: cuda_stand_in.Stream) -> None:
    """Stands for a kernel: device_out = device_in + 1."""
    source, target = slot.device_in.memory, slot.device_out.memory  # type: ignore[attr-defined]

    def work() -> None:
        target.at(0, SIZE)[:] = source.at(0, SIZE) + 1

    stream.enqueue("kernel", work, Span(source, 0, SIZE, False), Span(target, 0, SIZE, True))


def fill(slot: Slot, value: int) -> None:
    np.asarray(slot.host_in)[:] = value


def results(ring: Ring, values: range) -> Iterator[np.ndarray]:
    """What goes in and comes out, as a backend runs a ring."""
    layout = Layout.of({"y": ((SIZE,), np.uint8)})
    for value in values:
        if ring.is_full:
            yield ring.results.lend(ring.take_result(ring.collect()), layout)["y"]
        slot = ring.acquire()
        fill(slot, value)
        ring.submit(slot, add_one)
    while len(ring):
        yield ring.results.lend(ring.take_result(ring.collect()), layout)["y"]


def test_results_come_in_order_and_stay_as_they_are(ring: Ring) -> None:
    kept = list(results(ring, range(40)))  # more than ring and pool hold
    assert [set(y.tolist()) for y in kept] == [{value + 1} for value in range(40)]


def test_the_stages_of_neighbours_overlap(ring: Ring, driver: Driver) -> None:
    """All three slots are enqueued before the host waits for the first of them, each stage on a stream of its own."""
    driver.calls.clear()
    next(results(ring, range(9)))
    work = [call for call in driver.calls if "allocate" not in call]
    assert work[:10] == ["upload on 1", "kernel on 2", "download on 3"] * 3 + ["sync event"]


def test_the_host_waits_for_the_oldest_slot_alone(ring: Ring, driver: Driver) -> None:
    driver.calls.clear()
    for _ in results(ring, range(20)):
        pass
    assert driver.calls.count("sync event") == 20
    assert not any("sync stream" in call for call in driver.calls)


def test_blocks_of_results_serve_again_once_their_readers_let_go(ring: Ring, driver: Driver) -> None:
    for _ in results(ring, range(50)):
        pass
    gc.collect()
    assert sum("pinned" in call for call in driver.calls) <= 8  # 3 to fill, 3 in flight, one in hand and one to come


def test_a_pool_lends_no_more_than_it_may(gpu: Gpu) -> None:
    layout = Layout.of({"y": ((8,), np.uint8)})
    pool = ResultPool(layout.size, most=2)
    held = [pool.lend(pool.take(), layout)["y"] for _ in range(5)]
    assert [y.base is not None for y in held] == [True, True, False, False, False]
    first = held[0].ctypes.data
    held.clear()
    gc.collect()
    assert first in {np.asarray(pool.take()).ctypes.data for _ in range(5)}


def test_a_result_outlives_its_ring(gpu: Gpu) -> None:
    with closing(Ring(gpu, SIZE, SIZE)) as ring:
        last = list(results(ring, range(3)))[-1]
    assert set(last.tolist()) == {3}


def test_tensors_of_a_block_are_aligned_and_apart() -> None:
    layout = Layout.of({"y": ((3, 5), np.uint8), "uv": ((2, 7), np.uint16)})
    assert (layout["y"].offset, layout["uv"].offset, layout.size) == (0, 256, 256 + 28)


def test_no_room_is_said_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(memory=5 * SIZE)
    driver.install(monkeypatch)
    with pytest.raises(OutOfMemoryError, match="Stand-in GPU"):
        Ring(open_gpu(), SIZE, SIZE, depth=3)
    assert driver.used == 0


def test_closing_a_ring_in_full_flight_waits_and_frees_all(gpu: Gpu, driver: Driver) -> None:
    ring = Ring(gpu, SIZE, SIZE)
    for value in range(3):
        slot = ring.acquire()
        fill(slot, value)
        ring.submit(slot, add_one)
    ring.close()
    ring.close()
    assert driver.used == 0


def test_a_stage_that_fails_leaves_a_ring_that_can_be_drained(ring: Ring) -> None:
    def fails(slot: Slot, stream: object) -> None:
        raise cuda_stand_in.CUDAError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure")

    slot = ring.acquire()
    fill(slot, 1)
    with pytest.raises(EngineError, match="LAUNCH_FAILED"):
        ring.submit(slot, fails)
    ring.drain()
    assert [set(y.tolist()) for y in results(ring, range(5))] == [{value + 1} for value in range(5)]


# What is missing, in one sentence each.


def test_no_driver(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    def missing() -> None:
        raise RuntimeError('"cuda" is an NVIDIA driver library')

    monkeypatch.setattr(sys.modules["cuda.bindings.driver"], "cuDriverGetVersion", missing)
    with pytest.raises(EngineError, match=r"no NVIDIA driver.*install the driver, or .*--gpus all"):
        open_gpu()


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(version=12040).install(monkeypatch)
    with pytest.raises(EngineError, match=r"runs CUDA 12\.4 and the installed packages need 13\.0: update it to 580"):
        open_gpu()


def test_no_such_gpu(driver: Driver) -> None:
    with pytest.raises(EngineError, match="no GPU 1: the driver shows 1"):
        open_gpu(1)


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(ConfigError, match=r"pip install 'rtsr\[tensorrt\]'"):
        open_gpu()


# The stand-in itself: what it forgives would prove nothing.


def test_it_sees_a_stream_that_does_not_wait_for_another(gpu: Gpu) -> None:
    one, other = gpu.device.create_stream(), gpu.device.create_stream()
    a, b = (device_memory(gpu, 10, one) for _ in range(2))
    a.fill(1, stream=one)
    with pytest.raises(Misuse, match="without waiting"):
        b.copy_from(a, stream=other)
    event = gpu.device.create_event()
    one.record(event)
    other.wait(event)
    b.copy_from(a, stream=other)


def test_it_sees_memory_that_is_filled_again_too_early(ring: Ring) -> None:
    slot = ring.acquire()
    fill(slot, 1)
    ring.submit(slot, add_one)
    fill(slot, 2)
    with pytest.raises(Misuse, match="changed its memory"):
        ring.collect()
    fill(slot, 1)  # as it was, so that the ring can be closed


def test_it_gives_poison_to_who_reads_before_the_event(ring: Ring) -> None:
    slot = ring.acquire()
    fill(slot, 1)
    ring.submit(slot, add_one)
    assert set(np.asarray(slot.host_out).tolist()) == {cuda_stand_in.POISON}
    ring.collect()
    assert set(np.asarray(slot.host_out).tolist()) == {2}


def test_it_sees_memory_freed_in_flight_and_used_after(gpu: Gpu) -> None:
    stream = gpu.device.create_stream()
    memory = device_memory(gpu, 10, stream)
    memory.fill(1, stream=stream)
    with pytest.raises(Misuse, match="freed while"):
        memory.close()
    stream.sync()
    memory.close()
    with pytest.raises(Misuse, match="was freed"):
        memory.fill(1, stream=stream)


def test_it_sees_an_event_that_nobody_recorded(gpu: Gpu) -> None:
    with pytest.raises(Misuse, match="never recorded"):
        gpu.device.create_event().sync()


def test_it_speaks_as_cuda_core_does() -> None:
    """Each method that the stand-in has, cuda.core has too, with the same parameters in the same order."""
    core = pytest.importorskip("cuda.core")
    found = "".join(path.read_text() for path in Path(core.__file__).parent.rglob("*.pyi"))
    for kind in ("Device", "Buffer", "Stream", "Event", "GraphBuilder", "Graph"):
        stub = found.split(f"\nclass {kind}:", 1)[1].split("\nclass ", 1)[0]
        for name, method in inspect.getmembers(getattr(cuda_stand_in, kind)):
            if name.startswith("_") or name in ("enqueue", "span"):
                continue
            if not callable(method):
                assert f"    def {name}(self)" in stub, f"{kind} has no property {name}"
                continue
            line = next((line for line in stub.splitlines() if line.startswith(f"    def {name}(")), None)
            assert line, f"{kind} has no {name}"
            theirs = [part.split(":")[0].split("=")[0].strip() for part in line.split("(", 1)[1].split(",")]
            theirs = [name.rstrip(") ->") for name in theirs if name not in ("self", "*", "")]
            ours = [name for name in inspect.signature(method).parameters if name != "self"]
            assert theirs[: len(ours)] == ours, f"{kind}.{name}"
