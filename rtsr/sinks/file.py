"""A video file: upscaled frames encoded, everything else copied, complete or not there at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from rtsr.disk import DiskWatch
from rtsr.errors import SinkError
from rtsr.frames import FrameBatch, VideoSpec
from rtsr.journal import Journal
from rtsr.sinks.codecs import container_format
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.gif import render_gif
from rtsr.sinks.join import Joined, join
from rtsr.sinks.plans import StreamPlan
from rtsr.sinks.segments import SegmentWriter
from rtsr.sinks.video import check_video
from rtsr.sinks.writing import says_what_failed
from rtsr.sources.media import Input, numbered, picture_numbers


class FileSink:
    """Encodes into segments beside the output, joins them to `<output>.part` and renames that to the output.

    spec: of the input; the output is `scale` times larger, or has `size` (width, height), and keeps the rest.
    copy_from: the input whose other streams, tags and chapters are taken over as `plans` say, None for a bare video.
    start, end: the trim, in seconds; the output's clock begins at start. journal: of the job; without one, nothing of
    an unfinished output is kept. is_clean, made_by: see SegmentWriter. disk: asked whether there is room before each
    segment and before all are joined. Numbered pictures (`out/%05d.png`) are joined into a folder of the `.part` name,
    and then each gets its own.

    Raises ConfigError for a codec that the container cannot hold or that does not open here, SinkError when the output
    cannot be written.
    """

    def __init__(
        self,
        output: Path,
        spec: VideoSpec,
        scale: int,
        encoding: Encoding,
        *,
        size: tuple[int, int] | None = None,
        copy_from: Input | None = None,
        plans: list[StreamPlan] | None = None,
        start: Fraction | None = None,
        end: Fraction | None = None,
        journal: Journal | None = None,
        is_clean: Callable[[], bool] = lambda: True,
        disk: DiskWatch | None = None,
        made_by: Callable[[int], str] = lambda pts: "",
    ):
        self.output = output
        self.part = output.with_name(output.name.replace("%", "") + ".part")  # a folder for numbered pictures
        self.joined = Joined()
        self._keeps_part = False
        self._spec, self._copy_from, self._plans = spec, copy_from, plans or []
        self._start, self._end = start, end
        encoder = encoding.resolve(output, spec)
        self._size = size or (spec.width * scale, spec.height * scale)
        check_video(container_format(output), spec, self._size, encoder)
        self._owns_journal = journal is None
        self._journal = journal or Journal(output, {}, restart=True)
        origin = round(start / spec.time_base) if start else 0
        self._disk = disk or DiskWatch(self._journal, output)
        self._segments = SegmentWriter(
            self._journal, spec, self._size, encoder, is_clean, origin, self._disk.before_segment, made_by
        )

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
        """Put everything together under the `.part` name, and return that. The segments stay whatever happens."""
        self._segments.finish()
        self._disk.before_join()
        fmt, target = container_format(self.output), self.part
        if fmt == "gif":
            origin = round(self._start / self._spec.time_base) if self._start else 0
            render_gif(self._journal, self.part, self._spec, self._size, origin)
            return self.part
        if fmt == "image2":
            self.part.mkdir(exist_ok=True)
            target = self.part / self.output.name
        try:
            self.joined = join(
                self._journal, target, fmt, self._spec, self._copy_from, self._plans, self._start, self._end
            )
        except SinkError as error:
            raise SinkError(f"{error}; the finished video is kept in {self._journal.folder}") from error
        return target

    def publish(self) -> None:
        """Give what join() made its final name and forget the segments."""
        with says_what_failed(self.output):
            if self.part.is_dir():
                for number in picture_numbers(self.output):  # a longer film's pictures must not follow this one's
                    numbered(self.output, number).unlink()
                for picture in sorted(self.part.iterdir()):
                    picture.replace(self.output.parent / picture.name)
                self.part.rmdir()
            else:
                self.part.replace(self.output)
        self._journal.discard()

    def leave_part(self) -> None:
        """Leave what join() made under its `.part` name, and forget the segments."""
        self._keeps_part = True
        self._journal.discard()

    def close(self) -> None:
        """Drop the segment in work; finished ones stay for the next run if the job has a journal."""
        self._segments.close()
        if self.part.is_dir() and not self._keeps_part:
            shutil.rmtree(self.part, ignore_errors=True)
        elif not self._keeps_part:
            self.part.unlink(missing_ok=True)
        if self._owns_journal:
            self._journal.discard()
            self._journal.close()
