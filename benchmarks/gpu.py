"""Everything about a GPU in one run: `python -m benchmarks.gpu`; `--device cpu --quick` tries it out without one.

What the machine allows (copies, bus, matrix products), the engines on the device alone, with transfers and in the whole
pipeline, and torch on the same net. One table, then one JSON document on stdout. Each part runs in a process of its
own, since a failed kernel takes its process with it. A row that was not measured says why: nothing is guessed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.rows import Job, Row, all_rows
from benchmarks.targets import Verdict, verdicts
from rtsr.bench_machine import machine, versions
from rtsr.errors import first_line

PACKAGES = ("torch", "cupy-cuda13x", "cuda-core", "cuda-bindings", "onnx", "tensorrt", "tensorrt-rtx", "nvidia-ml-py")
NO_TIME = "no time was left: pass a larger --limit-seconds"
ROOT = str(Path(__file__).resolve().parent.parent)
_LEAST_S = 5.0  # a process needs more to begin at all


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.part:
        return run_part(args)
    deadline = time.monotonic() + args.limit_seconds
    rows = rows_of(args)
    no_driver = driver_missing() if args.device == "cuda" else ""
    with tempfile.TemporaryDirectory(prefix="rtsr-gpu-") as folder:
        for part, group in groupby(list(rows), key=lambda row: row.part):
            waiting = [row for row in group if not row.missing]
            if no_driver:
                fill(waiting, no_driver)
            elif waiting:
                print(f"{part}: {len(waiting)} rows", file=sys.stderr, flush=True)
                measure_part(part, rows, args, deadline, Path(folder))
    add_shares(rows)
    result = {
        "command": " ".join(["python", "-m", "benchmarks.gpu", *(argv or sys.argv[1:])]),
        "machine": machine() | {"gpu": gpu_name(), "python": platform.python_version()},
        "versions": versions() | installed(PACKAGES),
        "rows": [row.as_dict() for row in rows],
        "targets": [verdict.as_dict() for verdict in verdicts(rows)],
    }
    console = Console(stderr=False, width=150)
    print_tables(rows, console)
    print_targets(verdicts(rows), console)
    text = json.dumps(result, default=float)
    if args.json:
        args.json.write_text(text)
    print(text)
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    p.add_argument("--quick", action="store_true", help="tiny pictures: tries the benchmark out, measures nothing")
    p.add_argument("--limit-seconds", type=float, default=1800, help="rows that are not begun by then say so")
    p.add_argument("--only", nargs="+", metavar="PART", help="parts whose names hold one of these words")
    p.add_argument("--json", type=Path, help="also write the document here")
    p.add_argument("--part", help=argparse.SUPPRESS)  # the process of one part
    p.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return p.parse_args(argv)


def rows_of(args: argparse.Namespace) -> list[Row]:
    """The same list in this process and in those of the parts, which are told the rows' numbers in it."""
    rows = all_rows(args.device, args.quick)
    return [row for row in rows if any(word in row.part for word in args.only)] if args.only else rows


def measure_part(part: str, rows: list[Row], args: argparse.Namespace, deadline: float, folder: Path) -> None:
    """Run one part in a process of its own and put what it found into its rows. What it leaves out gets a reason; if
    it died, another process goes on with the rows after the one that killed it."""
    output = folder / f"{part.replace(' ', '-')}.jsonl"
    words = ["--device", args.device, "--part", part, "--folder", str(folder), *["--quick"] * args.quick]
    words += ["--only", *args.only] if args.only else []
    while waiting := [i for i, row in enumerate(rows) if row.part == part and not (row.figures or row.missing)]:
        left = deadline - time.monotonic()
        if left < _LEAST_S:
            fill([rows[i] for i in waiting], NO_TIME)
            return
        output.write_text("")
        numbers = ",".join(map(str, waiting))
        environment = os.environ | {"RTSR_GPU_ROWS": numbers, "RTSR_GPU_LEFT_S": str(left - _LEAST_S / 2)}
        environment["PYTHONPATH"] = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "benchmarks.gpu", *words]
        died = ""
        try:
            done = subprocess.run(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=left
            )
            if done.returncode:
                last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
                died = f"the process ended with {done.returncode}: {last[0][:300]}"
        except subprocess.TimeoutExpired:
            died = NO_TIME
        for line in output.read_text().splitlines():
            found = json.loads(line)
            rows[found["row"]].figures, rows[found["row"]].missing = found["figures"], found["missing"]
        rest = [rows[i] for i in waiting if not (rows[i].figures or rows[i].missing)]
        if died == NO_TIME:
            fill(rest, NO_TIME)
        elif rest:
            rest[0].missing = died or "the process said nothing of it"


def run_part(args: argparse.Namespace) -> int:
    """In the process of one part: measure its rows, each written as soon as it is done."""
    deadline = time.monotonic() + float(os.environ["RTSR_GPU_LEFT_S"])
    rows = rows_of(args)
    with (args.folder / f"{args.part.replace(' ', '-')}.jsonl").open("a") as output:
        for number in [int(word) for word in os.environ["RTSR_GPU_ROWS"].split(",")]:
            row = rows[number]
            if time.monotonic() > deadline:
                row.missing = NO_TIME
            else:
                try:
                    row.figures = measure(row, args)
                except Exception as error:  # whatever a library throws is why this row is missing, and no other
                    row.missing = f"{type(error).__name__}: {first_line(error)}"[:400]
            output.write(
                json.dumps({"row": number, "figures": row.figures, "missing": row.missing}, default=float) + "\n"
            )
            output.flush()
    return 0


def measure(row: Row, args: argparse.Namespace) -> dict[str, Any]:
    """Imports happen here, so that a package that is missing costs the rows that need it."""
    part, _, backend = row.part.partition(" ")
    if part == "ceilings":
        from benchmarks.ceilings import measure as ceiling

        return ceiling(row.what, args.device, args.quick)
    assert row.job is not None, "only ceilings have no job"
    if part == "torch":
        from benchmarks.torch_net import measure as torch_row

        return torch_row(backend, row.job, row.batch, args.device, args.quick)
    from benchmarks import engines

    if part == "encoder":
        return engines.measure_encoder(row.job, row.what, args.folder, args.quick)
    if part == "pipeline":
        return engines.measure_pipeline(row.job, backend, row.what, args.folder, args.quick)
    if row.what == "same frames":
        return engines.measure_sameness(row.job, part)
    if row.what == "FP16 against FP32":
        return engines.measure_precision(row.job, part)
    return engines.measure_engine(row.job, part, row.batch, row.graphs, args.quick)


def fill(rows: list[Row], reason: str) -> None:
    for row in rows:
        row.missing = row.missing or reason


def driver_missing() -> str:
    """Why there is no GPU to measure; empty if one answers."""
    try:
        driver = ctypes.CDLL("libcuda.so.1" if sys.platform != "win32" else "nvcuda.dll")
    except OSError:
        return "no NVIDIA driver"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver shows no GPU"
    return ""


def gpu_name() -> str | None:
    """As nvidia-smi says it, with its memory and driver; None where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    from importlib import metadata

    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def add_shares(rows: list[Row]) -> None:
    """What part of the ceilings an engine reaches, and how it stands to torch and to the engine alone."""
    ceilings = {row.what: row.figures for row in rows if row.part == "ceilings"}
    tflops, bandwidth = ceilings.get("matrix", {}).get("tflop_per_s"), ceilings.get("copy", {}).get("gb_per_s")
    alone: dict[tuple[str, Job], float] = {}
    for row in rows:
        on_device = row.figures.get("compute_ms_per_frame")  # not on a CPU, whose engines are int8
        ms = on_device or row.figures.get("stream_ms_per_frame")
        if row.what != "engine" or not ms or row.job is None:
            continue
        if tflops and on_device:
            row.figures["flop_share"] = row.figures["gflop"] / ms / tflops
        if bandwidth and on_device and "gb" in row.figures:
            row.figures["byte_share"] = 1e3 * row.figures["gb"] / ms / bandwidth
        if row.batch == 1:
            alone[row.part, row.job] = min(ms, alone.get((row.part, row.job), ms))
    for row in rows:
        if row.job is None or not row.figures:
            continue
        for (backend, job), ms in alone.items():
            if job == row.job and row.part.startswith("torch"):
                row.figures[f"times_{backend}"] = row.figures["ms_per_frame"] / ms
            if job == row.job and row.part == f"pipeline {backend}":
                row.figures["share_of_engine_alone"] = row.figures["fps"] * ms / 1e3


def print_tables(rows: list[Row], console: Console) -> None:
    table = Table(box=SIMPLE)
    for heading in ("part", "what", "job", "batch", "graphs", "figures"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        said = "  ".join(f"{name} {shown(value)}" for name, value in row.figures.items())
        graphs = "" if row.graphs is None else "on" if row.graphs else "off"
        if said:
            table.add_row(row.part, row.what, str(row.job or ""), str(row.batch), graphs, said)
    console.print(table)
    table = Table("part", "rows that are missing", "why", box=SIMPLE)
    missing = [(row.part, row.missing) for row in rows if row.missing]
    for part, why in dict.fromkeys(missing):
        table.add_row(part, str(missing.count((part, why))), escape(why))
    console.print(table)


def print_targets(found: list[Verdict], console: Console) -> None:
    """One line for each target: how many rows meet it, those that miss it by name, and why others say nothing."""
    table = Table("target", "met", "missed", "not measured", box=SIMPLE)
    for target in dict.fromkeys(verdict.target for verdict in found):
        of = [verdict for verdict in found if verdict.target == target]
        missed = "; ".join(f"{each.row}: {shown(each.figure)}" for each in of if each.met is False)
        reasons = [each.missing for each in of if each.met is None]
        why = "; ".join(f"{reasons.count(reason)}: {reason}" for reason in dict.fromkeys(reasons))
        table.add_row(escape(target), str(sum(each.met is True for each in of)), escape(missed), escape(why))
    console.print(table)


def shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
