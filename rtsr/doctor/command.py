"""`rtsr doctor`. Light to import: everything heavy comes when it runs, most of it in other processes."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout; see docs/DOCTOR.md.")] = False,
) -> None:
    """Look at this machine: what rtsr can use of it, what mends the rest, which tier keeps up.

    Takes about 15 seconds, asks no network. Exits with 1 if the default way (`rtsr upscale IN -o OUT`) does not work.

    Example: `rtsr doctor`; `rtsr doctor --json` for programs and reports of errors
    """
    from rich.console import Console

    from rtsr.doctor.examine import examine
    from rtsr.doctor.report import print_report

    errors = Console(stderr=True)
    if errors.is_terminal:
        with errors.status("looking") as status:
            found = examine(status.update)
    else:
        found = examine()
    if as_json:
        print(json.dumps(found.as_dict()))
    else:
        print_report(found, Console())
    if not found.ok:
        raise typer.Exit(1)
