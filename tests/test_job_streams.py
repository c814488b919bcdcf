"""What is not the picture goes through unchanged: sound, subtitles, fonts, chapters, tags, flags; or is refused."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from clips import (
    Attachment,
    Audio,
    Chapter,
    Disposition,
    Subtitles,
    Video,
    chapters,
    decoded,
    draw,
    jpeg,
    packets,
    write_clip,
)

import rtsr
from rtsr.errors import ConfigError
from rtsr.job import Report

MARKS = [Chapter(0, 500, "one"), Chapter(500, 1000, "zwei, größer")]
TRACKS = [
    Audio("aac", metadata={"language": "eng", "title": "Main"}),
    Audio("aac", metadata={"language": "deu", "title": "Kommentar"}, disposition=Disposition.comment),
]
MKV = {
    "audio": [*TRACKS, Audio("libopus", metadata={"language": "fra"}), Audio("flac", metadata={"language": "ita"})],
    "subtitles": [
        Subtitles(metadata={"language": "eng", "title": "signs"}, disposition=Disposition.forced),
        Subtitles(metadata={"language": "rus"}),
    ],
    "chapters": MARKS,
    "attachments": [Attachment(), Attachment("Schrift fett.otf", "font/otf", bytes(1000))],
    "metadata": {"title": "A film", "artist": "Someone", "MY_TAG": "mine", "comment": "with ünïcode"},
}
MP4 = {
    "audio": TRACKS,
    "subtitles": [Subtitles("mov_text", metadata={"language": "fra"})],
    "chapters": MARKS,
    "metadata": {"title": "A film", "artist": "Someone", "comment": "with ünïcode", "my_tag": "mine"},
}


def upscale(source: Path, output: Path, **options: object) -> Report:
    return rtsr.upscale(source, output, scale=2, backend="reference", **options)


@pytest.fixture(params=[".mkv", ".mp4", ".mov"])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A clip with everything its container holds, and the same upscaled."""
    source = write_clip(tmp_path / f"in{request.param}", **(MKV if request.param == ".mkv" else MP4))  # type: ignore[arg-type]
    upscale(source, tmp_path / f"out{request.param}")
    return source, tmp_path / f"out{request.param}"


def streams(path: Path) -> list[tuple[str, str]]:
    """Type and codec of all streams but the ones a muxer makes of chapters."""
    with av.open(str(path)) as container:
        return [
            (s.type, s.codec_context.codec.canonical_name if s.codec_context else "")
            for s in container.streams
            if s.type != "data"
        ]


def tags_of(path: Path, kind: str) -> list[dict[str, str]]:
    with av.open(str(path)) as container:
        made_by_the_muxer = {"DURATION", "encoder", "ENCODER", "vendor_id"}
        return [
            {key: value for key, value in s.metadata.items() if key not in made_by_the_muxer}
            for s in container.streams
            if s.type == kind
        ]


def test_no_stream_is_lost_added_or_moved(copied: tuple[Path, Path]) -> None:
    source, output = copied
    assert streams(output) == streams(source)


@pytest.mark.parametrize("kind", ["audio", "subtitle"])
def test_packets_are_the_same_bytes_at_the_same_time(copied: tuple[Path, Path], kind: str) -> None:
    source, output = copied
    for number in range(len([s for s in streams(source) if s[0] == kind])):
        before, after = packets(source, kind, number), packets(output, kind, number)
        assert len(before) > 1
        assert [p.data for p in after] == [p.data for p in before]
        assert [(p.pts, p.dts) for p in after] == [(p.pts, p.dts) for p in before]


def test_the_sound_decodes_to_the_same_samples(copied: tuple[Path, Path]) -> None:
    """Also what lies beside the packets: priming, skipped samples."""
    source, output = copied
    assert samples(output) == samples(source)


def samples(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(frame.pts, bytes(frame.planes[0])) for frame in container.decode(audio=0)]


@pytest.mark.parametrize("kind", ["video", "audio", "subtitle", "attachment"])
def test_language_and_title_of_every_stream_stay(copied: tuple[Path, Path], kind: str) -> None:
    source, output = copied
    assert tags_of(output, kind) == tags_of(source, kind)


def test_flags_stay(copied: tuple[Path, Path]) -> None:
    def flags(path: Path) -> list[Disposition]:
        with av.open(str(path)) as container:
            return [s.disposition for s in container.streams if s.type in ("video", "audio", "subtitle")]

    source, output = copied
    assert flags(output) == flags(source)
    if source.suffix == ".mkv":  # mov has no place for them, mp4 for some
        assert flags(output)[2] & Disposition.comment and flags(output)[5] & Disposition.forced


def test_chapters_stay(copied: tuple[Path, Path]) -> None:
    assert chapters(copied[1]) == chapters(copied[0]) == MARKS


def test_container_tags_stay(copied: tuple[Path, Path]) -> None:
    def tags(path: Path) -> dict[str, str]:
        with av.open(str(path)) as container:
            about_the_file = {"encoder", "major_brand", "minor_version", "compatible_brands"}
            return {k.lower(): v for k, v in container.metadata.items() if k.lower() not in about_the_file}

    source, output = copied
    assert tags(output) == tags(source)
    assert tags(output)["title"] == "A film"


def test_fonts_stay(tmp_path: Path) -> None:
    def fonts(path: Path) -> list[tuple[str | None, str | None, bytes]]:
        with av.open(str(path)) as container:
            return [(s.name, s.mimetype, s.data) for s in container.streams if s.type == "attachment"]

    source = write_clip(tmp_path / "in.mkv", attachments=MKV["attachments"])  # type: ignore[arg-type]
    upscale(source, tmp_path / "out.mkv")
    assert len(fonts(source)) == 2
    assert fonts(tmp_path / "out.mkv") == fonts(source)


def test_the_report_counts_what_was_copied(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", audio=TRACKS, subtitles=[Subtitles()])
    report = upscale(source, tmp_path / "out.mkv")
    counts = [len(packets(source, "audio", 0)), len(packets(source, "audio", 1)), len(packets(source, "subtitle"))]
    assert report.packets_copied == sum(counts)


def test_webm_keeps_opus_and_subtitles(tmp_path: Path) -> None:
    video = Video(codec="libvpx-vp9", options={"cpu-used": "8"})
    source = write_clip(tmp_path / "in.webm", video, audio=[Audio("libopus"), Audio("libopus")])
    upscale(source, tmp_path / "out.webm")
    assert streams(tmp_path / "out.webm") == [("video", "vp9"), ("audio", "opus"), ("audio", "opus")]
    assert packets(tmp_path / "out.webm", "audio", 1) == packets(source, "audio", 1)


def test_sound_of_a_transport_stream_keeps_its_bytes(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.ts", audio=[Audio("aac"), Audio("mp3")])
    upscale(source, tmp_path / "out.ts")
    for number in (0, 1):
        before, after = packets(source, "audio", number), packets(tmp_path / "out.ts", "audio", number)
        assert [p.data for p in after] == [p.data for p in before]


@pytest.mark.parametrize(("language", "otherwise"), [("deu", "ger"), ("fra", "fre"), ("ces", "cze"), ("eng", "eng")])
def test_languages_that_mov_calls_otherwise(language: str, otherwise: str, tmp_path: Path) -> None:
    """Of the two codes that ISO 639-2 has for some languages, mov's older list knows one, now this, now that."""
    source = write_clip(tmp_path / "in.mp4", audio=[Audio(metadata={"language": language})])
    upscale(source, tmp_path / "out.mov")
    assert tags_of(tmp_path / "out.mov", "audio")[0]["language"] in (language, otherwise)


# ---- cover pictures ----


def cover_of(path: Path) -> bytes:
    with av.open(str(path)) as container:
        index = next(s.index for s in container.streams.video if s.disposition & Disposition.attached_pic)
        return next(bytes(p) for p in container.demux(container.streams[index]) if p.size)


def test_the_cover_of_an_mp4_stays_and_is_not_taken_for_the_film(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", cover=True, audio=[Audio()])
    report = upscale(source, tmp_path / "out.mp4")
    assert report.input_size == (64, 48)
    assert cover_of(tmp_path / "out.mp4") == cover_of(source)
    assert len(decoded(tmp_path / "out.mp4")) == 24


def test_the_cover_of_an_mkv_stays(tmp_path: Path) -> None:
    picture = jpeg(draw(5, 32, 32))
    source = write_clip(tmp_path / "in.mkv", attachments=[Attachment("cover.jpg", "image/jpeg", picture)])
    upscale(source, tmp_path / "out.mkv")
    assert cover_of(tmp_path / "out.mkv") == cover_of(source) == picture


def test_the_cover_of_an_mp4_stays_in_an_mkv(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", cover=True)
    upscale(source, tmp_path / "out.mkv")
    assert cover_of(tmp_path / "out.mkv") == cover_of(source)


# ---- what a container cannot hold ----

CANNOT = {
    "font-in-mp4": (".mkv", {"attachments": [Attachment()]}, ".mp4", "attachment"),
    "aac-in-webm": (".mkv", {"audio": [Audio("aac")]}, ".webm", "audio"),
    "flac-in-ts": (".mkv", {"audio": [Audio("flac")]}, ".ts", "audio"),
    "srt-in-ts": (".mkv", {"subtitles": [Subtitles()]}, ".ts", "subtitle"),
    "srt-in-avi": (".mkv", {"subtitles": [Subtitles()]}, ".avi", "subtitle"),
}


@pytest.fixture(params=CANNOT)
def misfit(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str]:
    """A clip, an output whose container lacks a place for one of its streams, and that stream's type."""
    suffix, contents, output_suffix, kind = CANNOT[request.param]
    fits = {".avi": [], ".webm": [Audio("libopus")]}.get(output_suffix, [Audio("aac")])
    contents = {"audio": fits, **contents}
    return write_clip(tmp_path / f"in{suffix}", **contents), tmp_path / f"out{output_suffix}", kind  # type: ignore[arg-type]


def test_a_stream_without_a_place_is_refused_before_the_start(misfit: tuple[Path, Path, str]) -> None:
    source, output, kind = misfit
    with pytest.raises(ConfigError) as caught:
        upscale(source, output)
    sentence = str(caught.value)
    assert kind in sentence and "--drop-unsupported" in sentence and "\n" not in sentence
    assert [p.name for p in source.parent.iterdir()] == [source.name]


def test_dropping_it_is_a_flag_and_is_told(misfit: tuple[Path, Path, str]) -> None:
    source, output, kind = misfit
    told: list[str] = []
    report = upscale(source, output, drop_unsupported=True, notice=told.append)
    assert any(kind in sentence for sentence in told)
    assert any(kind in sentence for sentence in report.notices)
    kept = [stream for stream in streams(source) if stream[0] not in (kind, "video")]
    assert [stream for stream in streams(output) if stream[0] != "video"] == kept
    assert len(decoded(output)) == 24


def test_the_refusal_names_a_container_that_holds_all(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", subtitles=[Subtitles()], attachments=[Attachment()])
    with pytest.raises(ConfigError, match=r"\.mkv"):
        upscale(source, tmp_path / "out.mp4")
