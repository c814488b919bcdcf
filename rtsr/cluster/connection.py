"""Reaching a Ray cluster that somebody has started: this process starts none, and talks to nobody else."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rtsr.errors import ClusterError, ConfigError, first_line

_REACH_S = 5.0
_LOST_SERVER = "Initialization failure from server"  # the process that Ray starts for a client died: seen once in 20
_ADDRESS = re.compile(r"auto|(?:ray://)?(?P<host>[A-Za-z0-9_.-]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
# Read by Ray when it is imported. A report on usage would go to Ray's makers.
_SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster to work on. address: `auto`, `ray://HOST:PORT`, or the `HOST:PORT` of one that this machine belongs to.

    input: `caller` has everybody read the input through this machine, `auto` only those that do not see its path.
    start_s: how long a worker may take to start. patience_s: at least how long it may show no new frame. Raises
    ConfigError for what is no address.
    """

    address: str
    input: str = "auto"
    start_s: float = 120.0
    patience_s: float = 120.0

    def __post_init__(self) -> None:
        match = _ADDRESS.fullmatch(self.address)
        if match is None or int(match["port"] or 1) not in range(1, 65536):
            raise ConfigError(f"--cluster {self.address!r} is no address; write auto or ray://HOST:PORT")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected; disconnected at the end, which ends everything this job has started there.

    `auto` is the cluster that this machine belongs to. Raises ConfigError if Ray is missing, ClusterError if the
    cluster cannot be reached.
    """
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # pyright: ignore[reportMissingImports] - an extra
        import ray.util.scheduling_strategies  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"--cluster needs Ray ({error}): pip install 'rtsr[cluster]'") from error
    _reach(address)
    _join(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    for tries_left in (1, 0):
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            return
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, gRPC's and others alike
            if tries_left and _LOST_SERVER in str(error):
                continue
            what = f"the cluster at {address} cannot be joined: {first_line(error)}"
            raise ClusterError(what + _remedy(address)) from error


def _reach(address: str) -> None:
    """Raise ClusterError for an address where nobody listens: Ray would try for half a minute."""
    match = _ADDRESS.fullmatch(address)
    if match is None or match["host"] is None:
        return
    host, port = match["host"].strip("[]"), int(match["port"])
    try:
        socket.create_connection((host, port), _REACH_S).close()
    except OSError as error:
        why = error.strerror or error
        raise ClusterError(f"the cluster at {address} cannot be reached: {why}{_remedy(address)}") from error


def _remedy(address: str) -> str:
    if address == "auto":
        return "; start it with `ray start --head --disable-usage-stats`, or name another: --cluster ray://HOST:PORT"
    return "; is `ray start --head` running there, with this port open?"
