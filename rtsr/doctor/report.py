"""What the doctor found, for people."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from rtsr.doctor.check import Check
from rtsr.doctor.examine import GROUPS, Examination

_MARKS = {"ok": ("✓", "green"), "absent": ("–", "dim"), "problem": ("✗", "red")}


def print_report(found: Examination, console: Console) -> None:
    for group in GROUPS:
        checks = [check for check in found.checks if check.group == group]
        if not checks or group == "speed":
            continue
        console.print(Text(group, "bold"))
        console.print(_checks_table(checks))
    _print_speed(found, console)
    problems = [check for check in found.checks if check.status == "problem"]
    if problems:
        console.print(Text("to mend", "bold"))
        for check in problems:
            console.print(Text(f"  {check.name}: {check.mend or check.says}"), soft_wrap=True)
    says = "the default way works" if found.ok else "the default way does not work: see above"
    console.print(Text(f"{says} ({found.seconds:.0f} s)", "green" if found.ok else "red"))


def _checks_table(checks: list[Check]) -> Table:
    table = Table(
        Column(width=1),
        Column(no_wrap=True, max_width=34),
        Column(overflow="fold"),
        box=None,
        show_header=False,
        padding=(0, 1),
    )
    for check in checks:
        mark, style = _MARKS[check.status]
        says = Text(check.says)
        if check.mend and check.status != "ok":
            says.append(f"\n→ {check.mend}", "bold" if check.status == "problem" else "dim")
        table.add_row(Text(mark, style), Text(check.name), says)
    return table


def _print_speed(found: Examination, console: Console) -> None:
    rows = found.speed.get("rows", [])
    failed = [check for check in found.checks if check.group == "speed" and check.status == "problem"]
    if not rows and not failed:
        return
    console.print(Text("speed: frames a second from file to file, x264 at its quickest", "bold"))
    if failed:
        console.print(_checks_table(failed))
        return
    cases = list(dict.fromkeys((row["size"], row["scale"]) for row in rows))
    table = Table(Column("  tier"), box=None, padding=(0, 2))
    for size, scale in cases:
        table.add_column(f"{size} x{scale}", justify="right", no_wrap=True)
    for model in ("nano", "fast", "balanced"):
        by_case = {(row["size"], row["scale"]): row["fps"] for row in rows if row["model"] == model}
        table.add_row(f"  {model}", *(f"{by_case[case]:.0f}" if case in by_case else "" for case in cases))
    console.print(table)
    for sentence in found.speed.get("advice", []):
        console.print(Padding(Text(sentence), (0, 0, 0, 2)))
