"""What a figure was measured on, and how much memory it took."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from rtsr import __version__
from rtsr.threads import usable_cores

_PACKAGES = ("av", "numpy", "opencv-python", "openvino", "onnxruntime", "onnxruntime-gpu")


def machine() -> dict[str, Any]:
    """The processor, the cores that this process may use, and the system."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def machine_cpu_s() -> float | None:
    """CPU seconds that all programs together have used since the machine started; None where Linux's /proc is not."""
    try:
        user, nice, system, _, _, irq, softirq, steal, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except (OSError, ValueError):
        return None
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def versions() -> dict[str, str]:
    """rtsr, Python, and those of the libraries behind the figures that are installed."""
    found = {"rtsr": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def reset_peak_rss() -> None:
    """Forget the peak so far, where the kernel can (Linux): what a caller did before is not ours to report."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_mb() -> float | None:
    """The most resident memory since reset_peak_rss(), in 10**6 bytes; since the process began where that is missing.

    VmHWM before ru_maxrss: the latter is inherited from the process that started this one. None on Windows.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
