"""What people write on a command line into what it means, exactly."""

from __future__ import annotations

import re
from fractions import Fraction

from rtsr.errors import ConfigError


def parse_time(option: str, text: str | None) -> Fraction | None:
    """Seconds from `90`, `1.5`, `1:30` or `1:02:03.5`, exactly. Raises ConfigError."""
    if text is None:
        return None
    parts = text.split(":")
    values = [Fraction(part) for part in parts if re.fullmatch(r"\d{1,9}(\.\d*)?", part)]
    if len(values) != len(parts) or len(parts) > 3 or any(value >= 60 for value in values[1:]):
        raise ConfigError(f"{option} {text!r} is no time; write seconds (90.5) or hh:mm:ss (0:01:30.5)")
    seconds = Fraction(0)
    for value in values:
        seconds = seconds * 60 + value
    return seconds


def parse_rate(text: str | None) -> Fraction | None:
    """Frames a second from `24`, `23.976` or `30000/1001`, exactly. Raises ConfigError."""
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9}|/[1-9]\d{0,8})?", text):
        raise ConfigError(f"--rate {text!r} is no rate; write frames a second, as 24 or 30000/1001")
    return Fraction(text)


def parse_pairs(texts: list[str] | None) -> tuple[tuple[str, str], ...]:
    """(key, value) from each `key=value`. Raises ConfigError."""
    pairs = tuple(tuple(text.split("=", 1)) for text in texts or ())
    if wrong := next((pair for pair in pairs if len(pair) != 2 or not pair[0]), None):
        raise ConfigError(f"--codec-option {'='.join(wrong)!r} is no KEY=VALUE")
    return pairs  # type: ignore[return-value]
