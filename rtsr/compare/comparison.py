"""One pass through all films: matched by time, measured, and shown in what was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from rtsr.compare.crops import CropSheet, Place
from rtsr.compare.films import Canvas, Film, Fitting, agree_on_matrix, canvas_for, give_short_names
from rtsr.compare.measure import Figures, Measurer
from rtsr.compare.moments import Moments
from rtsr.compare.page import Page
from rtsr.compare.video import FILM_SUFFIXES, SplitVideo
from rtsr.errors import ConfigError
from rtsr.sources.media import Media

MEASURED = 300  # moments, about, unless `every` says otherwise: a minute or two for 1080p
_MOMENTS = {"page": 6, "crops": 3}
_PAGE_SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class Options:
    """What to compare and how. start, end: seconds on A's clock. offset: seconds that the others are ahead of A.

    every: measure each so-manieth moment; None: so that about MEASURED are. frames: moments in a page or picture.
    border: pixels that the figures leave out at each side, None for the scale. crop: left, top, width, height.
    rate: frames a second of numbered pictures.
    """

    output: Path | None = None
    reference: str | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    offset: Fraction = Fraction(0)
    every: int | None = None
    frames: int | None = None
    border: int | None = None
    crop: Place | None = None
    rate: Fraction | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, number in (("--every", self.every), ("--frames", self.frames)):
            if number is not None and number < 1:
                raise ConfigError(f"{name} {number} is no count; write 1 or more")
        if self.border is not None and self.border < 0:
            raise ConfigError(f"--border {self.border} is no number of pixels")
        if self.kind not in ("crops", "") and self.crop is not None:
            raise ConfigError("--crop is for a picture: -o NAME.png")

    @property
    def kind(self) -> str:
        """`page`, `crops` or `video`; empty without an output."""
        if self.output is None:
            return ""
        suffix = self.output.suffix.lower()
        return "page" if suffix in _PAGE_SUFFIXES else "crops" if suffix == ".png" else "video"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found. figures: None where nothing was measured (a video without a reference)."""

    films: list[dict[str, Any]]
    moments: int
    canvas: Canvas
    figures: Figures | None
    notices: list[str] = field(default_factory=list)
    output: str | None = None


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    options: Options,
    notice: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int | None], None] = lambda done, expected: None,
) -> Comparison:
    """Compare two films or pictures. progress gets moments done and, where the files tell, expected.

    Raises ConfigError for what cannot be compared, SourceError, SinkError; nothing is left of an unfinished output.
    """
    names = [("A", os.fspath(a)), ("B", os.fspath(b))]
    if options.reference is not None:
        names.append(("Reference", options.reference))
    _check_output(options, [name for _, name in names])
    with ExitStack() as stack:
        films = [stack.enter_context(closing(_open(role, name, options))) for role, name in names]
        give_short_names(films)
        told = agree_on_matrix(films)
        canvas = canvas_for(films, options.border)
        fittings = [Fitting(film, canvas) for film in films]
        moments = Moments(films, options.offset)
        told += canvas.notices
        expected = _expected(films, options)
        every = options.every or max(round((expected or 0) / MEASURED), 1)
        if every > 1 and options.every is None:
            told.append(f"every {every}th frame is measured; --every 1 measures all")
        measurer = None
        if options.kind != "video" or options.reference is not None:
            measurer = stack.enter_context(closing(Measurer(films, fittings, canvas, every)))
            told += measurer.notices
        for sentence in told:
            notice(sentence)
        shown = _shown(films, fittings, canvas, options)
        if shown is not None:
            stack.enter_context(closing(shown))
        figures = _work(moments, measurer, shown, _Picks(films, expected, options), lambda n: progress(n, expected))
        later = [*moments.notices, *(sentence for film in films for sentence in film.troubles())]
        if isinstance(shown, Page):
            assert figures is not None, "what is not a video is measured"
            shown.finish(figures, told + later)
        elif shown is not None:
            shown.finish()
            later += shown.notices
        for sentence in later:
            notice(sentence)
        return Comparison(
            [{"role": film.role, **film.facts()} for film in films],
            moments.count,
            canvas,
            figures,
            [*told, *later],
            str(options.output) if options.output else None,
        )


def _work(
    moments: Moments,
    measurer: Measurer | None,
    shown: Page | CropSheet | SplitVideo | None,
    picks: _Picks,
    progress: Callable[[int], None],
) -> Figures | None:
    last = None  # of those that are measured
    for moment in moments:
        is_measured = measurer is None or measurer.wants_next
        if measurer is not None:
            measurer.add(moment)
        if isinstance(shown, SplitVideo):
            shown.write(moment)
        elif is_measured:
            last = moment
            if shown is not None and picks.wants(moment.seconds):
                shown.add(moment)
        progress(moments.count)
    if isinstance(shown, Page | CropSheet) and not picks.taken:  # films far shorter than they state
        assert last is not None, "there is at least one moment, and the first is measured"
        shown.add(last)
    return measurer.finish() if measurer else None


class _Picks:
    """Chooses the moments to show: spread evenly over what is expected. taken: how many so far."""

    def __init__(self, films: Sequence[Film], expected: int | None, options: Options):
        count = options.frames or _MOMENTS.get(options.kind, 1)
        rate = films[0].spec.rate or Fraction(25)
        self.count = min(count, expected or count)
        self._step = (Fraction(expected) / rate if expected else Fraction(count)) / self.count
        self._first: Fraction | None = None
        self.taken = 0

    def wants(self, seconds: Fraction) -> bool:
        if self._first is None:
            self._first = seconds
        # The middle of each part: films begin and end in black.
        due = self._first + self._step * self.taken + (self._step / 2 if self.count > 1 else 0)
        if self.taken == self.count or seconds < due:
            return False
        self.taken += 1
        return True


def _open(role: str, name: str, options: Options) -> Film:
    media = Media(name)
    if options.rate is not None and media.is_pictures:
        media = Media(name, options.rate)
    shift = options.offset if role != "A" else Fraction(0)
    start, end = (None if t is None else t + shift for t in (options.start, options.end))
    return Film(role, media, start if start is None else max(start, Fraction(0)), end)


def _expected(films: Sequence[Film], options: Options) -> int | None:
    """Frames of A that all films should have, as far as the files tell."""
    spec = films[0].spec
    if films[0].is_picture:
        return 1
    ends = [film.spec.duration for film in films if film.spec.duration]
    if not ends or not spec.rate:
        return spec.frames
    whole = min(*ends, options.end) if options.end is not None else min(ends)
    return max(round((whole - (options.start or 0)) * spec.rate), 1)


def _shown(
    films: list[Film], fittings: list[Fitting], canvas: Canvas, options: Options
) -> Page | CropSheet | SplitVideo | None:
    output = options.output
    if output is None:
        return None
    notes = [_note(film, fitting) for film, fitting in zip(films, fittings, strict=True)]
    labels = [f"{film.name} ({note})" if note else film.name for film, note in zip(films, notes, strict=True)]
    if options.kind == "page":
        return Page(output, films, fittings, canvas, notes, options.frames or _MOMENTS["page"])
    if options.kind == "crops":
        return CropSheet(output, fittings, canvas, labels, options.crop, films[0].is_picture)
    if films[0].is_picture:
        raise ConfigError(f"{films[0].name} is a picture; compare pictures with -o NAME.html or NAME.png")
    own, others = films[0].spec.duration, [film.spec.duration for film in films[1:] if film.spec.duration]
    ends = [*others, options.end] if options.end is not None else others
    early = min(ends) if own and ends and min(ends) < own - Fraction(1, 100) else None
    return SplitVideo(output, films[0], fittings, canvas, (labels[0], labels[1]), early)


def _note(film: Film, fitting: Fitting) -> str:
    return f"{film.size[0]}\N{MULTIPLICATION SIGN}{film.size[1]}, bicubic" if fitting.is_enlarged else ""


def _check_output(options: Options, inputs: Sequence[str]) -> None:
    output = options.output
    if output is None:
        return
    if options.kind == "video" and output.suffix.lower() not in FILM_SUFFIXES:
        films = " ".join(FILM_SUFFIXES)
        raise ConfigError(f"output {output}: a comparison is a film ({films}), a page (.html) or a picture (.png)")
    if not output.parent.is_dir():
        raise ConfigError(f"the output's folder {output.parent} does not exist")
    if output.is_dir():
        raise ConfigError(f"output {output} is a folder; name a file in it")
    if output.exists() and any(Path(name).exists() and output.samefile(name) for name in inputs):
        raise ConfigError(f"{output} is one of the inputs; choose another output")
    if output.exists() and not options.overwrite:
        raise ConfigError(f"{output} exists already; pass --overwrite to replace it")
