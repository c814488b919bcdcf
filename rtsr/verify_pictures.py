"""The picture's half of `rtsr verify`: what both files say of it, and what it shows at a few moments."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import av
import av.error
import av.video.stream
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation

from rtsr.color import matrix_of
from rtsr.errors import SourceError
from rtsr.frames import HdrMetadata
from rtsr.pixels import PixelFormat
from rtsr.sources.media import Input, decoder_of, main_video, open_input
from rtsr.sources.pictures import PlaneReader, captions, hdr_metadata, pixel_format

if TYPE_CHECKING:
    from rtsr.verify import Verdict

MOMENTS = 6  # pictures compared; each costs a seek and a few decoded frames
AFTER_KEY = 5  # frames: far enough to see predicted pictures too, near enough not to decode a whole segment at HR
# Downscaled output against input. Luma: 30 and more when right, under 15 for another picture. Chroma is smoother.
SAME_LUMA_DB, SAME_CHROMA_DB = 20.0, 25.0
_SEEKABLE = {"mov", "matroska", "webm", "avi", "flv", "nut"}  # others seek to where they like, or not at all
_UNTAGGED = {"png", "mjpeg", "tiff", "gif", "apng", "qtrle", "utvideo", "bmp"}  # codecs that cannot tell colours
_CAPTIONED = {"h264", "hevc"}  # codecs whose encoders here write closed captions
_HDR_TOLERANCE = Fraction(1, 1000)  # AV1 writes chromaticities and luminance in other units


class Picture(NamedTuple):
    """A decoded picture with what belongs to its stream."""

    frame: av.VideoFrame
    pixels: PixelFormat
    aspect: Fraction | None
    codec: str


def compare_stated(source: Input, output: Input, wanted: PixelFormat | None, verdict: Verdict) -> None:
    """Size, aspect, rotation, pixels, colour and HDR10 metadata, as the first picture of each file has them.

    wanted: the pixels that the output was meant to have; None: those of the input, or RGB as YUV and back.
    """
    before, after = _first_picture(source), _first_picture(output)
    a, b = before.frame, after.frame
    verdict.facts["size"] = [[a.width, a.height], [b.width, b.height]]
    distortion = abs(b.width * a.height - b.height * a.width) / max(a.width, a.height)  # pixels
    verdict.expect(
        b.width >= a.width and b.height >= a.height and distortion <= 1,
        f"{b.width}x{b.height} is not {a.width}x{a.height} enlarged",
    )
    verdict.facts["pixels"] = [str(before.pixels), str(after.pixels)]
    verdict.expect(
        after.pixels.holds(wanted) if wanted else _keeps(before.pixels, after),  # gray comes back as 4:2:0 from H.264
        f"pixels went from {before.pixels} to {after.pixels}",
    )
    verdict.expect(
        (before.aspect or 1) == (after.aspect or 1),
        f"sample aspect ratio went from {before.aspect} to {after.aspect}",
    )
    verdict.expect(a.rotation == b.rotation, f"rotation went from {a.rotation} to {b.rotation}")
    if after.codec not in _UNTAGGED:
        _compare_tags(before, after, verdict)
    was, now = hdr_metadata(a), hdr_metadata(b)
    if was is not None:
        verdict.expect(_same_hdr(was, now), f"HDR10 metadata went from {_numbers(was)} to {_numbers(now)}")


def _keeps(was: PixelFormat, after: Picture) -> bool:
    now = after.pixels
    if after.codec in ("gif", "mjpeg"):
        return was.alpha <= now.alpha
    if after.codec == "prores":  # whose encoder has 10 bits, whose decoder tells 12
        was = replace(was, bits=min(was.bits, 10))
    if "rgb" in (was.family, now.family) and was.family != now.family:
        return now.bits >= min(was.bits, 10) and was.alpha <= now.alpha
    return now.holds(was)


def _compare_tags(before: Picture, after: Picture, verdict: Verdict) -> None:
    converted = "rgb" in (before.pixels.family, after.pixels.family) and before.pixels.family != after.pixels.family
    names = ("color_primaries", "color_trc") if converted else ("colorspace", "color_range")
    for name in dict.fromkeys((*names, "color_primaries", "color_trc")):
        was, now = int(getattr(before.frame, name)), int(getattr(after.frame, name))
        if name == "color_range" and {was, now} == {0, 1}:
            continue  # unsaid means limited: HEVC, VP9, AV1 always say it, H.264 does only beside another tag
        if name in ("colorspace", "color_range") and after.pixels.family == "rgb":
            continue  # RGB has no matrix and is full
        verdict.expect(was == now, f"{name.replace('_', ' ')} went from {was} to {now}")


def _same_hdr(was: HdrMetadata, now: HdrMetadata | None) -> bool:
    if now is None or was.light != now.light:
        return False
    a, b = _numbers(was), _numbers(now)
    return len(a) == len(b) and all(abs(p - q) <= _HDR_TOLERANCE * max(1, abs(p)) for p, q in zip(a, b, strict=True))


def _numbers(hdr: HdrMetadata | None) -> list[float]:
    if hdr is None:
        return []
    points = [float(value) for point in hdr.primaries or () for value in point]
    return [*points, *map(float, hdr.luminance or ())]


def compare_moments(
    source: Input,
    output: Input,
    pts_in: list[Fraction],
    pts_out: list[Fraction],
    keys: list[Fraction],
    verdict: Verdict,
) -> None:
    """Compare pictures at a few moments: black, frozen, shifted or recoloured output does not pass.

    keys: pts of the output's keyframes.
    """
    if not pts_in:
        return
    evenly = (round(i * (len(pts_in) - 1) / max(MOMENTS - 1, 1)) for i in range(MOMENTS))
    near = {_near_keyframe(pick, pts_out, keys) for pick in evenly}
    picks = sorted(near | {len(pts_in) - 1})  # the last frame too, wherever its keyframe is: a film frozen midway
    lowest = float("inf")
    for pick in picks:
        moment = pts_in[pick]
        a, b = _picture_at(source, moment, pick), _picture_at(output, pts_out[pick], pick)
        if a is None or b is None:
            verdict.findings.append(f"no picture can be decoded at {float(moment):.3f} s")
            continue
        if b.codec in _CAPTIONED:
            kept = captions(a.frame) == captions(b.frame)
            verdict.expect(kept, f"the closed captions at {float(moment):.3f} s differ from the input's")
        for plane, db in _likenesses(a, b).items():
            lowest = min(lowest, db)
            wanted = SAME_CHROMA_DB if plane in ("U", "V") else SAME_LUMA_DB
            sentence = f"the picture at {float(moment):.3f} s differs from the input's in its {plane} ({db:.1f} dB)"
            verdict.expect(db >= wanted, sentence)
    verdict.facts["moments"] = len(picks)
    verdict.facts["lowest_likeness_db"] = round(lowest, 2)


def _near_keyframe(pick: int, pts: list[Fraction], keys: list[Fraction]) -> int:
    """A frame at or before the picked one that decodes soon: at most AFTER_KEY frames behind its keyframe."""
    key = max((bisect_left(pts, k) for k in keys if k <= pts[pick]), default=pick)
    return min(pick, key + AFTER_KEY)


def _first_picture(path: Input) -> Picture:
    picture = _picture_at(path, None, 0)
    if picture is None:
        raise SourceError(f"{path}: no picture can be decoded")
    return picture


def _picture_at(path: Input, moment: Fraction | None, number: int) -> Picture | None:
    """The picture shown at a moment, None for the first; the last one if all are earlier; None if nothing decodes.

    number: which one it is, for files whose pictures have no times.
    """
    found = _decoded_at(path, moment, number, may_seek=moment is not None)
    return found if found or moment is None else _decoded_at(path, moment, number, may_seek=False)


def _decoded_at(path: Input, moment: Fraction | None, number: int, may_seek: bool) -> Picture | None:
    """None also if a seek landed behind the moment, as some indexes make it."""
    with open_input(path) as container:
        stream = main_video(container, path)
        stream.thread_type = "AUTO" if moment is not None else "NONE"
        time_base = Fraction(stream.time_base or 1)
        if may_seek := may_seek and bool(_SEEKABLE & set(container.format.name.split(","))):
            assert moment is not None, "seeking needs a moment"
            container.seek(int(moment / time_base), stream=stream, backward=True)
        decoder = decoder_of(stream)
        last: av.VideoFrame | None = None
        count = -1
        for packet in container.demux(stream):
            try:
                pictures = decoder.decode(packet)
            except av.error.InvalidDataError:
                continue
            for picture in pictures:
                last, count = picture, count + 1
                if moment is None:
                    return _described(picture, stream)
                if picture.pts is None or container.format.name == "image2":
                    if count == number:
                        return _described(picture, stream)
                elif (shown := picture.pts * time_base) >= moment:
                    return None if may_seek and count == 0 and shown > moment else _described(picture, stream)
        return _described(last, stream) if last and not may_seek else None


def _described(frame: av.VideoFrame, stream: av.video.stream.VideoStream) -> Picture:
    codec = stream.codec_context.codec.canonical_name
    ratio = stream.codec_context.sample_aspect_ratio
    pixels = pixel_format(frame, codec, keep_alpha=False) or PixelFormat()
    return Picture(frame, pixels, Fraction(ratio) if ratio else None, codec)


def _likenesses(a: Picture, b: Picture) -> dict[str, float]:
    """PSNR in dB of each plane of the input's picture against the output's."""
    if a.pixels.family != b.pixels.family and "rgb" in (a.pixels.family, b.pixels.family):
        small, large, names = _as_rgb(a), _as_rgb(b), ("green", "blue", "red")
    else:
        small, large = _planes8(a.frame, a.pixels), _planes8(b.frame, b.pixels)
        names = ("green", "blue", "red") if a.pixels.family == "rgb" else ("luma", "U", "V")
    pairs = dict(zip(names, zip(small, large, strict=False), strict=False))  # gray as YUV has chroma on one side only
    if a.pixels.alpha and b.pixels.alpha:
        pairs["alpha"] = _alpha8(a), _alpha8(b)
    return {name: likeness(p, q, a.frame.interlaced_frame) for name, (p, q) in pairs.items()}


def _planes8(frame: av.VideoFrame, pixels: PixelFormat) -> list[np.ndarray]:
    """Planes without alpha, as 8 bits; luma, or green, first."""
    y, uv = PlaneReader(pixels).planes(frame)
    planes = [*(y[:-1] if pixels.alpha else y), *uv]
    return [_as8(plane, pixels) for plane in planes]


def _alpha8(picture: Picture) -> np.ndarray:
    return _as8(PlaneReader(picture.pixels).planes(picture.frame)[0][-1], picture.pixels)


def _as8(plane: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    return plane if pixels.bits == 8 else (plane.astype(np.int32) >> (pixels.bits - 8)).astype(np.uint8)


def _as_rgb(picture: Picture) -> list[np.ndarray]:
    """Green, blue and red with 8 bits, of a picture of any kind, as players show it."""
    frame, rgb = picture.frame, PixelFormat("rgb", 8, (0, 0))
    if picture.pixels.family != "rgb":
        matrix = matrix_of(int(frame.colorspace), frame.height)
        full = picture.codec == "mjpeg" or int(frame.color_range) == ColorRange.JPEG
        frame = frame.reformat(
            format=rgb.name,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC,
        )
    return _planes8(frame, rgb)


def likeness(small: np.ndarray, large: np.ndarray, interlaced: bool) -> float:
    """PSNR in dB of a plane against a larger one brought down to its size; of the better field of an interlaced one,
    for deinterlacing keeps one and makes the other anew."""
    same_size = cv2.resize(large, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_AREA)
    error = (same_size.astype(np.float32) - small.astype(np.float32)) ** 2
    fields = (error[0::2], error[1::2]) if interlaced and len(error) > 1 else (error,)
    mse = min(float(np.mean(field)) for field in fields)
    return float(10 * np.log10(255**2 / max(mse, 1e-9)))
