"""Frames of a video file, through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av
import av.container
import av.error
import av.stream
import av.video.stream
from av.video.reformatter import VideoReformatter

from rtsr.errors import ConfigError, SourceError
from rtsr.frames import ChromaSiting, ColorTags, Frame, VideoSpec
from rtsr.sources import nvdec
from rtsr.sources.complaints import complaints
from rtsr.sources.cuts import Cut, Key, picture_digest
from rtsr.sources.deinterlace import Decoded, deinterlaced
from rtsr.sources.findings import Findings
from rtsr.sources.media import Input, as_media, count_packets, decoder_of, last_moment, main_video, open_input
from rtsr.sources.pictures import (
    PlaneReader,
    captions,
    captions_carrier,
    hdr_metadata,
    is_opaque,
    lost_beside,
    pixel_format,
)

# FFmpeg's AVChromaLocation; frames tell it from PyAV 19 on. 0 is unspecified.
_SITINGS = {1: ChromaSiting.LEFT, 2: ChromaSiting.CENTER, 3: ChromaSiting.TOPLEFT}
# Containers with an index that seeks to a keyframe at or before the target; MPEG-TS can land after it.
_SEEKABLE = {"mov", "mp4", "matroska", "webm"}
_SEEK_AHEAD_S = (0, 20)  # of a packet to meet: MPEG-TS lands up to two keyframes after what it is asked for
# Containers that state their real duration, so that a file cut short shows.
_QUICK_PIXELS = 1280 * 720
_STATED_DURATION = {"mov", "mp4", "matroska", "webm", "flv", "avi"}


class FileSource:
    """The main video of a file, a URL or numbered pictures, from `start` (seconds, inclusive) to `end` (exclusive).

    deinterlace: `auto`, `on` or `off`; see deinterlaced(). keep_alpha: also alpha that nothing of the first picture
    makes use of. listen: note FFmpeg's complaints, which takes one thread that decodes; not while another file is open
    whose codec has threads of its own. Raises SourceError if the input cannot be opened or holds no video, ConfigError
    for pixels that are no planes of integers.
    """

    def __init__(
        self,
        path: Input,
        start: Fraction | None = None,
        end: Fraction | None = None,
        deinterlace: str = "auto",
        keep_alpha: bool = False,
        listen: bool = True,
    ):
        self.path = as_media(path)
        self._start, self._end = start, end
        self._deinterlace, self._keep_alpha, self._may_listen = deinterlace, keep_alpha, listen
        self._after: int | None = None
        self._may_seek = True
        self._part: Cut | None = None
        self._gpu: int | None = None
        self._container, self._stream = self._open()
        try:
            first = self._decode_first()
            self.is_interlaced = bool(first.interlaced_frame)
            self.lost_beside = lost_beside(first)
            self.spec = self._read_spec(first)
        except BaseException:
            self._container.close()
            raise
        self._reader, self._downloads = PlaneReader(self.spec.pixels), VideoReformatter()
        self.found = Findings()
        self.part_pictures = "", ""  # digests; see only()

    @property
    def damage(self) -> list[str]:
        return self.found.damage()

    @property
    def is_clean(self) -> bool:
        """Whether nothing so far needed repair or was lost."""
        return self.found.is_clean

    @property
    def notices(self) -> list[str]:
        """What had to be mended or changed without losing anything."""
        return self.found.notices(not self.is_interlaced and self._deinterlace == "auto")

    def decode_on_gpu(self, gpu: int) -> str:
        """Let frames() decode on a GPU, as CUDA counts, and leave the pictures there; Frame's planes download them if
        somebody looks. Returns why not, where that does not go; empty if it does."""
        why_not = nvdec.why_not(self.path, self._stream.codec_context.codec.canonical_name, self.spec, gpu)
        self._gpu = None if why_not else gpu
        return why_not

    def resume(self, after_pts: int, may_seek: bool) -> None:
        """Let frames() begin with the first frame behind after_pts. may_seek: False decodes all that comes before, so
        that repairs and damage there are found again."""
        self._after, self._may_seek = after_pts, may_seek

    def only(self, part: Cut) -> None:
        """Let frames() yield one part of the film and nothing else, exactly as it would among all others.

        What is found counts for this part alone. part_pictures are then the digests of its first picture and of the
        one behind it, empty where there is none: the neighbour parts must have the same ones.
        """
        self._part = part

    def frames(self) -> Iterator[Frame]:
        last: Frame | None = None
        previous: tuple[int, int] | None = None
        packets = 0
        for decoded in deinterlaced(self._heard(), self._deinterlace):
            packets = decoded.packets
            pts, duration = self._timestamp(decoded, previous)
            previous = pts, duration
            seconds = pts * self.spec.time_base
            if self._start is not None and seconds < self._start:
                continue
            if self._end is not None and seconds >= self._end:
                break
            if self._part is not None and pts < self._part.begin:
                continue
            if self._part is not None and self._part.end is not None and pts >= self._part.end:
                self._note_picture(decoded.picture)
                if last is not None:
                    yield replace(last, duration=pts - last.pts)
                return
            self.found.corrupt += decoded.is_corrupt  # before the resumed part too: what was damaged is damaged still
            self.found.interlaced += decoded.is_interlaced
            if self._after is not None and pts <= self._after:
                continue
            if last is not None:
                yield replace(last, duration=pts - last.pts)
            elif self._part is not None:
                self._note_picture(decoded.picture)
            last = self._frame(decoded.picture, pts, duration)
        if last is not None:
            last = replace(last, duration=self._rest(last))
            yield last
        if self._part is None and last is not None:
            if self._after is not None and self._may_seek:
                packets = count_packets(self.path)
            self.check_end((last.pts + last.duration) * last.time_base, packets)
        elif self._part is None and self._after is None:  # else all had been done before
            raise SourceError(f"{self.path}: no frame lies between --start and --end")

    def close(self) -> None:
        self._container.close()

    def _open(self) -> tuple[av.container.InputContainer, av.video.stream.VideoStream]:
        container = open_input(self.path, None if self._gpu is None else nvdec.hwaccel(self._gpu))
        try:
            stream = main_video(container, self.path)
        except BaseException:
            container.close()
            raise
        if self._gpu is not None:
            nvdec.prepare(stream)
        elif self._listens(stream):
            stream.codec_context.thread_count = 1
        else:
            stream.thread_type = "AUTO"
        for other in container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all  # the sink copies them with a demuxer of its own
        return container, stream

    def _listens(self, stream: av.video.stream.VideoStream) -> bool:
        """Whether decoding is quick enough for one thread, in which FFmpeg's complaints can be heard."""
        return self._may_listen and stream.width * stream.height <= _QUICK_PIXELS

    def _decode_first(self) -> av.VideoFrame:
        """The first picture: only it tells size, pixel format and colour for every container."""
        try:
            decoder = decoder_of(self._stream)
            for packet in self._container.demux(self._stream):
                try:
                    for picture in decoder.decode(packet):
                        return picture
                except av.error.InvalidDataError:
                    continue  # counted when frames() comes by again
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.path}: reading failed: {error.strerror or error}") from error
        raise SourceError(f"{self.path}: no picture of its video stream can be decoded")

    def _read_spec(self, picture: av.VideoFrame) -> VideoSpec:
        stream = self._stream
        context = stream.codec_context
        pixels = pixel_format(picture, context.codec.canonical_name, self._keep_alpha)
        if pixels is None:
            raise ConfigError(f"{self.path}: pixel format {picture.format.name} is not supported")
        time_base = stream.time_base
        assert time_base is not None, "a demuxed stream has a time base"
        duration = stream.duration * time_base if stream.duration else None
        if duration is None and self._container.duration:
            duration = Fraction(self._container.duration, av.time_base)
        return VideoSpec(
            width=picture.width,
            height=picture.height,
            time_base=Fraction(time_base),
            rate=Fraction(stream.guessed_rate) if stream.guessed_rate else None,
            frames=stream.frames or None,
            duration=Fraction(duration) if duration else None,
            pixels=pixels,
            sample_aspect_ratio=Fraction(context.sample_aspect_ratio) if context.sample_aspect_ratio else None,
            rotation=picture.rotation,
            color=ColorTags(
                int(picture.colorspace), int(picture.color_primaries), int(picture.color_trc), int(picture.color_range)
            ),
            siting=_SITINGS.get(int(getattr(picture, "chroma_location", 0) or 0)),
            hdr=hdr_metadata(picture),
            captions=bool(captions(picture)),
        )

    def _heard(self) -> Iterator[Decoded]:
        """_decode(), and what the decoder says of it."""
        if not self._listens(self._stream):
            yield from self._decode()
            return
        with complaints() as heard:
            try:
                for decoded in self._decode():
                    if self._part is not None and decoded.pts == self._part.begin:
                        heard.forget()  # of the pictures before it, which may lack what they refer to
                    yield decoded
            finally:
                self.found.complaints = heard.told()

    def _decode(self) -> Iterator[Decoded]:
        """Every picture from the start of the trim on."""
        # The first picture has been taken out already, and not every container can seek back to its start.
        self._container.close()
        self._container, self._stream = self._open()
        packets, decoder = 0, None
        try:
            for packet in self._packets():
                packets += packet.size > 0
                decoder = decoder or decoder_of(self._stream)  # of the container that _packets() ended up with
                try:
                    pictures = decoder.decode(packet)
                except av.error.InvalidDataError:
                    if self._part is not None and not self._part.holds(packet.pts):
                        continue
                    self.found.undecodable.append(float((packet.pts or packet.dts or 0) * self.spec.time_base))
                    continue
                for picture in pictures:
                    yield Decoded(
                        picture,
                        picture.pts,
                        picture.duration or 0,
                        picture.is_corrupt,
                        picture.interlaced_frame,
                        packets,
                    )
        except av.error.InvalidDataError as error:
            self.found.cut_short = f"reading stopped after {packets} packets: {error.strerror}"
        except av.error.FFmpegError as error:
            raise SourceError(f"{self.path}: reading failed after {packets} packets: {error.strerror}") from error

    def _packets(self) -> Iterator[av.Packet]:
        """Packets from where decoding has to begin."""
        if self._part is not None:
            yield from self._packets_from(self._part.key)
            return
        target = int(self._start / self.spec.time_base) if self._start else None
        if self._after is not None and self._may_seek:
            target = self._after
        if target is not None and _SEEKABLE & set(self._container.format.name.split(",")):
            self._container.seek(target, stream=self._stream, backward=True)
        yield from self._container.demux(self._stream)

    def _packets_from(self, key: Key) -> Iterator[av.Packet]:
        """Packets from a known one on: after a seek if that is met there, else by reading all that is before it."""
        if key.index and self._container.format.name != "image2":  # numbered pictures have no order to seek in
            for ahead_s in _SEEK_AHEAD_S:
                target = key.pts - int(ahead_s / self.spec.time_base)
                try:
                    self._container.seek(target, stream=self._stream, backward=True)
                    found = self._until_key(key)
                    first = next(found, None)
                except av.error.FFmpegError:  # not every container can
                    break
                if first is not None:
                    yield first
                    yield from found
                    return
            self._container.close()
            self._container, self._stream = self._open()
        seen = 0
        for packet in self._container.demux(self._stream):
            if seen >= key.index:
                yield packet
            seen += packet.size > 0

    def _until_key(self, key: Key) -> Iterator[av.Packet]:
        """Packets from that one on; none if the seek went too far."""
        packets = self._container.demux(self._stream)
        for packet in packets:
            if (packet.pts, packet.dts, packet.size) == (key.pts, key.dts, key.size):
                yield packet
                yield from packets
            elif packet.dts is not None and key.dts is not None and packet.dts > key.dts:
                return

    def _note_picture(self, picture: av.VideoFrame) -> None:
        """Remember the first picture of the part, or the one behind it."""
        digest = picture_digest(*self._reader.planes(picture))
        first, _ = self.part_pictures
        self.part_pictures = (first, digest) if first else (digest, "")

    def _timestamp(self, picture: Decoded, previous: tuple[int, int] | None) -> tuple[int, int]:
        """pts and duration of a picture; a missing pts is continued from the frame before, one that does not rise is
        put right behind it."""
        duration = picture.duration
        pts = picture.pts
        if previous is None:
            return (0 if pts is None else pts), duration
        if pts is None:
            step = previous[1] or (int(1 / (self.spec.rate * self.spec.time_base)) if self.spec.rate else 1)
            pts = previous[0] + max(step, 1)
            self.found.repaired += 1
        elif pts <= previous[0]:
            pts = previous[0] + 1  # the least that keeps the order, so that the frames after it are in time again
            self.found.repaired += 1
        return pts, duration

    def _rest(self, last: Frame) -> int:
        """How long the last frame is shown: to the end of the stream or the trim, where that is known."""
        if self._end is not None:
            return min(last.duration, int(self._end / self.spec.time_base) - last.pts)
        if self._stream.duration:
            whole = (self._stream.start_time or 0) + self._stream.duration - last.pts
            return whole if whole > 0 else last.duration
        return last.duration

    def _frame(self, picture: av.VideoFrame, pts: int, duration: int) -> Frame:
        spec = self.spec
        stated = spec.width, spec.height, spec.pixels.name
        same = (picture.width, picture.height, nvdec.planar_name(picture)) == stated
        if self._gpu is not None and nvdec.is_on_gpu(picture) and same:
            y, uv = nvdec.picture_on_gpu(picture, spec.pixels, self._gpu, self._reader).as_arrays(spec.pixels)
        else:
            picture = nvdec.downloaded(picture, self._downloads)
            self._note_changes(picture, pts)
            y, uv = self._reader.planes(picture)
        siting, carrier = spec.siting or ChromaSiting.LEFT, captions_carrier(picture)
        return Frame(y, uv, pts, spec.time_base, duration, siting, spec.pixels, carrier)

    def _note_changes(self, picture: av.VideoFrame, pts: int) -> None:
        """Tell how a picture differs from the first. Raises SourceError for pixels that are no planes of integers."""
        spec = self.spec
        if (picture.width, picture.height) != (spec.width, spec.height):
            self._changed(
                f"the picture changes from {spec.width}x{spec.height} to {picture.width}x{picture.height}",
                "it is upscaled at its own size, then brought to the size of the first",
                pts,
            )
        found = pixel_format(picture, "", keep_alpha=True)
        if found is None:
            raise SourceError(f"{self.path}: the pixel format changes to {picture.format.name}, which is not supported")
        if found.alpha and not spec.pixels.alpha:
            self.found.transparent += not is_opaque(picture, found)
            found = found.without_alpha()
        if found != spec.pixels:
            self._changed(f"the pixels change from {spec.pixels} to {found}", "they are converted back", pts)

    def _changed(self, what: str, then: str, pts: int) -> None:
        """Note a change of the stream once."""
        self.found.changes.setdefault(what, (float(pts * self.spec.time_base), then))

    def check_end(self, end: Fraction, packets: int) -> None:
        """Tell a file that was cut short: fewer packets or less time than its own header states.

        end: seconds at which the last frame ends; packets: of the video, all that could be read.
        """
        if self.found.cut_short or self._start is not None or self._end is not None:
            return
        formats = set(self._container.format.name.split(","))
        empty = 2 if "avi" in formats else 0  # chunks that stand for a delay are counted there and hold nothing
        if self.spec.frames and packets + empty < self.spec.frames:
            self.found.cut_short = (
                f"the file ends early: its header states {self.spec.frames} frames, {packets} are there"
            )
            return
        if not self.spec.frames and formats & _STATED_DURATION and self._container.duration:
            stated = self._stated_end(formats)
            missing = float(stated - end)
            if missing > 0.9 and missing > 0.02 * float(stated) and stated - last_moment(self.path) > Fraction(1, 2):
                self.found.cut_short = f"the file ends {missing:.1f} s before the duration that its header states"

    def _stated_end(self, formats: set[str]) -> Fraction:
        """When the file ends, as its header says; Matroska counts from zero, the others from the first packet."""
        start = 0 if formats & {"matroska", "webm"} else self._container.start_time or 0
        return Fraction((self._container.duration or 0) + start, av.time_base)
