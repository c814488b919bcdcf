"""NVIDIA's encoder, given pictures where they lie on the GPU. Never run on a GPU yet."""

from __future__ import annotations

import av
from av.video.frame import CudaContext

from rtsr.backends.cuda import dlpack
from rtsr.backends.cuda.libraries import open_gpu
from rtsr.frames import Frame, VideoSpec
from rtsr.frames_on_gpu import PictureOnGpu, picture_on_gpu
from rtsr.pixels import PixelFormat
from rtsr.sinks.codecs import CODECS
from rtsr.sinks.encoding import Encoder

# How FFmpeg calls what 4:2:0 of so many bits is encoded from. (NVENC takes P016 too, and encodes 10 bits of it.)
_LAYOUTS = {8: "nv12", 10: "p010le"}
_DEVICE = dlpack.CUDA


class GpuPictures:
    """FFmpeg's frames of pictures on a GPU, for one encoder; nothing is copied. layout: of their samples.

    The encoder holds a frame, and with it the picture, until it has read it. FFmpeg works in the context that cuda.core
    has made current in this thread, as nvdec.hwaccel() has it. Raises ConfigError, EngineError.
    """

    def __init__(self, gpu: int, pixels: PixelFormat):
        open_gpu(gpu).use()
        self.layout = _LAYOUTS[pixels.bits]
        self._gpu = gpu
        self._context = CudaContext(gpu, primary_ctx=False, current_ctx=True)  # one for all: an encoder takes no other

    @property
    def pix_fmt(self) -> str:
        """What the encoder is told that it gets."""
        return "cuda"

    def of(self, frame: Frame) -> PictureOnGpu | None:
        """What a frame holds, if the encoder can read it where it lies."""
        picture = picture_on_gpu(frame, self._gpu)
        return picture if picture is not None and _is_one_block(picture) and frame.captions is None else None

    def make(self, picture: PictureOnGpu) -> av.VideoFrame:
        """A frame that lies there. The picture must be whole: the host has waited for that."""
        s = picture.surface
        bits = 8 if s.bits == 8 else 16
        device, (across, down) = (_DEVICE, self._gpu), s.chroma_size
        steps = s.y_pitch * 8 // bits, s.uv_pitch * 8 // bits
        y = dlpack.exported(s.y, (s.height, s.width), (steps[0], 1), bits, device, picture)
        uv = dlpack.exported(s.uv, (down, across, 2), (steps[1], 2, 1), bits, device, picture)
        return av.VideoFrame.from_dlpack((y, uv), format=self.layout, cuda_context=self._context)


def gpu_of(frame: Frame, encoder: Encoder, size: tuple[int, int]) -> int | None:
    """The GPU on which an encoder can take a frame, as the first of many; None where it goes through memory."""
    picture = picture_on_gpu(frame)
    if picture is None or not CODECS[encoder.name].on_gpu or frame.captions is not None:
        return None
    s = picture.surface
    fits = (s.width, s.height) == size and s.bits in _LAYOUTS and encoder.pixels == frame.pixels
    return picture.gpu if fits and _is_one_block(picture) else None


def needs_memory(encoder: Encoder, spec: VideoSpec, size: tuple[int, int], scale: int) -> str:
    """Why an encoder cannot take an engine's pictures on the GPU whatever GPU that is; empty if it can."""
    if spec.pixels != PixelFormat("yuv", spec.pixels.bits) or spec.pixels.bits not in _LAYOUTS:
        return f"{encoder.name} takes no {spec.pixels} there"
    if encoder.pixels != spec.pixels:
        return f"they become {encoder.pixels}"
    if size != (scale * spec.width, scale * spec.height):
        return f"they are resized to {size[0]}x{size[1]}"
    if size[0] % 2 or size[1] % 2:
        return f"{size[0]}x{size[1]} is odd"
    return "the closed captions go along with pictures in memory only" if spec.captions else ""


def _is_one_block(picture: PictureOnGpu) -> bool:
    """Whether chroma follows luma's last row, in rows as long: NVENC is told luma's address and pitch and no more."""
    s = picture.surface
    return s.uv == s.y + s.height * s.y_pitch and s.uv_pitch == s.y_pitch
