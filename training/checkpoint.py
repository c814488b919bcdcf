"""Save and load everything a run needs to go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import torch


def save(path: Path, state: dict[str, Any]) -> None:
    """Write to a side file, then rename: a killed run never leaves half a checkpoint under the final name."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Only for files of your own: it unpickles."""
    return torch.load(path, map_location="cpu", weights_only=False)
