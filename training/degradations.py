"""What happens to a picture before rtsr sees it: pure functions (clip, rng) -> clip, and profiles made of them.

A clip is (T, H, W) luma or (T, H, W, 3) RGB, uint8; parameters are drawn once per clip, noise anew for each frame. The
real video encodes are in codecs.py. Profiles: *clean* (MATLAB bicubic), *kernels* (nearest, bilinear or bicubic),
*stream* (what files of decent quality went through) and *wild* (old, noisy, badly coded material).
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from training.codecs import encode
from training.resize import imresize

VERSION = 2  # raise it when a profile changes: pairs cached by training.data are then made anew

Clip = NDArray[np.uint8]
Degradation = Callable[[Clip, np.random.Generator], Clip]
SENSOR_NOISE = 2  # of a decent camera: standard deviation in code values
KERNELS = ("nearest", "bilinear", "bicubic")  # of the profile *kernels*


def blur(clip: Clip, rng: np.random.Generator, chance: float = 0.4, sigma: tuple[float, float] = (0.3, 1.2)) -> Clip:
    """Gaussian blur at HR size; one time in three anisotropic, its axes turned by a random angle."""
    if rng.random() >= chance:
        return clip
    sx = sy = rng.uniform(*sigma)
    if rng.random() < 0.3:
        sy = rng.uniform(*sigma)
    kernel = gaussian_kernel(sx, sy, rng.uniform(0, np.pi))
    return np.stack([cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for frame in clip]).astype(
        np.uint8
    )


def gaussian_kernel(sx: float, sy: float, angle: float) -> NDArray[np.float64]:
    """A normalised Gaussian with standard deviations sx, sy (pixels) along axes turned by `angle` (radians)."""
    reach = int(np.ceil(3 * max(sx, sy)))
    at = np.arange(-reach, reach + 1)
    x, y = np.meshgrid(at, at)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / sx) ** 2 + (across / sy) ** 2))
    return kernel / kernel.sum()


def sinc(clip: Clip, rng: np.random.Generator, chance: float = 0.1) -> Clip:
    """Ringing and overshoot: an ideal low-pass of random cut-off (Real-ESRGAN, arXiv:2107.10833, eq. 6)."""
    if rng.random() >= chance:
        return clip
    cutoff, reach = rng.uniform(np.pi / 3, np.pi), 6
    at = np.arange(-reach, reach + 1)
    radius = np.hypot(*np.meshgrid(at, at))
    with np.errstate(invalid="ignore"):
        kernel = cutoff * bessel_j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[reach, reach] = cutoff**2 / (4 * np.pi)
    kernel /= kernel.sum()
    return np.stack([cv2.filter2D(frame, -1, kernel, borderType=cv2.BORDER_REFLECT_101) for frame in clip]).astype(
        np.uint8
    )


def bessel_j1(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bessel's function of the first kind and order 1, from its integral; good to 1e-10 for |x| below 50."""
    t = (np.arange(200) + 0.5) * np.pi / 200
    return np.cos(t - x[..., None] * np.sin(t)).mean(-1)


def shrink(picture: NDArray[np.uint8], scale: int, kernel: str) -> NDArray[np.uint8]:
    """Shrink (H, W) or (H, W, 3) by one of KERNELS, area or lanczos.

    All but nearest are antialiased, as PIL and MATLAB do them.
    """
    match kernel:
        case "bicubic":
            return imresize(picture, 1 / scale)
        case "bilinear":
            reach = scale if scale % 2 == 0 else scale - 1
            return filter_and_pick(picture, lambda x: np.clip(1 - np.abs(x) / scale, 0, None), reach, scale)
        case "lanczos":
            reach = 3 * scale
            return filter_and_pick(picture, lambda x: np.sinc(x / scale) * np.sinc(x / reach), reach, scale)
    flag = {"area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST_EXACT, "bilinear_aliased": cv2.INTER_LINEAR}[kernel]
    return resize(picture, 1 / scale, flag)


def resize(picture: NDArray[np.uint8], factor: float, flag: int) -> NDArray[np.uint8]:
    """OpenCV's resize by a factor; sizes are rounded down."""
    size = (int(picture.shape[1] * factor), int(picture.shape[0] * factor))
    return np.asarray(cv2.resize(picture, size, interpolation=flag), np.uint8)


def filter_and_pick(
    picture: NDArray[np.uint8], kernel: Callable[[NDArray], NDArray], reach: int, scale: int
) -> NDArray[np.uint8]:
    """Filter both axes with kernel(x), |x| <= reach HR pixels, borders repeated; then every s-th sample.

    Those samples are the LR pixels' centres: between two HR pixels for even scales, on one for odd ones.
    """
    x = np.arange(-reach, reach) + 0.5 if scale % 2 == 0 else np.arange(-reach, reach + 1).astype(float)
    taps = kernel(x) / kernel(x).sum()
    at = ((len(taps) - 1) // 2,) * 2
    soft = cv2.sepFilter2D(picture, cv2.CV_32F, taps, taps, anchor=at, borderType=cv2.BORDER_REPLICATE)
    first = (scale - 1) // 2
    return np.asarray(soft)[first::scale, first::scale].round().clip(0, 255).astype(np.uint8)


def shrink_randomly(clip: Clip, rng: np.random.Generator, scale: int) -> Clip:
    """Shrink with a kernel that real tools use; nearest and one kind of bilinear without antialias, as OpenCV's."""
    kernels = ["bicubic", "area", "lanczos", "bilinear_aliased", "nearest"]
    kernel = str(rng.choice(kernels, p=[0.45, 0.25, 0.15, 0.1, 0.05]))
    return np.stack([shrink(frame, scale, kernel) for frame in clip])


def rescale(clip: Clip, rng: np.random.Generator, chance: float = 0.5) -> Clip:
    """Smaller by up to half and back again: what was enlarged once before."""
    if rng.random() >= chance:
        return clip
    factor = rng.uniform(0.5, 1)
    flag = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA]))
    back = (clip.shape[2], clip.shape[1])
    frames = [cv2.resize(resize(frame, factor, flag), back, interpolation=cv2.INTER_CUBIC) for frame in clip]
    return np.stack(frames).astype(np.uint8)


def noise(clip: Clip, rng: np.random.Generator, chance: float = 0.3, most: float = 4.0) -> Clip:
    """Gaussian sensor noise, up to `most` code values."""
    if rng.random() >= chance:
        return clip
    return (clip + rng.normal(0, rng.uniform(0.5, most), clip.shape)).round().clip(0, 255).astype(np.uint8)


def poisson(clip: Clip, rng: np.random.Generator, chance: float = 0.1, most: float = 1.0) -> Clip:
    """Shot noise: its variance grows with the light; at most `most` photons' worth of code values."""
    if rng.random() >= chance:
        return clip
    step = rng.uniform(0.1, most)
    return (rng.poisson(clip / step) * step).round().clip(0, 255).astype(np.uint8)


def jpegs(clip: Clip, rng: np.random.Generator, chance: float = 0.5) -> Clip:
    """Every frame through JPEG at one random quality."""
    if rng.random() >= chance:
        return clip
    quality = int(rng.integers(40, 95))
    return np.stack([jpeg(frame, quality) for frame in clip])


def jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """One (H, W), (H, W, 1) or (H, W, 3) RGB picture through a real JPEG encode and decode; the shape is kept."""
    colour = picture.ndim == 3 and picture.shape[2] == 3
    bgr = np.ascontiguousarray(picture[..., ::-1]) if colour else picture
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE), np.uint8)
    return (decoded[..., ::-1] if colour else decoded).reshape(picture.shape)


# The profiles that end in a video encode: what comes before the encoder, and how often each encoder.
STREAM = (blur, partial(sinc, chance=0.05)), (noise, partial(poisson, chance=0.05))
WILD = (
    (partial(blur, chance=0.7, sigma=(0.4, 2.5)), partial(sinc, chance=0.15), partial(rescale, chance=0.5)),
    (partial(noise, chance=0.5, most=12.0), partial(poisson, chance=0.3, most=3.0), partial(jpegs, chance=0.5)),
)
ENCODERS = {
    "stream": {"libx264": 0.5, "libx265": 0.25, "libsvtav1": 0.1, "libvpx-vp9": 0.05, "none": 0.1},
    "wild": {"libx264": 0.35, "libx265": 0.15, "libsvtav1": 0.1, "libvpx-vp9": 0.15, "mpeg2video": 0.2, "none": 0.05},
}


def before_encoder(profile: str, scale: int) -> tuple[Degradation, ...]:
    """A profile's functions up to the encoder, which codes many clips at once as a mosaic (coded_pairs)."""
    at_hr, at_lr = {"stream": STREAM, "wild": WILD}[profile]
    return (*at_hr, partial(shrink_randomly, scale=scale), *at_lr)


def pan(picture: NDArray[np.uint8], frames: int, size: int, rng: np.random.Generator) -> Clip:
    """A square window moving over a still by a constant number of HR pixels per frame: (frames, size, size, ...)."""
    sides = picture.shape[:2]
    room = [(side - size) // max(1, frames - 1) for side in sides]
    speed = [int(rng.integers(-r, r + 1)) // int(rng.integers(1, 4)) for r in room]
    start = [
        int(rng.integers(max(0, -v * (frames - 1)), side - size + 1 - max(0, v * (frames - 1))))
        for v, side in zip(speed, sides, strict=True)
    ]
    corners = [(start[0] + speed[0] * t, start[1] + speed[1] * t) for t in range(frames)]
    return np.stack([picture[top : top + size, left : left + size] for top, left in corners])


def coded_pairs(
    pictures: list[NDArray[np.uint8]],
    scale: int,
    rng: np.random.Generator,
    profile: str,
    frames: int = 5,
    columns: int = 10,
    rows: int = 6,
) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """*stream* or *wild*: pan, degrade, shrink, then a real encode of columns x rows pictures side by side; [(hr, lr)].

    One encode per mosaic keeps the encoder's start-up cost small. Each tile gives one random inter frame.
    """
    size = min(min(picture.shape[:2]) for picture in pictures)
    tile = (size - 64) // scale // 8 * 8  # whole transform blocks; 64 HR pixels of room to move
    order = rng.permutation(len(pictures))
    pairs = []
    for first in range(0, len(order), columns * rows):
        chosen = order[first : first + columns * rows]
        truths = [pan(pictures[i], frames, tile * scale, rng) for i in chosen]
        mosaic = np.full((frames, rows * tile, columns * tile, *pictures[0].shape[2:]), 128, np.uint8)
        for i, clip in enumerate(truths):
            for op in before_encoder(profile, scale):
                clip = op(clip, rng)
            mosaic[:, i // columns * tile :][:, :tile, i % columns * tile :][:, :, :tile] = clip
        mosaic = encode(mosaic, rng, ENCODERS[profile])
        for i, truth in enumerate(truths):
            t = int(rng.integers(1, frames))
            top, left = i // columns * tile, i % columns * tile
            pairs.append((truth[t].copy(), mosaic[t, top : top + tile, left : left + tile].copy()))
    return pairs
