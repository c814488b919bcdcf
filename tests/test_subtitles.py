"""Text subtitles that a container cannot hold as they are: the same words at the same moments in another packaging."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from clips import Audio, Disposition, Subtitles, Video, decoded, steady_pts, write_clip
from commands import SMALL
from commands import rtsr as command

import rtsr
from rtsr.errors import ConfigError
from rtsr.sinks.plans import plan_streams
from rtsr.sinks.subtitles import Cue, Run, one_at_a_time
from rtsr.verify import verify

LINES = (
    (100, 400, "plain"),
    (500, 700, "two\nlines, größer, 日本語, 😀"),
    (700, 800, "<i>slanted <b>and bold</b></i>, <u>under</u>"),
    (850, 950, "1 < 2 & <b>3 > 2</b> {x} C:\\new"),
)
WORDS = [
    (100, 400, "plain"),
    (500, 700, "two\nlines, größer, 日本語, 😀"),
    (700, 800, "slanted and bold, under"),
    (850, 950, "1 < 2 & 3 > 2 {x} C:\\new"),
]
TAGGED = {"language": "fra", "title": "Signs"}


@dataclass(frozen=True)
class Sample:
    begin: int
    end: int
    data: bytes


def upscale(source: Path, output: Path, **options: object) -> rtsr.job.Report:
    return rtsr.upscale(source, output, scale=2, backend="reference", **options)  # type: ignore[arg-type]


def samples(path: Path, number: int = 0) -> list[Sample]:
    """Packets of a subtitle stream in milliseconds, without the empty ones with which mov_text fills gaps."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[number]
        found = []
        for packet in container.demux(stream):
            if packet.size and bytes(packet) != b"\0\0":
                tick = Fraction(packet.time_base) * 1000
                begin, end = round(packet.pts * tick), round((packet.pts + packet.duration) * tick)
                found.append(Sample(begin, end, bytes(packet)))
        return found


def words(path: Path, number: int = 0) -> list[tuple[int, int, str]]:
    """Begin, end and text without markup, read out of the packets by hand."""
    with av.open(str(path)) as container:
        codec = container.streams.subtitles[number].codec_context.codec.canonical_name
    return [(s.begin, s.end, plain(s.data, codec)) for s in samples(path, number)]


def plain(data: bytes, codec: str) -> str:
    if codec == "mov_text":
        return data[2 : 2 + int.from_bytes(data[:2], "big")].decode()
    text = re.sub(r"</?[ibu]>", "", data.decode())
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") if codec == "webvtt" else text


def styles(sample: Sample) -> list[tuple[int, int, int]]:
    """Begin, end and flags (1 bold, 2 italic, 4 underlined) of a mov_text sample's style records."""
    box = sample.data[2 + int.from_bytes(sample.data[:2], "big") :]
    assert not box or (int.from_bytes(box[:4], "big") == len(box) and box[4:8] == b"styl")
    records = [box[at : at + 12] for at in range(10, len(box), 12)]
    return [(int.from_bytes(r[:2], "big"), int.from_bytes(r[2:4], "big"), r[6]) for r in records]


@pytest.fixture(params=[".mp4", ".mov", ".webm"])
def converted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    source = write_clip(
        tmp_path / "in.mkv", subtitles=[Subtitles(lines=LINES, metadata=TAGGED, disposition=Disposition.forced)]
    )
    upscale(source, tmp_path / f"out{request.param}")
    return source, tmp_path / f"out{request.param}"


def test_words_and_times_stay(converted: tuple[Path, Path]) -> None:
    assert words(converted[1]) == WORDS


def test_language_title_and_flags_stay(converted: tuple[Path, Path]) -> None:
    with av.open(str(converted[1])) as container:
        (stream,) = container.streams.subtitles
        assert stream.metadata["language"] in ("fra", "fre")
        assert stream.metadata.get("title", stream.metadata.get("name")) == "Signs"
        if converted[1].suffix != ".mov":  # which has no place for it
            assert stream.disposition & Disposition.forced


def test_verify_alone_accepts_it(converted: tuple[Path, Path]) -> None:
    verdict = verify(*converted)
    assert verdict.findings == []
    assert verdict.facts["converted_streams"] == 1


def test_styles_stay_in_mov_text(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=LINES)])
    upscale(source, tmp_path / "out.mp4")
    assert [styles(sample) for sample in samples(tmp_path / "out.mp4")] == [
        [],
        [],
        [(0, 8, 2), (8, 16, 3), (18, 23, 4)],
        [(8, 13, 1)],
    ]


def test_styles_stay_in_webvtt(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=LINES)])
    upscale(source, tmp_path / "out.webm")
    assert [sample.data.decode() for sample in samples(tmp_path / "out.webm")][2:] == [
        "<i>slanted <b>and bold</b></i>, <u>under</u>",
        "1 &lt; 2 &amp; <b>3 &gt; 2</b> {x} C:\\new",
    ]


def test_there_and_back(tmp_path: Path) -> None:
    """SubRip to mov_text to SubRip: the same words, styles and times."""
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=LINES)])
    upscale(source, tmp_path / "there.mp4")
    upscale(tmp_path / "there.mp4", tmp_path / "back.mkv")
    assert samples(tmp_path / "back.mkv") == [Sample(b, e, text.encode()) for b, e, text in LINES]
    assert verify(tmp_path / "there.mp4", tmp_path / "back.mkv").findings == []


def test_webvtt_becomes_mov_text(tmp_path: Path) -> None:
    video = Video(codec="libvpx-vp9", options={"cpu-used": "8"})
    source = write_clip(
        tmp_path / "in.webm", video, subtitles=[Subtitles("webvtt", lines=[(100, 400, "<i>a</i> &amp; b")])]
    )
    upscale(source, tmp_path / "out.mp4")
    assert words(tmp_path / "out.mp4") == [(100, 400, "a & b")]
    assert [styles(sample) for sample in samples(tmp_path / "out.mp4")] == [[(0, 1, 2)]]


def test_what_mkv_holds_is_copied(tmp_path: Path) -> None:
    video = Video(codec="libvpx-vp9", options={"cpu-used": "8"})
    source = write_clip(tmp_path / "in.webm", video, subtitles=[Subtitles("webvtt")])
    assert [plan.action for plan in plan_streams(source, "matroska")] == ["upscale", "copy"]


def test_gaps_stay_gaps_in_mov_text(tmp_path: Path) -> None:
    """An event ends when it should, and not when the next begins: between them the track has an empty sample."""
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=[(100, 300, "a"), (600, 800, "b")])])
    upscale(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [(p.pts, p.duration, bytes(p)) for p in container.demux(subtitles=0) if p.size]
    texts = {100: b"\0\1a", 600: b"\0\1b"}
    assert [(pts, data) for pts, _, data in found] == [(t, texts.get(t, b"\0\0")) for t in (0, 100, 300, 600)]
    assert all(a[0] + a[1] == b[0] for a, b in pairwise(found))


def test_lines_that_overlap_are_both_shown_in_mov_text(tmp_path: Path) -> None:
    lines = [(100, 500, "<i>long</i>"), (300, 800, "late"), (800, 900, "last"), (850, 850, ""), (860, 870, "  ")]
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=lines)])
    upscale(source, tmp_path / "out.mp4")
    shown = [(100, 300, "long"), (300, 500, "long\nlate"), (500, 800, "late"), (800, 900, "last")]
    assert words(tmp_path / "out.mp4") == shown
    assert styles(samples(tmp_path / "out.mp4")[1]) == [(0, 4, 2)]


def test_two_tracks_stay_apart(tmp_path: Path) -> None:
    tracks = [
        Subtitles(lines=[(100, 200, "one")], metadata={"language": "eng"}),
        Subtitles(lines=[(150, 300, "zwei")], metadata={"language": "deu"}),
        Subtitles(lines=[], metadata={"language": "ita"}),
    ]
    source = write_clip(tmp_path / "in.mkv", subtitles=tracks, audio=[Audio()])
    upscale(source, tmp_path / "out.mp4")
    assert [words(tmp_path / "out.mp4", n) for n in range(3)] == [[(100, 200, "one")], [(150, 300, "zwei")], []]


def test_a_trim_cuts_lines_at_both_ends(tmp_path: Path) -> None:
    lines = [(0, 200, "gone"), (100, 400, "begun"), (500, 600, "whole"), (700, 900, "cut"), (950, 990, "later")]
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=lines)])
    start, end = Fraction(1, 4), Fraction(3, 4)
    upscale(source, tmp_path / "out.mp4", start=start, end=end)
    assert words(tmp_path / "out.mp4") == [(0, 150, "begun"), (250, 350, "whole"), (450, 500, "cut")]
    assert verify(source, tmp_path / "out.mp4", start=start, end=end).findings == []


def test_a_conversion_is_told(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles()])
    outcome = command("upscale", source, "-o", tmp_path / "out.mp4", *SMALL)
    assert outcome.code == 0
    assert "converted to mov_text" in outcome.stderr


def test_positions_that_are_lost_are_told(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=[(0, 200, "a"), (300, 400, "{\\an8}b")])])
    report = upscale(source, tmp_path / "out.mp4")
    assert any("1 of 2 lines" in sentence for sentence in report.notices)
    assert words(tmp_path / "out.mp4") == [(0, 200, "a"), (300, 400, "b")]


def test_an_empty_line_inside_a_cue_loses_nothing(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=[(0, 200, "a\n\nb")])])
    upscale(source, tmp_path / "out.mp4")
    assert words(tmp_path / "out.mp4") == [(0, 200, "a\nb")]


# ---- what stays refused ----

ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,20,&H00FFFFFF,0,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.50,Default,,0,0,0,,{\\pos(10,10)}styled
"""


def with_ass(folder: Path) -> Path:
    (folder / "in.ass").write_text(ASS)
    write_clip(folder / "picture.mkv")
    with (
        av.open(str(folder / "picture.mkv")) as picture,
        av.open(str(folder / "in.ass")) as text,
        av.open(str(folder / "in.mkv"), "w") as made,
    ):
        streams = [made.add_stream_from_template(c.streams[0], opaque=True) for c in (picture, text)]
        for container, stream in zip((picture, text), streams, strict=True):
            for packet in container.demux():
                if packet.size:
                    packet.stream = stream
                    made.mux(packet)
    return folder / "in.mkv"


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_styled_subtitles_are_refused_with_the_way_out(suffix: str, tmp_path: Path) -> None:
    source = with_ass(tmp_path)
    with pytest.raises(ConfigError, match=r"styles.*\.mkv.*--drop-unsupported"):
        upscale(source, tmp_path / f"out{suffix}")
    upscale(source, tmp_path / f"out{suffix}", drop_unsupported=True)
    assert len(decoded(tmp_path / f"out{suffix}")) == 24


# ---- verify ----


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (LINES[:3], "missing"),
        ([*LINES[:3], (850, 950, "something else")], "missing"),
        ([*LINES, (960, 990, "an advert")], "not in the input"),
        ([(110, 400, "plain"), *LINES[1:]], "other times"),
        ([(100, 300, "plain"), *LINES[1:]], "other times"),
    ],
    ids=["lost", "changed", "added", "late", "short"],
)
def test_verify_finds_a_loss(lines: list[tuple[int, int, str]], word: str, tmp_path: Path) -> None:
    planes = Video(pts=steady_pts(24))
    source = write_clip(tmp_path / "in.mkv", planes, subtitles=[Subtitles(lines=LINES)])
    other = write_clip(tmp_path / "other.mkv", planes, subtitles=[Subtitles(lines=lines)])
    upscale(other, tmp_path / "out.mp4")
    assert word in "; ".join(verify(source, tmp_path / "out.mp4").findings)


# ---- one cue at a time ----


def cue(begin: int, end: int, text: str) -> Cue:
    return Cue(begin, end, (Run(text, 0),))


def test_lines_in_turn_are_left_alone() -> None:
    cues = [cue(0, 10, "a"), cue(10, 20, "b"), cue(30, 40, "c")]
    assert one_at_a_time(cues) == cues


def test_three_at_once() -> None:
    alone = one_at_a_time([cue(0, 30, "a"), cue(10, 20, "b"), cue(10, 40, "c")])
    assert [(c.begin, c.end, c.text) for c in alone] == [
        (0, 10, "a"),
        (10, 20, "a\nb\nc"),
        (20, 30, "a\nc"),
        (30, 40, "c"),
    ]


# ---- another program ----


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_the_ffmpeg_program_reads_the_same_subtitles(suffix: str, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="pip install imageio-ffmpeg")
    lines = [(100, 400, "plain"), (500, 700, "two\nlines, größer"), (700, 800, "<i>slanted</i> and <b>bold</b>")]
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles(lines=lines)])
    upscale(source, tmp_path / f"out{suffix}")
    read = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / f"out{suffix}"), "-f", "srt", "-"]
    done = subprocess.run(read, capture_output=True, check=True)
    assert done.stderr == b""
    events = [event.split("\n", 2)[1:] for event in done.stdout.decode().replace("\r", "").strip().split("\n\n")]
    stamp = "00:00:00,{:03} --> 00:00:00,{:03}"
    assert events == [[stamp.format(begin, end), text] for begin, end, text in lines]
