"""`rtsr compare`: the right frames are matched, measured as the papers do, and shown as they are."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import (
    BT601_LIMITED,
    BT709_LIMITED,
    LOSSLESS,
    VFR_PTS,
    Audio,
    Video,
    corrupt_packets,
    cut,
    decoded,
    draw,
    packets,
    planes_of,
    read_number,
    steady_pts,
    times,
    write_clip,
)
from commands import rtsr

from rtsr import vmaf
from rtsr.compare.bicubic import Bicubic
from rtsr.compare.comparison import Comparison, Options, compare
from rtsr.compare.crops import where_most_differs
from rtsr.compare.films import Film, Fitting, agree_on_matrix, canvas_for, give_short_names
from rtsr.compare.lettering import Lettering
from rtsr.compare.moments import Moments
from rtsr.compare.report import as_dict
from rtsr.compare.video import line_at
from rtsr.errors import ConfigError, RtsrError
from rtsr.sources.media import Media
from training.resize import imresize

SIZE = {"width": 96, "height": 64}


def clip(path: Path, frames: int = 12, rate: int = 24, **changes) -> Path:
    """A lossless film whose frames spell their numbers."""
    return write_clip(path, Video(**{**LOSSLESS, **SIZE, "pts": steady_pts(frames, rate), **changes}))


def films(*paths: Path) -> list[Film]:
    roles = ("A", "B", "Reference")
    return [Film(role, Media(str(path)), None, None) for role, path in zip(roles, paths, strict=False)]


def numbers(a: Path, b: Path, offset: Fraction = Fraction(0)) -> list[tuple[int, int]]:
    """The numbers of the frames that are matched."""
    opened = films(a, b)
    try:
        return [tuple(read_number(f.y[0]) for f in moment.frames) for moment in Moments(opened, offset)]  # type: ignore[misc]
    finally:
        for film in opened:
            film.close()


def shifted(by: int, frames: int = 4, bits: int = 8, **size: int):
    """Planes of the numbered pictures, their luma moved by `by` code values of 8 bits."""
    made = [draw(i, **{**SIZE, **size}) for i in range(frames)]
    made = [(np.clip(y.astype(int) + by, 0, 255), u, v) for y, u, v in made]
    return [tuple((p.astype(np.uint16) << (bits - 8)) if bits > 8 else p.astype(np.uint8) for p in f) for f in made]


# ---- moments ----


def test_frames_are_matched_by_time_whatever_the_container_rounds(tmp_path: Path) -> None:
    a = write_clip(tmp_path / "a.mp4", Video(**SIZE, pts=VFR_PTS))
    b = clip(tmp_path / "b.mkv", 14, pts=VFR_PTS)  # to milliseconds
    assert numbers(a, b) == [(i, i) for i in range(14)]
    assert numbers(b, a) == [(i, i) for i in range(14)]


def test_of_twice_the_rate_every_other_frame_is_taken(tmp_path: Path) -> None:
    a, b = clip(tmp_path / "a.mkv", 12, 24), clip(tmp_path / "b.mkv", 24, 48)
    assert numbers(a, b) == [(i, 2 * i) for i in range(12)]
    assert numbers(b, a) == [(i, i // 2) for i in range(24)]
    found = compare(a, b, Options())
    assert any("B shows 23 frames in the time of 12 of A" in sentence for sentence in found.notices)


def test_a_shorter_film_ends_the_comparison_and_that_is_said(tmp_path: Path) -> None:
    a, b = clip(tmp_path / "a.mkv", 12), clip(tmp_path / "b.mkv", 7)
    assert numbers(a, b) == [(i, i) for i in range(7)]
    found = compare(a, b, Options())
    assert found.moments == 7
    assert any(re.match(r"B ends at 0.29\d s, before A", sentence) for sentence in found.notices)
    assert compare(b, a, Options()).moments == 7


def test_a_film_that_starts_late_is_matched_by_its_clock_or_by_offset(tmp_path: Path) -> None:
    a = clip(tmp_path / "a.mkv", 24)
    b = clip(tmp_path / "b.mkv", 24, pts=steady_pts(24, start=45000))  # half a second
    assert numbers(a, b) == [(i, i - 12) for i in range(12, 24)]
    assert numbers(a, b, Fraction(1, 2)) == [(i, i) for i in range(24)]
    assert any("B begins 0.500 s later than A" in sentence for sentence in compare(a, b, Options()).notices)


def test_no_common_moment_is_one_sentence(tmp_path: Path) -> None:
    a = clip(tmp_path / "a.mkv", 6)
    b = clip(tmp_path / "b.mkv", 6, pts=steady_pts(6, start=900000))
    with pytest.raises(
        ConfigError, match=r"A runs from 0.000 to 0.2.. s and B from 10.000 to 10.2.. s: they have no moment in common"
    ):
        compare(a, b, Options())


def test_start_and_end_are_on_the_clock_of_a(tmp_path: Path) -> None:
    a = clip(tmp_path / "a.mkv", 24)
    b = clip(tmp_path / "b.mkv", 24, pts=steady_pts(24, start=90000))
    options = Options(start=Fraction(1, 4), end=Fraction(1, 2), offset=Fraction(1))
    found = compare(a, b, options).figures
    assert found is not None
    assert found.seconds == pytest.approx([i / 24 for i in range(6, 12)], abs=1e-3)
    assert found.summary()["B"]["psnr_y"]["equal_frames"] == 6


# ---- sizes and colours ----


def test_bicubic_is_that_of_the_papers() -> None:
    y = draw(3, 61, 47)[0]
    ours = Bicubic((61, 47), (244, 188), "gray")(y)
    error = np.abs(ours.astype(int) - imresize(y, 4))
    opencv = np.abs(cv2.resize(y, (244, 188), interpolation=cv2.INTER_CUBIC).astype(int) - imresize(y, 4))
    assert error.mean() < 0.3  # MATLAB rounds between rows and columns
    assert error.mean() < opencv.mean() / 2


def test_an_upscaled_film_is_compared_on_what_it_has_of_the_original_size(tmp_path: Path) -> None:
    small = clip(tmp_path / "small.mkv", width=120, height=80)
    large = clip(tmp_path / "large.mkv", width=480, height=320)
    truth = clip(tmp_path / "truth.mkv", width=481, height=321)
    opened = films(small, large, truth)
    canvas = canvas_for(opened)
    assert (canvas.size, canvas.border) == ((480, 320), 4)
    assert any("Reference (truth.mkv) is cut from 481x321 to 480x320" in each for each in canvas.notices)
    assert any("A (small.mkv) is smaller and is enlarged from 120x80" in each for each in canvas.notices)
    for film in opened:
        frame = next(film.source.frames())
        assert Fitting(film, canvas).bgr(frame).shape == (320, 480, 3)
        assert Fitting(film, canvas).luma(frame).shape == (320, 480)
        film.close()


def test_a_turned_film_is_compared_upright(tmp_path: Path) -> None:
    upright = shifted(0, 1)
    lying = [tuple(np.rot90(plane, -1) for plane in planes) for planes in upright]
    a = clip(tmp_path / "a.mkv", 1, planes=upright)
    b = write_clip(
        tmp_path / "b.mp4",
        Video(width=64, height=96, pts=(0,), rotation=90, planes=lying, options={"crf": "1", "preset": "veryfast"}),
    )
    opened = films(a, b)
    canvas = canvas_for(opened)
    assert canvas.size == (96, 64)
    first, second = (Fitting(film, canvas).luma(next(film.source.frames())) for film in opened)
    assert np.abs(first.astype(int) - second).mean() < 2
    for film in opened:
        film.close()


def test_the_same_colours_in_another_matrix_look_the_same(tmp_path: Path) -> None:
    """BT.601 red and BT.709 red have other code values and are one red."""
    reds = {BT601_LIMITED: (81, 90, 240), BT709_LIMITED: (63, 102, 240)}
    paths = []
    for name, (tags, (y, u, v)) in zip("ab", reds.items(), strict=True):
        planes = (np.full((64, 96), y, np.uint8), np.full((32, 48), u, np.uint8), np.full((32, 48), v, np.uint8))
        options = {"crf": "0", "preset": "veryfast"}
        paths.append(
            write_clip(tmp_path / f"{name}.mp4", Video(**SIZE, pts=(0,), planes=[planes], color=tags, options=options))
        )
    opened = films(*paths)
    canvas = canvas_for(opened)
    assert not canvas.stored_luma
    for film in opened:
        frame = next(film.source.frames())
        assert np.abs(Fitting(film, canvas).bgr(frame).astype(int) - (0, 0, 255)).max() <= 2
        assert np.abs(Fitting(film, canvas).luma(frame).astype(int) - 81).max() <= 1  # BT.601's
        film.close()


def test_an_untagged_film_and_its_enlarged_copy_have_one_matrix(tmp_path: Path) -> None:
    small = clip(tmp_path / "small.mkv", 1, width=320, height=180)
    large = clip(tmp_path / "large.mkv", 1, width=1280, height=720)
    opened = films(small, large)
    assert opened[0].color.colorspace != opened[1].color.colorspace  # as players have it
    assert agree_on_matrix(opened) == ["B (large.mkv) tells no colour matrix and is shown with that of A"]
    assert canvas_for(opened).stored_luma
    for film in opened:
        film.close()


# ---- figures ----


def figures_of(found: Comparison, metric: str = "psnr_y", role: str = "B"):
    assert found.figures is not None
    return found.figures.summary()[role][metric]


@pytest.mark.parametrize("bits", [8, 10])
def test_psnr_of_a_known_error(tmp_path: Path, bits: int) -> None:
    pix_fmt = "yuv420p" if bits == 8 else "yuv420p10le"
    a = clip(tmp_path / "a.mkv", 4, planes=shifted(0))
    b = clip(tmp_path / "b.mkv", 4, planes=shifted(5, bits=bits), pix_fmt=pix_fmt)
    expected = 20 * np.log10(255 / 5)
    assert figures_of(compare(a, b, Options(border=8)))["mean"] == pytest.approx(expected, abs=1e-9)


def test_equal_films_have_no_psnr_and_valid_json(tmp_path: Path) -> None:
    a = clip(tmp_path / "a.mkv", 4)
    found = compare(a, a, Options())
    assert figures_of(found) == {"mean": None, "lowest": None, "lowest_at_s": 0.0, "equal_frames": 4}
    assert figures_of(found, "ssim_y")["mean"] == pytest.approx(1)
    document = json.loads(json.dumps(as_dict(found), allow_nan=False))
    assert document["figures"]["series"]["B"]["psnr_y"] == [None] * 4
    assert [film["role"] for film in document["films"]] == ["A", "B"]


def test_a_reference_measures_both(tmp_path: Path) -> None:
    truth = clip(tmp_path / "truth.mkv", 4, planes=shifted(0))
    a = clip(tmp_path / "a.mkv", 4, planes=shifted(8))
    b = clip(tmp_path / "b.mkv", 4, planes=shifted(2))
    found = compare(a, b, Options(reference=str(truth), border=8))
    assert found.figures is not None and found.figures.truth == "Reference"
    for role, error in (("A", 8), ("B", 2)):
        assert figures_of(found, role=role)["mean"] == pytest.approx(20 * np.log10(255 / error), abs=1e-9)


def test_vmaf_takes_every_pair_and_tells_each(tmp_path: Path) -> None:
    if not vmaf.ffmpeg():
        pytest.skip("no ffmpeg with libvmaf here; imageio-ffmpeg has one")
    size = {"width": 256, "height": 192}
    truth = clip(tmp_path / "truth.mkv", 6, **size)
    small = clip(tmp_path / "small.mkv", 6, width=64, height=48)
    found = compare(small, truth, Options(reference=str(truth), every=2))
    assert found.figures is not None
    assert {name: len(values) for name, values in found.figures.series["A"].items()} == dict.fromkeys(
        ("psnr_y", "ssim_y", "vmaf", "vmaf_neg"), 3
    )
    assert figures_of(found, "vmaf_neg", "B")["mean"] > figures_of(found, "vmaf_neg", "A")["mean"] + 20


def test_no_vmaf_is_said_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = clip(tmp_path / "a.mkv", 2)
    monkeypatch.setattr(vmaf, "ffmpeg", lambda: "")
    found = compare(a, a, Options(reference=str(a)))
    assert found.figures is not None and found.figures.metrics == ["psnr_y", "ssim_y"]
    assert any("pip install imageio-ffmpeg" in sentence for sentence in found.notices)
    monkeypatch.setattr(vmaf, "ffmpeg", lambda: "never run")
    tiny = clip(tmp_path / "tiny.mkv", 2, width=64, height=24)
    assert (
        "no VMAF: pictures of 64x24 are too small for it" in compare(tiny, tiny, Options(reference=str(tiny))).notices
    )


def test_pictures_are_measured_in_luma_of_rgb(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 250, (40, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), a)
    cv2.imwrite(str(tmp_path / "b.png"), a + 4)  # gray levels: 4 of 255 are 4 * 219 / 255 of luma, rounded
    found = compare(tmp_path / "a.png", tmp_path / "b.png", Options())
    assert found.moments == 1
    assert figures_of(found)["mean"] == pytest.approx(20 * np.log10(255 / (4 * 219 / 255)), abs=0.7)


def test_a_picture_is_upright_and_opaque(tmp_path: Path) -> None:
    """By its EXIF orientation, transparent parts over grey, 16 bits as 8."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(3).integers(0, 255, (24, 40, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[:, :8, 3] = 0
    upright = pixels.copy()
    upright[:, :8, :3] = 128
    cv2.imwrite(str(tmp_path / "a.png"), cv2.cvtColor(upright[..., :3], cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    exif = image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "b.png", exif=exif)
    found = compare(tmp_path / "a.png", tmp_path / "b.png", Options())
    assert found.canvas.size == (40, 24)
    assert [film["pixels"] for film in found.films] == ["16-bit RGB", "8-bit RGB with alpha"]
    assert figures_of(found)["equal_frames"] == 1
    assert "B (b.png): what is transparent is shown over grey" in found.notices


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
    a = clip(tmp_path / "a.mkv", 24)
    b = corrupt_packets(tmp_path / "b.mkv", a, [5, 6])
    found = compare(a, b, Options())
    assert any(sentence.startswith("B (b.mkv): ") for sentence in found.notices)


# ---- what is shown ----


def test_the_split_film_shows_a_left_and_b_right_of_the_line_with_the_sound_of_a(tmp_path: Path) -> None:
    size = {"width": 320, "height": 240}
    dark, bright = (
        [(np.full((240, 320), y, np.uint8), np.full((120, 160), 128, np.uint8), np.full((120, 160), 128, np.uint8))]
        * 24
        for y in (60, 180)
    )
    a = write_clip(
        tmp_path / "a.mkv",
        Video(**LOSSLESS, **size, pts=steady_pts(24), planes=dark),
        audio=[Audio(seconds=Fraction(1))],
    )
    b = clip(tmp_path / "b.mkv", 24, **size, planes=bright)
    out = tmp_path / "out.mkv"
    assert compare(a, b, Options(output=out)).figures is None
    assert times(out) == times(a)
    assert [p.data for p in packets(out, "audio")] == [p.data for p in packets(a, "audio")]
    lines = set()
    for frame, seconds in zip(decoded(out), times(out), strict=True):
        row = planes_of(frame)[0][200].astype(int)
        line = line_at(float(seconds), 320)
        lines.add(line)
        assert np.abs(row[: line - 4] - 60).max() < 6
        assert np.abs(row[line + 4 :] - 180).max() < 6
        assert row[line - 1 : line + 1].max() > 215
    assert len(lines) > 12  # it moves


def test_the_split_film_of_a_longer_a_ends_with_b(tmp_path: Path) -> None:
    a = write_clip(
        tmp_path / "a.mkv", Video(**LOSSLESS, **SIZE, pts=steady_pts(48)), audio=[Audio(seconds=Fraction(2))]
    )
    b = clip(tmp_path / "b.mkv", 24)
    compare(a, b, Options(output=tmp_path / "out.mkv"))
    assert len(times(tmp_path / "out.mkv")) == 24
    assert max(p.pts for p in packets(tmp_path / "out.mkv", "audio") if p.pts is not None) < 1


def page_data(page: Path) -> dict:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert match is not None
    return json.loads(match[1])


def test_the_page_holds_the_pictures_exactly_and_asks_no_network(tmp_path: Path) -> None:
    a = clip(tmp_path / "a <&'\"> b.mkv", 24)
    b = clip(tmp_path / "b.mkv", 24, planes=shifted(3, 24))
    page = tmp_path / "page.html"
    compare(a, b, Options(output=page, frames=4))
    text = page.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text.replace('http-equiv="Content', "") and "src=" not in text.replace("src: thumbnail", "")
    data = page_data(page)
    assert data["films"][0]["name"] == "a <&'\"> b.mkv"
    assert [moment["seconds"] for moment in data["moments"]] == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.05)
    opened = films(a, b)
    canvas = canvas_for(opened)
    fittings = [Fitting(film, canvas) for film in opened]
    stored = {moment["seconds"]: moment["pictures"] for moment in data["moments"]}
    for moment in Moments(opened):
        for fitting, frame, uri in zip(fittings, moment.frames, stored.get(float(moment.seconds), []), strict=False):
            picture = cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
            assert (picture == fitting.bgr(frame)).all()
    for film in opened:
        film.close()


def test_a_script_in_a_name_stays_a_name(tmp_path: Path) -> None:
    a = clip(tmp_path / "<script>alert(1)<!--.mkv", 2)
    compare(a, a, Options(output=tmp_path / "page.html"))
    assert "<script>alert" not in (tmp_path / "page.html").read_text("utf-8")
    assert page_data(tmp_path / "page.html")["films"][0]["name"] == "<script>alert(1)<!--.mkv (A)"


def test_a_page_of_too_much_detail_gives_up_exactness_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtsr.compare.page.LARGEST_MB", 0.02)
    noise = np.random.default_rng(0).integers(0, 255, (2, 120, 160, 3), dtype=np.uint8)
    for name, picture in zip(("a.png", "b.png"), noise, strict=True):
        cv2.imwrite(str(tmp_path / name), picture)
    compare(tmp_path / "a.png", tmp_path / "b.png", Options(output=tmp_path / "page.html", frames=1))
    assert any("WebP of quality" in sentence for sentence in page_data(tmp_path / "page.html")["notices"])


def test_crops_are_cut_where_the_films_differ(tmp_path: Path) -> None:
    a = np.full((200, 300, 3), 90, np.uint8)
    b = a.copy()
    b[120:150, 210:250] = 200
    left, top, width, height = where_most_differs(a, b)
    assert left <= 210 and left + width >= 250 and top <= 120 and top + height >= 150
    assert where_most_differs(a, a)[:2] == (102, 68)  # its middle
    for name, picture in (("a.png", a), ("b.png", b)):
        cv2.imwrite(str(tmp_path / name), picture)
    place = (200, 110, 60, 40)
    compare(tmp_path / "a.png", tmp_path / "b.png", Options(output=tmp_path / "out.png", crop=place))
    sheet = cv2.imread(str(tmp_path / "out.png"))
    assert sheet is not None
    assert 0 <= (sheet == 200).all(axis=2).sum() - 30 * 40 * (480 // 60) ** 2 < 50  # letters have grey rims


@pytest.mark.parametrize("name", ["out.html", "out.png"])
def test_a_film_far_shorter_than_it_states_is_shown_all_the_same(tmp_path: Path, name: str) -> None:
    whole = write_clip(tmp_path / "whole.mp4", Video(**SIZE, pts=steady_pts(96)), mux_options={"movflags": "faststart"})
    short = cut(tmp_path / "short.mp4", whole, 0.2)
    compare(short, short, Options(output=tmp_path / name, frames=1))
    assert (tmp_path / name).exists()


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        clip(tmp_path / folder / "film.mkv", 2)
    opened = films(tmp_path / "one" / "film.mkv", tmp_path / "two" / "film.mkv")
    give_short_names(opened)
    assert [film.name for film in opened] == ["one/film.mkv", "two/film.mkv"]
    for film in opened:
        film.close()


def test_a_long_name_is_shortened_in_its_middle() -> None:
    letters = Lettering(16)
    assert letters.box("x" * 200 + ".mkv", 150).shape[1] <= 150
    assert (letters.box("größer.mkv", 400) > 128).any()


# ---- the command ----


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    a, b = clip(tmp_path / "a.mkv", 4, planes=shifted(0)), clip(tmp_path / "b.mkv", 4, planes=shifted(5))
    table = rtsr("compare", a, b, "--border", 8)
    assert table.code == 0
    assert "PSNR-Y dB" in table.stdout and "34.15" in table.stdout
    document = json.loads(rtsr("compare", a, b, "--json", "--quiet").stdout)
    assert document["moments"] == 4 and document["size"] == [96, 64]


def bad(tmp_path: Path) -> dict[str, tuple[tuple, str]]:
    a, png = clip(tmp_path / "a.mkv", 2), tmp_path / "a.png"
    cv2.imwrite(str(png), np.zeros((64, 96, 3), np.uint8))
    sound = write_clip(tmp_path / "sound.mka", None, audio=[Audio()])
    (tmp_path / "there.html").write_text("")
    return {
        "missing": ((a, tmp_path / "none.mkv", Options()), "none.mkv: no such file"),
        "no video": ((a, sound, Options()), "no video stream"),
        "suffix": ((a, a, Options(output=tmp_path / "out.xyz")), "a comparison is a film (.mp4"),
        "jpeg": ((a, a, Options(output=tmp_path / "out.jpg")), "a page (.html) or a picture (.png)"),
        "kinds": ((a, png, Options()), "a.png is a picture"),
        "film of pictures": ((png, png, Options(output=tmp_path / "out.mp4")), "compare pictures with -o NAME.html"),
        "exists": ((a, a, Options(output=tmp_path / "there.html")), "exists already"),
        "is input": ((a, a, Options(output=a, overwrite=True)), "is one of the inputs"),
        "folder": ((a, a, Options(output=tmp_path / "no" / "out.html")), "does not exist"),
        "crop": ((a, a, Options(output=tmp_path / "o.png", crop=(90, 0, 50, 50))), "is not within 96x64"),
        "tiny": ((a, a, Options(border=30)), "too small to compare"),
        "after the end": ((a, a, Options(start=Fraction(99))), "no frame lies between"),
    }


@pytest.mark.parametrize(
    "case",
    *[
        [
            *("missing", "no video", "suffix", "jpeg", "kinds", "film of pictures"),
            *("exists", "is input", "folder", "crop", "tiny", "after the end"),
        ]
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    arguments, sentence = bad(tmp_path)[case]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(RtsrError) as caught:
        compare(*arguments)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_count_is_refused() -> None:
    for wrong in ({"every": 0}, {"frames": 0}, {"border": -1}, {"output": Path("a.mp4"), "crop": (0, 0, 9, 9)}):
        with pytest.raises(ConfigError):
            replace(Options(), **wrong)
