"""One probe in a process of its own, with a time limit: a driver that crashes or hangs costs its own lines only.

`python -m rtsr.doctor.probe NAME FILE` runs a probe and writes its checks to FILE as JSON; without FILE, to stdout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from rtsr.doctor.check import Check
from rtsr.errors import RtsrError, first_line

# Probe -> module and function that returns its checks. After a colon in the name comes the function's argument.
_PROBES = {
    "machine": ("rtsr.doctor.machine", "look"),
    "gpu": ("rtsr.doctor.gpu", "look"),
    "codecs": ("rtsr.doctor.media", "look_at_codecs"),
    "hardware": ("rtsr.doctor.media", "look_at_hardware"),
    "devices": ("rtsr.doctor.media", "look_at_devices"),
    "backend": ("rtsr.doctor.engines", "look"),
    "providers": ("rtsr.doctor.engines", "list_providers"),
    "provider": ("rtsr.doctor.engines", "look_at_provider"),
    "speed": ("rtsr.doctor.speed", "look"),
}


def run_probe(name: str, group: str, limit_s: float, needed: bool = False) -> list[Check]:
    """The probe's checks; for one that crashes, hangs or fails, a problem that says so and how to see more."""
    with tempfile.TemporaryDirectory(prefix="rtsr-doctor-", ignore_cleanup_errors=True) as folder:
        file = Path(folder, "checks.json")
        process = subprocess.Popen(
            [sys.executable, "-m", "rtsr.doctor.probe", name, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what the probe starts ends with it
        )
        try:
            _, words = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return [_failed(name, group, f"did not answer within {limit_s:g} s", needed)]
        finally:
            _end(process)
        if process.returncode == 0 and file.exists():
            return [Check(**each) for each in json.loads(file.read_text())]
        return [_failed(name, group, _how_it_ended(process.returncode, words), needed)]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.communicate()


def _how_it_ended(code: int, words: bytes) -> str:
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    lines = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
    return f"failed: {lines[-1].strip()}" if lines else f"ended with code {code} and without a word"


def _failed(name: str, group: str, how: str, needed: bool) -> Check:
    return Check(group, name, "problem", how, f"{Path(sys.executable).name} -m rtsr.doctor.probe {name}", needed)


def checks_of(name: str) -> list[Check]:
    """Run a probe here. Raises whatever it raises."""
    kind, _, argument = name.partition(":")
    module, function = _PROBES[kind]
    look: Callable[..., list[Check]] = getattr(import_module(module), function)
    return look(argument) if argument else look()


def main(arguments: list[str]) -> None:
    name, *file = arguments
    try:
        found: list[dict[str, Any]] = [asdict(check) for check in checks_of(name)]
    except RtsrError as error:
        sys.exit(first_line(error))
    text = json.dumps(found)
    if file:
        Path(file[0]).write_text(text)
        sys.stdout.flush()
        os._exit(0)  # what was found is written; native libraries may crash in their exit handlers
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
