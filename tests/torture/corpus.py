"""Make the torture corpus: python -m torture.corpus FOLDER

One file for each way in which real media differ, and beside each a JSON that says what must come of it. Nothing stands
in for what this build of FFmpeg cannot make: it is listed with the reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from torture.containers import CONTAINERS, INTERLACED, TIMES
from torture.entry import Entry
from torture.extras import STREAMS
from torture.pixels import ALPHA, COLORS, RGB, SAMPLES

ENTRIES: list[Entry] = [*CONTAINERS, *TIMES, *INTERLACED, *SAMPLES, *ALPHA, *RGB, *COLORS, *STREAMS]


def make(entry: Entry, folder: Path) -> Path:
    """Write an entry's file and its JSON; return what rtsr gets as input. Whatever the maker raises is raised."""
    path = folder / entry.file
    for old in (path, path.parent) if "/" in entry.file else (path,):
        if old.is_dir():
            shutil.rmtree(old)
    entry.make(path)
    (folder / f"{entry.name}.json").write_text(entry.describe())
    return path


def make_all(folder: Path) -> dict[str, str]:
    """Write the whole corpus. Returns what could not be made: name -> reason."""
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    folder.mkdir(parents=True, exist_ok=True)
    missing = {}
    for entry in ENTRIES:
        try:
            make(entry, folder)
        except (OSError, ValueError, LookupError, RuntimeError, AssertionError) as error:  # PyAV's derive from these
            missing[entry.name] = f"{type(error).__name__}: {error}"
    return missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    missing = make_all(folder)
    for entry in ENTRIES:
        why = f"CANNOT BE MADE: {missing[entry.name]}" if entry.name in missing else entry.what
        print(f"{entry.name!r:28} {why}")
    print(f"{len(ENTRIES) - len(missing)} of {len(ENTRIES)} files made in {folder}")
    return bool(missing)


if __name__ == "__main__":
    sys.exit(main())
