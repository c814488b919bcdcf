"""Which containers there are, which encoders fit in them, and what each encoder calls its quality and its speed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtsr.errors import ConfigError

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
    ".avi": "avi",
    ".gif": "gif",
    ".png": "image2",
    ".jpg": "image2",
    ".jpeg": "image2",
    ".tif": "image2",
    ".tiff": "image2",
}
# FFmpeg's mpegts muxer takes any codec and writes what it does not know as private data that no reader finds again.
MPEGTS_CODECS = {
    *("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4"),
    *("aac", "aac_latm", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus"),
    *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "klv", "timed_id3", "scte_35"),
}
PICTURE_CODECS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".tif": "tiff", ".tiff": "tiff"}
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_NVENC_PRESETS = tuple(f"p{n}" for n in range(1, 8))


@dataclass(frozen=True, slots=True)
class Codec:
    """What one encoder calls its quality and its speed. None: it has no such option. bitrate: whether it takes one.

    params: the option that holds its own settings, if it carries HDR10 metadata there. pix_fmts: of those that FFmpeg
    lists, the ones to use; all for an empty tuple. alpha: whether it keeps alpha where it lists formats that have it.
    captions: whether it writes the closed captions that come with a picture. on_gpu: whether it takes pictures that lie
    on an NVIDIA GPU.
    """

    quality: str | None = None
    best_quality: int = 0
    default_quality: int = 0
    preset: str | None = None
    presets: tuple[str, ...] = ()
    default_preset: str | None = None
    fixed: tuple[tuple[str, str], ...] = ()
    segment_format: str = "mp4"
    bitrate: bool = False
    params: str | None = None
    pix_fmts: tuple[str, ...] = ()
    alpha: bool = True
    captions: bool = False
    on_gpu: bool = False


_NVENC = Codec(
    *("cq", 51, 21, "preset", _NVENC_PRESETS, "p4"), fixed=(("rc", "vbr"),), bitrate=True, captions=True, on_gpu=True
)
_X264 = Codec("crf", 51, 18, "preset", _PRESETS, "veryfast", bitrate=True, params="x264-params", captions=True)
CODECS = {
    "libx264": _X264,
    "libx264rgb": _X264,
    "libx265": Codec(
        *("crf", 51, 20, "preset", _PRESETS, "veryfast"),
        fixed=(("x265-params", "log-level=error:open-gop=0"), ("a53cc", "1")),
        bitrate=True,
        params="x265-params",
        alpha=False,  # a build for multi-layer HEVC lists it and does not open
        captions=True,
    ),
    "libsvtav1": Codec("crf", 63, 27, "preset", tuple(map(str, range(14))), "10", bitrate=True, params="svtav1-params"),
    "libvpx-vp9": Codec(
        *("crf", 63, 28, "cpu-used", tuple(map(str, range(9))), "6"), fixed=(("row-mt", "1"),), bitrate=True
    ),
    "prores": Codec(segment_format="mov"),
    "ffv1": Codec(fixed=(("level", "3"), ("slicecrc", "1"))),
    "qtrle": Codec(segment_format="mov"),
    "png": Codec(segment_format="mov"),
    "tiff": Codec(segment_format="mov"),
    "mjpeg": Codec(
        segment_format="mov",
        fixed=(("qmin", "1"), ("qmax", "2")),
        pix_fmts=("yuvj420p", "yuvj422p", "yuvj444p"),
    ),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": _NVENC,
}
# Encoders to try for a container, the first that keeps everything wins. A lossless one comes last: its files are large.
_PREFERRED = {
    "mp4": ("libx264", "libx265"),
    "mov": ("libx264", "libx265", "prores"),
    "matroska": ("libx264", "libx265", "ffv1"),
    "mpegts": ("libx264", "libx265"),
    "avi": ("libx264", "ffv1"),
    "webm": ("libvpx-vp9", "libsvtav1"),
    "gif": ("ffv1",),  # kept lossless until the whole film's palette is known
}


def preferred_codecs(output: Path, is_hdr: bool) -> tuple[str, ...]:
    """Encoders for an output file, best first. is_hdr: HDR10, which players expect in HEVC."""
    container = container_format(output)
    if container == "image2":
        return (PICTURE_CODECS[output.suffix.lower()],)
    names = _PREFERRED[container]
    return tuple(sorted(names, key=lambda name: name != "libx265")) if is_hdr else names


def container_format(output: Path) -> str:
    """FFmpeg's name of the container that the output's suffix asks for. Raises ConfigError."""
    try:
        return CONTAINERS[output.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"output {output}: the suffix {output.suffix!r} names no container; use one of {', '.join(CONTAINERS)}"
        ) from None
