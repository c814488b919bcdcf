"""NVIDIA GPUs, their driver, and the CUDA packages beside it: through the driver's own libraries, without packages."""

from __future__ import annotations

import ctypes
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rtsr.doctor.check import Check
from rtsr.doctor.machine import is_installed

_NVIDIA, _DISPLAY_CLASSES = "0x10de", ("0x0300", "0x0302")  # PCI: vendor; VGA and 3D controllers
_CUDA_LIBRARIES = {"win32": ("nvcuda.dll",)}
_NVML_LIBRARIES = {"win32": ("nvml.dll",)}
_OLDEST_FOR_NVENC = 570  # driver; of the encoders in PyAV's wheels
_DRIVER = 580  # the release that runs CUDA 13


@dataclass(frozen=True, slots=True)
class Gpu:
    """As the driver tells it. capability: compute capability. memory: bytes."""

    name: str
    capability: tuple[int, int]
    memory: int


def look() -> list[Check]:
    cards = pci_cards()
    gpus, version, trouble = gpus_of_driver()
    if not gpus:
        if not cards and not Path("/dev/nvidiactl").exists():
            return [Check("gpu", "nvidia", "absent", "no NVIDIA GPU in this machine; the CPU does the work")]
        mend = "docker run --gpus all ..." if Path("/.dockerenv").exists() else driver_mend()
        says = f"an NVIDIA card is here and its driver does not answer: {trouble}"
        return [Check("gpu", "nvidia", "problem", says, mend, facts={"pci_cards": cards})]
    driver = driver_release()
    checks = [
        Check(
            "gpu",
            f"gpu {number}",
            "ok",
            f"{gpu.name}, compute capability {gpu.capability[0]}.{gpu.capability[1]}, {gpu.memory / 2**30:.0f} GiB",
            facts={"name": gpu.name, "capability": list(gpu.capability), "memory_bytes": gpu.memory},
        )
        for number, gpu in enumerate(gpus)
    ]
    checks.append(_driver(driver, version))
    return [*checks, *_packages(version)]


def _driver(release: str | None, cuda: tuple[int, int]) -> Check:
    says = f"{release or 'release not told'}, runs CUDA {cuda[0]}.{cuda[1]}"
    facts = {"release": release, "cuda": list(cuda)}
    if release and int(release.split(".")[0]) < _OLDEST_FOR_NVENC:
        says += f"; PyAV's NVENC encoders need {_OLDEST_FOR_NVENC} or newer"
        return Check("gpu", "driver", "problem", says, driver_mend(), facts=facts)
    return Check("gpu", "driver", "ok", says, facts=facts)


def _packages(cuda: tuple[int, int]) -> list[Check]:
    """What makes use of the GPU, as installed: CUDA's and cuDNN's libraries, TensorRT."""
    wanted = {
        "cuda": ((f"nvidia-cuda-runtime-cu{cuda[0]}", "nvidia-cuda-runtime"), "pip install 'rtsr[cuda]'"),
        "cudnn": ((f"nvidia-cudnn-cu{cuda[0]}",), "pip install 'rtsr[cuda]'"),
        "tensorrt": ((f"tensorrt-cu{cuda[0]}", "tensorrt", "tensorrt-rtx"), "pip install 'rtsr[tensorrt]'"),
        "cuda-core": (("cuda-core",), "pip install 'rtsr[tensorrt]'"),
    }
    checks = []
    for name, (packages, mend) in wanted.items():
        found = {package: metadata.version(package) for package in packages if is_installed(package)}
        says = ", ".join(f"{package} {version}" for package, version in found.items()) or "not installed"
        status = "ok" if found else "absent"
        checks.append(Check("gpu", name, status, says, None if found else mend, facts={"packages": found}))
    return checks


def driver_mend() -> str:
    """How this system gets a driver."""
    if shutil.which("apt"):
        return f"sudo apt install nvidia-driver-{_DRIVER}"
    return f"install driver {_DRIVER} or newer: https://www.nvidia.com/drivers"


def pci_cards(root: Path = Path("/")) -> list[str]:
    """PCI addresses of NVIDIA's display controllers, whether or not a driver knows them; empty where not told."""
    found = []
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        with suppress(OSError):
            kind = (folder / "class").read_text().strip()
            if (folder / "vendor").read_text().strip() == _NVIDIA and kind.startswith(_DISPLAY_CLASSES):
                found.append(folder.name)
    return found


def gpus_of_driver() -> tuple[list[Gpu], tuple[int, int], str]:
    """GPUs, the CUDA version that the driver runs, and if there are none why."""
    library = _load(_CUDA_LIBRARIES.get(sys.platform, ("libcuda.so.1", "libcuda.so")))
    if library is None:
        return [], (0, 0), "its library libcuda is not installed"
    if status := library.cuInit(0):
        return [], (0, 0), f"cuInit failed with error {status}"
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    library.cuDeviceGetCount(ctypes.byref(count))
    cuda = version.value // 1000, version.value % 1000 // 10
    return [_gpu(library, number) for number in range(count.value)], cuda, "it shows no GPU"


def _gpu(library: Any, number: int) -> Gpu:
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = []
    for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)


def driver_release() -> str | None:
    """The driver's own version, such as `580.65.06`; None where NVML is not there."""
    library = _load(_NVML_LIBRARIES.get(sys.platform, ("libnvidia-ml.so.1",)))
    text = ctypes.create_string_buffer(80)
    if library is None or library.nvmlInit_v2() or library.nvmlSystemGetDriverVersion(text, len(text)):
        return None
    return text.value.decode(errors="replace")


def _load(names: tuple[str, ...]) -> Any:
    for name in names:
        with suppress(OSError):
            return ctypes.CDLL(name)
    return None
