"""`rtsr upscale --watch drop/ -o out/`: what is put into a folder is done as soon as it is whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rtsr.batch import FAILED, Outcome, in_order
from rtsr.errors import RtsrError, SourceError
from rtsr.folders import Found, Item, find, pair

QUIET_S = 2.0  # a file whose size and date stay the same for so long is whole
POLL_S = 0.5

State = tuple[int, int]


class Watch:
    """Files of one folder that are whole and not done yet.

    Done is what has an output, so a new watch goes on where an old one ended. A file that failed is tried again when it
    changes. refused: what could not be handed out, for the caller to tell and to clear.
    """

    def __init__(self, folder: Path, output: Path, suffixes: list[str]):
        self._folder, self._output, self._suffixes = folder, output, suffixes
        self._seen: dict[Path, tuple[State, float]] = {}
        self._tried: dict[Path, State] = {}
        self._from: dict[Path, Path] = {}  # which file an output is of
        self.refused: list[Outcome] = []

    def ready(self, now: float) -> list[Item]:
        """What is whole at a moment (seconds of a steady clock) and was not handed out in this state before."""
        if not self._folder.is_dir():
            raise SourceError(f"{self._folder}: no such folder any more")
        try:
            found = find([str(self._folder)], None, self._output)
        except SourceError:  # nothing there yet
            return []
        fresh = []
        for path in found.files:
            state = _state(path)
            if state is None:
                continue
            known, since = self._seen.get(path, (None, now))
            if known != state:
                since = now
            self._seen[path] = state, since
            if now - since >= QUIET_S and state[0] > 0 and self._tried.get(path) != state:
                fresh.append(path)
        return in_order(self._items(found.root, fresh))

    def _items(self, root: Path, paths: list[Path]) -> list[Item]:
        """Those that have no output yet; each is looked at once only."""
        items = []
        for path in paths:
            self._tried[path] = self._seen[path][0]
            try:
                (item,) = pair(Found(root, (path,)), self._output, self._suffixes)
            except RtsrError as error:
                self.refused.append(Outcome(path.name, "", FAILED, sentence=str(error)))
                continue
            first = self._from.setdefault(item.output, path)
            if first != path:
                sentence = f"{path} and {first} would both become {item.output}; rename one"
                self.refused.append(Outcome(item.name, str(item.output), FAILED, sentence=sentence))
            elif not item.output.exists():
                items.append(item)
        return items


def watch(watched: Watch, work: Callable[[list[Item]], None]) -> None:
    """Do what comes until KeyboardInterrupt."""
    while True:
        if items := watched.ready(time.monotonic()):
            work(items)
        else:
            time.sleep(POLL_S)


def _state(path: Path) -> State | None:
    try:
        status = path.stat()
    except FileNotFoundError:  # between the listing and now
        return None
    return status.st_size, status.st_mtime_ns
