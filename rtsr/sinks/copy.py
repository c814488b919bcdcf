"""The streams that are not upscaled: copied packet by packet, so that nothing about them can change; or converted,
where the container has no place for them or where that was asked for."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.container
import av.error
import av.stream

from rtsr.sinks.audio import EncodedTrack, add_audio
from rtsr.sinks.plans import StreamPlan, codec_name
from rtsr.sinks.subtitles import add_subtitles, lost_with, packets_of, read_cues
from rtsr.sinks.tags import copy_tags, mov_language, moved_chapters
from rtsr.sources.media import Input, is_cover, open_input

# Of packets that are no longer there: mkvmerge's statistics, and what Matroska says of each track.
_STALE_STREAM_TAGS = ("bps", "number_of_", "_statistics_", "duration")
# Matroska keeps covers as attachments of these names.
_COVER_TYPES = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


class CopiedStreams:
    """Feeds the streams beside the picture into an output, abreast of the video.

    Opens the input anew, with the video discarded, so that a badly interleaved file costs no memory.
    start, end: seconds on the container's clock; what lies outside is left out and the rest moves to zero.
    copied: packets by stream. damage: what could not be decoded of sound that is converted, complete after until(None).
    notices: what else a user should know.
    """

    def __init__(
        self,
        path: Input,
        output: av.container.OutputContainer,
        plans: list[StreamPlan],
        start: Fraction | None,
        end: Fraction | None,
    ):
        self._path = path
        self._input = open_input(path)
        self._decoded = open_input(path)
        self._output = output
        self._start, self._end = start, end
        self._streams: dict[int, Any] = {}
        self._tracks: dict[int, EncodedTrack] = {}
        self.copied: dict[int, int] = {}
        self.damage: list[str] = []
        self.notices: list[str] = []
        wanted = {plan.index: plan for plan in plans if plan.action in ("copy", "convert")}
        for stream in self._input.streams:
            plan = wanted.get(stream.index)
            if plan is None or plan.action == "convert":
                stream.discard = av.stream.Discard.all
            if plan is None:
                continue
            if (added := self._add(stream, plan)) is not None:
                self.copied[stream.index] = 0
                self._streams[stream.index] = added
            else:
                stream.discard = av.stream.Discard.all
        text = {plan.index: plan.target for plan in wanted.values() if plan.target and plan.kind == "subtitle"}
        feeds = [self._demux(), self._encode(), *self._convert(text)]
        self._packets = heapq.merge(*feeds, key=lambda feed: feed[0])
        self._next = next(self._packets, None)
        copy_tags(self._input.metadata, output.metadata)
        output.set_chapters(moved_chapters(self._input.chapters(), start, end))

    def _add(self, stream: Any, plan: StreamPlan) -> Any:
        """The output's stream for one of the input; None for a cover that was written as a Matroska attachment."""
        if is_cover(stream) and self._output.format.name == "matroska":
            picture = _only_packet(self._path, stream.index)
            name, mime = _COVER_TYPES.get(codec_name(stream), ("cover.jpg", "image/jpeg"))
            added = self._output.add_attachment(stream.metadata.get("filename", name), mime, picture)
            copy_tags({k: v for k, v in stream.metadata.items() if k not in ("filename", "mimetype")}, added.metadata)
            return None
        tags = dict(stream.metadata)
        if plan.action == "convert":
            tags = {key: value for key, value in tags.items() if not key.lower().startswith(_STALE_STREAM_TAGS)}
        if plan.action == "copy":
            added = self._output.add_stream_from_template(stream, opaque=True)
        elif plan.kind == "subtitle":
            added = add_subtitles(self._output, plan.target)
        else:
            added = add_audio(self._output, stream, plan.target)
            source = self._decoded.streams[stream.index]
            self._tracks[stream.index] = EncodedTrack(source, added, self._output.format.name, self._start, self._end)
        copy_tags(tags, added.metadata)
        if self._output.format.name == "mov" and (language := stream.metadata.get("language")):
            added.metadata["language"] = mov_language(language)
        if stream.type != "attachment":
            added.disposition = stream.disposition
        return added

    def until(self, seconds: Fraction | None) -> None:
        """Mux every packet due before `seconds` on the output's clock; all that are left for None."""
        while self._next is not None and (seconds is None or self._next[0] < seconds):
            _, index, packet = self._next
            packet.stream = self._streams[index]
            self._output.mux(packet)
            self.copied[index] += 1
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._input.close()
        self._decoded.close()

    def _convert(self, targets: dict[int, str]) -> list[Iterator[tuple[Fraction, int, Any]]]:
        """The lines of each stream of text that is converted. They are few, and known whole when the work begins."""
        feeds = []
        for index, cues in read_cues(self._path, targets, self._start, self._end).items():
            if lost := lost_with(cues, targets[index]):
                self.notices.append(f"stream {index} (subtitle): {lost}")
            feeds.append(_dated(index, packets_of(cues, targets[index])))
        return feeds

    def _encode(self) -> Iterator[tuple[Fraction, int, Any]]:
        """Packets of the sound that is converted."""
        for stream in self._decoded.streams:
            if stream.index not in self._tracks:
                stream.discard = av.stream.Discard.all
        if not self._tracks:
            return
        try:
            for packet in self._decoded.demux([self._decoded.streams[index] for index in self._tracks]):
                if packet.size:
                    index = packet.stream.index
                    yield from _dated(index, self._tracks[index].feed(packet))
        except av.error.InvalidDataError as error:
            self.damage.append(f"reading the sound stopped early: {error.strerror}")
        for index, track in self._tracks.items():
            yield from _dated(index, track.finish())
            self.damage += [track.damage] if track.damage else []
            self.notices += track.notices

    def _demux(self) -> Iterator[tuple[Fraction, int, Any]]:
        """Packets to copy with the time each is due and their stream, moved to the trim's start."""
        copied = [stream for stream in self._input.streams if stream.index in self._streams]
        streams = [stream for stream in copied if stream.discard != av.stream.Discard.all]
        if not any(stream.type != "attachment" for stream in streams):
            return
        offset = self._start or Fraction(0)
        last: dict[int, int] = {}
        repaired: Counter[int] = Counter()
        for packet in self._input.demux(streams):
            if packet.size == 0:  # the demuxer's end mark; a missing dts does not mean that
                continue
            time_base = packet.time_base
            assert time_base is not None, "a demuxed packet has its stream's time base"
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and not self._keeps(packet, stamp * time_base, time_base):
                continue
            if offset:
                shift = round(offset / time_base)
                packet.pts = None if packet.pts is None else packet.pts - shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                if packet.stream.type == "subtitle" and packet.pts is not None and packet.pts < 0:
                    # shown at the cut: it begins there and ends when it ended
                    packet.duration = (packet.duration or 0) + packet.pts
                    packet.pts = packet.dts = 0
            index = packet.stream.index
            if packet.dts is not None and packet.dts <= last.get(index, packet.dts - 1):
                # No muxer takes times that do not rise, in its own clock: none is coarser than a millisecond.
                packet.dts = last[index] + math.ceil(Fraction(1, 1000) / time_base)
                packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
                repaired[index] += 1
            if packet.dts is not None:
                last[index] = packet.dts
            due = packet.dts if packet.dts is not None else packet.pts
            yield (Fraction(0) if due is None else due * time_base), index, packet
        for index, count in repaired.items():
            self.notices.append(f"{count} packets of stream {index} had times that do not rise; they were put in order")

    def _keeps(self, packet: Any, begin: Fraction, time_base: Fraction) -> bool:
        """Whether a packet lies in the trim. A sound frame counts by its begin, a subtitle by its whole time."""
        if self._end is not None and begin >= self._end:
            return False
        if self._start is None:
            return True
        if packet.stream.type == "subtitle":
            return begin + (packet.duration or 0) * time_base > self._start
        return begin >= self._start


def _dated(index: int, packets: Iterator[Any]) -> Iterator[tuple[Fraction, int, Any]]:
    for packet in packets:
        due = packet.dts if packet.dts is not None else packet.pts
        yield (due or 0) * Fraction(packet.time_base), index, packet


def _only_packet(path: Input, index: int) -> bytes:
    """The payload of a stream's first packet: a cover picture."""
    with open_input(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                return bytes(packet)
    return b""
