"""`rtsr compare`: options -> comparison -> table, JSON or file. Light to import: the heavy comes when it runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from rtsr.errors import ConfigError
from rtsr.parse import parse_rate, parse_time

_PLACE = re.compile(r"(\d{1,5})x(\d{1,5})\+(\d{1,5})\+(\d{1,5})")


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A film or a picture; a film's sound is kept.", show_default=False)
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="The other; either may be the small original.", show_default=False)
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A split-screen film (.mp4 .mkv .mov .webm), a page (.html), or crops side by side (.png).",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="FILE", help="The truth, to measure both against.", show_default=False)
    ] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds or hh:mm:ss.", metavar="TIME")] = None,
    end: Annotated[str | None, typer.Option(help="Stop here: seconds or hh:mm:ss.", metavar="TIME")] = None,
    offset: Annotated[
        float, typer.Option(metavar="SECONDS", help="B and the reference are this much later than A.")
    ] = 0,
    every: Annotated[
        int | None, typer.Option(metavar="N", help="Measure each Nth frame. [about 300 in all]", show_default=False)
    ] = None,
    frames: Annotated[
        int | None, typer.Option(metavar="N", help="Moments in a page [6] or a picture [3].", show_default=False)
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="WxH+X+Y", help="Where to cut a .png's crops. [where A and B differ most]", show_default=False
        ),
    ] = None,
    border: Annotated[
        int | None, typer.Option(metavar="N", help="Pixels that figures leave out. [the scale]", show_default=False)
    ] = None,
    rate: Annotated[
        str | None, typer.Option(help="Frames a second of numbered pictures. [25]", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something goes wrong.")] = False,
) -> None:
    """Compare two films or pictures: side by side, and in PSNR, SSIM and VMAF.

    Example: `rtsr compare film.mp4 film_4x.mp4 -o look.html`, or with `--reference original.mp4` to measure both.
    """
    from rich.console import Console

    from rtsr.compare import comparison, report

    options = comparison.Options(
        output=output,
        reference=reference,
        start=parse_time("--start", start),
        end=parse_time("--end", end),
        offset=Fraction(str(offset)),
        every=every,
        frames=frames,
        border=border,
        crop=_place(crop),
        rate=parse_rate(rate),
        overwrite=overwrite,
    )

    def notice(sentence: str) -> None:
        if not quiet:
            print(f"note: {sentence}", file=sys.stderr, flush=True)

    with _progress(quiet) as progress:
        found = comparison.compare(a, b, options, notice, progress)
    if as_json:
        print(json.dumps(report.as_dict(found), allow_nan=False))
    elif not quiet:
        report.print_report(found, Console())


def _place(text: str | None) -> tuple[int, int, int, int] | None:
    """Left, top, width, height from `320x240+100+50`. Raises ConfigError."""
    if text is None:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ConfigError(f"--crop {text!r} is no place; write WIDTHxHEIGHT+X+Y, as 320x240+100+50")
    width, height, left, top = map(int, match.groups())
    return left, top, width, height


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on a terminal, nothing elsewhere: what counts is the table at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda done, expected: None
        return
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), "frames", TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        task = bar.add_task("compare", total=None)
        yield lambda done, expected: bar.update(task, completed=done, total=expected)
