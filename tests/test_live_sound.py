"""`--microphone`: sound beside pictures that have none. The device is a layer that yields what PyAV yields, and ALSA's
`null` where ALSA is configured; no real microphone was ever tried."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import av.error
import numpy as np
import pytest
from live_fakes import FakeDevice, Gallery, picture, small_ladder

from rtsr.errors import ConfigError, SourceError
from rtsr.live.pattern import PatternSource
from rtsr.live.session import Session
from rtsr.live.sound import WithMicrophone
from rtsr.live.stream import AvSource, Opening

RATE, SAMPLES = 16_000, 320  # 20 ms


class FakeMicrophone:
    """A tone, stamped with the wall clock in microseconds as ALSA's is; breaks after so many packets."""

    def __init__(self, breaks_after: int = 10_000):
        self.streams = SimpleNamespace(audio=[None])
        self.closed = 0
        self._breaks_after = breaks_after

    def demux(self, stream: object) -> Iterator[Any]:
        for _ in range(self._breaks_after):
            time.sleep(SAMPLES / RATE)
            wave = (8000 * np.sin(np.arange(SAMPLES) * 0.2)).astype(np.int16)
            samples = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            samples.rate, samples.time_base = RATE, Fraction(1, 1_000_000)
            samples.pts = int((time.time() - SAMPLES / RATE) * 1e6)
            yield SimpleNamespace(decode=lambda samples=samples: [samples])
        raise av.error.OSError(19, "No such device", "hw:1")

    def close(self) -> None:
        self.closed += 1


def sound_of(path: Path) -> tuple[float, float, float]:
    """Seconds of the first and the last sound, and its loudest sample."""
    with av.open(str(path)) as recording:
        frames = list(recording.decode(audio=0))
        return (
            float(frames[0].time or 0),
            float(frames[-1].time or 0),
            max(np.abs(f.to_ndarray()).max() for f in frames),
        )


def test_a_cameras_recording_has_the_microphones_sound_in_time(tmp_path: Path) -> None:
    def take() -> av.VideoFrame:
        time.sleep(0.03)
        return picture()

    camera = AvSource(
        Opening("/dev/video0", "camera 0", "camera", "v4l2"), open_input=lambda *a, **k: FakeDevice(*[take] * 200)
    )
    microphone = FakeMicrophone()
    source = WithMicrophone(camera, "hw:1", open_input=lambda *a, **k: microphone)
    session = Session(source, small_ladder(), 2)
    session.record(True, tmp_path / "out.mkv")
    session.run(1.2)
    first, last, loudest = sound_of(tmp_path / "out.mkv")
    assert first < 0.5 and last > first and 0.15 < loudest < 0.5
    assert microphone.closed == 1


def test_a_microphone_pulled_out_is_told_and_the_pictures_go_on() -> None:
    said: list[str] = []
    microphone = FakeMicrophone(breaks_after=2)
    source = WithMicrophone(PatternSource(64, 48), "hw:1", said.append, lambda *a, **k: microphone)
    session, gallery = Session(source, small_ladder(), 2), Gallery()
    session.add(gallery)
    session.run(0.4)
    assert said == ["microphone hw:1 stopped (No such device); the pictures go on without it"]
    assert gallery.pictures and microphone.closed == 1


@pytest.mark.skipif(not Path("/usr/share/alsa").is_dir(), reason="ALSA is not configured here")
def test_alsa_is_really_opened() -> None:
    with pytest.raises(SourceError, match="microphone no-such-card does not open by alsa"):
        WithMicrophone(PatternSource(64, 48), "no-such-card")
    heard: list[object] = []
    source = WithMicrophone(PatternSource(64, 48), "null")
    stop = source.listen(heard.append)
    end = time.monotonic() + 20
    while not heard and time.monotonic() < end:
        time.sleep(0.01)
    stop()
    source.close()
    assert heard


def test_a_build_without_sound_devices_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.formats_available", {"mp4"})
    with pytest.raises(ConfigError, match="this build of PyAV records no sound"):
        WithMicrophone(PatternSource(64, 48), "")
