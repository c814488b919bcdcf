"""Runs all probes and puts together what they found."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rtsr.backends import BACKENDS
from rtsr.doctor.check import Check
from rtsr.doctor.probe import run_probe

# Probe, its group, its limit in seconds, whether rtsr upscale does not work without what it looks at. These only look,
# so they share the machine; what is timed comes after them, one by one.
_LOOKS = (
    ("machine", "machine", 15, True),
    ("gpu", "gpu", 10, False),
    ("codecs", "codecs", 20, True),
    ("hardware", "codecs", 15, False),
    ("devices", "live", 10, False),
    ("providers", "engines", 15, False),
)
_BACKEND_S, _PROVIDER_S, _SPEED_S = 20, 15, 30
_PLAN_S = 90  # TensorRT builds a plan the first time
GROUPS = ("machine", "gpu", "engines", "codecs", "live", "extras", "speed")


@dataclass(frozen=True, slots=True)
class Examination:
    """ok: the default way works: Python, an engine, the encoder and decoder of films. seconds: what it took."""

    checks: list[Check]
    seconds: float

    @property
    def ok(self) -> bool:
        return not any(check.status == "problem" and check.needed for check in self.checks)

    @property
    def speed(self) -> dict[str, Any]:
        """The facts of the speed probe: `rows`, `advice`, `other_cores`; empty if it failed."""
        return next((check.facts for check in self.checks if check.group == "speed"), {})

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON (docs/DOCTOR.md)."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 1),
            "checks": [asdict(check) for check in self.checks if check.group != "speed" or check.status == "problem"],
            "speed": self.speed.get("rows", []),
            "advice": self.speed.get("advice", []),
        }


def examine(say: Callable[[str], None] = lambda what: None) -> Examination:
    """Look at everything. say gets what is being done."""
    begun = time.perf_counter()
    say("looking at the machine, its GPUs and codecs")
    with ThreadPoolExecutor(len(_LOOKS), "doctor") as pool:
        pending = [pool.submit(run_probe, *look) for look in _LOOKS]
        checks = [check for each in pending for check in each.result()]
    listed = next((check for check in checks if check.name == "providers" and check.status == "ok"), None)
    if listed is not None:
        checks.remove(listed)
    say("opening each backend")
    for backend in (name for name in BACKENDS if name != "reference"):
        limit_s = _PLAN_S if backend in ("auto", "tensorrt") else _BACKEND_S
        checks += run_probe(f"backend:{backend}", "engines", limit_s, needed=backend == "auto")
    for provider in listed.facts["listed"] if listed else []:
        say(f"opening {provider}")
        checks += run_probe(f"provider:{provider}", "engines", _PROVIDER_S)
    say("measuring the tiers")
    checks += run_probe("speed", "speed", _SPEED_S)
    checks.sort(key=lambda check: GROUPS.index(check.group))
    return Examination(checks, time.perf_counter() - begun)
