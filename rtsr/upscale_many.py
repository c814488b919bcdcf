"""`rtsr upscale` of folders, globs and lists: what it asks, says and returns."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rtsr.batch import DONE, FAILED, SKIPPED, Outcome, in_order, run, still_to_do
from rtsr.display import clock_time
from rtsr.errors import ConfigError, Interrupted, RtsrError, SourceError
from rtsr.folders import Item, find, is_file_name, is_many, pair
from rtsr.options import Options
from rtsr.watch import Watch, watch

_MOST_ROWS = 40  # of the table at the end; what failed is always in it


@dataclass(frozen=True, slots=True)
class Many:
    """What is asked of many files. list_file: with a name in each line. jobs: files at once. suffixes: of the outputs.

    Raises ConfigError for what cannot work.
    """

    list_file: Path | None = None
    skip_existing: bool = False
    jobs: int = 1
    watch: bool = False
    suffixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError(f"--jobs {self.jobs} must be 1 or more")

    @property
    def asked(self) -> str:
        """An option that only many files have, or nothing."""
        flags = {"--list": self.list_file, "--skip-existing": self.skip_existing, "--watch": self.watch}
        flags |= {"--jobs": self.jobs > 1, "--suffix": self.suffixes}
        return next((flag for flag, value in flags.items() if value), "")


def one_of(names: list[str], output: Path, many: Many) -> str | None:
    """The only input, if it goes to one output file; None for many. Raises ConfigError."""
    if not names and many.list_file is None:
        raise ConfigError("name what to upscale: a film, a picture, a folder, or a --list of them")
    if many.list_file or many.watch or is_many(names, output):
        return None
    if not output.suffix and not Path(names[0]).exists() and "://" not in names[0]:
        raise SourceError(f"{names[0]}: no such file or folder")
    if many.asked:
        raise ConfigError(f"{many.asked} is for many files; {names[0]} is one that becomes {output}")
    return names[0]


class FilesFailedError(RtsrError):
    """Some of many files failed; the others are done."""


def upscale_many(
    names: list[str],
    output: Path,
    options: Options,
    many: Many,
    *,
    dry_run: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> None:
    """Do all; print a table on stderr, with as_json one document on stdout.

    Raises ConfigError or SourceError before anything is done, FilesFailedError when some files failed.
    """
    if is_file_name(output) and not output.is_dir():
        what = f"{names[0]} is a folder" if names and Path(names[0]).is_dir() else "many files"
        raise ConfigError(f"{what}: the results go to a folder, and {output} is the name of a file")
    tally = _Tally(quiet)
    if many.watch:
        _watch(names, output, options, many, tally, quiet)
    else:
        found = find(names, many.list_file, output)
        items = pair(found, output, many.suffixes)
        todo, skipped = still_to_do(items, options, many.skip_existing)
        if dry_run:
            _print_plan(todo, skipped, as_json)
            return
        if found.others and not quiet:
            tally.say(f"{found.others} other files there are left alone")
        _make(output)
        for outcome in skipped:
            tally.add(outcome)
        tally.expected = len(todo)
        try:
            run(in_order(todo), options, many.jobs, quiet, tally.add)
        except KeyboardInterrupt:
            tally.print_table()
            done = f"{tally.counts[DONE]} of {len(todo)} files"
            raise Interrupted(f"interrupted after {done}; the same command with --skip-existing goes on") from None
    tally.print_table()
    if as_json:
        print(json.dumps(tally.as_dict()))
    if failed := tally.counts[FAILED]:
        if as_json:
            raise SystemExit(FilesFailedError.exit_code)
        raise FilesFailedError(f"{failed} of {len(tally.outcomes)} files failed; see above")


def _watch(names: list[str], output: Path, options: Options, many: Many, tally: _Tally, quiet: bool) -> None:
    """Until Ctrl-C, which between two files is the usual end."""
    if len(names) != 1 or not Path(names[0]).is_dir():
        raise ConfigError("--watch takes one folder that exists")
    if many.list_file:
        raise ConfigError("--watch and --list exclude each other")
    if Path(names[0]).resolve() == output.resolve():
        raise ConfigError("--watch needs an output folder other than the one it watches")
    _make(output)
    watched, is_working = Watch(Path(names[0]), output, list(many.suffixes)), False
    tally.say(f"watching {names[0]}; Ctrl-C ends it")

    def work(items: list[Item]) -> None:
        nonlocal is_working
        is_working = True
        run(items, options, many.jobs, quiet, tally.add)
        is_working = False
        for outcome in watched.refused:
            tally.add(outcome)
        watched.refused.clear()

    try:
        watch(watched, work)
    except KeyboardInterrupt:
        if is_working:
            tally.print_table()
            raise Interrupted("interrupted; the same command goes on where it stopped") from None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the output's folder {folder} cannot be made: {error.strerror}") from error


class _Tally:
    """Says what became of each file as it ends, and of all at the end."""

    def __init__(self, quiet: bool):
        self.outcomes: list[Outcome] = []
        self.counts: Counter[str] = Counter()
        self.expected: int | None = None
        self._quiet, self._begun = quiet, time.perf_counter()

    def say(self, sentence: str) -> None:
        if not self._quiet:
            print(sentence, file=sys.stderr, flush=True)

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.counts[outcome.status] += 1
        if outcome.status == SKIPPED:
            return
        number = self.counts[DONE] + self.counts[FAILED]
        place = f"[{number}/{self.expected}]" if self.expected else f"[{number}]"
        if outcome.status == FAILED:
            print(f"{place} {outcome.name}: failed: {outcome.sentence}", file=sys.stderr, flush=True)
        else:
            size = "{}x{}".format(*outcome.size) if outcome.size else ""
            self.say(f"{place} {outcome.name} -> {outcome.output}: {size} in {outcome.seconds:.1f} s")

    def print_table(self) -> None:
        if self._quiet or not self.outcomes:
            return
        ranked = sorted(self.outcomes, key=lambda outcome: outcome.status != FAILED)
        most = max(_MOST_ROWS, self.counts[FAILED])
        table = Table()
        for name in ("file", "result", "size", "time"):
            table.add_column(name, overflow="fold")
        for outcome in ranked[:most]:
            result = f"{outcome.status}: {outcome.sentence}" if outcome.sentence else outcome.status
            size = "{}x{}".format(*outcome.size) if outcome.size else ""
            table.add_row(outcome.name, result, size, f"{outcome.seconds:.1f} s" if outcome.seconds else "")
        console = Console(stderr=True, markup=False, highlight=False)
        console.print(table)
        if len(ranked) > most:
            console.print(f"and {len(ranked) - most} more")
        parts = [f"{self.counts[status]} {status}" for status in (DONE, SKIPPED, FAILED) if self.counts[status]]
        console.print(f"{', '.join(parts)}, in {clock_time(time.perf_counter() - self._begun)}")

    def as_dict(self) -> dict[str, object]:
        return {
            **{status: self.counts[status] for status in (DONE, SKIPPED, FAILED)},
            "wall_s": round(time.perf_counter() - self._begun, 3),
            "files": [outcome.as_dict() for outcome in self.outcomes],
        }


def _print_plan(todo: list[Item], skipped: list[Outcome], as_json: bool) -> None:
    """On stdout, what would be done."""
    if as_json:
        pairs = [{"input": str(item.input), "output": str(item.output)} for item in todo]
        print(json.dumps({"files": pairs, "skipped": [outcome.output for outcome in skipped]}))
        return
    for item in todo:
        print(f"{item.input} -> {item.output}")
    print(f"{len(todo)} files to do, {len(skipped)} done already")
