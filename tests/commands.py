"""Running the command line as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SMALL = ("--backend", "reference", "--scale", "2")  # no engine, little work


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """The one line on stderr that says what is wrong; no other but notes and progress, and no traceback."""
        assert "Traceback" not in self.stderr, self.stderr
        lines = [line for line in self.stderr.splitlines() if line.strip() and not line.startswith("note: ")]
        lines = [line for line in lines if "  slowest: " not in line]  # progress, every few seconds
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("rtsr: "), self.stderr
        return lines[0].removeprefix("rtsr: ")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rtsr", *map(str, arguments)]


def environment(**changes: str) -> dict[str, str]:
    """This process's, without the switches that change what a user sees."""
    kept = {key: value for key, value in os.environ.items() if key not in ("RTSR_DEBUG", "FORCE_COLOR")}
    return {**kept, "COLUMNS": "200", **changes}


def rtsr(*arguments: object, cwd: Path | None = None, before: Callable[[], None] | None = None, **env: str) -> Outcome:
    """Run `rtsr ARGUMENTS` to its end. before: runs in the new process before the program."""
    done = subprocess.run(
        command(*arguments), capture_output=True, cwd=cwd, env=environment(**env), preexec_fn=before, timeout=120
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
