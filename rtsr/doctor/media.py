"""Codecs in this PyAV, what of the hardware's really opens, cameras, the display."""

from __future__ import annotations

import io
from pathlib import Path

import av
import av.codec.codec
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available

from rtsr.doctor.check import Check
from rtsr.errors import RtsrError, first_line
from rtsr.frames import batched
from rtsr.sinks.audio import AUDIO_ENCODERS
from rtsr.sinks.codecs import CODECS
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.video import EncodedVideo
from rtsr.sources.synthetic import SyntheticSource

WIDTH, HEIGHT = 256, 144  # NVENC takes no less than 145 pixels across
_FRAMES = 3
_HARDWARE = "_nvenc"
_DECODERS = ("h264", "hevc", "vvc", "vp8", "vp9", "libdav1d", "mpeg2video", "mpeg4", "prores", "ffv1", "mjpeg", "aac")
# Codec -> the encoder that makes a clip to decode in hardware.
_DECODED = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
# Encoders that take RGB alone are asked for it.
_RGB = {"libx264rgb": "bgr24", "qtrle": "rgb24", "png": "rgb24", "tiff": "rgb24"}
_REINSTALL = "pip install --force-reinstall --no-deps av"


def look_at_codecs() -> list[Check]:
    software = [name for name in CODECS if not name.endswith(_HARDWARE)]
    failed = {name: why for name in software if (why := why_not_encoded(name))}
    opened = [name for name in software if name not in failed]
    sound = [each.name for each in AUDIO_ENCODERS.values()]
    lacking_sound = [name for name in sound if not _has(name, "w")]
    lacking = [name for name in _DECODERS if not _has(name, "r")]
    main = failed.get("libx264")
    says = f"libx264 does not encode: {main}" if main else f"{', '.join(opened)} encode here"
    checks = [
        Check(
            "codecs",
            "encoders",
            "problem" if main else "ok",
            says,
            _REINSTALL if main else None,
            True,
            {"open": opened, "failed": failed},
        ),
    ]
    if failed and not main:
        says = "; ".join(f"{name}: {why}" for name, why in failed.items())
        checks.append(Check("codecs", "encoders that fail", "problem", says, _REINSTALL))
    says = ", ".join(name for name in sound if name not in lacking_sound)
    missing = f"; not in this build: {', '.join(lacking_sound)}" if lacking_sound else ""
    checks.append(Check("codecs", "sound", "ok", says + missing, facts={"missing": lacking_sound}))
    says = ", ".join(name for name in _DECODERS if name not in lacking)
    missing = f"; not in this build: {', '.join(lacking)}" if lacking else ""
    status = "problem" if "h264" in lacking else "ok"
    mend = _REINSTALL if "h264" in lacking else None
    checks.append(Check("codecs", "decoders", status, says + missing, mend, True, {"missing": lacking}))
    return checks


def why_not_encoded(codec: str) -> str:
    """Encode a few frames with a codec of rtsr's, really; empty if that works."""
    try:
        return "" if tiny_clip(codec) else "it wrote nothing"
    except RtsrError as error:
        return first_line(error)


def tiny_clip(codec: str) -> bytes:
    """A few frames as a file in memory. Raises ConfigError for an encoder that does not open."""
    source = SyntheticSource(WIDTH, HEIGHT, _FRAMES)
    container = CODECS[codec].segment_format
    encoder = Encoding(codec, pix_fmt=_RGB.get(codec)).resolve(Path(f"tiny.{container}"), source.spec)
    file = io.BytesIO()
    video = EncodedVideo(file, container, source.spec, (WIDTH, HEIGHT), encoder)
    for batch in batched(source.frames(), 1):
        for frame in batch.frames():
            video.write(frame)
    video.finish()
    return file.getvalue()


def _has(name: str, mode: str) -> bool:
    try:
        av.Codec(name, mode)  # type: ignore[arg-type]
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def look_at_hardware() -> list[Check]:
    """NVENC as rtsr uses it; decoders of every kind of device that this FFmpeg knows."""
    encoders = {name: why_not_encoded(name) for name in CODECS if name.endswith(_HARDWARE)}
    opened = [name for name, why in encoders.items() if not why]
    says = f"{', '.join(opened)} open" if opened else f"none opens (tried {', '.join(encoders)}); the CPU encodes"
    facts = {"open": opened, "failed": {name: why for name, why in encoders.items() if why}}
    checks = [Check("codecs", "hardware encoders", "ok" if opened else "absent", says, facts=facts)]
    clips: dict[str, bytes] = {}
    found: dict[str, list[str]] = {}
    why: dict[str, str] = {}
    for device in hwdevices_available():
        for codec, encoder in _DECODED.items():
            try:
                clips[codec] = clips.get(codec) or tiny_clip(encoder)
                _decode(clips[codec], device)
            except (RtsrError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
                why[f"{codec} by {device}"] = first_line(error)
                if isinstance(error, PermissionError | av.error.ExternalError):  # there is no such device
                    break
            else:
                found.setdefault(device, []).append(codec)
    says = "; ".join(f"{device}: {', '.join(codecs)}" for device, codecs in found.items())
    checks.append(
        Check(
            "codecs",
            "hardware decoders",
            "ok" if found else "absent",
            says or f"none opens (tried {', '.join(hwdevices_available())}); the CPU decodes",
            facts={"open": found, "failed": why},
        )
    )
    return checks


def _decode(clip: bytes, device: str) -> None:
    """One frame of a clip on a device, which must be what decodes it. Raises what PyAV raises."""
    accel = HWAccel(device, allow_software_fallback=False)
    with av.open(io.BytesIO(clip), "r", hwaccel=accel) as container:
        stream = container.streams.video[0]
        next(container.decode(stream))
        if not getattr(stream.codec_context, "is_hwaccel", False):
            raise ValueError("decoded in software")


def look_at_devices() -> list[Check]:
    from rtsr.live.devices import list_cameras
    from rtsr.live.window import why_no_window

    cameras = list_cameras()
    says = ", ".join(f"{camera.name} ({camera.id})" for camera in cameras) or "none"
    facts = {"cameras": [camera.id for camera in cameras]}
    checks = [Check("live", "cameras", "ok" if cameras else "absent", says, facts=facts)]
    why = why_no_window()
    checks.append(
        Check("live", "window", "absent", f"{why}; `rtsr live --web` shows it in a browser")
        if why
        else Check("live", "window", "ok", "a display is here")
    )
    return checks
