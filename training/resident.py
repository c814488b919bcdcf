"""All training pictures on a GPU, as bytes: a batch is one gather, and nothing crosses the bus but crop positions.

Checked against data.sample on a CPU, value for value; never run on a GPU.
"""

import numpy as np
import torch
from torch import Tensor

from training.data import Batch, Pair, draw_crop, ramp, symmetry


class Resident:
    """Pairs in the memory of `device`. sample() gives what data.sample gives for the same random numbers."""

    def __init__(self, pairs: list[Pair], scale: int, device: torch.device) -> None:
        self.pairs, self.scale, self.device = pairs, scale, device
        self.channels = pairs[0].lr.shape[2] if pairs[0].lr.ndim == 3 else 1
        self.lr, self.lr_starts = self.flat([pair.lr for pair in pairs])
        self.hr, self.hr_starts = self.flat([pair.hr for pair in pairs])
        taught = [pair.teacher for pair in pairs if pair.teacher is not None]
        self.teacher = self.flat(taught) if taught else None

    def flat(self, pictures: list[np.ndarray]) -> tuple[Tensor, np.ndarray]:
        """All samples in one row, and where each picture begins; a picture that several pairs share is stored once."""
        starts, parts, known, end = [], [], {}, 0
        for picture in pictures:
            if id(picture) not in known:
                known[id(picture)] = end
                parts.append(np.ascontiguousarray(picture).ravel())
                end += picture.size
            starts.append(known[id(picture)])
        return torch.from_numpy(np.concatenate(parts)).to(self.device), np.array(starts)

    def sample(self, count: int, size: int, rng: np.random.Generator, ramps: int = 0) -> Batch:
        """As data.sample."""
        crops, slopes = [], []
        for i in range(count):
            crops.append(draw_crop(self.pairs, size, rng))
            if i >= count - ramps:
                slopes.append(ramp(size, self.scale, self.channels, rng))

        def gathered(row: Tensor, starts: np.ndarray, scale: int) -> Tensor:
            length = size * scale
            where = np.empty((count, length, length), np.int64)
            y, x = np.divmod(np.arange(length * length).reshape(length, length), length)
            for i, crop in enumerate(crops):
                width = self.pairs[crop.which].lr.shape[1] * scale
                place = (crop.top * scale + y) * width + crop.left * scale + x
                where[i] = starts[crop.which] + symmetry(place, crop.turn, crop.mirror) * self.channels
            at = torch.from_numpy(where).to(self.device, non_blocking=True)
            at = at[:, None] + torch.arange(self.channels, device=self.device).view(1, -1, 1, 1)
            pixels = row[at]
            for i, (small, large) in enumerate(slopes, count - ramps):
                flat = torch.from_numpy(small if scale == 1 else large).permute(2, 0, 1)
                pixels[i] = flat.to(self.device, non_blocking=True)
            return pixels.float().div_(255).contiguous(memory_format=torch.channels_last)

        taught = None if self.teacher is None else gathered(*self.teacher, self.scale)
        return Batch(gathered(self.lr, self.lr_starts, 1), gathered(self.hr, self.hr_starts, self.scale), taught)
