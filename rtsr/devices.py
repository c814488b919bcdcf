"""What `--devices` names: where the workers of a job run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from rtsr.errors import ConfigError, EngineError

MOST = 64
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_CPU_BACKENDS = ("openvino", "onnxruntime", "reference")


@dataclass(frozen=True, slots=True)
class Device:
    """Where a worker runs. name: as the user says it. visible: an NVIDIA GPU in the words of CUDA_VISIBLE_DEVICES,
    empty for the CPU."""

    name: str
    visible: str = ""

    def claim(self) -> None:
        """Make it the only GPU that this process sees, before anything of CUDA was called."""
        if self.visible:
            os.environ[_VISIBLE] = self.visible


CPU = Device("cpu")


def parse_devices(text: str | None, count_gpus: Callable[[], int] | None = None) -> tuple[Device, ...]:
    """Devices from `0,1` (NVIDIA GPUs by CUDA's number), `all` (of those), `cpu,cpu` or `cpu*2`; none for None.

    count_gpus: asked for `all`. Raises ConfigError for what is none of these or mixes both kinds, whose pictures
    differ; EngineError if there is no GPU to count.
    """
    if text is None:
        return ()
    names: list[str] = []
    for word in text.split(","):
        match = re.fullmatch(r"\s*(all|cpu|\d{1,3})\s*(?:\*\s*(\d{1,2}))?\s*", word)
        if match is None or match[2] == "0" or (match[1] == "all" and text.strip() != "all"):
            raise ConfigError(
                f"--devices {text!r} names no devices; write 0,1 or all for NVIDIA GPUs, cpu*2 for the CPU"
            )
        whole = map(str, range((count_gpus or gpu_count)())) if match[1] == "all" else (match[1],)
        names += [*whole] * int(match[2] or 1)
    if len({name == "cpu" for name in names}) > 1:
        raise ConfigError(f"--devices {text!r}: a CPU and a GPU round differently, so that both cannot share one film")
    if len(names) > MOST:
        raise ConfigError(f"--devices {text!r} are {len(names)} workers; {MOST} is the most")
    return tuple(CPU if name == "cpu" else Device(name, _visible(int(name))) for name in names)


def gpu_count() -> int:
    """NVIDIA GPUs that the driver shows. Raises ConfigError or EngineError if there is no package or no driver."""
    from rtsr.backends.cuda.libraries import cuda_core, driver_version

    driver_version()
    count = len(cuda_core().Device.get_all_devices())
    if not count:
        raise EngineError("the NVIDIA driver shows no GPU")
    return count


def check_backend(devices: tuple[Device, ...], backend: str) -> None:
    """Raise ConfigError for a backend that does not run on these devices."""
    if devices and devices[0].visible and backend in _CPU_BACKENDS:
        raise ConfigError(
            f"--devices {devices[0].name} is an NVIDIA GPU and backend {backend} runs on the CPU; "
            "pass --backend tensorrt or onnxruntime-cuda, or --devices cpu*2"
        )


def _visible(number: int) -> str:
    """A GPU as CUDA_VISIBLE_DEVICES names it, where that may show a few of them only."""
    shown = os.environ.get(_VISIBLE)
    names = shown.split(",") if shown else None
    if names is not None and number >= len(names):
        raise ConfigError(f"there is no GPU {number}: {_VISIBLE}={shown} shows {len(names)}, numbered from 0")
    return names[number].strip() if names is not None else str(number)
