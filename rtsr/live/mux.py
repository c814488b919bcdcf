"""Encoding live pictures and sound into a container: for recordings and for streams."""

from __future__ import annotations

import threading
from collections import deque
from fractions import Fraction
from typing import Any

import av
from av.audio.fifo import AudioFifo

from rtsr.frames import VideoSpec
from rtsr.live.contract import LIVE_RATE, Shown, Sound
from rtsr.live.stream import TIME_BASE
from rtsr.sinks.encoding import Encoder
from rtsr.sinks.pictures import PictureMaker

_SOUND_RATE = 48_000
_SOUND_SAMPLES = 1024  # of an AAC frame
_JUMP_S = 0.06  # what sound may be off before it is put in its place again
_SOUND_WAITING = 2_000  # frames of sound kept while video is slow; about 40 s


class LiveMuxer:
    """One video stream, and AAC if with_sound, into an open output. Pictures keep the time of their capture.

    The first picture is moment zero. write() and close() in one thread, hear() in any. What fails raises FFmpeg's
    errors or OSError.
    """

    def __init__(self, output: Any, encoder: Encoder, spec: VideoSpec, with_sound: bool, bitrate: int | None = None):
        self._output = output
        self._size = spec.width, spec.height
        # TIME_BASE is every container's or finer; the muxer rounds to its own.
        self._video: Any = output.add_stream(encoder.name, rate=spec.rate or LIVE_RATE, options=encoder.options)
        context = self._video.codec_context
        context.width, context.height = self._size
        context.pix_fmt = encoder.pix_fmt
        context.time_base = TIME_BASE
        context.framerate = spec.rate or LIVE_RATE
        context.colorspace, context.color_range = encoder.color.colorspace, encoder.color.range
        context.color_primaries, context.color_trc = encoder.color.primaries, encoder.color.trc
        if bitrate:
            context.bit_rate = bitrate
        self._audio: Any = None
        if with_sound:
            self._audio = output.add_stream("aac", rate=_SOUND_RATE)
            self._audio.codec_context.layout = "stereo"
            self._audio.codec_context.format = "fltp"
            self._audio.codec_context.bit_rate = 160_000
        self._maker = PictureMaker(spec.color, spec.height, encoder, self._size)
        self._begun: float | None = None
        self._last_pts = -1
        self._sounds: deque[Sound] = deque(maxlen=_SOUND_WAITING)
        self._lock = threading.Lock()
        self._resampler = av.AudioResampler("fltp", "stereo", _SOUND_RATE)
        self._fifo: Any = AudioFifo()
        self._next_sample: int | None = None
        self.frames = 0
        output.start_encoding()  # connects, or creates the file: what cannot be shows now

    def write(self, shown: Shown) -> None:
        """Encode one picture; one of another size is brought to the first's."""
        if self._begun is None:
            self._begun = shown.at
        picture = self._maker.make(shown.large)
        # Two frames can have come in one moment; the second one is put right behind the first.
        picture.pts = max(round((shown.at - self._begun) / TIME_BASE), self._last_pts + 1)
        picture.time_base = TIME_BASE
        self._last_pts = picture.pts
        self._output.mux(self._video.encode(picture))
        self.frames += 1
        self._write_sounds()

    def hear(self, sound: Sound) -> None:
        """Take sound for later; write() encodes it."""
        if self._audio is None:
            return
        with self._lock:
            self._sounds.append(sound)

    def close(self) -> None:
        """Encode what is left and finalise the container."""
        try:
            if self._begun is not None:
                self._output.mux(self._video.encode(None))
                if self._audio is not None:
                    self._write_sounds()
                    self._encode_sound(partial=True)
                    self._output.mux(self._audio.encode(None))
        finally:
            self._output.close()

    def abandon(self) -> None:
        """Free it all without an end: there is nobody any more who would take it."""
        self._output.close()

    def _write_sounds(self) -> None:
        with self._lock:
            sounds = list(self._sounds)
            self._sounds.clear()
        if self._audio is None or self._begun is None:
            return
        for sound in sounds:
            at = round((sound.at - self._begun) * _SOUND_RATE)
            sound.samples.pts = None
            for samples in self._resampler.resample(sound.samples):
                self._place(samples, at)
                at += samples.samples

    def _place(self, samples: Any, at: int) -> None:
        """Samples follow one another as long as their time says so; else there is a gap, or what overlaps is left out.
        at: of the first, in samples since the beginning."""
        if self._next_sample is None or at - self._next_sample > _JUMP_S * _SOUND_RATE:
            if at < 0:
                return  # from before the first picture
            self._encode_sound(partial=True)
            self._next_sample = at
        elif self._next_sample - at > _JUMP_S * _SOUND_RATE:
            return
        samples.pts = None
        self._fifo.write(samples)
        self._encode_sound(partial=False)

    def _encode_sound(self, partial: bool) -> None:
        while (frame := self._fifo.read(_SOUND_SAMPLES, partial)) is not None:
            assert self._next_sample is not None, "samples come after _place()"
            frame.pts, frame.time_base = self._next_sample, Fraction(1, _SOUND_RATE)
            self._next_sample += frame.samples
            self._output.mux(self._audio.encode(frame))
