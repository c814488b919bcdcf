"""`rtsr doctor` looks at this machine and asks nobody else. Here because it takes up to a minute."""

from __future__ import annotations

import json

from commands import rtsr
from no_network import forbid_network, needs_seccomp


@needs_seccomp
def test_doctor_opens_no_connection() -> None:
    """Each of its looks is a process of its own; one that the guard kills is told as crashed."""
    outcome = rtsr("doctor", "--json", before=forbid_network)
    report = json.loads(outcome.stdout)
    assert report["ok"], outcome.stderr
    assert [check for check in report["checks"] if "SIGSYS" in str(check) or "signal" in str(check["says"])] == []
