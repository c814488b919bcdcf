"""Text subtitles in another packaging, where a container has no place for the one they came in.

Read with FFmpeg's decoders, which tell every text format as ASS; written here, because FFmpeg's encoders lose italics
inside bold (mov_text), show only one of two lines that overlap (mov_text) and leave `&` and `<` unescaped (WebVTT).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import av.container
import av.error
import av.stream

from rtsr.errors import SourceError
from rtsr.sources.media import Input, open_input

# Formats that hold text, line breaks, bold, italics and underlines and little else.
PLAIN = {"subrip", "webvtt", "text", "mov_text"}
# Of rich text and pictures, most would be lost: not converted. What would be lost is said.
LOST = {
    **dict.fromkeys(("ass", "ssa"), "their styles, positions and fonts"),
    **dict.fromkeys(("hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub"), "them, for they are pictures"),
}
TARGETS = {"mp4": "mov_text", "mov": "mov_text", "webm": "webvtt", "matroska": "subrip"}
CLOCK = Fraction(1, 1000)  # all of these formats count in milliseconds, or may
_LAST_LASTS_MS = 5000  # a last line whose end nobody has said; any other lasts until the next
_TAG = re.compile(r"\{\\([^{}]*)\}")
_PIECE = re.compile(r"\{\\[^{}]*\}|\{\}|\\[Nh{}]|\\\u2060|.", re.DOTALL)
_JOINER = "\u2060"  # FFmpeg puts one behind a literal backslash of WebVTT
_STYLES = {"b": 1, "i": 2, "u": 4}  # the bits of a mov_text style record
_OPEN = {1: "<b>", 2: "<i>", 4: "<u>"}
_CLOSE = {1: "</b>", 2: "</i>", 4: "</u>"}
_ASS_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\nPlayResX: 384\nPlayResY: 288\n\n[V4+ Styles]\n"
    b"Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
    b"Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, "
    b"MarginV, Encoding\nStyle: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\n\n"
    b"[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
)
_FONT_SIZE = 16  # of the header above; a style record repeats it


@dataclass(frozen=True, slots=True)
class Run:
    """Text in one style, a sum of _STYLES."""

    text: str
    style: int


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown from begin to end, in milliseconds. placed: its format also said where or in which colour."""

    begin: int
    end: int
    runs: tuple[Run, ...]
    placed: bool = False

    @property
    def text(self) -> str:
        return "".join(run.text for run in self.runs)


def conversion(codec: str, container_format: str) -> str:
    """The codec that text subtitles become in a container that cannot hold them; empty if there is none."""
    target = TARGETS.get(container_format, "")
    return target if codec in PLAIN and codec != target else ""


def read_cues(
    path: Input, indexes: Iterable[int], start: Fraction | None = None, end: Fraction | None = None
) -> dict[int, list[Cue]]:
    """All lines of some subtitle streams in the order of their beginnings, cut to the trim and moved to its start.

    Raises SourceError when the file cannot be read to its end.
    """
    cues: dict[int, list[Cue]] = {index: [] for index in indexes}
    with open_input(path) as container:
        for stream in container.streams:
            if stream.index not in cues:
                stream.discard = av.stream.Discard.all
        try:
            for packet in container.demux([container.streams[index] for index in cues]) if cues else ():
                if packet.size and packet.pts is not None:
                    cues[packet.stream.index] += _decoded(packet)
        except av.error.FFmpegError as error:
            raise SourceError(f"{path}: reading its subtitles failed: {error.strerror or error}") from error
    first = round(start / CLOCK) if start else 0
    last = round(end / CLOCK) if end is not None else None
    return {index: list(_within(_ended(found), first, last)) for index, found in cues.items()}


def _decoded(packet: Any) -> Iterator[Cue]:
    context, time_base = packet.stream.codec_context, Fraction(packet.time_base)
    placed = packet.has_sidedata("webvtt_settings")
    if context.codec.canonical_name == "subrip":
        # FFmpeg's decoder stops at an empty line, behind which there may be more, and swallows `< b & c >` as a tag.
        data = re.sub(rb"\r?\n(\s*\n)+", b"\n", bytes(packet).strip())
        mended = av.Packet(re.sub(rb"<(?![/a-zA-Z])", b"<" + _JOINER.encode(), data))
        mended.pts, mended.duration, mended.time_base = packet.pts, packet.duration, packet.time_base
        packet = mended
    begin = packet.pts * time_base
    decoded = context.decode2(packet)
    for rect in decoded or ():
        _, _, text = rect.ass.decode("utf-8", "replace").partition(",,0,0,0,,")
        runs = tuple(_runs(text))
        if runs:
            finish = begin + (packet.duration or 0) * time_base
            yield Cue(round(begin / CLOCK), round(finish / CLOCK), runs, placed or _is_placed(text))


def _is_placed(ass: str) -> bool:
    """Whether a line has tags beside those for bold, italics and underlines."""
    names = (re.match(r"[a-z]*", tag) for tags in _TAG.findall(ass) for tag in tags.split("\\"))
    return any(match and match[0] not in ("b", "i", "u", "r", "") for match in names)


def _runs(ass: str) -> Iterator[Run]:
    """The text of an ASS event in pieces of one style; nothing for one without text."""
    text, style = "", 0
    runs: list[Run] = []
    for piece in _PIECE.findall(ass.replace("\r", "")):
        if not piece.startswith("{\\"):
            text += _literal(piece)
            continue
        changed = style
        for tag in piece[2:-1].split("\\"):
            if tag.startswith("r"):
                changed = 0
            elif (bit := _STYLES.get(tag[:1])) and tag[1:].isdigit():
                changed = changed | bit if int(tag[1:]) else changed & ~bit
        if changed != style and text:
            runs.append(Run(text, style))
            text = ""
        style = changed
    if text:
        runs.append(Run(text, style))
    return iter(runs if "".join(run.text for run in runs).strip() else [])


def _literal(piece: str) -> str:
    """A character as ASS spells it, in itself. `\\n` is left alone: decoders pass it on from `C:\\new` as it is."""
    spelled = {"\\N": "\n", "\\h": "\u00a0", "\\{": "{", "\\}": "}", "{}": "", "\\" + _JOINER: "\\", _JOINER: ""}
    return spelled.get(piece, piece)


def _ended(cues: list[Cue]) -> list[Cue]:
    """Cues in order; those of unknown end last until the next begins."""
    cues = sorted(cues, key=lambda cue: cue.begin)
    begins = sorted({cue.begin for cue in cues})
    following = dict(zip(begins, [*begins[1:], begins[-1] + _LAST_LASTS_MS], strict=True)) if begins else {}
    return [cue if cue.end > cue.begin else replace(cue, end=following[cue.begin]) for cue in cues]


def _within(cues: list[Cue], first: int, last: int | None) -> Iterator[Cue]:
    for cue in cues:
        begin, end = max(cue.begin, first), cue.end if last is None else min(cue.end, last)
        if begin < end:
            yield replace(cue, begin=begin - first, end=end - first)


def one_at_a_time(cues: list[Cue]) -> list[Cue]:
    """The same film with never more than one cue at a moment, for mov_text: lines that overlap share one."""
    moments = sorted({moment for cue in cues for moment in (cue.begin, cue.end)})
    alone: list[Cue] = []
    waiting, shown = iter([*cues, None]), []
    ahead = next(waiting)
    for begin, end in pairwise(moments):
        shown = [cue for cue in shown if cue.end > begin]
        while ahead is not None and ahead.begin <= begin:
            shown.append(ahead)
            ahead = next(waiting)
        runs = [run for cue in shown for run in (Run("\n", 0), *cue.runs)][1:]
        if runs and alone and alone[-1].end == begin and alone[-1].runs == tuple(runs):
            alone[-1] = replace(alone[-1], end=end)
        elif runs:
            alone.append(Cue(begin, end, tuple(runs)))
    return alone


def add_subtitles(output: av.container.OutputContainer, codec: str) -> Any:
    """A stream of one of the TARGETS."""
    stream: Any = output.add_stream(codec)
    stream.codec_context.subtitle_header = _ASS_HEADER
    stream.codec_context.time_base = CLOCK
    return stream


def packets_of(cues: list[Cue], codec: str) -> Iterator[av.Packet]:
    for cue in one_at_a_time(cues) if codec == "mov_text" else cues:
        packet = av.Packet(_mov_text(cue) if codec == "mov_text" else _marked_up(cue, codec))
        packet.pts = packet.dts = cue.begin
        packet.duration, packet.time_base, packet.is_keyframe = cue.end - cue.begin, CLOCK, True
        yield packet


def lost_with(cues: list[Cue], codec: str) -> str:
    """What a conversion loses that is no text and no style, in words; empty if nothing."""
    placed = sum(cue.placed for cue in cues)
    return f"{placed} of {len(cues)} lines have positions or colours, which {codec} lacks here" if placed else ""


def _mov_text(cue: Cue) -> bytes:
    """3GPP timed text (TS 26.245): a length, UTF-8, and a box of styles by character."""
    text = cue.text.encode()[:65535].decode(errors="ignore").encode()
    records, position = [], 0
    for run in cue.runs:
        behind = position + len(run.text)
        if run.style:
            font = b"\0\1" + bytes([run.style, _FONT_SIZE]) + b"\xff\xff\xff\xff"
            records.append(position.to_bytes(2, "big") + behind.to_bytes(2, "big") + font)
        position = behind
    sample = len(text).to_bytes(2, "big") + text
    if not records or position > 65535:
        return sample
    body = b"styl" + len(records).to_bytes(2, "big") + b"".join(records)
    return sample + (len(body) + 4).to_bytes(4, "big") + body


def _marked_up(cue: Cue, codec: str) -> bytes:
    """SubRip or WebVTT; only the latter knows how to write a literal `<`."""
    marked, opened = "", list[int]()
    for run in cue.runs:
        while opened and any(bit & ~run.style for bit in opened):
            marked += _CLOSE[opened.pop()]
        for bit in (1, 2, 4):
            if run.style & bit and bit not in opened:
                opened.append(bit)
                marked += _OPEN[bit]
        text = run.text
        if codec == "webvtt":
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        marked += text
    return (marked + "".join(_CLOSE[bit] for bit in reversed(opened))).encode()
