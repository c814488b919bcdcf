"""Worker processes: started afresh, each on a pipe, and deaf to the Ctrl-C that its terminal sends to all."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any


def start_worker(
    work: Callable[..., None], *args: Any, name: str | None = None, daemon: bool = False
) -> tuple[SpawnProcess, Connection]:
    """Start work(connection, *args) in a process of its own; the process, and this side's end of the connection.

    Spawned, as threads of the runtimes do not survive a fork, which would also share what CUDA and OpenVINO hold.
    """
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_deaf, args=(work, there, *args), name=name, daemon=daemon)
    with _no_interrupts():
        process.start()
    there.close()  # so that its end is seen here
    return process, here


def _deaf(work: Callable[..., None], *args: Any) -> None:
    """What a worker process begins with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work(*args)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold SIGINT back, which a process that is started meanwhile inherits; what comes meanwhile comes afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # or the first worker starts it, which lets SIGINT through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
