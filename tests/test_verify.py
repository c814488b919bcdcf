"""verify(): an output that lacks something of its input is told from one that does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import Attachment, Audio, Chapter, Subtitles, Video, draw, steady_pts, write_clip
from commands import rtsr as command

import rtsr
from rtsr.errors import ConfigError, IncompleteError
from rtsr.verify import verify

PTS = steady_pts(24)
SOUND = [Audio(metadata={"language": "eng"}), Audio(start=Fraction(1, 8), metadata={"language": "deu"})]
Planes = tuple[np.ndarray, ...]


def enlarged(number: int) -> Planes:
    return tuple(plane.repeat(2, 0).repeat(2, 1) for plane in draw(number, 64, 48))


LARGE = [enlarged(i) for i in range(24)]
GOOD = Video(width=128, height=96, pts=PTS, planes=LARGE)  # type: ignore[arg-type]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mp4", Video(pts=PTS), audio=SOUND)


def findings(source: Path, video: Video, audio: Sequence[Audio] = SOUND) -> str:
    """What verify says of an output that holds this."""
    output = write_clip(source.with_name("out.mp4"), video, audio=audio)
    return "; ".join(verify(source, output).findings)


def test_a_faithful_output_passes(source: Path) -> None:
    assert findings(source, GOOD) == ""


def test_what_rtsr_makes_passes(source: Path, tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".ts"):
        rtsr.upscale(source, tmp_path / f"up{suffix}", scale=3, backend="reference")
        assert verify(source, tmp_path / f"up{suffix}").findings == []


@pytest.mark.parametrize("count", [1, 20, 23])
def test_a_shortened_film(count: int, source: Path) -> None:
    assert "24 frames" in findings(source, replace(GOOD, pts=PTS[:count]))


def test_a_frame_too_many(source: Path) -> None:
    more = replace(GOOD, pts=[*PTS, PTS[-1] + 3750], planes=[*LARGE, LARGE[-1]])
    assert "25" in findings(source, more)


def test_one_frame_a_millisecond_late(source: Path) -> None:
    late = [*PTS[:7], PTS[7] + 90, *PTS[8:]]
    assert "ms off" in findings(source, replace(GOOD, pts=late))


def test_a_film_of_another_rate(source: Path) -> None:
    assert "ms off" in findings(source, replace(GOOD, pts=steady_pts(24, rate=25)))


def test_pictures_late_against_the_sound(source: Path) -> None:
    assert "moved" in findings(source, replace(GOOD, pts=[p + 9000 for p in PTS]))


def test_one_track_late_against_the_rest(source: Path) -> None:
    late = [SOUND[0], replace(SOUND[1], start=Fraction(1, 4))]
    assert "moved" in findings(source, GOOD, late)


@pytest.mark.parametrize("kept", [[], SOUND[:1], SOUND[1:]], ids=["none", "first", "second"])
def test_sound_that_is_missing(kept: list[Audio], source: Path) -> None:
    assert "audio" in findings(source, GOOD, kept)


def test_sound_that_was_encoded_again(source: Path) -> None:
    assert "audio" in findings(source, GOOD, [replace(SOUND[0], rate=44100), SOUND[1]])


def test_a_language_that_is_lost(source: Path) -> None:
    assert "language" in findings(source, GOOD, [replace(SOUND[0], metadata={}), SOUND[1]])


def test_subtitles_that_are_missing(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Video(pts=PTS), subtitles=[Subtitles()])
    output = write_clip(tmp_path / "out.mkv", GOOD)
    assert "subtitle" in "; ".join(verify(source, output).findings)


@pytest.mark.parametrize(
    "planes",
    [
        pytest.param([LARGE[0]] * 24, id="frozen"),
        pytest.param([LARGE[i] for i in [*range(12), *[12] * 12]], id="frozen-halfway"),
        pytest.param(
            [tuple(np.full_like(p, v) for p, v in zip(f, (16, 128, 128), strict=True)) for f in LARGE], id="black"
        ),
        pytest.param(LARGE[::-1], id="backwards"),
        pytest.param([tuple(p[::-1] for p in f) for f in LARGE], id="upside-down"),
        pytest.param([(y, np.full_like(u, 128), np.full_like(v, 128)) for y, u, v in LARGE], id="grey"),
        pytest.param([(y, v, u) for y, u, v in LARGE], id="swapped-chroma"),
    ],
)
def test_other_pictures(planes: list[Planes], source: Path) -> None:
    assert "picture" in findings(source, replace(GOOD, planes=planes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("video", "word"),
    [
        (replace(GOOD, color=(1, 1, 1, 1)), "colorspace"),
        (replace(GOOD, color=(2, 2, 2, 2)), "range"),
        (replace(GOOD, sample_aspect_ratio=Fraction(4, 3)), "aspect"),
        (replace(GOOD, rotation=90), "rotation"),
        (Video(width=126, height=96, pts=PTS), "not 64x48 enlarged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_tags(video: Video, word: str, source: Path) -> None:
    assert word in findings(source, video)


def test_ten_bits_made_eight(tmp_path: Path) -> None:
    ten = Video(codec="ffv1", pix_fmt="yuv420p10le", options={}, pts=PTS)
    source = write_clip(tmp_path / "in.mkv", ten)
    output = write_clip(tmp_path / "out.mkv", GOOD)
    assert "from 10-bit 4:2:0 to 8-bit" in "; ".join(verify(source, output).findings)


def test_a_trim_is_verified_against_its_part(source: Path, tmp_path: Path) -> None:
    start, end = Fraction(1, 4), Fraction(3, 4)
    rtsr.upscale(source, tmp_path / "up.mp4", scale=2, backend="reference", start=start, end=end)
    assert verify(source, tmp_path / "up.mp4", start=start, end=end).findings == []
    assert verify(source, tmp_path / "up.mp4").findings != []


def test_the_command_tells_by_its_exit_code(source: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "good.mp4", GOOD, audio=SOUND)
    write_clip(tmp_path / "bad.mp4", replace(GOOD, pts=PTS[:20]), audio=SOUND)
    good = command("verify", source, tmp_path / "good.mp4")
    assert good.code == 0
    assert "frames 24," in good.stdout and "worst pts error 0.0 s" in good.stdout
    bad = command("verify", source, tmp_path / "bad.mp4")
    assert bad.code not in (0, 70)
    assert "24 frames" in bad.sentence


def test_the_command_speaks_json(source: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "bad.mp4", replace(GOOD, pts=PTS[:20]), audio=SOUND)
    outcome = command("verify", source, tmp_path / "bad.mp4", "--json")
    document = json.loads(outcome.stdout)
    assert outcome.code != 0
    assert document["ok"] is False
    assert any("24 frames" in finding for finding in document["findings"])


def test_a_file_that_is_missing_is_one_sentence(source: Path, tmp_path: Path) -> None:
    outcome = command("verify", source, tmp_path / "missing.mp4")
    assert outcome.code not in (0, 70)
    assert "missing.mp4" in outcome.sentence


# ---- the file as a whole ----


def whole(path: Path, **changes: object) -> Path:
    parts: dict[str, object] = {
        "chapters": [Chapter(0, 500, "One"), Chapter(500, 1000, "Two")],
        "attachments": [Attachment()],
        "metadata": {"title": "Film", "artist": "Somebody"},
    }
    return write_clip(path, Video(pts=PTS), **{**parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, ""),
        ({"chapters": [Chapter(0, 500, "One")]}, "2 chapters, the output 1"),
        ({"chapters": [Chapter(0, 500, "One"), Chapter(600, 1000, "Two")]}, "chapter 2"),
        ({"chapters": [Chapter(0, 500, "Won"), Chapter(500, 1000, "Two")]}, "chapter 1"),
        ({"metadata": {"title": "Film"}}, "tags ARTIST"),
        ({"attachments": []}, "attached file Font.ttf"),
        ({"attachments": [Attachment(data=b"another font")]}, "attached file Font.ttf"),
    ],
    ids=["all-there", "one-chapter", "moved-chapter", "renamed-chapter", "tag", "no-font", "other-font"],
)
def test_chapters_tags_and_fonts(changes: dict[str, object], word: str, tmp_path: Path) -> None:
    source, output = whole(tmp_path / "in.mkv"), whole(tmp_path / "out.mkv", **changes)
    found = "; ".join(verify(source, output).findings)
    assert word in found if word else not found


def test_damage_that_a_demuxer_skips_is_found(tmp_path: Path) -> None:
    """Matroska resumes behind what it cannot read, and only logs it."""
    source = write_clip(tmp_path / "in.mkv", Video(pts=steady_pts(96)))
    data = bytearray(source.read_bytes())
    at = len(data) // 2
    data[at : at + 300] = bytes(300)
    (tmp_path / "damaged.mkv").write_bytes(data)
    with pytest.raises(IncompleteError):
        rtsr.upscale(tmp_path / "damaged.mkv", tmp_path / "out.mkv", scale=2, backend="reference")


@pytest.mark.parametrize(
    ("suffix", "word"), [(".ts", "2 chapters"), (".ts", "title"), (".avi", "2 chapters"), (".gif", "2 chapters")]
)
def test_what_a_container_cannot_hold_is_said_before_the_start(suffix: str, word: str, tmp_path: Path) -> None:
    source = whole(tmp_path / "in.mkv", attachments=[])
    with pytest.raises(ConfigError, match=word):
        rtsr.upscale(source, tmp_path / f"out{suffix}", scale=2, backend="reference")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    report = rtsr.upscale(source, tmp_path / f"out{suffix}", scale=2, backend="reference", drop_unsupported=True)
    assert any(word in sentence.lower() for sentence in report.notices)


def test_titles_that_a_transport_stream_loses_are_said_before_the_start(tmp_path: Path) -> None:
    sound = [Audio(metadata={"title": "Commentary", "language": "eng"})]
    source = write_clip(tmp_path / "in.mkv", Video(pts=PTS), audio=sound)
    with pytest.raises(ConfigError, match="title of stream 1"):
        rtsr.upscale(source, tmp_path / "out.ts", scale=2, backend="reference")


def test_what_was_left_out_by_order_is_not_missed(tmp_path: Path) -> None:
    source = whole(tmp_path / "in.mkv")
    made = command("upscale", source, "-o", tmp_path / "out.ts", "--backend", "reference", "--drop-unsupported")
    assert made.code == 0, made.stderr
    assert command("verify", source, tmp_path / "out.ts").code == IncompleteError.exit_code
    assert command("verify", source, tmp_path / "out.ts", "--drop-unsupported").code == 0


def test_a_pixel_format_asked_for_is_expected(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Video(codec="ffv1", pix_fmt="yuv420p10le", options={}, pts=PTS))
    options = ("--backend", "reference", "--pix-fmt", "yuv420p")
    assert command("upscale", source, "-o", tmp_path / "out.mkv", *options).code == 0
    assert command("verify", source, tmp_path / "out.mkv").code == IncompleteError.exit_code
    assert command("verify", source, tmp_path / "out.mkv", "--pix-fmt", "yuv420p").code == 0
