"""Whether an encoder reads an engine's pictures where they lie on the GPU; tried before the first frame."""

from __future__ import annotations

import io
from contextlib import closing

import av.error

from rtsr.backends.cuda.libraries import open_gpu
from rtsr.backends.cuda.surfaces import SurfacePool
from rtsr.backends.tiling import TilingEngine
from rtsr.errors import RtsrError, first_line
from rtsr.frames import Frame, VideoSpec
from rtsr.sinks.codecs import CODECS
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.nvenc import needs_memory
from rtsr.sinks.video import EncodedVideo


def leaves_on_gpu(engine: TilingEngine, encoder: Encoder, spec: VideoSpec, size: tuple[int, int]) -> str:
    """Let an engine leave its pictures on its GPU if the encoder takes them there. Else why that does not go; empty too
    where it is out of the question, of an encoder or an engine on the CPU. size: (width, height) of the output."""
    if engine.gpu is None or not CODECS[encoder.name].on_gpu:
        return ""
    why_not = needs_memory(encoder, spec, size, engine.scale) or _try(encoder, spec, size, engine.gpu)
    if not why_not:
        engine.leave_on_gpu()
    return why_not


def _try(encoder: Encoder, spec: VideoSpec, size: tuple[int, int], gpu: int) -> str:
    """Encode a picture that lies on a GPU. What goes wrong; empty if nothing does."""
    try:
        where = open_gpu(gpu)
        with closing(SurfacePool(where)) as pool:
            room = pool.take(*size, spec.pixels.bits, where.device.default_stream)
            y, uv = pool.lend(room).as_arrays(spec.pixels)
            video = EncodedVideo(io.BytesIO(), encoder.segment_format, spec, size, encoder, gpu=gpu)
            try:
                video.write(Frame(y, uv, 0, spec.time_base, pixels=spec.pixels))
                video.finish()
            finally:
                video.abandon()
                del y, uv
    except RtsrError as error:
        return first_line(error)
    except (av.error.FFmpegError, NotImplementedError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return ""
