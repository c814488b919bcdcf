"""Backends and providers: opened with the smallest engine and timed on one frame, not only listed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from importlib.util import find_spec
from statistics import median

import numpy as np

from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.phases import bordered_shape
from rtsr.doctor.check import Check
from rtsr.doctor.gpu import gpus_of_driver
from rtsr.doctor.machine import is_installed
from rtsr.errors import ConfigError, EngineError, first_line
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, installed_engines, read_engine

WIDTH, HEIGHT = 640, 360
_TRIES = 5
_REINSTALL = "pip install --force-reinstall --no-deps rtsr"
# In a sentence of open_engine(); the first, where it names several.
_COMMAND = re.compile(r"pip install (?:--\S+ )*('[^']+'|[\w.-]+)")
_NOT_OURS = {"AzureExecutionProvider"}  # calls a cloud


def look(backend: str) -> list[Check]:
    """Open a backend with the smallest engine that is installed. `auto` is what `rtsr upscale` takes by itself."""
    name, needed = ("default", True) if backend == "auto" else (backend, False)
    try:
        engine = smallest_engine()
        begun = time.perf_counter()
        choice = EngineChoice(engine.scale, engine.tier, engine.degradation, backend)
        with closing(open_engine(choice)) as opened:
            frame = gray(WIDTH, HEIGHT)
            opened.infer(frame)
            opening = time.perf_counter() - begun
            ms = time_ms(lambda: opened.infer(frame))
            says = f"{opened.backend} runs {opened.name}: {ms:.1f} ms for a frame of {WIDTH}x{HEIGHT}"
            facts = {"backend": opened.backend, "engine": opened.name, "ms": round(ms, 2), "open_s": round(opening, 2)}
            return [Check("engines", name, "ok", says, needed=needed, facts=facts)]
    except ConfigError as error:
        says, mend = first_line(error), _REINSTALL if needed else None
        if match := _COMMAND.search(says):
            says, mend = says[: match.start()].rstrip(": "), match[0]
        return [Check("engines", name, "problem" if needed else "absent", says, mend, needed)]
    except EngineError as error:
        # What does not open although its packages are here is a fault, but for want of a GPU.
        status = "problem" if needed or gpus_of_driver()[0] else "absent"
        return [Check("engines", name, status, first_line(error), _REINSTALL if needed else None, needed)]


def look_at_provider(name: str) -> list[Check]:
    """One execution provider of ONNX Runtime, or one device of OpenVINO, on the smallest engine's own graph."""
    runtime, _, device = name.partition("/")
    graph, y = read_engine(smallest_engine()), gray(WIDTH, HEIGHT).y
    x = np.full(bordered_shape(y), 128, np.uint8)
    try:
        run = _onnxruntime(graph, device, x) if runtime == "onnxruntime" else _openvino(graph, device, x)
        run()
        ms = time_ms(run)
    except Exception as error:  # each runtime's own
        return [Check("engines", name, "absent", f"listed, and does not open: {first_line(error)}")]
    return [Check("engines", name, "ok", f"{ms:.1f} ms for the net alone", facts={"ms": round(ms, 2)})]


def list_providers() -> list[Check]:
    """One check whose facts name what the installed runtimes list, for look_at_provider(); and one for each runtime
    that is installed and does not load."""
    listed: list[str] = []
    broken = []
    for runtime, names in (("onnxruntime", _onnxruntime_names), ("openvino", _openvino_names)):
        if find_spec(runtime):
            try:
                listed += [f"{runtime}/{name}" for name in names()]
            except Exception as error:  # a library that is missing, too old, or half installed
                says = f"is installed and does not load: {first_line(error)}"
                package = f"{runtime}-gpu" if is_installed(f"{runtime}-gpu") else runtime
                mend = f"pip install --force-reinstall --no-deps {package}"
                broken.append(Check("engines", runtime, "problem", says, mend))
    return [Check("engines", "providers", "ok", ", ".join(listed) or "none", facts={"listed": listed}), *broken]


def _onnxruntime_names() -> list[str]:
    import onnxruntime

    return [name for name in onnxruntime.get_available_providers() if name not in _NOT_OURS]


def _openvino_names() -> list[str]:
    import openvino

    return openvino.Core().available_devices


def _onnxruntime(graph: bytes, provider: str, x: np.ndarray) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=[provider])
    if (opened := session.get_providers()[0]) != provider:
        raise EngineError(f"ONNX Runtime opened {opened} instead")
    return lambda: session.run(None, {"y": x})


def _openvino(graph: bytes, device: str, x: np.ndarray) -> Callable[[], object]:
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape({"y": list(x.shape)})
    request = core.compile_model(model, device).create_infer_request()
    return lambda: request.infer({"y": x}, share_inputs=True)


def smallest_engine() -> Manifest:
    """The engine that costs least of those that `rtsr upscale` takes. Raises ConfigError if none is installed."""
    faithful = [e for e in installed_engines() if not e.detail and not e.rgb]
    fitting = [e for e in faithful if e.output == "phases" and e.precision == "int8"]
    if not fitting:
        raise ConfigError(f"no engines are installed: {_REINSTALL}")
    return min(fitting, key=lambda e: (e.degradation != "stream", e.macs_per_lr_pixel, e.scale))


def gray(width: int, height: int) -> FrameBatch:
    y, uv = np.full((1, 1, height, width), 128, np.uint8), np.full((1, 2, height // 2, width // 2), 128, np.uint8)
    return FrameBatch(y, uv, (0,), Fraction(1, 25))


def time_ms(work: Callable[[], object], tries: int = _TRIES) -> float:
    """Median milliseconds."""
    costs = []
    for _ in range(tries):
        begun = time.perf_counter()
        work()
        costs.append(1e3 * (time.perf_counter() - begun))
    return median(costs)
