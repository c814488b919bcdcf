"""`rtsr live`: options -> source, engines, sinks -> session. Light to import: everything heavy comes when it runs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from rtsr.cli_options import ScaleOption
from rtsr.errors import ConfigError, Interrupted, SinkError

if TYPE_CHECKING:
    from rtsr.live.session import Session
    from rtsr.live.sources import SourceChoice
    from rtsr.live.summary import Summary

_ONE_S = 1.0  # signals this close are one: timeout(1) sends its own twice
# Options that may stand without a value -> the value they then have.
_BARE = {"--webcam": "0", "--screen": "", "--microphone": "", "--web": "0", "--virtual-camera": ""}


class LiveCommand(typer.core.TyperCommand):
    """Lets `--webcam` and the other options of _BARE stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_values(args))


def with_values(args: list[str]) -> list[str]:
    """Arguments in which every option of _BARE has a value."""
    out = []
    for i, argument in enumerate(args):
        out.append(argument)
        if argument in _BARE and (i + 1 == len(args) or args[i + 1].startswith("-")):
            out.append(_BARE[argument])
    return out


def live(
    webcam: Annotated[
        str | None,
        typer.Option(metavar="[N|NAME|/dev/videoN]", help="A camera; alone, the first.", show_default=False),
    ] = None,
    screen: Annotated[
        str | None,
        typer.Option(metavar="[WxH+X+Y]", help="The screen, or a part of it.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="URL|FILE|testsrc",
            help="rtsp://, rtmp://, http(s)://, udp://, a file at its own pace, or a test pattern.",
            show_default=False,
        ),
    ] = None,
    microphone: Annotated[
        str | None,
        typer.Option(metavar="[NAME]", help="Sound for --record and --to, as a camera has none.", show_default=False),
    ] = None,
    list_devices: Annotated[bool, typer.Option("--list", help="Name the cameras with sizes and rates, and exit.")] = (
        False
    ),
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of the camera or the test pattern.", show_default=False)
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="Frames a second of the camera, screen or test pattern.", show_default=False),
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again when it ends.")] = False,
    listen: Annotated[
        bool, typer.Option("--listen", help="Wait for a sender (OBS, ...) at the --source rtmp:// or tcp://.")
    ] = False,
    retry: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Attempts to connect again, in a row: to a --source (5 if not told) and to a --to (0 if not told).",
            show_default=False,
        ),
    ] = None,
    stall: Annotated[float, typer.Option(metavar="SECONDS", help="Silence after which a source counts as broken.")] = 5,
    scale: ScaleOption = 4,
    model: Annotated[str, typer.Option(help="The best tier to use: nano, fast, balanced or quality.")] = "balanced",
    backend: Annotated[str, typer.Option(help="As of `rtsr upscale`; reference is bicubic.")] = "auto",
    degradation: Annotated[str, typer.Option(help="stream (compressed) or clean.")] = "stream",
    detail: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", help="As of `rtsr upscale`; to begin with, the d key turns it.", show_default=False
        ),
    ] = None,
    hold_fps: Annotated[
        str, typer.Option(metavar="N|off|source", help="Take a quicker tier when this rate does not hold.")
    ] = "source",
    window: Annotated[bool, typer.Option("--window", help="Show it in a window. [where there is a display]")] = False,
    web: Annotated[
        str | None,
        typer.Option(metavar="[PORT]", help="Show it on a page. [where there is no display]", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the page; other than loopback needs its token.")] = "127.0.0.1",
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".mkv or .mp4, with the source's sound.", show_default=False)
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="URL", help="Send it: rtmp://, rtsp://, udp://.", show_default=False)
    ] = None,
    bitrate: Annotated[str | None, typer.Option(help="Of --to: 4M, 2500k.", show_default=False)] = None,
    virtual_camera: Annotated[
        str | None,
        typer.Option(metavar="[DEVICE]", help="As a camera for other programs (v4l2loopback).", show_default=False),
    ] = None,
    null: Annotated[bool, typer.Option("--null", help="Show nothing, only measure.")] = False,
    overlay: Annotated[bool, typer.Option("--overlay/--no-overlay", help="Figures in the window.")] = True,
    split: Annotated[bool, typer.Option("--split", help="Begin with before and after side by side.")] = False,
    folder: Annotated[Path, typer.Option(help="Where snapshots and recordings by key go.")] = Path(),
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End by itself after this time.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a recording that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON document on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing unless something goes wrong.")] = False,
) -> None:
    """Upscale a camera, the screen or a stream while you watch.

    Keys in the window: s split (drag the line), z lens, t tier, d detail, p snapshot, r record, f full screen, q quit.

    Example: `rtsr live --webcam`, or `rtsr live --source testsrc` to try it without a camera.
    """
    if list_devices:
        _list(as_json)
        return
    _check_positive(("--duration", duration), ("--stall", stall))
    if retry is not None and retry < 0:
        raise ConfigError(f"--retry {retry} is no number of attempts")
    from rtsr.backends import EngineChoice
    from rtsr.live.devices import parse_size
    from rtsr.live.sources import SourceChoice
    from rtsr.parse import parse_rate

    choice = SourceChoice(
        *(webcam, screen, source, parse_size("--size", size), parse_rate(rate), loop),
        **({} if retry is None else {"retry": retry}),
        stall_s=stall,
        listen=listen,
        microphone=microphone,
    )
    engine = EngineChoice(scale, model, degradation, backend, detail=detail)

    def notice(sentence: str) -> None:
        if not quiet:
            print(f"note: {sentence}", file=sys.stderr, flush=True)

    with (
        _interruptible() as interruptible,
        _session(choice, engine, parse_hold(hold_fps), split, folder, notice) as session,
    ):
        interruptible.session = session
        asked = any((window, web is not None, record, to, virtual_camera is not None, null))
        _add_sinks(
            session,
            window=window or (not asked and _has_display()),
            web=web if asked else (None if _has_display() else "0"),
            host=host,
            record=record,
            to=to,
            bitrate=bitrate,
            retry=retry or 0,
            virtual_camera=virtual_camera,
            null=null,
            overlay=overlay,
            overwrite=overwrite,
            notice=notice,
        )
        try:
            summary = session.run(duration)
            if summary.sink_errors:  # others went on, but this is not what was asked for
                raise SinkError("; ".join(summary.sink_errors))
        except Exception:
            _tell(session.summary(), False, quiet)
            raise
        _tell(summary, as_json, quiet)


def parse_hold(text: str) -> Any:
    """`source`, `off` or frames a second, as a Hold. Raises ConfigError."""
    from rtsr.live.hold import Hold

    if text in ("source", "off"):
        return Hold(text == "source")
    try:
        fps = float(text)
    except ValueError:
        fps = 0.0
    if not 0 < fps <= 1000:
        raise ConfigError(f"--hold-fps {text!r} is no rate; write frames a second, `source` or `off`")
    return Hold(True, fps)


@contextmanager
def _session(
    choice: SourceChoice, engine: Any, hold: Any, split: bool, folder: Path, notice: Callable[[str], None]
) -> Iterator[Session]:
    """An opened session; closed as well if it never runs."""
    from rtsr.live.session import Session
    from rtsr.live.sources import open_live_source
    from rtsr.live.tiers import ladder

    told: list[Callable[[str], None]] = [notice]
    tiers = ladder(engine, lambda sentence: told[-1](sentence))
    source = open_live_source(choice, lambda sentence: told[-1](sentence))
    try:
        session = Session(
            source, tiers, engine.scale, hold=hold, split=0.5 if split else None, folder=folder, notice=notice
        )
    except BaseException:
        source.close()
        raise
    told.append(session.note)  # from here on, what the source says is seen in the window and on the page as well
    try:
        yield session
    except BaseException:
        if not session.has_run:
            session.close_unused()
        raise


def _add_sinks(
    session: Session,
    *,
    window: bool,
    web: str | None,
    host: str,
    record: Path | None,
    to: str | None,
    bitrate: str | None,
    retry: int,
    virtual_camera: str | None,
    null: bool,
    overlay: bool,
    overwrite: bool,
    notice: Callable[[str], None],
) -> None:
    """Open what was asked for, each heavy library only then. The first is where latency is measured."""
    spec = session.output_spec
    if window:
        from rtsr.live.window import WindowSink

        session.add(WindowSink(session, overlay))
    if web is not None:
        if not web.isdigit() or int(web) > 65535:
            raise ConfigError(f"--web {web!r} is no port")
        try:
            from rtsr.live.web import WebSink
        except ImportError as error:
            raise ConfigError(f"--web needs more packages ({error}): pip install 'rtsr[live]'") from error
        page = WebSink(session, session.source.spec, session.scale, host=host, port=int(web), notice=session.note)
        session.add(page)
        notice(f"the picture is at {page.url}")
    if null:
        from rtsr.live.outputs import NullSink

        session.add(NullSink())
    if record is not None:
        session.record(True, record, overwrite)
    if to is not None:
        from rtsr.live.send import SendSink
        from rtsr.sinks.encoding import parse_bitrate

        bits = parse_bitrate(bitrate) if bitrate else None
        session.add(SendSink(to, spec, session.source, bits, retry, session.note))
    if virtual_camera is not None:
        from rtsr.live.virtual_camera import VirtualCameraSink

        session.add(VirtualCameraSink(virtual_camera or None, spec))


def _has_display() -> bool:
    from rtsr.live.window import why_no_window

    return why_no_window() is None


def _list(as_json: bool) -> None:
    from dataclasses import asdict

    from rtsr.live.devices import list_cameras

    cameras = list_cameras()
    if as_json:
        print(json.dumps([asdict(camera) for camera in cameras]))
        return
    if not cameras:
        print("no cameras found; `rtsr live --source testsrc` runs without one")
    for camera in cameras:
        print(f"{camera.id}  {camera.name}")
        for mode in camera.modes:
            rates = ", ".join(f"{rate:g}" for rate in mode.rates)
            print(f"    {mode.size:<10} {mode.format:<24} {rates} fps")


def _tell(summary: Summary, as_json: bool, quiet: bool) -> None:
    if not quiet:
        for line in summary.lines():
            print(line, file=sys.stderr)
    if as_json:
        print(json.dumps(summary.as_dict()))


def _check_positive(*options: tuple[str, float | None]) -> None:
    for name, value in options:
        if value is not None and not value > 0:
            raise ConfigError(f"{name} {value:g} is no length of time; write seconds")


class _Interruptible:
    """What Ctrl-C and SIGTERM do. While there is no session they end the process; then the session; a second time the
    process, whatever it waits for."""

    session: Session | None = None
    _first_at: float | None = None

    def __call__(self, signum: int, frame: Any) -> None:
        session = self.session
        now = time.monotonic()
        if self._first_at is not None and now - self._first_at < _ONE_S:
            return
        if session is None or self._first_at is not None:
            lost = "; a recording may lack its last seconds" if session else " before the first picture"
            os.write(2, f"rtsr: interrupted{lost}\n".encode())  # print() may be at work in this thread
            os._exit(Interrupted.exit_code)  # a thread may be compiling, and cannot be asked to stop
        self._first_at = now
        if not session.has_run:
            raise KeyboardInterrupt  # out of the opening of a sink
        session.interrupt()


@contextmanager
def _interruptible() -> Iterator[_Interruptible]:
    handler = _Interruptible()
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield handler
    except KeyboardInterrupt:  # the sinks were being opened
        raise Interrupted("interrupted before the first picture") from None
    finally:
        for number, old in before.items():
            signal.signal(number, old)
