"""A job's memory on disk, in `<output>.rtsr/`: what it is, and which segments of it are done.

`journal.jsonl` begins with the job's identity; every further line is one finished segment. A line is written, and
forced to disk, only after its segment file is complete there, so that a kill or a power cut at any moment costs the
segment in work and nothing else. A torn last line is a segment that was not finished. Lines come in the order in which
segments were finished, which is not the film's where several devices share the work.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from bisect import insort
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rtsr.errors import ConfigError, SinkError

_NAME = "journal.jsonl"
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Segment:
    """A finished piece of the video. index: its place among all. first_pts, last_pts: in the input's time base. clean:
    up to here the input needed no repair and lost nothing, so that decoding may go on from here. first_picture,
    next_picture: digests of what was decoded as its first picture and as the one behind it, where it was made by
    itself; the neighbours must have the same. engine: backend and engine that made it, `openvino fast-x4-stream-int8`;
    one job may have several, see SwitchingEngine."""

    file: str
    index: int
    frames: int
    first_pts: int
    last_pts: int
    last_duration: int
    size: int
    sha256: str
    clean: bool
    first_picture: str = ""
    next_picture: str = ""
    engine: str = ""


class Journal:
    """The journal of one output, locked for as long as it is open.

    Raises ConfigError when another run works on the output, or when what is there belongs to another job: another
    input, engine or set of parameters. restart: throw away what is there.
    """

    def __init__(self, output: Path, identity: dict[str, Any], restart: bool = False):
        self.folder = output.with_name(output.name + ".rtsr")
        self.segments: list[Segment] = []
        self._identity = identity
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self.folder} cannot be made: {error.strerror}") from error
        self._lock = _lock(self.folder / "lock", output)
        try:
            if restart:
                self._forget()
            self._load(identity)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the finished segments for the next run; leave nothing where there are none. Safe to call twice."""
        if not self._lock.closed and not self.segments:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    def add(self, segment: Segment) -> None:
        """Note a segment whose file is complete on disk, whichever of its place is done already."""
        self._append(asdict(segment))
        insort(self.segments, segment, key=lambda known: known.index)

    def keep_prefix(self) -> None:
        """Forget what lies behind a segment that is not done: to go on in one go."""
        self.drop_from(next((i for i, s in enumerate(self.segments) if s.index != i), len(self.segments)))

    def drop_from(self, index: int) -> None:
        """Forget the segments from that place on."""
        dropped = [segment for segment in self.segments if segment.index >= index]
        if not dropped:
            return
        self.segments = [segment for segment in self.segments if segment.index < index]
        self._rewrite()
        for segment in dropped:
            (self.folder / segment.file).unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget the finished segments: the job is done, or given up."""
        self.segments = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _load(self, identity: dict[str, Any]) -> None:
        path = self.folder / _NAME
        lines = _whole_lines(path)
        if not lines:
            self._forget()
            self._append(identity)
            return
        if changed := [key for key in identity if lines[0].get(key) != identity[key]]:
            raise ConfigError(
                f"{self.folder} holds an unfinished job with another {' and '.join(changed)}; "
                "give the same command again to go on with it, or pass --restart to begin anew"
            )
        for segment in (Segment(**line) for line in lines[1:]):
            if sha256_of(self.folder / segment.file) == segment.sha256:  # else it is done again
                insort(self.segments, segment, key=lambda known: known.index)
        if len(self.segments) + 1 < len(lines) or not path.read_bytes().endswith(b"\n"):
            self._rewrite()
        known = {segment.file for segment in self.segments} | {_NAME, "lock"}
        for leftover in self.folder.iterdir():
            if leftover.name not in known:
                leftover.unlink()

    def _rewrite(self) -> None:
        path = self.folder / (_NAME + ".tmp")
        path.unlink(missing_ok=True)
        for line in (self._identity, *(asdict(segment) for segment in self.segments)):
            self._append(line, path)
        path.replace(self.folder / _NAME)

    def _append(self, line: dict[str, Any], path: Path | None = None) -> None:
        try:
            with (path or self.folder / _NAME).open("a") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"{self.folder / _NAME} cannot be written: {error.strerror}") from error

    def _forget(self) -> None:
        for path in self.folder.iterdir():
            if path.name != "lock":
                path.unlink()


def sha256_of(path: Path) -> str:
    """Hex digest of a file; empty if it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The journal's lines up to the first that was not written whole."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _lock(path: Path, output: Path) -> Any:
    """An open file with an exclusive lock that the system drops when the process ends, however it ends."""
    file = path.open("w")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ConfigError(f"another run is working on {output}; wait for it, or choose another output") from error
    return file
