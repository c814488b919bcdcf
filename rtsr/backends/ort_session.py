"""ONNX Runtime's sessions: on the provider that was asked for, or one sentence that says what it lacks."""

from __future__ import annotations

import ctypes
import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import onnxruntime as ort

from rtsr.backends import is_out_of_memory
from rtsr.errors import ConfigError, EngineError, OutOfMemoryError, first_line

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# What the providers link to or load at the first convolution, by the name that the loader asks for: onnxruntime-gpu is
# built for CUDA 13 and, as to TensorRT, for 10.
_CUDA = ("libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudnn.so.9")
_LIBRARIES = {"cuda": _CUDA, "tensorrt": (*_CUDA, "libnvinfer.so.10", "libnvonnxparser.so.10")}
_REMEDIES = {"cuda": "pip install 'rtsr[cuda]'", "tensorrt": "pip install 'rtsr[cuda]' 'tensorrt-cu13>=10.16,<11'"}


OLDEST = (7, 5)  # compute capability that onnxruntime-gpu has kernels for: Turing


def require_provider(device: str) -> None:
    """Raise ConfigError unless the provider of `cpu`, `cuda` or `tensorrt` is built into the installed package."""
    if PROVIDERS[device] not in ort.get_available_providers():
        raise ConfigError(
            f"the installed onnxruntime {ort.__version__} has no {PROVIDERS[device]}: "
            "pip uninstall onnxruntime, then pip install 'rtsr[cuda]'"
        )


def require_libraries(device: str) -> None:
    """Load what the provider of `cuda` or `tensorrt` needs, from the CUDA packages that pip installs, then from where
    the system looks. Raises ConfigError that names what is missing."""
    if sys.platform != "linux":
        return
    with redirect_stdout(io.StringIO()):  # it prints what it does not find, and stops at the first
        ort.preload_dlls()
    if missing := [name for name in _LIBRARIES[device] if not _loads(name)]:
        raise ConfigError(f"{PROVIDERS[device]} does not find {', '.join(missing)}: {_REMEDIES[device]}")


def open_session(
    name: str, graph: bytes, device: str, options: Mapping[str, str] | None = None
) -> ort.InferenceSession:
    """A session of engine `name` whose every node runs on the device: `cpu`, `cuda` or `tensorrt`.

    options: of the provider. What it logs is dropped, what fails is raised: EngineError, OutOfMemoryError.
    """
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    providers = [(PROVIDERS[device], dict(options or {}))]
    if device != "cpu":
        # Else a node without a kernel for the GPU runs on the CPU, and its tensors cross the bus twice.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if device == "tensorrt":  # takes what it can of a graph; CUDA has the rest
        of_cuda = ("device_id", "has_user_compute_stream", "user_compute_stream")
        providers.append((PROVIDERS["cuda"], {k: v for k, v in providers[0][1].items() if k in of_cuda}))
    try:
        session = ort.InferenceSession(graph, settings, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        kind = OutOfMemoryError if is_out_of_memory(str(error)) else EngineError
        raise kind(f"ONNX Runtime cannot open engine {name} on {device}: {first_line(error)}") from error
    if (opened := session.get_providers()[0]) != PROVIDERS[device]:
        raise EngineError(f"ONNX Runtime was asked for {PROVIDERS[device]} and opened {opened}")
    return session


def _loads(library: str) -> bool:
    """Load a library for all that comes after: from where the system looks, or from a package of NVIDIA's."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else None
    for name in (library, *(str(path) for folder in folders or () for path in Path(folder).glob(f"*/lib/{library}"))):
        try:
            ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
            return True
        except OSError:
            continue
    return False
