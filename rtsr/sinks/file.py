"""A video file: upscaled frames encoded, everything else copied, complete or not there at all."""

from __future__ import annotations

import errno
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.container
import av.error
import av.video.stream
import numpy as np

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import Frame, FrameBatch, VideoSpec
from rtsr.sinks.copy import CopiedStreams, StreamPlan, copy_tags, muxer_options
from rtsr.sinks.encoding import MPEGTS_CODECS, Codec, Encoding, container_format
from rtsr.sources.file import main_video, open_input

_LONGEST_REORDER_S = 600  # even for pictures shown at seconds a frame
_FRAME_DURATION = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: without it encoders guess how long the last frame is shown
_PLANAR = {np.dtype(np.uint8): "yuv420p", np.dtype(np.uint16): "yuv420p10le"}


class FileSink:
    """Encodes into `<output>.part` and renames it to the output in finish().

    spec: of the input; the output is `scale` times larger and keeps the rest. copy_from: the file whose other streams,
    tags and chapters are taken over as `plans` say, None for a bare video. start, end: the trim, in seconds; the
    output's clock begins at start. Raises ConfigError for a codec that the container cannot hold or that does not
    open here, SinkError when the output cannot be written.
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
    ):
        self.output = output
        self.part = output.with_name(output.name + ".part")
        self._spec = spec
        self._shift = round(start / spec.time_base) if start else 0
        self._copied: CopiedStreams | None = None
        self._closed = False
        name, codec, options = encoding.resolve(output)
        self._codec_name = name
        fmt = container_format(output)
        with self._says_what_failed():
            self._container = av.open(str(self.part), "w", format=fmt, options=muxer_options(fmt, copy_from))
        try:
            with self._says_what_failed():
                self._stream = self._add_video(name, codec, options, scale)
                if copy_from is not None:
                    self._copied = CopiedStreams(copy_from, self._container, plans or [], start, end)
                    self._copy_video_tags(copy_from)
                self._open_encoder()
                self._write_header()
        except BaseException:
            self.close()
            raise
        self._time_base = Fraction(self._stream.codec_context.time_base or spec.time_base)

    @property
    def packets_copied(self) -> int:
        """Packets of other streams taken over so far."""
        return sum(self._copied.copied.values()) if self._copied else 0

    def write(self, batch: FrameBatch) -> None:
        with self._says_what_failed():
            for frame in batch.frames():
                self._mux(self._stream.encode(self._picture(frame)))

    def finish(self) -> None:
        with self._says_what_failed():
            self._mux(self._stream.encode(None))
            if self._copied:
                self._copied.until(None)
                self._copied.close()
            self._container.close()
            self._closed = True
            self.part.replace(self.output)

    def close(self) -> None:
        """Remove the unfinished part; after finish() this does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._copied:
            self._copied.close()
        with suppress(OSError, ValueError):  # the trailer of a file that is thrown away
            self._container.close()
        self.part.unlink(missing_ok=True)

    def keep_part(self) -> None:
        """Like finish(), but leave the file under its `.part` name: for a result that lacks something."""
        final, self.output = self.output, self.part
        try:
            self.finish()
        finally:
            self.output = final

    def _add_video(self, name: str, codec: Codec, options: dict[str, str], scale: int) -> av.video.stream.VideoStream:
        spec, fmt = self._spec, self._container.format.name
        try:
            stream = self._container.add_stream(name, rate=spec.rate or 24, options=options)
            stream = cast(av.video.stream.VideoStream, stream)
        except av.error.FFmpegError as error:
            raise ConfigError(f"encoder {name} is not in this build of FFmpeg: {error}") from error
        except ValueError as error:
            raise self._cannot_hold() from error
        context = stream.codec_context
        if fmt == "mpegts" and context.codec.canonical_name not in MPEGTS_CODECS:
            raise self._cannot_hold()
        context.width, context.height = spec.width * scale, spec.height * scale
        context.flags |= _FRAME_DURATION
        context.time_base = spec.time_base  # pts go through unchanged, so VFR stays VFR
        pix_fmts = dict(codec.pix_fmts)
        if spec.bits not in pix_fmts:
            raise ConfigError(f"{name} has no {spec.bits}-bit 4:2:0 format; choose another --codec")
        context.pix_fmt = pix_fmts[spec.bits]
        context.colorspace, context.color_range = spec.color.colorspace, spec.color.range
        context.color_primaries, context.color_trc = spec.color.primaries, spec.color.trc
        if spec.siting is not None:
            context.options["chroma_sample_location"] = spec.siting.name.lower()
        if spec.sample_aspect_ratio:
            context.sample_aspect_ratio = spec.sample_aspect_ratio
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        return stream

    def _copy_video_tags(self, path: Path) -> None:
        with open_input(path) as container:
            original = main_video(container, path)
            copy_tags(original.metadata, self._stream.metadata)
            self._stream.disposition = original.disposition

    def _open_encoder(self) -> None:
        """Open now, not at the first frame: what fails here has cost the user nothing yet."""
        try:
            self._stream.codec_context.open(strict=False)
        except av.error.PermissionError as error:
            raise ConfigError(f"encoder {self._codec_name} did not open: no usable GPU or driver ({error})") from error
        except av.error.FFmpegError as error:
            raise ConfigError(f"encoder {self._codec_name} did not open with these settings: {error}") from error

    def _write_header(self) -> None:
        try:
            self._container.start_encoding()
        except av.error.ArgumentError as error:  # the copied streams have been tried; what is left is the video
            raise self._cannot_hold() from error

    def _cannot_hold(self) -> ConfigError:
        return ConfigError(f"a {self.output.suffix} file cannot hold {self._codec_name} video; choose another --codec")

    def _picture(self, frame: Frame) -> av.VideoFrame:
        """A frame on the same memory, with nothing of the decoder's but its time."""
        picture = av.VideoFrame.from_dlpack((frame.y, frame.uv[0], frame.uv[1]), format=_PLANAR[frame.y.dtype])
        context = self._stream.codec_context
        color = self._spec.color
        picture.colorspace, picture.color_range = color.colorspace, color.range
        if picture.format.name != context.pix_fmt:  # prores takes 4:2:2 only; same matrix and range on both sides
            picture = picture.reformat(format=context.pix_fmt, interpolation="BICUBIC")
        picture.pts, picture.time_base = frame.pts - self._shift, frame.time_base
        picture.duration = frame.duration
        return picture

    def _mux(self, packets: list) -> None:
        for packet in packets:
            if packet.pts is not None and not _plausible(packet):
                packet.dts = packet.pts  # x265 leaves it to chance when it flushes fewer frames than it reorders
            if self._copied and packet.dts is not None:
                self._copied.until(packet.dts * packet.time_base)
            self._container.mux(packet)

    @contextmanager
    def _says_what_failed(self):
        try:
            yield
        except (ConfigError, SinkError):
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise SinkError(
                    f"no space left to write {self.part}; nothing was left behind: free some, or choose another folder"
                ) from error
            raise SinkError(f"{self.part} cannot be written: {error.strerror or error}") from error
        except av.error.FFmpegError as error:
            raise SinkError(f"writing {self.part} failed: {error}") from error


def _plausible(packet: av.Packet) -> bool:
    """Whether a packet is decoded before it is shown, by no more than any encoder reorders."""
    if packet.pts is None or packet.dts is None or packet.time_base is None:
        return False
    return 0 <= (packet.pts - packet.dts) * packet.time_base < _LONGEST_REORDER_S
