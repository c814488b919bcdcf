"""A video file: upscaled frames encoded, everything else copied, complete or not there at all."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from rtsr.frames import FrameBatch, VideoSpec
from rtsr.journal import Journal
from rtsr.sinks.copy import StreamPlan
from rtsr.sinks.encoding import Encoding, container_format
from rtsr.sinks.join import join
from rtsr.sinks.segments import SegmentWriter
from rtsr.sinks.video import check_video
from rtsr.sinks.writing import says_what_failed


class FileSink:
    """Encodes into segments beside the output, joins them to `<output>.part` and renames that to the output.

    spec: of the input; the output is `scale` times larger and keeps the rest. copy_from: the file whose other streams,
    tags and chapters are taken over as `plans` say, None for a bare video. start, end: the trim, in seconds; the
    output's clock begins at start. journal: of the job; without one, nothing of an unfinished output is kept.
    is_clean: see Segment.clean. Raises ConfigError for a codec that the container cannot hold or that does not open
    here, SinkError when the output cannot be written.
    """

    def __init__(
        self,
        output: Path,
        spec: VideoSpec,
        scale: int,
        encoding: Encoding,
        *,
        copy_from: Path | None = None,
        plans: list[StreamPlan] | None = None,
        start: Fraction | None = None,
        end: Fraction | None = None,
        journal: Journal | None = None,
        is_clean: Callable[[], bool] = lambda: True,
    ):
        self.output = output
        self.part = output.with_name(output.name + ".part")
        self.packets_copied = 0
        self._keeps_part = False
        self._spec, self._copy_from, self._plans = spec, copy_from, plans or []
        self._start, self._end = start, end
        encoder = encoding.resolve(output)
        check_video(container_format(output), spec, scale, encoder)
        self._owns_journal = journal is None
        self._journal = journal or Journal(output, {}, restart=True)
        origin = round(start / spec.time_base) if start else 0
        self._segments = SegmentWriter(self._journal, spec, scale, encoder, is_clean, origin)

    @property
    def frames(self) -> int:
        """Frames in finished segments, those of earlier runs included."""
        return self._journal.frames

    def write(self, batch: FrameBatch) -> None:
        self._segments.write(batch)

    def finish(self) -> None:
        self.join()
        self.publish()

    def join(self) -> Path:
        """Put everything together under the `.part` name, and return that."""
        self._segments.finish()
        fmt = container_format(self.output)
        self.packets_copied = join(
            self._journal, self.part, fmt, self._spec, self._copy_from, self._plans, self._start, self._end
        )
        return self.part

    def publish(self) -> None:
        """Give what join() made its final name and forget the segments."""
        with says_what_failed(self.output):
            self.part.replace(self.output)
        self._journal.discard()

    def leave_part(self) -> None:
        """Leave what join() made under its `.part` name, and forget the segments."""
        self._keeps_part = True
        self._journal.discard()

    def close(self) -> None:
        """Drop the segment in work; finished ones stay for the next run if the job has a journal."""
        self._segments.close()
        if not self._keeps_part:
            self.part.unlink(missing_ok=True)
        if self._owns_journal:
            self._journal.discard()
            self._journal.close()
