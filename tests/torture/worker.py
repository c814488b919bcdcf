"""rtsr's command line in a process that does many jobs: python starts once, and what a job leaves behind shows.

A job that takes too long, or takes the interpreter down, costs that process alone; the next job gets a new one.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRASHED, HUNG = -1, -2  # exit codes of jobs that did not end by themselves


@dataclass(frozen=True)
class Outcome:
    """What a job did. threads: of rtsr's, still alive after it. memory_mb: of the process, after it."""

    code: int
    stdout: str
    stderr: str
    seconds: float = 0.0
    threads: tuple[str, ...] = ()
    tasks: int = 0
    files: int = 0
    memory_mb: float = 0.0

    @property
    def sentences(self) -> list[str]:
        """Lines on stderr but for notes, progress and what was done: the error."""
        lines = [line for line in self.stderr.splitlines() if line.strip() and not line.startswith("note: ")]
        return [line for line in lines if "slowest: " not in line]

    @property
    def notes(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith("note: ")]


class Worker:
    """One such process at a time. memory: of address space, in bytes, above which allocations fail there."""

    def __init__(self, memory: int = 0):
        self._memory = memory
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: object, limit_s: float = 120) -> Outcome:
        """`rtsr ARGUMENTS`, in this worker."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        begun = time.monotonic()
        process.stdin.write(json.dumps([str(argument) for argument in arguments]).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], limit_s)
        line = process.stdout.readline() if ready else b""
        seconds = time.monotonic() - begun
        if line:
            told = json.loads(line)
            return Outcome(**{**told, "threads": tuple(told["threads"]), "seconds": seconds})
        self.close()
        if not ready:
            return Outcome(HUNG, "", f"killed after {limit_s} s", seconds)
        return Outcome(CRASHED, "", f"the process died with {process.returncode}", seconds)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        kept = {k: v for k, v in os.environ.items() if k not in ("RTSR_DEBUG", "FORCE_COLOR")}
        paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**kept, "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", "torture.worker", str(self._memory)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


# ---- in the worker's own process ----


def serve(memory: int) -> None:
    """Run each command line that comes as a line of JSON on stdin; answer with a line of JSON on stdout."""
    import gc
    import resource
    import threading

    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        code, stdout, stderr = _run(json.loads(line))
        gc.collect()  # a container in a reference cycle is late, not lost
        told: dict[str, Any] = {"code": code, "stdout": stdout, "stderr": stderr}
        told["threads"] = [t.name for t in threading.enumerate() if t.name.startswith("rtsr-")]
        told["tasks"], told["files"] = _entries("/proc/self/task"), _entries("/proc/self/fd")
        told["memory_mb"] = resident_mb(os.getpid())
        print(json.dumps(told), file=answers, flush=True)


def _run(arguments: list[str]) -> tuple[int, str, str]:
    """The command line with files for the process's own stdout and stderr, so that C's messages are seen, too.

    `decode FILE` is not rtsr's: what is in a file for whoever reads it without rtsr.
    """
    from rtsr.cli import main

    if arguments[0] == "decode":
        return 0, json.dumps(_decoded(arguments[1])), ""

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.argv = ["rtsr", *arguments]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in enumerate(kept, start=1):
                os.dup2(old, number)
                os.close(old)
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(errors="replace"), err.read().decode(errors="replace")


def _decoded(path: str) -> dict[str, Any]:
    """Pictures in the main video stream, and what FFmpeg says that is wrong with them."""
    import av
    import av.error
    from clips import TOLERANT, main_video

    found: dict[str, Any] = {"pictures": 0, "undecodable": 0, "corrupt": 0, "stopped": "", "errors": []}
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # the job before this may have met the same error
    try:
        with av.logging.Capture() as said, av.open(f"file:{path}", **TOLERANT) as container:
            stream = main_video(container)
            for packet in container.demux(stream):
                try:
                    for picture in packet.decode():
                        found["pictures"] += 1
                        found["corrupt"] += picture.is_corrupt
                except av.error.InvalidDataError:
                    found["undecodable"] += 1
    except (av.error.FFmpegError, StopIteration) as error:
        found["stopped"] = str(error) or "no video"
    else:
        found["errors"] = [message.strip() for _, _, message in said][:3]
    finally:
        av.logging.set_level(None)
    return found


def resident_mb(pid: int) -> float:
    """Memory that a process has in use, in MiB; 0 where there is no /proc."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def _entries(folder: str) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(folder))  # noqa: PTH208 - only the number
    return 0


if __name__ == "__main__":
    serve(int(sys.argv[1]))
