"""Sound beside the pictures: who listens to it, and a microphone for sources that have none of their own."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import av.error

from rtsr.errors import ConfigError, SourceError
from rtsr.live.clock import CaptureClock
from rtsr.live.contract import Captured, LiveSource, Sound

# FFmpeg's devices for sound, the best first, and what they call the default one; dshow has none.
_DEVICES = {
    "linux": (("pulse", "default"), ("alsa", "default")),
    "darwin": (("avfoundation", ":default"),),
    "win32": (("dshow", None),),
}
_ALSA_CONFIG = Path("/usr/share/alsa")
_JOIN_S = 3.0


class Ears:
    """Who listens to a source. Any threads."""

    def __init__(self) -> None:
        self._all: tuple[Callable[[Sound], None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._all)

    def listen(self, ear: Callable[[Sound], None]) -> Callable[[], None]:
        """LiveSource.listen()."""
        self._all = (*self._all, ear)

        def stop() -> None:
            self._all = tuple(other for other in self._all if other is not ear)

        return stop

    def hear(self, sound: Sound) -> None:
        for ear in self._all:
            ear(sound)


class WithMicrophone:
    """A source with the sound of a recording device in place of its own. Never run on real hardware.

    name: the system's name for the device, empty for its default one. notice: gets a sentence if it stops. Owns the
    source. Raises ConfigError where this build of PyAV records no sound, SourceError if the device does not open.
    """

    def __init__(
        self,
        source: LiveSource,
        name: str,
        notice: Callable[[str], None] = lambda sentence: None,
        open_input: Callable[..., Any] = av.open,
    ):
        self.spec, self.name, self.came_as, self.has_sound = source.spec, source.name, source.came_as, True
        self._source, self._notice = source, notice
        device, url = _device(name)
        self._title = f"microphone {url}"
        try:
            self._container = open_input(url, format=device)
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self._title} does not open by {device} ({error.strerror or error})") from error
        self._ears, self._closing = Ears(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="rtsr-microphone", daemon=True)
        self._thread.start()

    def frames(self) -> Iterator[Captured]:
        return self._source.frames()

    def listen(self, ear: Callable[[Sound], None]) -> Callable[[], None]:
        return self._ears.listen(ear)

    def close(self) -> None:
        self._closing.set()
        self._source.close()
        self._thread.join(_JOIN_S)  # a device that blocks keeps its thread

    def _work(self) -> None:
        clock = CaptureClock(paced=False, is_device=True)
        try:
            for packet in self._container.demux(self._container.streams.audio[0]):
                arrived = time.monotonic()
                if self._closing.is_set():
                    break
                for samples in packet.decode():
                    stamp = float(samples.pts * samples.time_base) if samples.pts is not None else None
                    self._ears.hear(Sound(samples, clock.moment(stamp, arrived)))
        except (av.error.FFmpegError, OSError) as error:
            self._notice(f"{self._title} stopped ({error.strerror or error}); the pictures go on without it")
        finally:
            self._container.close()


def _device(name: str) -> tuple[str, str]:
    """FFmpeg's format and URL. Raises ConfigError."""
    platform = "linux" if sys.platform.startswith("linux") else sys.platform
    known = _DEVICES.get(platform, ())
    found = next(((device, default) for device, default in known if device in av.formats_available), None)
    if found is None:
        wanted = " or ".join(device for device, _ in known) or "a known device"
        raise ConfigError(f"--microphone: this build of PyAV records no sound (it has no {wanted})")
    device, default = found
    if device == "alsa" and _ALSA_CONFIG.exists():
        # The library in PyAV's wheels looks for its configuration where they were built.
        os.environ.setdefault("ALSA_CONFIG_DIR", str(_ALSA_CONFIG))
    if not name and default is None:
        raise ConfigError("--microphone needs the device's name here, as Windows shows it")
    prefix = {"avfoundation": ":", "dshow": "audio="}.get(device, "")
    return device, f"{prefix}{name}" if name else str(default)
