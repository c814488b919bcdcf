"""Save and load everything a run needs to go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import torch

_PLAIN: list[Any] = [type(Path())]  # beside tensors and plain containers: the paths among a run's arguments


def save(path: Path, state: dict[str, Any]) -> None:
    """Write to a side file, then rename: a killed run never leaves half a checkpoint under the final name."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Tensors and plain data only: a file that asks for any code is refused.

    Raises pickle.UnpicklingError for such a file.
    """
    with torch.serialization.safe_globals(_PLAIN):
        return torch.load(path, map_location="cpu", weights_only=True)
