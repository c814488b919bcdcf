"""`rtsr upscale`, `rtsr plan` and `rtsr verify` of one still picture: what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rtsr.display import Display, Lines
from rtsr.errors import ConfigError
from rtsr.options import Options
from rtsr.pictures.formats import PICTURE_SUFFIXES, is_pattern, is_picture, picture_format
from rtsr.pictures.job import picture_plan, upscale_picture
from rtsr.pictures.read import read_picture
from rtsr.pictures.verify import compare_pictures
from rtsr.pictures.write import for_format, lacks
from rtsr.sinks.codecs import CONTAINERS
from rtsr.verify import Verdict


def is_picture_job(input: str, output: Path) -> bool:
    """Whether one still picture goes into another: numbered pictures, GIFs and films are films. Raises ConfigError."""
    if is_picture(input) and output.suffix.lower() not in CONTAINERS:
        picture_format(output)
    if output.suffix.lower() not in PICTURE_SUFFIXES or is_pattern(output.name):
        return False
    if "://" in input and Path(input).suffix.lower() in PICTURE_SUFFIXES:
        raise ConfigError(f"{input}: pictures are read from files; download it first")
    return is_picture(input)


def upscale_one_picture(
    input: str, output: Path, options: Options, *, dry_run: bool = False, as_json: bool = False, quiet: bool = False
) -> None:
    """Do it, or with dry_run say on stdout what would be done. Raises what upscale_picture() raises."""
    if dry_run:
        plan = picture_plan(input, output, options)
        lines = (f"{name:>8}  {value}" for name, value in plan.items() if value)
        print(json.dumps(plan) if as_json else "\n".join(lines))
        return
    display = Display() if quiet else Lines()
    report = upscale_picture(input, output, options, notice=display.notice)
    if not quiet:
        width, height = report.output_size
        made = f"{report.output}: {width}x{height}, {report.pixels}, in {report.wall_s:.1f} s"
        print(f"{made} ({report.engine}, {report.backend})", file=sys.stderr)
    if as_json:
        print(json.dumps(report.as_dict()))


def verify_pictures(input: Path, output: Path, drop_unsupported: bool) -> Verdict:
    """Compare two picture files. drop_unsupported: what the output's format cannot hold is not missed."""
    kind = picture_format(output)
    before, after = read_picture(input), read_picture(output)
    verdict = compare_pictures(for_format(before, kind), after)
    if not drop_unsupported:
        verdict.findings += [f"it lacks {loss}" for loss in (*before.losses, *lacks(before, kind))]
    return verdict
