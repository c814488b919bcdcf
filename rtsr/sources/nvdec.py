"""NVIDIA's decoder: pictures that stay on the GPU, where FFmpeg puts them. Never run on a GPU yet."""

from __future__ import annotations

from typing import cast

import av
import av.error
import av.video.stream
from av.codec.hwaccel import HWAccel
from av.video.reformatter import VideoReformatter

from rtsr.backends.cuda.libraries import open_gpu
from rtsr.backends.cuda.nv12 import Surface
from rtsr.errors import ConfigError, EngineError, SourceError
from rtsr.frames import VideoSpec
from rtsr.frames_on_gpu import PictureOnGpu
from rtsr.pixels import PixelFormat
from rtsr.sources.media import Input, main_video, open_input
from rtsr.sources.pictures import PlaneReader

# Whose standard says each sample exactly: a GPU decodes them to what a CPU does. MPEG-2's and MPEG-4's do not.
_EXACT = ("h264", "hevc", "vp9", "av1")
# How the decoder lays a format out in its memory, and what FFmpeg calls the same samples as planes.
PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le", "p016le": "yuv420p12le"}
# Beside the decoder's own: what waits in the pipeline's queues and in the engine's ring. More than 32 in all fail.
_SURFACES = 12


def hwaccel(gpu: int) -> HWAccel:
    """For av.open() in this thread: decode on this GPU and leave the pictures there.

    In the context that cuda.core has made current: FFmpeg refuses to take the primary one itself once that is in use
    with other flags than its own. Raises ConfigError, EngineError.
    """
    open_gpu(gpu).use()
    options: dict[str, object] = {"primary_ctx": "0", "current_ctx": "1"}
    return HWAccel("cuda", device=str(gpu), allow_software_fallback=False, options=options, is_hw_owned=True)


def prepare(stream: av.video.stream.VideoStream) -> None:
    """Set a stream up that was opened with hwaccel()."""
    stream.codec_context.thread_count = 1  # each thread would have surfaces of its own
    stream.codec_context.options = {**stream.codec_context.options, "extra_hw_frames": str(_SURFACES)}


def why_not(media: Input, codec: str, spec: VideoSpec, gpu: int) -> str:
    """Why this video is not decoded on a GPU; empty if its first picture is, to what FFmpeg's own decoder makes."""
    name = spec.pixels.name
    if codec not in _EXACT:
        return f"{codec} does not say each sample exactly, so that its decoder may differ from others"
    if name not in PLANAR.values():
        return f"it decodes no {name}"
    try:
        with open_input(media, hwaccel(gpu)) as container:
            stream = main_video(container, media)
            prepare(stream)
            picture = next(iter(container.decode(stream)), None)
    except (ConfigError, EngineError) as error:
        return str(error)
    except (SourceError, av.error.FFmpegError, NotImplementedError) as error:
        cause = error.__cause__ or error
        return str(getattr(cause, "strerror", None) or cause)
    if picture is None or not is_on_gpu(picture):
        return "its pictures come out in memory"
    if planar_name(picture) != name or (picture.width, picture.height) != (spec.width, spec.height):
        return f"it makes {planar_name(picture)} of {picture.width}x{picture.height} of {name}"
    return ""


def is_on_gpu(picture: av.VideoFrame) -> bool:
    return picture.format.name == "cuda"


def planar_name(picture: av.VideoFrame) -> str:
    """FFmpeg's planar format of a picture's samples, wherever it lies."""
    if not is_on_gpu(picture) or picture.sw_format is None:
        return picture.format.name
    return PLANAR.get(picture.sw_format.name, picture.sw_format.name)


def downloaded(picture: av.VideoFrame, reformatter: VideoReformatter) -> av.VideoFrame:
    """A picture in memory, planar; as it is if it lies there."""
    if not is_on_gpu(picture):
        return picture
    return reformatter.reformat(picture, format=planar_name(picture), threads=1)


def picture_on_gpu(picture: av.VideoFrame, pixels: PixelFormat, gpu: int, reader: PlaneReader) -> PictureOnGpu:
    """A picture of nvdec's for the pipeline; its surface stays in use as long as that lives."""
    y, uv = picture.planes
    surface = Surface(
        picture.width,
        picture.height,
        pixels.bits,
        cast(int, y.buffer_ptr),
        y.line_size,
        cast(int, uv.buffer_ptr),
        uv.line_size,
    )
    return PictureOnGpu(surface, gpu, picture, lambda: reader.planes(picture))
