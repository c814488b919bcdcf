"""Which encoder, and its options in the encoder's own words."""

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
}
# FFmpeg's mpegts muxer takes any codec and writes what it does not know as private data that no reader finds again.
MPEGTS_CODECS = {
    *("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4"),
    *("aac", "aac_latm", "mp2", "mp3", "ac3", "eac3", "dts", "truehd", "opus"),
    *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "klv", "timed_id3", "scte_35"),
}
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True, slots=True)
class Codec:
    """What one encoder calls its quality and its speed. None: it has no such option. pix_fmts by bits a sample."""

    quality: str | None
    best_quality: int
    default_quality: int
    preset: str | None
    presets: tuple[str, ...]
    default_preset: str | None
    pix_fmts: tuple[tuple[int, str], ...] = ((8, "yuv420p"), (10, "yuv420p10le"))
    fixed: tuple[tuple[str, str], ...] = ()
    segment_format: str = "mp4"


_NVENC_PRESETS = tuple(f"p{n}" for n in range(1, 8))
_NVENC = Codec("cq", 51, 21, "preset", _NVENC_PRESETS, "p4", fixed=(("rc", "vbr"),))
CODECS = {
    "libx264": Codec("crf", 51, 18, "preset", _PRESETS, "veryfast"),
    "libx265": Codec(
        "crf", 51, 20, "preset", _PRESETS, "veryfast", fixed=(("x265-params", "log-level=error:open-gop=0"),)
    ),
    "libsvtav1": Codec("crf", 63, 27, "preset", tuple(map(str, range(14))), "10"),
    "libvpx-vp9": Codec("crf", 63, 28, "cpu-used", tuple(map(str, range(9))), "6", fixed=(("b", "0"), ("row-mt", "1"))),
    "prores": Codec(
        None, 0, 0, None, (), None, pix_fmts=((8, "yuv422p10le"), (10, "yuv422p10le")), segment_format="mov"
    ),
    "ffv1": Codec(None, 0, 0, None, (), None, fixed=(("level", "3"), ("slicecrc", "1"))),
    "h264_nvenc": _NVENC,
    "hevc_nvenc": _NVENC,
    "av1_nvenc": _NVENC,
}


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder with all of its settings. segment_format: the container its segments are kept in until the end."""

    name: str
    options: dict[str, str]
    pix_fmts: dict[int, str]
    segment_format: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the output is encoded; None takes the encoder's default."""

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None

    def resolve(self, output: Path) -> Encoder:
        """The encoder for this output file. Raises ConfigError for what it does not have."""
        container = container_format(output)
        name = self.codec or ("libvpx-vp9" if container == "webm" else "libx264")
        codec = CODECS.get(name)
        if codec is None:
            raise ConfigError(f"unknown codec {name!r}; known: {', '.join(CODECS)}")
        options = dict(codec.fixed)
        if codec.quality is not None:
            crf = codec.default_quality if self.crf is None else self.crf
            if not 0 <= crf <= codec.best_quality:
                raise ConfigError(f"--crf {crf} is out of range; {name} takes 0 (best) to {codec.best_quality}")
            options[codec.quality] = str(crf)
        elif self.crf is not None:
            raise ConfigError(f"{name} has no --crf")
        if codec.preset is not None:
            preset = self.preset or codec.default_preset or ""
            if preset not in codec.presets:
                raise ConfigError(f"{name} has no --preset {preset}; it has {', '.join(codec.presets)}")
            options[codec.preset] = preset
        elif self.preset is not None:
            raise ConfigError(f"{name} has no --preset")
        if container == "avi" and name == "libx264":
            options["bf"] = "0"  # AVI keeps decoding order only: with B-frames every picture would come late
        return Encoder(name, options, dict(codec.pix_fmts), codec.segment_format)


def container_format(output: Path) -> str:
    """FFmpeg's name of the container that the output's suffix asks for. Raises ConfigError."""
    try:
        return CONTAINERS[output.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"output {output}: the suffix {output.suffix!r} names no container; use one of {', '.join(CONTAINERS)}"
        ) from None
