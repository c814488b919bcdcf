"""Room on the output's file system: estimated before a job starts, watched while it runs.

A film lies there twice for a moment: as segments, and as the file that they are joined to.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtsr.errors import ConfigError, SinkError
from rtsr.journal import Journal
from rtsr.pixels import PixelFormat
from rtsr.sinks.encoding import Encoder
from rtsr.sources.media import Media, main_video, open_input

Free = Callable[[Path], int]

_UNKNOWN_AUDIO = 640_000  # bits a second of a sound track that does not say: AC-3's most
_NEXT = 1.25  # the next segment may be larger than any before it
_SPARE = 1 << 20  # for the journal, and the file system's own


@dataclass(frozen=True, slots=True)
class Rate:
    """Bits a pixel of the output at an encoder's quality `at`; `step` coarser halves it. lossless: more with depth."""

    least: float
    most: float
    at: int | None = None
    step: float = 6
    lossless: bool = False


# `python -m rtsr.bench_sizes`, an animated film and one of a shaky camera: from an eighth of the least, for a film may
# stand still, to twice the most found.
RATES = {
    "libx264": Rate(0.027, 1.2, 18, 5.5),
    "libx265": Rate(0.020, 0.92, 20, 6),
    "libsvtav1": Rate(0.015, 1.1, 27, 13),
    "libvpx-vp9": Rate(0.024, 1.1, 28, 11),
    "prores": Rate(0.33, 6.1),
    "mjpeg": Rate(0.17, 3.1),
    "ffv1": Rate(0.38, 6.6, lossless=True),
    "png": Rate(0.57, 9.5, lossless=True),
}
_NVENC = Rate(0.02, 1.0, 21)
_UNKNOWN = Rate(0.005, 30)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes of the finished video, at least and at most, and of the streams that are copied beside it."""

    least: int
    most: int
    copied: int

    @property
    def needed(self) -> tuple[int, int]:
        """Free bytes that the job needs, at least and at most: the video twice."""
        return 2 * self.least + self.copied, 2 * self.most + self.copied


def estimate(encoder: Encoder, size: tuple[int, int], frames: int, seconds: float, copied: int = 0) -> Estimate:
    """How large a film will be. size: (width, height) of the output; seconds: how long it is; copied: bytes."""
    if encoder.bitrate is not None:
        target = encoder.bitrate * seconds / 8
        return Estimate(round(target * 0.5), round(target * 1.5), copied)
    rate = _NVENC if encoder.name.endswith("_nvenc") else RATES.get(encoder.name, _UNKNOWN)
    factor = 1.0
    if rate.at is not None:
        quality = next((encoder.options[key] for key in ("crf", "cq") if key in encoder.options), str(rate.at))
        factor = 2 ** ((rate.at - float(quality)) / rate.step)
    if rate.lossless:
        factor = _samples(encoder.pixels) * encoder.pixels.bits / (1.5 * 8)  # measured with 8-bit 4:2:0
    pixels = size[0] * size[1] * frames
    return Estimate(round(rate.least * factor * pixels / 8), round(rate.most * factor * pixels / 8), copied)


def copied_bytes(media: Media, share: float = 1.0) -> int:
    """About how much all streams but the main video take. share: how much of the film is wanted. Raises SourceError."""
    total = 0.0
    with open_input(media) as container:
        main = main_video(container, media)
        duration = container.duration or 0  # microseconds
        for stream in container.streams:
            if stream.index == main.index:
                continue
            told = next((v for k, v in stream.metadata.items() if k.upper().startswith("NUMBER_OF_BYTES")), "")
            rate = getattr(stream, "bit_rate", None) or (_UNKNOWN_AUDIO if stream.type == "audio" else 0)
            total += int(told) if told.isdecimal() else rate * float(Fraction(duration, 8_000_000))
        limit = container.size if (container.size or 0) > 0 else total  # PyAV 19 has None for pictures
    return round(min(total, limit) * share)


def free_bytes(folder: Path) -> int:
    """What this user may still write on a folder's file system."""
    return shutil.disk_usage(folder).free


def require_room(output: Path, expected: Estimate, free: Free = free_bytes) -> str | None:
    """Check before a job starts; what it left in an earlier run counts as done. Returns a notice when it may be tight.

    Raises ConfigError when the job cannot fit.
    """
    room = free(output.parent) + _written(output.with_name(output.name + ".rtsr"))
    least, most = (needed + _SPARE for needed in expected.needed)
    if room < least:
        raise ConfigError(
            f"{output.parent} has {_size(room)} free; the film needs at least {_size(least)}, probably "
            f"{_size((least + most) / 2)}, as it lies there twice before it is done: free some, or choose another "
            "folder or a higher --crf"
        )
    if room < most:
        return (
            f"{output.parent} has {_size(room)} free and the film may need up to {_size(most)}; if it gets too little "
            "the job stops between two segments and can be continued"
        )
    return None


class DiskWatch:
    """Stops a job between two segments while what is finished can still be kept. frames: of the whole film, if known.

    Raises SinkError from before_segment() and before_join().
    """

    def __init__(
        self, journal: Journal, output: Path, copied: int = 0, frames: int | None = None, free: Free = free_bytes
    ):
        self._journal, self._folder, self._free = journal, output.parent, free
        self._copied, self._frames = copied, frames

    def before_segment(self) -> None:
        """Room for the next segment, and for the file joined of all up to it."""
        sizes = [segment.size for segment in self._journal.segments]
        following = round(_NEXT * max(sizes, default=0))
        self._require(
            following + sum(sizes) + following + self._copied, "the next part of the film and the joined file"
        )

    def before_join(self) -> None:
        """Room for the joined file beside the segments."""
        self._require(sum(segment.size for segment in self._journal.segments) + self._copied, "the joined file")

    def _require(self, needed: int, what: str) -> None:
        room = self._free(self._folder)
        if room >= needed + _SPARE:
            return
        missing = max(needed, self._whole()) + _SPARE - room
        kept = len(self._journal.segments)
        raise SinkError(
            f"{self._folder} has {_size(room)} free, {what} need {_size(needed + _SPARE)}: stopped before the disk is "
            f"full. Free {_size(missing)} more and give the same command again; it goes on after the {kept} "
            f"segments ({self._journal.frames} frames) that are done"
        )

    def _whole(self) -> int:
        """Bytes that the rest of the film and the joined file will take, as far as the segments so far tell."""
        done, frames = sum(segment.size for segment in self._journal.segments), self._journal.frames
        if not frames or self._frames is None:
            return 0
        rest = done * max(self._frames - frames, 0) // frames
        return rest + done + rest + self._copied


def _samples(pixels: PixelFormat) -> float:
    """Samples for each pixel: 1.5 in 4:2:0."""
    return pixels.full_planes + pixels.chroma_planes / (1 << sum(pixels.chroma))


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0


def _size(count: float) -> str:
    """For people: `1.2 GB`, rounded up so that freeing that much is enough."""
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{-(-count * 10 // unit) / 10:.1f} {name}"
    return f"{-(-count // 1000):.0f} kB"
