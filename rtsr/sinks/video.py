"""The upscaled video stream: an encoder in a container that holds nothing else."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, cast

import av
import av.container
import av.error
import av.video.stream
import cv2

from rtsr.errors import ConfigError
from rtsr.frames import Frame, VideoSpec
from rtsr.sinks.codecs import CODECS, CONTAINERS, MPEGTS_CODECS
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.nvenc import GpuPictures
from rtsr.sinks.pictures import PictureMaker, with_captions
from rtsr.sinks.tags import muxer_options
from rtsr.sources.media import ffmpeg_path

_LONGEST_REORDER_S = 600  # even for pictures shown at seconds a frame
_NO_TREE = ("ultrafast", "superfast")  # x264's presets without a macroblock tree
_AVX512 = 256  # OpenCV's CPU_AVX512_SKX
_FRAME_DURATION = 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: without it encoders guess how long the last frame is shown


class EncodedVideo:
    """Frames into one video-only file (or memory), packets in decoding order.

    spec: of the input; the video has `size` (width, height) and keeps the rest. origin: pts that becomes zero.
    gpu: where the first frame lies, for an encoder that reads it there (nvenc.gpu_of()); those that come in memory are
    uploaded. Everything that can fail before the first frame fails here: raises ConfigError for a codec that does not
    open. With a gpu it opens with the first frame, which tells FFmpeg where the frames are, and fails there.
    """

    def __init__(
        self,
        target: Path | IO[bytes],
        fmt: str,
        spec: VideoSpec,
        size: tuple[int, int],
        encoder: Encoder,
        origin: int = 0,
        gpu: int | None = None,
    ):
        self._on_gpu = None if gpu is None else GpuPictures(gpu, encoder.pixels)
        if self._on_gpu is not None:
            encoder = replace(encoder, pix_fmt=self._on_gpu.layout)
        self._spec, self._origin, self._encoder, self._fmt = spec, origin, encoder, fmt
        self._size = size
        self._pictures = PictureMaker(spec.color, spec.height, encoder, size)
        file = ffmpeg_path(target) if isinstance(target, Path) else target
        self._container = av.open(file, "w", format=fmt, options=muxer_options(fmt, None))
        try:
            self._stream = self._add_stream(fmt, size)
            if self._on_gpu is None:
                self._open_encoder()
        except BaseException:
            self.abandon()
            raise

    def write(self, frame: Frame) -> None:
        picture = self._picture(frame)
        packets = self._stream.encode(picture) if self._stream.codec_context.is_open else self._open_encoder(picture)
        self._mux(packets)

    def finish(self) -> None:
        """Flush the encoder and close the file."""
        self._mux(self._stream.encode(None))
        self._close()

    def abandon(self) -> None:
        """Close without flushing; what was written is of no use."""
        with suppress(OSError, ValueError):  # the trailer of a file that is thrown away
            self._close()

    def _close(self) -> None:
        try:
            self._container.close()
        finally:
            vars(self).pop("_stream", None)  # the encoder goes now, and its hold on pictures and on the GPU with it

    def _add_stream(self, fmt: str, size: tuple[int, int]) -> av.video.stream.VideoStream:
        spec, encoder, name = self._spec, self._encoder, self._encoder.name
        try:
            options = _repeatable(encoder, size[0])
            stream = self._container.add_stream(name, rate=spec.rate or 24, options=options)
            stream = cast(av.video.stream.VideoStream, stream)
        except av.error.FFmpegError as error:
            raise ConfigError(f"encoder {name} is not in this build of FFmpeg: {error}") from error
        except ValueError as error:
            raise _cannot_hold(fmt, name) from error
        context = stream.codec_context
        if fmt == "mpegts" and context.codec.canonical_name not in MPEGTS_CODECS:
            raise _cannot_hold(fmt, name)
        context.width, context.height = size
        context.flags |= _FRAME_DURATION
        context.thread_type = "AUTO"  # frame threads: PyAV's default slices a frame and waits at each (55 -> 66 fps)
        context.time_base = spec.time_base  # pts go through unchanged, so VFR stays VFR
        context.pix_fmt = encoder.pix_fmt if self._on_gpu is None else self._on_gpu.pix_fmt
        if encoder.bitrate is not None:
            context.bit_rate = encoder.bitrate
        context.colorspace, context.color_range = encoder.color.colorspace, encoder.color.range
        context.color_primaries, context.color_trc = encoder.color.primaries, encoder.color.trc
        if spec.siting is not None and encoder.pixels.chroma == (1, 1):
            context.options["chroma_sample_location"] = spec.siting.name.lower()
        if spec.sample_aspect_ratio:
            context.sample_aspect_ratio = spec.sample_aspect_ratio
        if spec.rotation:
            stream.set_display_rotation(spec.rotation)
        return stream

    def _open_encoder(self, picture: av.VideoFrame | None = None) -> list[av.Packet]:
        """Open the encoder, then the file. picture: the first; FFmpeg takes from it where those on a GPU lie."""
        name, context = self._encoder.name, self._stream.codec_context
        os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 prints its settings to stderr otherwise
        packets: list[av.Packet] = []
        with self._says_why_it_does_not_open():
            if picture is None:
                context.open(strict=False)
            else:
                packets = self._stream.encode(picture)
        if unknown := [key for key in context.options if key != "chroma_sample_location"]:
            raise ConfigError(f"{name} has no option {' and no option '.join(unknown)}; see ffmpeg -h encoder={name}")
        self._write_header(self._fmt)
        return packets

    @contextmanager
    def _says_why_it_does_not_open(self) -> Iterator[None]:
        name, context = self._encoder.name, self._stream.codec_context
        try:
            yield
        except av.error.PermissionError as error:
            raise ConfigError(f"encoder {name} did not open: no usable GPU or driver ({error})") from error
        except av.error.FFmpegError as error:
            size = f"{context.width}x{context.height}"
            if context.width % 2 or context.height % 2:
                raise ConfigError(
                    f"{name} takes no odd sizes ({size}); choose --codec ffv1 or libvpx-vp9, or another --scale"
                ) from error
            raise ConfigError(f"encoder {name} did not open with these settings at {size}: {error}") from error

    def _write_header(self, fmt: str) -> None:
        try:
            self._container.start_encoding()
        except av.error.ArgumentError as error:
            raise _cannot_hold(fmt, self._encoder.name) from error

    def _picture(self, frame: Frame) -> av.VideoFrame:
        """A picture with nothing of the frame's but its pixels and its time."""
        there = None if self._on_gpu is None else self._on_gpu.of(frame)
        if there is not None and self._on_gpu is not None and (there.surface.width, there.surface.height) == self._size:
            picture = self._on_gpu.make(there)
            color = self._encoder.color
            picture.colorspace, picture.color_range = color.colorspace, color.range
        else:
            picture = self._pictures.make(frame)
        if frame.captions is not None and CODECS[self._encoder.name].captions:
            picture = with_captions(picture, frame.captions)
        picture.pts, picture.time_base = frame.pts - self._origin, frame.time_base
        picture.duration = frame.duration
        return picture

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            if packet.pts is not None and not _plausible(packet):
                packet.dts = packet.pts  # x265 leaves it to chance when it flushes fewer frames than it reorders
            self._container.mux(packet)


def check_video(container: str, spec: VideoSpec, size: tuple[int, int], encoder: Encoder) -> None:
    """Try the encoder and the output container's header in memory. Raises ConfigError."""
    if container in ("gif", "image2"):  # made from the segments
        container = encoder.segment_format
    EncodedVideo(io.BytesIO(), container, spec, size, encoder).abandon()


def _repeatable(encoder: Encoder, width: int) -> dict[str, str]:
    """Options with which an encoder makes the same bytes each time.

    x264's AVX-512 code for its macroblock tree draws upon memory that nobody wrote where a picture is no multiple of 8
    macroblocks wide: 23 results in 80 tries at 192x128, one with AVX2's, which takes a fifth longer.
    """
    options = dict(encoder.options)
    params = options.get("x264-params", "")
    is_safe = -(-width // 16) % 8 == 0 or options.get("preset") in _NO_TREE or not cv2.checkHardwareSupport(_AVX512)
    if encoder.name.startswith("libx264") and not is_safe and "asm=" not in params:
        options["x264-params"] = ":".join(filter(None, (params, "asm=avx2")))
    return options


def _cannot_hold(fmt: str, codec: str) -> ConfigError:
    suffix = next((suffix for suffix, name in CONTAINERS.items() if name == fmt), fmt)
    return ConfigError(f"a {suffix} file cannot hold {codec} video; choose another --codec")


def _plausible(packet: av.Packet) -> bool:
    """Whether a packet is decoded before it is shown, by no more than any encoder reorders."""
    if packet.pts is None or packet.dts is None or packet.time_base is None:
        return False
    return 0 <= (packet.pts - packet.dts) * packet.time_base < _LONGEST_REORDER_S
