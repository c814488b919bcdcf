"""Real video encodes as degradations: a clip through an encoder at a random quality, decoded again."""

import os
from fractions import Fraction
from io import BytesIO

import av
import cv2
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would print thirty lines for every clip; errors stay

Clip = NDArray[np.uint8]

# Encoder -> the span of its quality number (CRF; qscale for MPEG-2), from hardly visible to clearly bad.
QUALITIES = {
    "libx264": (15, 31),
    "libx265": (17, 33),
    "libsvtav1": (25, 51),
    "libvpx-vp9": (25, 51),
    "mpeg2video": (3, 13),
}


def encode(clip: Clip, rng: np.random.Generator, shares: dict[str, float]) -> Clip:
    """Through one of the encoders, drawn by `shares` (`none` leaves the clip uncoded), at a random quality.

    clip: (T, H, W) luma or (T, H, W, 3) RGB, even sizes; the same comes back.
    """
    codec = str(rng.choice(list(shares), p=list(shares.values())))
    preset = str(rng.choice(["veryfast", "medium"]))
    if codec == "none":
        return clip
    quality = int(rng.integers(*QUALITIES[codec]))
    return decode(coded(clip, codec, quality, preset), clip.ndim == 4)


def coded(clip: Clip, codec: str, quality: int, preset: str = "veryfast") -> bytes:
    """The clip as a Matroska file: one keyframe, then P and B frames. Luma gets neutral chroma, RGB becomes 4:2:0."""
    height, width = clip.shape[1:3]
    file = BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=Fraction(30), options=options(codec, quality, preset))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"  # type: ignore[union-attr]
        stream.codec_context.thread_count = 1  # the same bits whatever the machine
        if codec == "mpeg2video":
            stream.codec_context.qmin = stream.codec_context.qmax = quality  # type: ignore[union-attr]
            stream.codec_context.max_b_frames = 2  # type: ignore[union-attr]
        for picture in clip:
            planes = planes_of(picture)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv420p")))  # type: ignore[union-attr]
        container.mux(stream.encode(None))  # type: ignore[union-attr]
    return file.getvalue()


def options(codec: str, quality: int, preset: str) -> dict[str, str]:
    """What each encoder calls its quality and its speed."""
    match codec:
        case "libx264":
            return {"crf": str(quality), "preset": preset, "g": "250"}
        case "libx265":
            quiet = "log-level=none:pools=1:frame-threads=1"
            return {"crf": str(quality), "preset": "veryfast", "g": "250", "x265-params": quiet}
        case "libsvtav1":
            return {"crf": str(quality), "preset": "10", "g": "250", "svtav1-params": "lp=1"}
        case "libvpx-vp9":
            return {"crf": str(quality), "b": "0", "deadline": "realtime", "cpu-used": "6", "g": "250"}
        case _:
            return {"g": "250"}


def planes_of(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) luma or (H, W, 3) RGB -> yuv420p as PyAV packs it, (H * 3 / 2, W)."""
    height, width = picture.shape[:2]
    if picture.ndim == 3:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2YUV_I420), np.uint8)
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    planes[:height] = picture
    return planes


def decode(file: bytes, colour: bool = False) -> Clip:
    """All frames of a coded clip: luma (T, H, W), or RGB (T, H, W, 3) by the conversion that `coded` used."""
    with av.open(BytesIO(file), "r") as container:
        frames = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    if colour:
        return np.stack([cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420) for frame in frames]).astype(np.uint8)
    return np.stack([frame[: frame.shape[0] * 2 // 3] for frame in frames]).astype(np.uint8)
