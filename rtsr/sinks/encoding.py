"""How the output is encoded: which encoder, its options in its own words, and the pixels that it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from rtsr.errors import ConfigError
from rtsr.frames import ColorTags, HdrMetadata, VideoSpec
from rtsr.pixels import PixelFormat
from rtsr.sinks.codecs import CODECS, Codec, container_format, preferred_codecs

__all__ = ["Encoder", "Encoding", "container_format"]

_BT709, _BT601, _RGB = 1, 5, 0  # FFmpeg's AVColorSpace
_LIMITED, _FULL = 1, 2  # AVColorRange
_KEEP_RGB = {"libx264rgb", "ffv1", "png", "qtrle", "tiff"}  # encoders that are chosen for what they keep
_ONLY_RGB = {"libx264rgb", "png", "qtrle"}
_PRORES_BITS = 10
_MOST_RGB_BITS = 10  # of YUV made of RGB: deeper than any screen, and every player decodes it


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder with all of its settings.

    pix_fmt: FFmpeg's name of what it takes; pixels: what that keeps; color: the tags to write. bitrate: bits a second,
    None for constant quality. segment_format: the container its segments are kept in until the end. notices: what is
    done differently from the input without losing anything that shows; losses: what cannot be kept.
    """

    name: str
    options: dict[str, str]
    pix_fmt: str
    pixels: PixelFormat
    color: ColorTags
    segment_format: str
    bitrate: int | None = None
    notices: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoding:
    """What was asked for; None takes what fits best. bitrate: bits a second. options: for the encoder, in its words."""

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    bitrate: int | None = None
    pix_fmt: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    def check(self, output: Path) -> None:
        """Raise ConfigError for what cannot work whatever the input is."""
        name = self.codec or preferred_codecs(output, False)[0]
        if name not in CODECS:
            raise ConfigError(f"unknown codec {name!r}; known: {', '.join(CODECS)}")
        self._options(name, container_format(output))

    def resolve(self, output: Path, spec: VideoSpec) -> Encoder:
        """The encoder for this output file and input. Raises ConfigError for what it does not have."""
        self.check(output)
        names = (self.codec,) if self.codec else preferred_codecs(output, spec.hdr is not None)
        wanted = _pixels_to_write(spec.pixels, output, names)
        name, pix_fmt, losses = self._choose(names, wanted, output)
        pixels = PixelFormat.of(pix_fmt) or wanted
        color, notice = _color_to_write(spec, pixels, name)
        options = self._options(name, container_format(output))
        if spec.hdr is not None:
            if params := _hdr_params(CODECS[name], name, spec.hdr):
                key = CODECS[name].params or ""
                options[key] = ":".join(filter(None, (options.get(key), params)))
            else:
                losses = (*losses, f"HDR10's mastering data, which {name} does not carry (libx265 does)")
        if spec.captions and not CODECS[name].captions:
            losses = (*losses, f"closed captions, which {name} does not write (libx264 and libx265 do)")
        return Encoder(
            name,
            options,
            pix_fmt,
            pixels,
            color,
            "webm" if pixels.alpha and name == "libvpx-vp9" else CODECS[name].segment_format,  # mp4 has no VP9 alpha
            self.bitrate,
            (notice,) if notice and self.pix_fmt is None else (),
            losses,
        )

    def _choose(self, names: tuple[str, ...], wanted: PixelFormat, output: Path) -> tuple[str, str, tuple[str, ...]]:
        """Encoder, pixel format, and what is lost."""
        available = {name: _pix_fmts(name) for name in names}
        if self.pix_fmt is not None:
            name = next((name for name in names if self.pix_fmt in available[name]), None)
            if name is None:
                raise ConfigError(
                    f"{names[0]} has no --pix-fmt {self.pix_fmt}; it has {', '.join(available[names[0]])}"
                )
            return name, self.pix_fmt, ()
        order = [(name, f) for name in names for f in available[name] if _same_family(wanted, PixelFormat.of(f))]
        if not order:
            raise ConfigError(
                f"{' and '.join(names)} cannot keep {wanted} video in {output.suffix}; choose another --codec, or with "
                f"--pix-fmt what to make of it ({', '.join(available[names[0]])})"
            )
        name, pix_fmt = min(order, key=lambda pair: _fit(wanted, PixelFormat.of(pair[1]), names.index(pair[0])))
        if name == "prores":  # FFmpeg's decoder always tells 12 bits of ProRes 4444, its encoder takes 10
            wanted = replace(wanted, bits=min(wanted.bits, _PRORES_BITS))
        return name, pix_fmt, _lacks(wanted, PixelFormat.of(pix_fmt), f"{name} in {output.suffix}")

    def _options(self, name: str, container: str) -> dict[str, str]:
        codec = CODECS[name]
        options = dict(codec.fixed)
        if self.crf is not None and self.bitrate is not None:
            raise ConfigError("--crf and --bitrate exclude each other: constant quality, or a constant rate")
        if self.bitrate is not None and not codec.bitrate:
            raise ConfigError(f"{name} has no --bitrate")
        if codec.quality is None and self.crf is not None:
            raise ConfigError(f"{name} has no --crf")
        if codec.quality is not None and self.bitrate is None:
            crf = codec.default_quality if self.crf is None else self.crf
            if not 0 <= crf <= codec.best_quality:
                raise ConfigError(f"--crf {crf} is out of range; {name} takes 0 (best) to {codec.best_quality}")
            options[codec.quality] = str(crf)
            if name == "libvpx-vp9":
                options["b"] = "0"  # without it, crf is only a bound
        if codec.preset is not None:
            preset = self.preset or codec.default_preset or ""
            if preset not in codec.presets:
                raise ConfigError(f"{name} has no --preset {preset}; it has {', '.join(codec.presets)}")
            options[codec.preset] = preset
        elif self.preset is not None:
            raise ConfigError(f"{name} has no --preset")
        if container == "avi" and name == "libx264":
            options["bf"] = "0"  # AVI keeps decoding order only: with B-frames every picture would come late
        for key, value in self.options:
            joined = key == codec.params and key in options
            options[key] = f"{options[key]}:{value}" if joined else value
        return options


def parse_bitrate(text: str) -> int:
    """Bits a second from `8M`, `2500k` or `800000`. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text)
    rate = int(Fraction(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()]) if match else 0
    if rate < 1000:
        raise ConfigError(f"--bitrate {text!r} is no rate; write bits a second, as 8M or 2500k")
    return rate


def _pixels_to_write(pixels: PixelFormat, output: Path, names: tuple[str, ...]) -> PixelFormat:
    """What keeps the input's pixels, where the output is free to."""
    container = container_format(output)
    if names == ("mjpeg",):
        return PixelFormat("yuv", 8, pixels.chroma, pixels.alpha)
    if container == "gif":
        return replace(pixels, bits=8) if pixels.family == "gray" else PixelFormat("rgb", 8, (0, 0), pixels.alpha)
    if (container == "image2" or names[0] in _ONLY_RGB) and pixels.family == "yuv":
        return PixelFormat("rgb", 8 if pixels.bits == 8 else 16, (0, 0), pixels.alpha)
    if pixels.family != "rgb" or container == "image2" or names[0] in _KEEP_RGB:
        return pixels
    # Players want 4:2:0. Enlarged twice or more, that has as many chroma samples as the input has pixels.
    return PixelFormat("yuv", min(pixels.bits, _MOST_RGB_BITS), (1, 1), pixels.alpha)


def _color_to_write(spec: VideoSpec, pixels: PixelFormat, name: str) -> tuple[ColorTags, str]:
    """The tags that go with the pixels an encoder takes, and what a user should know of the conversion, if any."""
    if name == "mjpeg":
        return ColorTags(_BT601, range=_FULL), "JPEG has 8 bits of BT.601, full range; the pictures are converted"
    if name == "prores" and spec.pixels.bits > _PRORES_BITS:
        return spec.color, f"ProRes is written with {_PRORES_BITS} of {spec.pixels.bits} bits"
    if pixels.family == spec.pixels.family or "gray" in (pixels.family, spec.pixels.family):
        return spec.color, ""
    if pixels.family == "rgb":
        return replace(spec.color, colorspace=_RGB, range=_FULL), "the pictures are converted from YUV to RGB"
    tags = replace(spec.color, colorspace=_BT709, range=_LIMITED)
    return tags, f"RGB pictures are written as {pixels} (BT.709), as players want; --codec libx264rgb or ffv1 keeps RGB"


def _pix_fmts(name: str) -> tuple[str, ...]:
    """What an encoder takes, as FFmpeg lists it. Raises ConfigError."""
    import av
    import av.codec.codec

    if chosen := CODECS[name].pix_fmts:
        return chosen
    try:
        formats = av.Codec(name, "w").video_formats or ()
    except av.codec.codec.UnknownCodecError as error:
        raise ConfigError(f"encoder {name} is not in this build of FFmpeg") from error
    names = (f.name for f in formats if not f.name.startswith("yuvj"))
    return tuple(f for f in names if CODECS[name].alpha or not ((p := PixelFormat.of(f)) and p.alpha))


def _same_family(wanted: PixelFormat, found: PixelFormat | None) -> bool:
    return found is not None and (found.family == wanted.family or (found.family, wanted.family) == ("yuv", "gray"))


def _fit(wanted: PixelFormat, found: PixelFormat | None, place: int) -> tuple[int, ...]:
    """How much a format lacks, alpha first; its encoder's place; how much more than needed it holds. Least is best."""
    assert found is not None, "formats to choose from are known"
    coarser = sum(max(a - b, 0) for a, b in zip(found.chroma, wanted.chroma, strict=True))
    lack = (wanted.alpha > found.alpha, max(wanted.bits - found.bits, 0), coarser if wanted.family == "yuv" else 0)
    return (*map(int, lack), place, found.family != wanted.family, found.bits, -sum(found.chroma), found.full_planes)


def _lacks(wanted: PixelFormat, found: PixelFormat | None, where: str) -> tuple[str, ...]:
    """What a format does not keep, one sentence each."""
    assert found is not None, "formats to choose from are known"
    lacks = []
    if wanted.alpha and not found.alpha:
        lacks.append(f"alpha (transparency), which {where} does not keep; .mov, .webm and .mkv do")
    if found.bits < wanted.bits:
        lacks.append(f"{wanted.bits - found.bits} of {wanted.bits} bits, of which {where} keeps {found.bits}")
    if not replace(found, bits=16, alpha=True).holds(replace(wanted, bits=16)):
        lacks.append(f"a part of the chroma: {where} makes {found} of {wanted}")
    return tuple(lacks)


def _hdr_params(codec: Codec, name: str, hdr: HdrMetadata) -> str:
    """HDR10's static metadata in an encoder's words; empty if it has none."""
    if codec.params is None:
        return ""
    is_av1 = name == "libsvtav1"
    params = []
    if hdr.primaries and hdr.luminance:
        # H.26x counts chromaticity in 1/50000 and luminance in 1/10000 cd/m2; SVT-AV1 takes decimals.
        unit, light_unit = (Fraction(1), Fraction(1)) if is_av1 else (Fraction(50000), Fraction(10000))
        write = (lambda value: f"{float(value):.5f}") if is_av1 else (lambda value: str(round(value)))
        r, g, b, white = ((write(x * unit), write(y * unit)) for x, y in hdr.primaries)
        low, high = (write(value * light_unit) for value in hdr.luminance)
        points = "".join(
            f"{label}({x},{y})" for label, (x, y) in zip(("G", "B", "R", "WP"), (g, b, r, white), strict=True)
        )
        key = "master-display" if name == "libx265" else "mastering-display"
        params.append(f"{key}={points}L({high},{low})")
    if hdr.light:
        key = {"libx265": "max-cll", "libsvtav1": "content-light"}.get(name, "cll")
        params.append(f"{key}={hdr.light[0]},{hdr.light[1]}")
    if name == "libx265" and params:
        params += ["hdr10=1", "repeat-headers=1"]
    return ":".join(params)
