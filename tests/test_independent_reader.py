"""What another program sees: FFmpeg's own command line (of the imageio-ffmpeg package) reads input and output alike."""

from __future__ import annotations

import hashlib
import re
import subprocess
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from clips import LOSSLESS, VFR_PTS, Audio, Chapter, Disposition, Subtitles, Video, draw, write_clip

import rtsr
from rtsr import pipeline
from rtsr.backends.reference import ReferenceEngine
from rtsr.sinks.encoding import Encoding
from rtsr.sinks.file import FileSink
from rtsr.sources.file import FileSource

imageio_ffmpeg = pytest.importorskip(
    "imageio_ffmpeg", reason="the ffmpeg program comes with pip install imageio-ffmpeg"
)


def ffmpeg(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    return subprocess.run([program, "-hide_banner", *map(str, arguments)], capture_output=True, text=True)


def seen(path: Path, what: str, *how: str) -> list[tuple[Fraction, str]]:
    """Presentation time and MD5 of every frame of a stream (or packet, with `-c copy`), as ffmpeg tells them."""
    done = ffmpeg("-v", "error", "-copyts", "-i", path, "-map", what, *how, "-f", "framemd5", "-")
    assert (done.returncode, done.stderr) == (0, "")
    base = Fraction(re.search(r"#tb 0: (\S+)", done.stdout)[1])  # type: ignore[index]
    rows = [line.split(",") for line in done.stdout.splitlines() if not line.startswith("#")]
    return [(int(row[2]) * base, row[5].strip()) for row in rows]


def pictures(path: Path) -> list[tuple[Fraction, str]]:
    return seen(path, "0:v:0", "-fps_mode", "passthrough", "-enc_time_base", "demux")


def listed(path: Path) -> list[str]:
    """Streams and chapters as `ffmpeg -i` prints them, without the picture's size and the rates."""
    lines = ffmpeg("-i", path).stderr.splitlines()
    return [re.sub(r"\d+ kb/s|\d+x\d+", "", line.strip()) for line in lines if re.match(r" +(Stream|Chapter) #", line)]


@pytest.fixture(params=[".mp4", ".mkv"])
def copied(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    suffix = request.param
    source = write_clip(
        tmp_path / f"in{suffix}",
        Video(pts=VFR_PTS, options={"crf": "18", "bf": "2"}, color=(1, 1, 1, 1), sample_aspect_ratio=Fraction(4, 3)),
        audio=[
            Audio(metadata={"language": "eng"}),
            Audio(start=Fraction(1, 4), metadata={"language": "deu"}, disposition=Disposition.comment),
        ],
        subtitles=[Subtitles("mov_text" if suffix == ".mp4" else "subrip", metadata={"language": "fra"})],
        chapters=[Chapter(0, 500, "one"), Chapter(500, 1000, "two")],
    )
    rtsr.upscale(source, tmp_path / f"out{suffix}", scale=2, backend="reference")
    return source, tmp_path / f"out{suffix}"


def test_it_sees_the_same_pictures_times(copied: tuple[Path, Path]) -> None:
    source, output = copied
    assert len(pictures(output)) == len(VFR_PTS)
    assert [t for t, _ in pictures(output)] == [t for t, _ in pictures(source)]


@pytest.mark.parametrize("stream", ["0:a:0", "0:a:1", "0:s:0"])
def test_it_sees_the_same_packets(copied: tuple[Path, Path], stream: str) -> None:
    source, output = copied
    assert seen(output, stream, "-c", "copy") == seen(source, stream, "-c", "copy")


def test_it_hears_the_same_sound(copied: tuple[Path, Path]) -> None:
    source, output = copied
    assert seen(output, "0:a:0") == seen(source, "0:a:0")


def test_it_lists_the_same_streams(copied: tuple[Path, Path]) -> None:
    source, output = copied
    others = [line for line in listed(source) if "Video" not in line]
    assert len(others) >= 5
    assert [line for line in listed(output) if "Video" not in line] == others
    (video,) = [line for line in listed(output) if "Video" in line and "attached pic" not in line]
    assert "bt709" in video and "SAR 4:3" in video


def test_it_decodes_the_exact_pixels(tmp_path: Path) -> None:
    """Nearest and lossless: the MD5 of every picture is that of the drawn one, each pixel repeated."""
    source = write_clip(tmp_path / "in.mkv", Video(pts=VFR_PTS, **LOSSLESS))  # type: ignore[arg-type]
    output, scale = tmp_path / "out.mkv", 3
    with closing(FileSource(source)) as opened, closing(FileSink(output, opened.spec, scale, Encoding("ffv1"))) as sink:
        pipeline.run(opened, ReferenceEngine(scale, "nearest"), sink)
        sink.finish()
    expected = []
    for number in range(len(VFR_PTS)):
        planes = (plane.repeat(scale, 0).repeat(scale, 1) for plane in draw(number, 64, 48))
        expected.append(hashlib.md5(b"".join(plane.tobytes() for plane in planes)).hexdigest())
    assert [digest for _, digest in pictures(output)] == expected


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [
        (".mp4", "libx265"),
        (".mp4", "libsvtav1"),
        (".mov", "prores"),
        (".webm", "libvpx-vp9"),
        (".ts", "libx264"),
        (".avi", "ffv1"),
    ],
)
def test_it_reads_every_kind_of_output(suffix: str, codec: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    rtsr.upscale(source, tmp_path / f"out{suffix}", scale=2, backend="reference", encoding=Encoding(codec))
    assert len(pictures(tmp_path / f"out{suffix}")) == 24
