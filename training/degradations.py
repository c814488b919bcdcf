"""What happens to a picture before rtsr sees it: pure functions (clip, rng) -> clip, and recipes made of them.

A clip is (T, H, W) uint8 luma; parameters are drawn once per clip, noise anew for each frame.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from io import BytesIO

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from training.resize import imresize

VERSION = 1  # raise it when a recipe changes: pairs cached by training.data are then made anew

Clip = NDArray[np.uint8]
Degradation = Callable[[Clip, np.random.Generator], Clip]


def blur(clip: Clip, rng: np.random.Generator, chance: float = 0.4, sigma: tuple[float, float] = (0.3, 1.2)) -> Clip:
    """Mild Gaussian blur at HR size, one time in three with different strength along the two axes."""
    if rng.random() >= chance:
        return clip
    sx = sy = rng.uniform(*sigma)
    if rng.random() < 0.3:
        sy = rng.uniform(*sigma)
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sx, sigmaY=sy) for frame in clip]).astype(np.uint8)


def shrink_bicubic(clip: Clip, rng: np.random.Generator, scale: int) -> Clip:
    """MATLAB's antialiased bicubic: the benchmark degradation."""
    return np.stack([imresize(frame, 1 / scale) for frame in clip])


def shrink_randomly(clip: Clip, rng: np.random.Generator, scale: int) -> Clip:
    """Shrink with a kernel that real tools use; nearest and bilinear without antialias, as OpenCV does them."""
    kernel = rng.choice(["bicubic", "area", "lanczos", "bilinear", "nearest"], p=[0.45, 0.25, 0.15, 0.1, 0.05])
    if kernel == "bicubic":
        return shrink_bicubic(clip, rng, scale)
    if kernel == "lanczos":
        return np.stack([shrink_lanczos(frame, scale) for frame in clip])
    flag = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST_EXACT}[kernel]
    size = (clip.shape[2] // scale, clip.shape[1] // scale)
    return np.stack([cv2.resize(frame, size, interpolation=flag) for frame in clip]).astype(np.uint8)


def shrink_lanczos(frame: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Antialiased Lanczos-3: a windowed sinc with the cut-off of the smaller size, then every s-th sample."""
    reach = 3 * scale
    x = np.arange(-reach, reach) + 0.5  # HR samples around the centre of an LR pixel, for even scales
    if scale % 2:
        x = np.arange(-reach, reach + 1).astype(np.float64)
    taps = np.sinc(x / scale) * np.sinc(x / reach)
    taps /= taps.sum()
    anchor = reach - 1 if scale % 2 == 0 else reach
    soft = cv2.sepFilter2D(frame, cv2.CV_32F, taps, taps, anchor=(anchor, anchor), borderType=cv2.BORDER_REPLICATE)
    first = (scale - 1) // 2
    return np.asarray(soft)[first::scale, first::scale].round().clip(0, 255).astype(np.uint8)


def noise(clip: Clip, rng: np.random.Generator, chance: float = 0.3, most: float = 4.0) -> Clip:
    """Mild Gaussian sensor noise, up to `most` code values."""
    if rng.random() >= chance:
        return clip
    return (clip + rng.normal(0, rng.uniform(0.5, most), clip.shape)).round().clip(0, 255).astype(np.uint8)


def encode(clip: Clip, rng: np.random.Generator) -> Clip:
    """A real encode and decode: H.264 or H.265 at a random CRF and preset; one clip in ten stays uncoded."""
    codec = rng.choice(["libx264", "libx265", "none"], p=[0.6, 0.3, 0.1])
    crf, preset = int(rng.integers(15, 31)), str(rng.choice(["veryfast", "medium"]))
    if codec == "none":
        return clip
    return decode(coded(clip, str(codec), crf, "veryfast" if codec == "libx265" else preset))


def coded(clip: Clip, codec: str, crf: int, preset: str) -> bytes:
    """The clip as a Matroska file with neutral chroma; one keyframe, then P and B frames. Even sizes only."""
    _, height, width = clip.shape
    file = BytesIO()
    options = {"crf": str(crf), "preset": preset, "g": "250"}
    if codec == "libx265":
        options["x265-params"] = "log-level=none:pools=1:frame-threads=1"
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=Fraction(30), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"  # type: ignore[union-attr]
        stream.codec_context.thread_count = 1  # the same bits whatever the machine
        for picture in clip:
            planes = np.full((height * 3 // 2, width), 128, np.uint8)
            planes[:height] = picture
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv420p")))  # type: ignore[union-attr]
        container.mux(stream.encode(None))  # type: ignore[union-attr]
    return file.getvalue()


def decode(file: bytes) -> Clip:
    """All frames' luma of a coded clip."""
    with av.open(BytesIO(file), "r") as container:
        frames = [frame.to_ndarray(format="yuv420p")[: frame.height] for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.uint8)


def pan(picture: NDArray[np.uint8], frames: int, size: int, rng: np.random.Generator) -> Clip:
    """A square window moving over a still by a constant number of HR pixels per frame: (frames, size, size)."""
    room = [(side - size) // max(1, frames - 1) for side in picture.shape]
    speed = [int(rng.integers(-r, r + 1)) // int(rng.integers(1, 4)) for r in room]
    start = [
        int(rng.integers(max(0, -v * (frames - 1)), side - size + 1 - max(0, v * (frames - 1))))
        for v, side in zip(speed, picture.shape, strict=True)
    ]
    corners = [(start[0] + speed[0] * t, start[1] + speed[1] * t) for t in range(frames)]
    return np.stack([picture[top : top + size, left : left + size] for top, left in corners])


def before_encoder(scale: int) -> tuple[Degradation, ...]:
    """The *stream* recipe up to the encoder, which codes many clips at once as a mosaic (stream_pairs)."""
    return (blur, partial(shrink_randomly, scale=scale), noise)


def stream_pairs(
    pictures: list[NDArray[np.uint8]],
    scale: int,
    rng: np.random.Generator,
    frames: int = 5,
    columns: int = 10,
    rows: int = 6,
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """*stream*: pan, blur, shrink, noise, then a real encode of columns x rows pictures side by side; [(hr, lr)].

    One encode per mosaic keeps the encoder's start-up cost small. Each tile gives one random inter frame.
    """
    size = min(min(picture.shape) for picture in pictures)
    tile = (size - 64) // scale // 8 * 8  # whole transform blocks; 64 HR pixels of room to move
    order = rng.permutation(len(pictures))
    pairs = []
    for first in range(0, len(order), columns * rows):
        chosen = order[first : first + columns * rows]
        truths = [pan(pictures[i], frames, tile * scale, rng) for i in chosen]
        mosaic = np.full((frames, rows * tile, columns * tile), 128, np.uint8)
        for i, clip in enumerate(truths):
            for op in before_encoder(scale):
                clip = op(clip, rng)
            mosaic[:, i // columns * tile :][:, :tile, i % columns * tile :][:, :, :tile] = clip
        mosaic = encode(mosaic, rng)
        for i, truth in enumerate(truths):
            t = int(rng.integers(1, frames))
            top, left = i // columns * tile, i % columns * tile
            pairs.append((truth[t].copy(), mosaic[t, top : top + tile, left : left + tile].copy()))
    return pairs
