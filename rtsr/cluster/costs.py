"""What a cluster job costs apart from the work on its segments: `python -m rtsr.cluster.costs FILM [--cluster auto]`.

docs/CLUSTER.md reckons with these figures. FILM is any file; its first segment is made once and then joined many times.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rtsr.cluster.connection import connected
from rtsr.cluster.crew import Exchange, Worker, places
from rtsr.cluster.remote_input import BLOCK, supply_blocks
from rtsr.cluster.share import PIECE
from rtsr.journal import Journal, Segment
from rtsr.options import Options
from rtsr.preparation import prepared
from rtsr.segment_worker import encode_segment
from rtsr.sinks.join import join
from rtsr.sources.cuts import find_cuts
from rtsr.sources.media import count_packets

_ROUNDS, _PIECES, _BLOCKS, _JOINED = 5, 16, 32, 200 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description="What a cluster job costs apart from its segments.")
    parser.add_argument("film", type=Path)
    parser.add_argument("--cluster", help="also start a worker there and send bytes both ways")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = local_costs(arguments.film, Path(folder))
        if arguments.cluster:
            figures |= cluster_costs(arguments.cluster, Path(folder))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def local_costs(film: Path, folder: Path) -> dict[str, float]:
    """Planning, one segment, and joining as many as make 200 MB; medians of five but for the segment."""
    output = folder / "out.mkv"
    with prepared(film, output, Options(model="fast", drop_unsupported=True)) as job, Journal(output, {}) as journal:
        cuts = find_cuts(job.source.path)
        planning = _seconds(lambda: find_cuts(job.source.path))
        result = encode_segment(job.segment_job(1), cuts.parts[0], journal.folder)
        segment = result.segment
        assert segment is not None, "choose a film that needs no repair"
        journal.segments = _repeated(segment, max(_JOINED // segment.size, 1))
        whole = sum(one.size for one in journal.segments)
        joining = _seconds(lambda: join(journal, output, "matroska", job.source.spec, None, []))
        reading = _seconds(lambda: count_packets(output))
        journal.discard()
        return {
            "planning_packets_per_s": cuts.packets / planning,
            "segment_frames": segment.frames,
            "segment_s": result.wall_s,
            "segment_mb": segment.size / 1e6,
            "join_mb_per_s": whole / joining / 1e6,
            "read_back_mb_per_s": whole / reading / 1e6,
        }


def cluster_costs(address: str, folder: Path) -> dict[str, float]:
    """A worker's start, and MB/s of segments to the caller and of the input to a worker."""
    file = folder / "input"
    file.write_bytes(bytes(_BLOCKS * BLOCK))
    with connected(address) as ray:
        place = places(ray.nodes(), on_gpu=False)[0]
        return asyncio.run(_transfers(ray, Worker(ray, place), file))


async def _transfers(ray: Any, worker: Worker, file: Path) -> dict[str, float]:
    begun = time.perf_counter()
    await worker.ask(worker.actor.version.remote())
    start = time.perf_counter() - begun
    rates = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        for _ in range(_PIECES):
            await worker.ask(worker.actor.piece.remote("/dev/zero", 0, PIECE))  # every machine has that
        rates.append(_PIECES * PIECE / (time.perf_counter() - begun))
    exchange = Exchange(ray)
    supply = asyncio.create_task(supply_blocks(exchange.actor(), file))
    await worker.ask(exchange.actor().read.remote(0))  # it has started
    begun = time.perf_counter()
    for number in range(1, _BLOCKS):
        await worker.ask(exchange.actor().read.remote(number))
    through = (_BLOCKS - 1) * BLOCK / (time.perf_counter() - begun)
    supply.cancel()
    await asyncio.gather(supply, return_exceptions=True)
    await worker.dismiss()
    return {"worker_start_s": start, "fetch_mb_per_s": median(rates) / 1e6, "input_mb_per_s": through / 1e6}


def _repeated(segment: Segment, count: int) -> list[Segment]:
    """The same segment, as many times one behind the other."""
    step = segment.last_pts + segment.last_duration - segment.first_pts
    return [
        replace(
            segment,
            index=number,
            first_pts=segment.first_pts + number * step,
            last_pts=segment.last_pts + number * step,
        )
        for number in range(count)
    ]


def _seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return median(times)


if __name__ == "__main__":
    main()
