"""What runs on each machine of the cluster: one decoder, engine and encoder, driven by the caller through Ray."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from rtsr import __version__
from rtsr.cluster.likeness import Likeness, try_out
from rtsr.cluster.remote_input import RemoteMedia
from rtsr.detail import Blend
from rtsr.errors import ConfigError, RtsrError
from rtsr.frames import VideoSpec
from rtsr.manifest import engine_of, engines_folder, read_engine
from rtsr.segment_worker import SegmentEncoder, SegmentJob, SegmentResult
from rtsr.sources.cuts import Cut
from rtsr.sources.media import Media
from rtsr.stats import PipelineStats


@dataclass(frozen=True, slots=True)
class EngineFiles:
    """An engine's files by name: manifest and graph; of a blend those of its two ends. None where none is needed."""

    files: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, sha256: str) -> EngineFiles:
        """Those of the engine with that graph. Raises EngineError if they changed."""
        engine = engine_of(sha256)
        files: list[tuple[str, bytes]] = []
        for manifest in engine.ends if isinstance(engine, Blend) else [engine] if engine else []:
            described = (engines_folder() / f"{manifest.name}.json").read_bytes()
            files += [(f"{manifest.name}.json", described), (manifest.file, read_engine(manifest))]
        return cls(tuple(files))

    def install(self, folder: Path) -> None:
        """Make them the engines that this process finds."""
        for name, data in self.files:
            (folder / name).write_bytes(data)
        if self.files:
            os.environ["RTSR_ENGINES"] = str(folder)


class ClusterWorker:
    """A Ray actor. One segment at a time; frames() and piece() are answered while it is made.

    Errors of rtsr's kinds reach the caller as they are.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="rtsr-cluster-"))
        self._encoder: SegmentEncoder | None = None
        self._frames = 0

    def version(self) -> str:
        """Asked before anything else: other versions may not have the rest."""
        return __version__

    def process(self) -> int:
        return os.getpid()

    def sees(self, input: Media, fingerprint: dict[str, object]) -> bool:
        """Whether the input lies under its path here as well, and is the same."""
        try:
            return input.fingerprint() == fingerprint
        except (OSError, RtsrError):
            return False

    def prepare(self, job: SegmentJob, spec: VideoSpec, engine: EngineFiles) -> Likeness:
        """Open everything and say how it compares with the caller's. Raises ConfigError, SourceError, EngineError."""
        engine.install(self._folder)
        with job.input.open():
            pass
        self._encoder = SegmentEncoder(job)
        return try_out(self._encoder.opened(spec), job.encoder, spec, job.size)

    def encode(self, cut: Cut) -> SegmentResult:
        """Make a segment and keep its file until forget()."""
        if self._encoder is None:
            raise ConfigError("prepare() comes first")
        self._frames = 0
        return self._encoder.encode(cut, self._folder, self._count)

    def frames(self) -> int:
        """Of the segment in work, so far."""
        return self._frames

    def piece(self, file: str, offset: int, size: int) -> bytes:
        """A part of a finished segment's file."""
        with (self._folder / file).open("rb") as segment:
            segment.seek(offset)
            return segment.read(size)

    def forget(self, file: str) -> None:
        """The caller has it."""
        (self._folder / file).unlink()

    def close(self) -> None:
        """Leave nothing on the machine's disk."""
        if self._encoder is not None:
            self._encoder.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _count(self, stats: PipelineStats) -> None:
        self._frames = stats.written


def through_caller(job: SegmentJob, size: int, exchange: object) -> SegmentJob:
    """The job for a worker that does not see the input. size: the input's bytes; exchange: see remote_input."""
    return replace(job, input=RemoteMedia(job.input.name, job.input.rate, size, exchange))
