"""Corpus: what lies beside the picture: sound, subtitles, attachments, chapters, tags, names."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

from clips import NO_DISPOSITION, Attachment, Chapter, Disposition

from torture.containers import MS, VP9, WITH_SOUND, film
from torture.entry import Entry, Expect
from torture.films import Pictures, Sound, Titles, write_film

H264 = Pictures()
SRT = Titles("subrip", ((100, 400, b"first line"), (500, 900, "zweite Zeile, größer".encode())), {"language": "deu"})
VTT = Titles("webvtt", ((100, 400, b"first line"), (500, 900, "zweite Zeile, größer".encode())), {"language": "eng"})
WITH_TITLES = {"video": 1, "subtitle": 1}
TRACKS = (
    Sound(metadata={"language": "eng", "title": "Original"}),
    Sound("ac3", metadata={"language": "deu", "title": "Synchronfassung"}, disposition=Disposition.dub),
    Sound("aac", metadata={"language": "jpn"}, disposition=Disposition.comment | Disposition.hearing_impaired),
)
LANGUAGES = ("eng", "deu", "jpn")
CHAPTERS = (Chapter(0, 400, "Anfang"), Chapter(400, 1000, "終わり"))


def tx3g(*lines: tuple[int, int, str]) -> Titles:
    """Timed text as mp4 has it, with the empty samples between that end a line."""
    samples: list[tuple[int, int, bytes]] = []
    at = 0
    for begin, end, text in lines:
        if begin > at:
            samples.append((at, begin, b"\0\0"))
        data = text.encode()
        samples.append((begin, end, struct.pack(">H", len(data)) + data))
        at = end
    return Titles("mov_text", samples, {"language": "fra"})


def pgs() -> Titles:
    """Blu-ray subtitles: a white box of 16x4 pixels, then nothing."""

    def part(kind: int, payload: bytes) -> bytes:
        return struct.pack(">BH", kind, len(payload)) + payload

    def composition(number: int, objects: bytes) -> bytes:
        head = struct.pack(">HHBHBBBB", 96, 64, 0x10, number, 0x80 if objects else 0, 0, 0, bool(objects))
        return part(0x16, head + objects)

    window = part(0x17, struct.pack(">BBHHHH", 1, 0, 8, 40, 16, 4))
    palette = part(0x14, bytes((0, 0, 1, 235, 128, 128, 255)))
    lines = (b"\0\x90\x01" + b"\0\0") * 4  # 16 pixels of colour 1, end of line
    picture = part(
        0x15, struct.pack(">HBB", 0, 0, 0xC0) + (len(lines) + 4).to_bytes(3, "big") + struct.pack(">HH", 16, 4) + lines
    )
    shown = composition(0, struct.pack(">HBBHH", 0, 0, 0, 8, 40)) + window + palette + picture + part(0x80, b"")
    gone = composition(1, b"") + window + part(0x80, b"")
    return Titles("hdmv_pgs_subtitle", ((200, 700, shown), (700, 900, gone)), {"language": "eng"})


def latin1_tags(path: Path) -> None:
    """A title in Latin-1 where UTF-8 should be, as old tools wrote it."""
    write_film(path, Pictures("mpeg4", options={"qscale": "2"}), metadata={"title": "Zuerich-XY", "artist": "plain"})
    path.write_bytes(path.read_bytes().replace(b"Zuerich-XY", "Zürich öäß".encode("latin-1")))


STREAMS = [
    Entry(
        "three-tracks.mkv",
        "three sound tracks with languages, titles and dispositions",
        film(H264, *TRACKS),
        Expect(streams={"video": 1, "audio": 3}, languages=LANGUAGES, delay_s=0),
    ),
    Entry(
        "three-tracks.mp4",
        "three sound tracks in mp4",
        film(H264, *TRACKS),
        Expect(streams={"video": 1, "audio": 3}, languages=LANGUAGES, delay_s=0),
    ),
    Entry("surround.mkv", "5.1 sound", film(H264, Sound("ac3", layout="5.1")), Expect(streams=WITH_SOUND, delay_s=0)),
    Entry("surround.mp4", "5.1 AAC", film(H264, Sound(layout="5.1")), Expect(streams=WITH_SOUND, delay_s=0)),
    Entry(
        "long-sound.mkv",
        "sound that goes on for a second after the last picture",
        film(H264, Sound("flac", seconds=Fraction(2))),
        Expect(streams=WITH_SOUND, delay_s=0),
    ),
    Entry(
        "sound-first.mkv",
        "the sound is the first stream, the picture the second",
        film(Sound("flac"), H264),
        Expect(streams=WITH_SOUND, delay_s=0),
    ),
    Entry(
        "two-pictures.mkv",
        "two video streams: the first becomes larger, the second is copied",
        film(H264, Pictures(width=64, height=48, first=100, disposition=NO_DISPOSITION)),
        Expect(streams={"video": 2}),
    ),
    Entry(
        "no-audio.mp4",
        "sound that is left out by order",
        film(H264, Sound()),
        Expect(streams={"video": 1}, verify=False),
        arguments=("--no-audio",),
    ),
    Entry(
        "audio-codec.mp4",
        "sound that is encoded again by order",
        film(H264, Sound()),
        Expect(streams=WITH_SOUND, verify=False, delay_s=0),
        arguments=("--audio-codec", "libopus"),
    ),
    Entry("srt.mkv", "SubRip subtitles", film(H264, SRT), Expect(streams=WITH_TITLES)),
    Entry(
        "mov-text.mp4",
        "timed text in mp4",
        film(H264, tx3g((100, 400, "un"), (500, 900, "deux"))),
        Expect(streams=WITH_TITLES),
    ),
    Entry(
        "webvtt.webm",
        "WebVTT in WebM",
        film(Pictures("libvpx-vp9", options=VP9, time_base=MS), VTT),
        Expect(streams=WITH_TITLES),
    ),
    Entry(
        "ass.mkv",
        "ASS subtitles with a font attached",
        film(H264, Titles("ass", ((100, 400, b"0,0,Default,,0,0,0,,{\\b1}bold"),)), attachments=[Attachment()]),
        Expect(streams={**WITH_TITLES, "attachment": 1}),
    ),
    Entry("pgs.mkv", "Blu-ray subtitles, which are pictures", film(H264, pgs()), Expect(streams=WITH_TITLES)),
    Entry(
        "srt-to-mp4.mkv",
        "SubRip in an mp4 becomes timed text",
        film(H264, SRT),
        Expect(streams=WITH_TITLES, notices=("mov_text|subtitle",)),
        output="out.mp4",
    ),
    Entry(
        "srt-to-webm.mkv",
        "SubRip in a WebM becomes WebVTT",
        film(H264, SRT),
        Expect(streams=WITH_TITLES, codec="vp9", notices=("(?i)webvtt|subtitle",)),
        output="out.webm",
    ),
    Entry(
        "pgs-refused.mkv",
        "pictures as subtitles have no place in an mp4: refused before the start",
        film(H264, pgs()),
        Expect(exit_code=2, sentence=r"(?i)pgs.*(\.mkv|--drop-unsupported)"),
        output="out.mp4",
    ),
    Entry(
        "pgs-dropped.mkv",
        "pictures as subtitles that are left out by order",
        film(H264, pgs()),
        Expect(notices=("(?i)pgs|subtitle",), verify=False),
        output="out.mp4",
        arguments=("--drop-unsupported",),
    ),
    Entry(
        "fonts.mkv",
        "two fonts",
        film(H264, attachments=[Attachment(), Attachment("Kursiv ü.otf", "font/otf")]),
        Expect(streams={"video": 1, "attachment": 2}),
    ),
    Entry(
        "fonts-refused.mkv",
        "a font has no place in an mp4",
        film(H264, attachments=[Attachment()]),
        Expect(exit_code=2, sentence=r"(?i)attachment.*--drop-unsupported"),
        output="out.mp4",
    ),
    Entry(
        "chapters.mkv",
        "chapters",
        film(H264, Sound("flac"), chapters=CHAPTERS),
        Expect(streams=WITH_SOUND, chapters=("Anfang", "終わり")),
    ),
    Entry(
        "chapters.mp4",
        "chapters in mp4",
        film(H264, Sound(), chapters=CHAPTERS),
        Expect(streams=WITH_SOUND | {"data": 1}, chapters=("Anfang", "終わり")),
    ),
    Entry("cover.mp4", "a cover picture", film(H264, Sound(), cover=True), Expect(streams={"video": 2, "audio": 1})),
    Entry(
        "cover.mkv",
        "a cover picture in Matroska",
        film(H264, Sound(), cover=True),
        Expect(streams={"video": 2, "audio": 1}),
    ),
    Entry(
        "chapters-to-mkv.mov",
        "chapters, which QuickTime keeps in a track of text besides",
        film(H264, Sound("pcm_s16le"), chapters=CHAPTERS),
        Expect(streams=WITH_SOUND, chapters=("Anfang", "終わり")),
        output="out.mkv",
    ),
    Entry(
        "timecode-to-mkv.mov",
        "a timecode track becomes a tag",
        film(Pictures(metadata={"timecode": "01:02:03:04"}), Sound("pcm_s16le")),
        Expect(streams=WITH_SOUND),
        output="out.mkv",
    ),
    Entry(
        "timecode.mov",
        "a timecode track",
        film(Pictures(metadata={"timecode": "01:02:03:04"}), Sound("pcm_s16le")),
        Expect(streams={**WITH_SOUND, "data": 1}),
    ),
    Entry(
        "tags.mkv",
        "tags in many scripts",
        film(H264, metadata={"title": "映画 фильм 🎬", "artist": 'a=b;c#d\\e "f"', "comment": "line\nline"}),
        Expect(tags={"title": "映画 фильм 🎬", "ARTIST": 'a=b;c#d\\e "f"', "COMMENT": "line\nline"}),
    ),
    Entry(
        "tags.mp4",
        "tags in many scripts, in mp4",
        film(H264, metadata={"title": "映画 фильм 🎬", "artist": 'a=b;c#d\\e "f"'}),
        Expect(tags={"title": "映画 фильм 🎬", "artist": 'a=b;c#d\\e "f"'}),
    ),
    Entry("latin1-tags.avi", "a title in the wrong encoding", latin1_tags, Expect(tags={"artist": "plain"})),
    Entry(
        "with space, 50% & ü.mp4",
        "a name with a space, a percent sign and an umlaut",
        film(H264),
        Expect(),
        output="out 50% ü.mp4",
    ),
    Entry("12:30 talk.mkv", "a name with a colon, like a protocol's", film(H264), Expect(), output="12:30 out.mkv"),
    Entry("two\nlines.mkv", "a name of two lines", film(H264), Expect(), output="out\nput.mkv"),
    Entry("%05d.mp4", "a name that looks like a pattern of pictures", film(H264), Expect(), output="out-pattern.mp4"),
]
