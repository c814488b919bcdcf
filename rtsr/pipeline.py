"""decode -> batch -> infer -> encode, overlapping. Read this first: a frame's whole way is below."""

from __future__ import annotations

import time
from collections.abc import Callable

from rtsr.backends import Engine
from rtsr.frames import batched
from rtsr.sinks import Sink
from rtsr.sources import Source
from rtsr.stats import PipelineStats
from rtsr.threads import prefetch

DEPTH = 3  # items a stage may run ahead of the next: hides jitter, and at 1440p costs 5.5 MB of memory each


def run(
    source: Source,
    engine: Engine,
    sink: Sink,
    *,
    batch_size: int = 1,
    progress: Callable[[PipelineStats], None] = lambda stats: None,
) -> PipelineStats:
    """Carry every frame of source through engine into sink; the caller finishes the sink and closes all three.

    Decoding and inference run in a thread each, encoding in the caller's. An error in any of them ends the threads
    and is raised here, once. progress is called after each batch, in the caller's thread.
    """
    stats = PipelineStats()
    with (
        prefetch(stats.decode.output(source.frames()), DEPTH, "decode") as frames,
        prefetch(
            stats.infer.output(engine.stream(batched(stats.infer.input(frames), batch_size))), DEPTH, "infer"
        ) as batches,
    ):
        for batch in batches:
            begun = time.perf_counter()
            sink.write(batch)
            stats.encode.total_s += time.perf_counter() - begun
            stats.encode.items += len(batch)
            stats.written += len(batch)
            stats.last_seconds = float((batch.pts[-1] + batch.durations[-1]) * batch.time_base)
            progress(stats)
    return stats
