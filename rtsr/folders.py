"""Many inputs: which files a folder, a glob or a list means, and where the result of each goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtsr.errors import ConfigError, SourceError
from rtsr.pictures.formats import FORMATS, PICTURE_SUFFIXES
from rtsr.sinks.codecs import CONTAINERS

FILM_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".ts", ".m2ts", ".mts", ".avi", ".gif", ".flv", ".f4v", ".wmv", ".asf"),
    *(".mpg", ".mpeg", ".vob", ".ogv", ".3gp", ".3g2", ".mxf", ".y4m", ".dv", ".rm", ".rmvb", ".divx", ".nut"),
}
_WRITTEN = {suffix for suffix in CONTAINERS if suffix not in FORMATS}
_FILM_FALLBACK, _PICTURE_FALLBACK = ".mkv", ".jpg"  # for what is read but not written
_MAGIC = set("*?[")


@dataclass(frozen=True, slots=True)
class Item:
    """One file to do. name: how people are told of it, relative to where it was found."""

    input: Path
    output: Path
    name: str

    @property
    def is_picture(self) -> bool:
        return self.input.suffix.lower() in PICTURE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Found:
    """root: the folder that is mirrored. others: files in it that are no films or pictures."""

    root: Path
    files: tuple[Path, ...]
    others: int = 0


def is_many(names: Sequence[str], output: Path) -> bool:
    """Whether what was named goes to a folder, file by file, instead of into one output file."""
    if len(names) > 1 or any(
        (name.startswith("@") and not Path(name).exists()) or Path(name).is_dir() for name in names
    ):
        return True
    return not is_file_name(output) and (output.is_dir() or (is_glob(names[0]) and not output.suffix))


def is_file_name(output: Path) -> bool:
    """Whether an output's suffix is that of a film or a picture."""
    return output.suffix.lower() in CONTAINERS or output.suffix.lower() in FORMATS


def is_glob(name: str) -> bool:
    return bool(_MAGIC & set(name)) and not Path(name).exists()


def find(names: Sequence[str], list_file: Path | None, output: Path) -> Found:
    """What the named folders, globs and files, `@lists` and a list file hold, without what lies in the output folder.

    A single folder is mirrored from its top, a glob from where its first `*` is, everything else from the deepest
    folder that holds all. Raises ConfigError or SourceError.
    """
    lists = [*(Path(name[1:]) for name in names if _is_list(name)), *([list_file] if list_file else [])]
    named = [name for name in names if not _is_list(name)] + [line for path in lists for line in _lines(path)]
    if not named:
        raise ConfigError("nothing to upscale: name a file, a folder or a glob, or a --list that has a line")
    files: dict[Path, None] = {}
    roots, others = [], 0
    for name in named:
        path = Path(name)
        if path.is_dir():
            inside, strangers = _split(_walk(path, output))
            roots.append(path)
        elif is_glob(name):
            root = _fixed_part(path)
            matches = sorted(root.glob(str(path.relative_to(root)))) if root.is_dir() else []
            inside, strangers = _split(p for p in matches if p.is_file() and not _is_within(p, output))
            roots.append(root)
            if not inside:
                raise SourceError(f"{name}: no film or picture has such a name")
        else:
            if not path.is_file():
                raise SourceError(f"{path}: no such file")
            inside, strangers = [path], 0
            roots.append(path.parent)
        files |= dict.fromkeys(inside)
        others += strangers
    if not files:
        raise SourceError(f"{', '.join(named)}: no films or pictures there ({others} other files)")
    return Found(_common(roots), tuple(files), others)


def pair(found: Found, output: Path, suffixes: Sequence[str] = ()) -> list[Item]:
    """Where the result of each file goes: the same place under the output folder, the same name.

    suffixes: that all films or all pictures are to have instead. Raises ConfigError if two files would have the same
    output, or one would be its own.
    """
    wanted = {(suffix := _suffix(text)) in FORMATS: suffix for text in suffixes}
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output {output} is a file; many inputs need a folder")
    items = []
    for path in found.files:
        relative = _relative(path, found.root)
        made = output / relative.with_suffix(_output_suffix(path, wanted))
        if made.exists() and made.samefile(path):
            raise ConfigError(f"{path} would be its own output; choose a folder other than {output}")
        items.append(Item(path, made, str(relative)))
    counts = Counter(str(item.output).casefold() for item in items)  # some file systems know no case
    if clashes := [item for item in items if counts[str(item.output).casefold()] > 1]:
        first = str(clashes[0].output).casefold()
        names = " and ".join(str(item.input) for item in clashes if str(item.output).casefold() == first)
        raise ConfigError(f"{names} would both become {clashes[0].output}; rename one, or upscale them one by one")
    return items


def default_output(name: str) -> Path:
    """Where `rtsr plan` supposes the result."""
    path = Path(name)
    if path.is_dir() or is_glob(name):
        return Path(f"{path.name if path.is_dir() else 'rtsr'}_upscaled")
    suffix = path.suffix.lower() if path.exists() and path.suffix.lower() in FORMATS else _FILM_FALLBACK
    return Path(path.stem.replace("%", "") + "_upscaled" + suffix)


def _is_list(name: str) -> bool:
    return name.startswith("@") and not Path(name).exists()


def _lines(path: Path) -> list[str]:
    """One name a line; empty lines and those that begin with # are none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SourceError(f"list {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"list {path} is no text in UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _walk(folder: Path, output: Path) -> Iterator[Path]:
    """All files below in order, but for hidden ones, unfinished ones, and the output's."""
    for at, folders, names in os.walk(folder):
        here = Path(at)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not name.endswith(".rtsr") and not _is_within(here / name, output)
        )
        yield from (here / name for name in sorted(names) if not name.startswith(".") and not name.endswith(".part"))


def _split(paths: Iterator[Path]) -> tuple[list[Path], int]:
    """Films and pictures; how many others there are."""
    every = list(paths)
    ours = [path for path in every if path.suffix.lower() in FILM_SUFFIXES | PICTURE_SUFFIXES]
    return ours, len(every) - len(ours)


def _is_within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _fixed_part(pattern: Path) -> Path:
    parts = list(pattern.parts)
    first = next(i for i, part in enumerate(parts) if _MAGIC & set(part))
    return Path(*parts[:first])


def _common(roots: list[Path]) -> Path:
    return roots[0] if len(set(roots)) == 1 else Path(os.path.commonpath([root.resolve() for root in roots]))


def _relative(path: Path, root: Path) -> Path:
    return path.resolve().relative_to(root.resolve()) if not path.is_relative_to(root) else path.relative_to(root)


def _suffix(text: str) -> str:
    suffix = "." + text.lower().removeprefix(".")
    if suffix not in FORMATS and suffix not in _WRITTEN:
        raise ConfigError(f"--suffix {text!r} is none that is written; use one of {', '.join((*_WRITTEN, *FORMATS))}")
    return suffix


def _output_suffix(path: Path, wanted: dict[bool, str]) -> str:
    is_picture = path.suffix.lower() in PICTURE_SUFFIXES
    if is_picture in wanted:
        return wanted[is_picture]
    if path.suffix.lower() in (FORMATS if is_picture else _WRITTEN):
        return path.suffix
    return _PICTURE_FALLBACK if is_picture else _FILM_FALLBACK
