"""The machine without its GPU: Python, processor, cores, memory, disk, packages."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from rtsr import __version__
from rtsr.bench_machine import machine, versions
from rtsr.doctor.check import Check
from rtsr.memory import available_bytes
from rtsr.threads import usable_cores

_OLDEST_PYTHON = (3, 11)
# /proc/cpuinfo's flag -> what people call it; what the int8 engines make use of.
_FEATURES = {
    **{"avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX-512 VNNI"},
    **{"avx512_bf16": "BF16", "amx_int8": "AMX-INT8", "amx_bf16": "AMX-BF16", "asimd": "NEON", "asimddp": "DOTPROD"},
}
_LITTLE_MEMORY, _LITTLE_DISK = 1 << 30, 2 << 30
_WRITTEN = 32 << 20  # bytes, to learn the disk's speed
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+).*extra\s*==\s*['\"](?P<extra>\w+)['\"]")


def look() -> list[Check]:
    return [_python(), _cpu(), _cores(), _memory(), _disk(), *_extras(), *_twins()]


def _python() -> Check:
    found = versions()
    says = f"rtsr {__version__}, Python {found['python']}, PyAV {found.get('av', '?')}, {platform.platform()}"
    fits = sys.version_info >= _OLDEST_PYTHON
    mend = None if fits else "python3.12 -m pip install rtsr"
    return Check("machine", "python", "ok" if fits else "problem", says, mend, True, {"versions": found})


def _cpu() -> Check:
    cpu = machine()["cpu"]
    flags = cpu_flags()
    features = [name for flag, name in _FEATURES.items() if flag in flags]
    says = f"{cpu}: {', '.join(features) or 'features not told by this system'}"
    if platform.machine().lower() in ("x86_64", "amd64") and flags and "avx2" not in flags:
        says += "; without AVX2 the engines are several times slower"
    return Check("machine", "processor", "ok", says, facts={"model": cpu, "features": features})


def cpu_flags(root: Path = Path("/")) -> set[str]:
    """What the processor says of itself; empty where /proc does not tell (not Linux)."""
    with suppress(OSError):
        for line in (root / "proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.split(":", 1)[1].split())
    return set()


def _cores() -> Check:
    usable, whole, quota = usable_cores(), os.cpu_count() or 1, cpu_quota()
    facts = {"usable": usable, "machine": whole, "quota": quota}
    says = f"{usable} of {whole} cores usable"
    if quota is not None and quota < usable:
        says += f", but the control group grants the time of {quota:g}: threads for {usable} slow each other down"
        mend = f"taskset -c 0-{max(round(quota), 1) - 1} rtsr upscale ..."
        return Check("machine", "cores", "problem", says, mend, facts=facts)
    return Check("machine", "cores", "ok", says, facts=facts)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that a control group grants (docker run --cpus); None for no limit."""
    with suppress(OSError, ValueError):
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):  # control groups, version 1
        folder = root / "sys/fs/cgroup/cpu"
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        return quota / int((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    return None


def _memory() -> Check:
    free = available_bytes()
    if free is None:
        return Check("machine", "memory", "ok", "not told by this system")
    says, facts = f"{free / 2**30:.1f} GiB free", {"free_bytes": free}
    if free < _LITTLE_MEMORY:
        mend = "rtsr plan FILE"
        return Check("machine", "memory", "problem", f"{says}: too little for large films", mend, facts=facts)
    return Check("machine", "memory", "ok", says, facts=facts)


def _disk() -> Check:
    """Of the current folder, where most people write."""
    folder = Path.cwd()
    if not os.access(folder, os.W_OK):
        return Check("machine", "disk", "problem", f"{folder} is not writable", "cd ~", facts={"folder": str(folder)})
    free, speed = shutil.disk_usage(folder).free, write_speed(folder)
    facts = {"folder": str(folder), "free_bytes": free, "write_mb_s": None if speed is None else round(speed)}
    pace = "" if speed is None else f", writes {speed:.0f} MB/s"
    says = f"{free / 2**30:.1f} GiB free in {folder}{pace}"
    if free < _LITTLE_DISK:
        return Check("machine", "disk", "problem", f"{says}: too little for most films", "df -h", facts=facts)
    return Check("machine", "disk", "ok", says, facts=facts)


def write_speed(folder: Path) -> float | None:
    """MB/s of a short write that is forced to disk; None where there is no room for it."""
    if shutil.disk_usage(folder).free < 4 * _WRITTEN:
        return None
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        begun = time.perf_counter()
        for _ in range(_WRITTEN >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return _WRITTEN / 1e6 / (time.perf_counter() - begun)


def _extras() -> list[Check]:
    """Each optional group of packages: whole, or what it lacks."""
    try:
        requirements = metadata.requires("rtsr") or []
    except metadata.PackageNotFoundError:  # run from a source tree
        return []
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        if (match := _REQUIREMENT.match(requirement)) and match["extra"] != "dev":
            extras.setdefault(match["extra"], []).append(match["name"])
    checks = []
    for extra, packages in extras.items():
        missing = [package for package in packages if not is_installed(package)]
        says = f"lacks {', '.join(missing)}" if missing else ", ".join(packages)
        mend = f"pip install 'rtsr[{extra}]'" if missing else None
        facts = {"packages": packages, "missing": missing}
        checks.append(Check("extras", extra, "absent" if missing else "ok", says, mend, facts=facts))
    return checks


def _twins() -> list[Check]:
    """Two packages that write into one folder: whichever came last wins, in parts."""
    if not (is_installed("onnxruntime") and is_installed("onnxruntime-gpu")):
        return []
    says = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other"
    mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'rtsr[cuda]'"
    return [Check("extras", "onnxruntime", "problem", says, mend)]


def is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
