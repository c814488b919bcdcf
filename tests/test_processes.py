"""Worker processes: Ctrl-C is their caller's alone, from their first moment on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# The first worker of a process is a case of its own: Python starts its tracker of resources with it.
SCRIPT = """
import os, signal, time
from rtsr.processes import start_worker

def work(pipe):
    pipe.send("begun")
    time.sleep(0.2)
    pipe.send("done")

if __name__ == "__main__":
    for _ in range(2):
        process, pipe = start_worker(work)
        os.kill(process.pid, signal.SIGINT)
        said = [pipe.recv()]
        os.kill(process.pid, signal.SIGINT)
        said.append(pipe.recv())
        process.join()
        print(*said, process.exitcode)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_workers_are_deaf_to_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("begun done 0\nbegun done 0\n", "")
