"""The one source of a live session, from what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rtsr.errors import ConfigError, SourceError
from rtsr.live.contract import LiveSource
from rtsr.live.devices import camera, screen
from rtsr.live.pattern import PatternSource
from rtsr.live.sound import WithMicrophone
from rtsr.live.stream import AvSource, Opening, shown_url

TEST_PATTERN = "testsrc"
_PICTURE_S = 15.0  # to wait for a first picture
_SENDER_S = 3600  # to wait for somebody who sends
_LISTENING = {
    "rtmp": {"listen": "1"},
    "tcp": {"listen": "1"},
    # FFmpeg's default time to listen is -1, which it then refuses as out of range.
    "rtsp": {"rtsp_flags": "listen", "listen_timeout": str(_SENDER_S)},
}


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """One of webcam (number, name or device file), screen (region, empty for all) and source (URL, file, `testsrc`).

    size, rate: asked of a camera, a screen or the test pattern. retry: attempts to connect again, in a row. listen:
    wait for somebody who sends to the URL, instead of connecting. microphone: name of a device to take the sound from,
    empty for the default one.
    """

    webcam: str | None = None
    screen: str | None = None
    source: str | None = None
    size: tuple[int, int] | None = None
    rate: Fraction | None = None
    loop: bool = False
    retry: int = 5
    stall_s: float = 5.0
    listen: bool = False
    microphone: str | None = None


def open_live_source(choice: SourceChoice, notice: Callable[[str], None] = lambda sentence: None) -> LiveSource:
    """Raises ConfigError for a choice that means nothing, SourceError for what does not open."""
    source = _pictures(choice, notice)
    if choice.microphone is None:
        return source
    try:
        return WithMicrophone(source, choice.microphone, notice)
    except BaseException:
        source.close()
        raise


def _pictures(choice: SourceChoice, notice: Callable[[str], None]) -> LiveSource:
    asked = [what for what in (choice.webcam, choice.screen, choice.source) if what is not None]
    if len(asked) != 1:
        raise ConfigError("say what to upscale: one of --webcam, --screen and --source (`--source testsrc` to try it)")
    if choice.source == TEST_PATTERN:
        return PatternSource(*(choice.size or (640, 360)), choice.rate or Fraction(30))
    if choice.webcam is not None:
        opening = camera(choice.webcam, choice.size, choice.rate)
    elif choice.screen is not None:
        if choice.size:
            raise ConfigError("--size is not for --screen; write its region, as --screen 640x360+0+0")
        opening = screen(choice.screen, choice.rate)
    else:
        opening = _media(choice.source or "", choice.listen)
        if choice.size or choice.rate:
            raise ConfigError("--size and --rate are for --webcam and the test pattern; a stream has its own")
    if choice.listen and not opening.options:
        raise ConfigError("--listen is for --source rtmp://, rtsp:// and tcp://; udp listens anyway")
    if choice.loop and opening.kind != "file":
        raise ConfigError("--loop is for files")
    return AvSource(opening, loop=choice.loop, retry=choice.retry, stall_s=choice.stall_s, notice=notice)


def _media(name: str, listen: bool) -> Opening:
    if "://" in name:
        options = _LISTENING.get(name.partition("://")[0].lower(), {}) if listen else {}
        patience = _SENDER_S if listen else _PICTURE_S
        return Opening(name, shown_url(name), "stream", None, options, patience_s=patience)
    path = Path(name)
    if not path.exists():
        raise SourceError(f"{path}: no such file")
    if path.is_dir():
        raise SourceError(f"{path}: is a folder, not a video file")
    return Opening(f"file:{path}", name, "file" if path.is_file() else "stream")
