"""Sound in another codec, where that was asked for: every track, each sample at its moment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.container
import av.error
from av.audio.fifo import AudioFifo

from rtsr.errors import ConfigError

COPY = "copy"
_DELAY_FRAMES = 4  # of silence, enough for every encoder to tell its delay
_CHUNK = 1024  # samples, for encoders that take any number
# Timestamps that differ from what the samples before them lead to expect: up to one tick and a half is rounding, up to
# STEP is a recorder's clock that drifts, which packets can follow; more is a gap or an overlap of the samples.
_ROUNDING_TICKS, _STEP_S = Fraction(3, 2), Fraction(5, 1000)
_LONGEST_SILENCE_S = 60  # filled in; a clock that jumps further is a broken one, and followed
_PREROLL_S = 1  # decoded before a trim's start, so that the decoder is in tune


@dataclass(frozen=True, slots=True)
class AudioEncoder:
    """name: FFmpeg's. bitrate: bits a second for each channel; None for lossless."""

    name: str
    bitrate: int | None
    most_channels: int = 8


AUDIO_ENCODERS = {
    "aac": AudioEncoder("aac", 96_000),
    "libopus": AudioEncoder("libopus", 80_000),
    "flac": AudioEncoder("flac", None),
    "alac": AudioEncoder("alac", None),
    "ac3": AudioEncoder("ac3", 96_000, 6),
    "eac3": AudioEncoder("eac3", 96_000, 6),
    "mp3": AudioEncoder("libmp3lame", 96_000, 2),
    "pcm_s16le": AudioEncoder("pcm_s16le", None, 64),
    "pcm_s24le": AudioEncoder("pcm_s24le", None, 64),
}
# What every player of a container's kind takes, for a sentence that names the way out.
USUAL = {"webm": "libopus", "avi": "mp3", "matroska": "aac", "mp4": "aac", "mov": "aac", "mpegts": "aac"}
_STANDARD_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


def audio_encoder(name: str) -> AudioEncoder:
    """Raises ConfigError for a name that --audio-codec does not know."""
    if name not in AUDIO_ENCODERS:
        raise ConfigError(f"unknown --audio-codec {name!r}; known: {COPY}, {', '.join(AUDIO_ENCODERS)}")
    return AUDIO_ENCODERS[name]


def add_audio(output: av.container.OutputContainer, source: Any, name: str) -> Any:
    """A stream for a track encoded anew, its encoder open; channels and, where the encoder knows it, rate as they are.

    Raises ConfigError in words that follow the stream's name.
    """
    wanted = audio_encoder(name)
    context = source.codec_context
    codec = av.Codec(wanted.name, "w")
    if context.format is None:
        raise ConfigError("FFmpeg cannot tell its sample format")
    channels = context.layout.nb_channels
    if channels > wanted.most_channels:
        raise ConfigError(f"{name} holds {wanted.most_channels} channels at most, and it has {channels}")
    rate = best_rate(codec.audio_rates, context.rate)
    formats = [f.name for f in codec.audio_formats or ()]
    for layout in dict.fromkeys((context.layout.name, _STANDARD_LAYOUTS.get(channels, context.layout.name))):
        settings = {"format": _best_format(formats, context.format.name), "layout": layout, "rate": rate}
        if _opens(wanted, settings):
            break
    else:
        raise ConfigError(f"{name} does not take {channels} channels ({context.layout.name}) at {context.rate} Hz")
    stream: Any = output.add_stream(wanted.name, rate=rate)
    _apply(stream.codec_context, wanted, settings)
    stream.codec_context.open(strict=False)
    return stream


def _apply(context: Any, wanted: AudioEncoder, settings: dict[str, Any]) -> None:
    context.format, context.layout, context.rate = settings["format"], settings["layout"], settings["rate"]
    context.time_base = Fraction(1, settings["rate"])
    if wanted.bitrate:
        context.bit_rate = wanted.bitrate * context.layout.nb_channels


def _opens(wanted: AudioEncoder, settings: dict[str, Any]) -> bool:
    try:
        context: Any = av.CodecContext.create(wanted.name, "w")
        _apply(context, wanted, settings)
        context.open(strict=False)
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def best_rate(rates: list[int] | None, rate: int) -> int:
    """The lowest rate of an encoder that loses nothing, or its highest."""
    if not rates or rate in rates:
        return rate
    return min((r for r in rates if r >= rate), default=max(rates))


def _best_format(formats: list[str], source: str) -> str:
    """The sample format that loses least: the same, planar or not, else the next deeper."""
    plain = source.removesuffix("p")
    deeper = {
        "u8": ("u8", "s16", "s32", "flt"),
        "s16": ("s16", "s32", "flt"),
        "s32": ("s32", "flt", "s16"),
        "flt": ("flt", "s32", "s16"),
    }
    for wanted in (*deeper.get(plain, ("dbl", "flt", "s32")), *(name.removesuffix("p") for name in formats)):
        for name in (wanted, wanted + "p"):
            if name in formats:
                return name
    return source


def _delay_of(context: Any) -> int:
    """Samples by which an encoder's first packet begins before the sound put into it."""
    trial: Any = av.CodecContext.create(context.codec.name, "w")
    trial.format, trial.layout, trial.rate = context.format, context.layout, context.rate
    trial.time_base, trial.bit_rate = Fraction(1, context.rate), context.bit_rate or 0
    trial.open(strict=False)
    size = trial.frame_size or _CHUNK
    for number in range(_DELAY_FRAMES):
        frame = _silence(size, context.format.name, context.layout.name, context.rate)
        frame.pts, frame.time_base = number * size, Fraction(1, context.rate)
        for packet in trial.encode(frame):
            return -(packet.pts or 0)
    return next((-(packet.pts or 0) for packet in trial.encode(None)), 0)


def _silence(samples: int, format: str, layout: str, rate: int) -> Any:
    # Packed, and then brought apart: of eight planes, PyAV counts nine and fails or goes astray.
    frame: Any = av.AudioFrame(format.removesuffix("p"), layout, samples)
    frame.planes[0].update(bytes([128 if format.startswith("u8") else 0]) * frame.planes[0].buffer_size)
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    (silent,) = av.AudioResampler(format, layout, rate).resample(frame)
    return silent


class EncodedTrack:
    """Decodes one track and encodes it again.

    start, end: the trim in seconds, exact to the sample. container_format: of the output, for what its clock cannot
    tell. Packets come out on the output's clock, which begins at start.
    """

    def __init__(self, source: Any, output: Any, container_format: str, start: Fraction | None, end: Fraction | None):
        self.undecodable: list[float] = []
        self.corrupt, self.silenced_s = 0, Fraction(0)
        self.layout_changed = False
        self._source, self._output = source, output
        self._start, self._end = start or Fraction(0), end
        self._trimmed = start is not None
        self._container_format = container_format
        context = output.codec_context
        self._rate, self._size = context.rate, context.frame_size or _CHUNK
        self._resampler: Any = None
        self._resampled: tuple[Any, ...] = ()
        self._fifo: Any = AudioFifo()
        self._read = 0  # samples given to the encoder
        self._base: int | None = None  # pts of the first of them
        self._expected: Fraction | None = None  # seconds on the input's clock at which the next sample is due

    def feed(self, packet: Any) -> Iterator[Any]:
        """Packets of the output that a packet of the input leads to."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        time = stamp * Fraction(packet.time_base) if stamp is not None and packet.time_base else None
        if time is not None and self._is_outside(time):
            return
        self.corrupt += bool(packet.is_corrupt)
        try:
            frames = self._source.codec_context.decode(packet)
        except av.error.FFmpegError:
            self.undecodable.append(float(time or 0))
            return
        yield from self._take(frames)

    def finish(self) -> Iterator[Any]:
        """The rest. Call once."""
        try:
            yield from self._take(self._source.codec_context.decode(None))
        except av.error.EOFError:  # nothing has been decoded, ever
            pass
        except av.error.FFmpegError:
            self.undecodable.append(float(self._expected or 0))
        if self._base is None:
            return
        yield from self._drain(self._resampler)
        yield from self._encode(partial=True)
        yield from self._shifted(self._output.encode(None))

    @property
    def notices(self) -> list[str]:
        """What else happened to it."""
        name = f"stream {self._source.index} (audio)"
        said = []
        if self.layout_changed:
            now = self._output.codec_context
            said.append(f"{name} changes its channels or rate midway; all of it is {now.layout.name} at {now.rate} Hz")
        if self.silenced_s:
            said.append(f"{name} has gaps; {float(self.silenced_s):.3f} s of silence fill them")
        return said

    @property
    def damage(self) -> str:
        """What of the sound could not be decoded, in words; empty if all could."""
        parts = []
        if self.undecodable:
            when = ", ".join(f"{t:.3f} s" for t in self.undecodable[:5])
            parts.append(f"{len(self.undecodable)} packets did not decode (near {when})")
        if self.corrupt:
            parts.append(f"{self.corrupt} packets are damaged")
        return f"stream {self._source.index} (audio): {' and '.join(parts)}" if parts else ""

    def _is_outside(self, time: Fraction) -> bool:
        if self._end is not None and time > self._end + _PREROLL_S:
            return True
        return self._trimmed and time < self._start - _PREROLL_S

    def _take(self, frames: list[Any]) -> Iterator[Any]:
        for frame in frames:
            for time, contiguous in self._in_line(frame):
                for part_time, part in self._clipped(time, contiguous):
                    yield from self._give(part_time, part)

    def _in_line(self, frame: Any) -> Iterator[tuple[Fraction, Any]]:
        """A decoded frame with its time; silence before it where samples are missing, without those there twice."""
        rate, tick = frame.sample_rate, Fraction(frame.time_base or Fraction(1, frame.sample_rate))
        expected = self._expected
        time = frame.pts * tick if frame.pts is not None else expected or Fraction(0)
        off = Fraction(0) if expected is None else time - expected
        if expected is not None and abs(off) <= max(tick * _ROUNDING_TICKS, Fraction(1, rate)):
            time = expected
        elif expected is not None and (abs(off) < _STEP_S or off > _LONGEST_SILENCE_S):
            if self._base is not None:
                self._base += round(off * self._rate)
        elif expected is not None and off > 0:
            missing = round(off * rate)
            self.silenced_s += Fraction(missing, rate)
            for begin in range(0, missing, rate):
                silence = _silence(min(rate, missing - begin), frame.format.name, frame.layout.name, rate)
                yield expected + Fraction(begin, rate), silence
            time = expected + Fraction(missing, rate)
        elif expected is not None:
            twice = min(round(-off * rate), frame.samples)
            time = expected
            frame = _part(frame, twice, frame.samples)
            if frame is None:
                return
        self._expected = time + Fraction(frame.samples, rate)
        yield time, frame

    def _clipped(self, time: Fraction, frame: Any) -> Iterator[tuple[Fraction, Any]]:
        """The part of a frame inside the trim, to the sample."""
        rate = frame.sample_rate
        first = max(math.ceil((self._start - time) * rate), 0) if self._trimmed else 0
        last = frame.samples if self._end is None else min(math.ceil((self._end - time) * rate), frame.samples)
        if first < last and (part := _part(frame, first, last)) is not None:
            yield time + Fraction(first, rate), part

    def _give(self, time: Fraction, frame: Any) -> Iterator[Any]:
        """Pass samples on to the encoder, resampled if it needs that."""
        if self._base is None:
            yield from self._begin(time - self._start)
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != self._resampled:
            yield from self._drain(self._resampler)
            self.layout_changed = self.layout_changed or bool(self._resampled)
            context = self._output.codec_context
            self._resampler = av.AudioResampler(context.format, context.layout, self._rate)
            self._resampled = kind
        frame.pts, frame.time_base = None, Fraction(1, frame.sample_rate)
        self._queue(self._resampler.resample(frame))
        yield from self._encode(partial=False)

    def _begin(self, seconds: Fraction) -> Iterator[Any]:
        """Decide the first pts, and lead in with silence where the container's clock needs it."""
        base = round(seconds * self._rate)
        lead = 0
        context = self._output.codec_context
        if self._container_format in ("matroska", "webm"):
            # Its clock has milliseconds: the first packet, which begins earlier by the encoder's delay, on a whole one.
            first = base - _delay_of(context)
            lead = first - round(Fraction(math.floor(Fraction(first * 1000, self._rate)), 1000) * self._rate)
        elif self._container_format == "avi":
            # Which has no clock: sound begins at zero, on a whole packet; those before zero are not written.
            lead = max(base, 0) + -_delay_of(context) % self._size
        self._base = base - lead
        for begin in range(0, lead, self._rate):
            samples = min(self._rate, lead - begin)
            self._queue([_silence(samples, context.format.name, context.layout.name, self._rate)])
            yield from self._encode(partial=False)

    def _drain(self, resampler: Any) -> Iterator[Any]:
        if resampler is not None:
            self._queue([frame for frame in resampler.resample(None) if frame is not None])
            yield from self._encode(partial=False)

    def _queue(self, frames: list[Any]) -> None:
        for frame in frames:
            frame.pts, frame.time_base = None, Fraction(1, self._rate)
            self._fifo.write(frame)

    def _encode(self, partial: bool) -> Iterator[Any]:
        while (frame := self._fifo.read(self._size, partial)) is not None:
            assert self._base is not None, "samples come after _begin()"
            frame.pts, frame.time_base = self._base + self._read, Fraction(1, self._rate)
            self._read += frame.samples
            yield from self._shifted(self._output.encode(frame))

    def _shifted(self, packets: list[Any]) -> Iterator[Any]:
        for packet in packets:
            if self._container_format != "avi" or packet.pts is None or packet.pts >= 0:
                yield packet


def _part(frame: Any, first: int, last: int) -> Any:
    """Some samples of a frame; None for none."""
    if (first, last) == (0, frame.samples):
        return frame
    if first >= last:
        return None
    cutter: Any = AudioFifo()
    frame.pts = None
    cutter.write(frame)
    if first:
        cutter.read(first)
    return cutter.read(last - first)
