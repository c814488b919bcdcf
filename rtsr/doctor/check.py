"""What a probe finds: one line for people, plain facts for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "absent", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    group: which heading it stands under. status: `absent` is what rtsr does without (a GPU, a camera, an extra),
    `problem` what should work here and does not. says: one line. mend: the one command that mends a problem, or adds
    what is absent; None if there is none. needed: `rtsr upscale` does not work without it. facts: plain types.
    """

    group: str
    name: str
    status: Status
    says: str
    mend: str | None = None
    needed: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
