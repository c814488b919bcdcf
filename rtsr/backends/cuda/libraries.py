"""Finding the driver, the CUDA packages and a GPU: all of it, or one sentence that says what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rtsr.errors import ConfigError, EngineError, first_line

if TYPE_CHECKING:
    # Where the wheel has its stubs: cuda.core itself becomes cuda.core.cu13 when it is imported.
    from cuda.core.cu13._device import Device

# What a driver calls itself against the CUDA version that it can run (CUDA's release notes, table of drivers).
_DRIVER_FOR = {12: "525", 13: "580"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU whose driver answers. number: CUDA's ordinal. capability: compute capability, e.g. (8, 9). driver: the
    CUDA version that the driver can run, e.g. (13, 0)."""

    device: Device
    number: int
    name: str
    capability: tuple[int, int]
    driver: tuple[int, int]

    def require(self, oldest: tuple[int, int], package: str, instead: str) -> None:
        """Raise EngineError if it is older than a package needs. oldest: compute capability. instead: --backend."""
        if self.capability < oldest:
            raise EngineError(
                f"{package} needs compute capability {oldest[0]}.{oldest[1]} or newer and {self.name} has "
                f"{self.capability[0]}.{self.capability[1]}: pass --backend {instead}"
            )

    def use(self) -> None:
        """Make it the calling thread's; each thread has to, before it does anything with the GPU."""
        self.device.set_current()


def cuda_core() -> ModuleType:
    """The package cuda.core. Raises ConfigError if it is not installed."""
    return _package("cuda.core")


def open_gpu(number: int = 0) -> Gpu:
    """A GPU by its number, current in this thread.

    Raises ConfigError if cuda-core is not installed, EngineError if there is no driver, it is too old, or it shows no
    such GPU.
    """
    core, driver = cuda_core(), driver_version()
    built_for = int(_package("cuda.bindings").__version__.split(".")[0])
    if driver[0] < built_for:
        raise EngineError(
            f"the NVIDIA driver runs CUDA {driver[0]}.{driver[1]} and the installed packages need {built_for}.0: "
            f"update it to {_DRIVER_FOR.get(built_for, 'a newer one')} or later, or install 'cuda-bindings<{built_for}'"
        )
    try:
        count = len(core.Device.get_all_devices())
        if number >= count:
            raise EngineError(
                f"there is no GPU {number}: the driver shows {count}, numbered from 0; nvidia-smi and "
                "CUDA_VISIBLE_DEVICES tell which"
            )
        device = core.Device(number)
        device.set_current()
        major, minor = device.compute_capability
        return Gpu(device, number, device.name, (major, minor), driver)
    except EngineError:
        raise
    except Exception as error:  # CUDAError derives from nothing narrower
        raise EngineError(f"GPU {number} does not open: {first_line(error)}") from error


def driver_version() -> tuple[int, int]:
    """The newest CUDA version that the driver can run. Raises EngineError without a driver."""
    try:
        status, version = _package("cuda.bindings.driver").cuDriverGetVersion()
    except RuntimeError as error:  # cuda-pathfinder's DynamicLibNotFoundError
        raise EngineError(
            "no NVIDIA driver: libcuda was not found; install the driver, or in a container start it with --gpus all"
        ) from error
    if int(status) or not version:
        raise EngineError(f"the NVIDIA driver does not answer ({status}): is there a GPU, and is its module loaded?")
    return version // 1000, version % 1000 // 10


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"NVIDIA backends need cuda-core ({error}): pip install 'rtsr[tensorrt]', 'rtsr[rtx]' or 'rtsr[cuda]'"
        ) from error
