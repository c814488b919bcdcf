"""What can be named as input: files, URLs, numbered pictures; and what is refused in words."""

from __future__ import annotations

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Video, decoded, planes_of, read_number, steady_pts, times, write_clip

import rtsr
from rtsr.errors import ConfigError, SourceError
from rtsr.sources.media import Media, numbered, picture_numbers
from rtsr.verify import verify

COUNT = 6


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Answers byte ranges, as every real server does; says nothing."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        data, asked = path.read_bytes(), self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        first = int(asked[0] or 0)
        last = min(int(asked[1]) if asked[1] else len(data) - 1, len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        try:
            self.wfile.write(data[first : last + 1])
        except ConnectionError:
            return None  # the reader has what it wanted


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves tmp_path on loopback."""
    handler = functools.partial(_Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """frames/0007.png and on: COUNT of them, each a number."""
    film = write_clip(tmp_path / "film.mkv", Video(codec="ffv1", options={}, pts=steady_pts(COUNT)))
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, frame in enumerate(decoded(film), start=7):
        with av.open(str(folder / f"{i:04d}.png"), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb24"
            picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            container.mux([*stream.encode(picture), *stream.encode(None)])
    return folder


@pytest.mark.parametrize("pattern", ["%04d.png", "*.png"])
def test_numbered_pictures_become_a_film(pattern: str, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    rtsr.upscale(pictures / pattern, output, scale=2, backend="reference", rate=Fraction(12))
    assert [read_number(planes_of(frame)[0], 2) for frame in decoded(output)] == list(range(COUNT))
    assert times(output) == [Fraction(i, 12) for i in range(COUNT)]
    assert verify(Media(str(pictures / pattern), Fraction(12)), output).findings == []


def test_a_film_becomes_numbered_pictures_and_comes_back(pictures: Path, tmp_path: Path) -> None:
    rtsr.upscale(pictures / "%04d.png", tmp_path / "big_%d.png", scale=2, backend="reference")
    assert picture_numbers(tmp_path / "big_%d.png") == list(range(1, COUNT + 1))
    assert not [path for path in tmp_path.iterdir() if "part" in path.name or "rtsr" in path.name]
    with av.open(str(pictures / "0007.png")) as small, av.open(str(tmp_path / "big_1.png")) as large:
        a, b = (next(c.decode(video=0)).to_ndarray(format="rgb24").astype(int) for c in (small, large))
    assert b.shape == (96, 128, 3)
    blocks = b.reshape(48, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(blocks - a).mean() < 4  # bicubic: the means stay but at edges


def test_older_pictures_are_not_mixed_with_new_ones(pictures: Path, tmp_path: Path) -> None:
    pattern = tmp_path / "big_%d.png"
    for number in range(1, 20):
        numbered(pattern, number).write_bytes(b"old")
    with pytest.raises(ConfigError, match="--overwrite"):
        rtsr.upscale(pictures / "%04d.png", pattern, scale=2, backend="reference")
    rtsr.upscale(pictures / "%04d.png", pattern, scale=2, backend="reference", overwrite=True)
    assert picture_numbers(pattern) == list(range(1, COUNT + 1))


def test_a_gap_in_the_numbers_is_an_error(pictures: Path, tmp_path: Path) -> None:
    (pictures / "0009.png").unlink()
    with pytest.raises(SourceError, match=r"0009\.png is missing"):
        rtsr.upscale(pictures / "%04d.png", tmp_path / "out.mp4", backend="reference")


def test_one_name_for_all_pictures_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need a number"):
        rtsr.upscale(pictures / "%04d.png", tmp_path / "out.png", backend="reference")


def test_a_rate_is_for_pictures_only(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "film.mp4", Video(pts=steady_pts(3)))
    with pytest.raises(ConfigError, match="--rate"):
        rtsr.upscale(film, tmp_path / "out.mp4", backend="reference", rate=Fraction(24))


def test_a_file_with_a_pattern_for_a_name_is_a_file(tmp_path: Path) -> None:
    assert Media(str(tmp_path / "%04d.png")).is_pictures
    (tmp_path / "%04d.png").write_bytes(b"a picture")
    assert not Media(str(tmp_path / "%04d.png")).is_pictures


def test_a_gif_keeps_its_pictures_and_times(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "film.mkv", Video(pts=(0, 9000, 18000, 45000, 54000)))
    rtsr.upscale(film, tmp_path / "out.gif", scale=2, backend="reference")
    frames = decoded(tmp_path / "out.gif")
    assert times(tmp_path / "out.gif") == [Fraction(t, 10) for t in (0, 1, 2, 5, 6)]
    greens = [frame.to_ndarray(format="rgb24")[..., 1] for frame in frames]
    assert [read_number(green, 2) for green in greens] == list(range(5))


def test_a_url_is_read_like_a_file(server: str, tmp_path: Path) -> None:
    film = write_clip(tmp_path / "film.mp4", Video(pts=steady_pts(24)))
    report = rtsr.upscale(f"{server}/film.mp4", tmp_path / "out.mp4", scale=2, backend="reference")
    assert report.frames_out == 24
    assert verify(film, tmp_path / "out.mp4").findings == []


def test_a_url_that_is_not_there_is_said(server: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"missing\.mp4: cannot be read"):
        rtsr.upscale(f"{server}/missing.mp4", tmp_path / "out.mp4", backend="reference")


@pytest.mark.parametrize("url", ["rtsp://host/camera", "udp://239.0.0.1:1234", "rtmp://host/live"])
def test_a_live_stream_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read twice"):
        rtsr.upscale(url, tmp_path / "out.mp4", backend="reference")


def test_a_protocol_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="gopher"):
        Media("gophers://host/film.mp4").open()


def test_a_password_is_never_shown() -> None:
    media = Media("https://me:secret@host/film.mp4?x=1")
    assert str(media) == "https://host/film.mp4?x=1"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceError, match="pipe"):
        rtsr.upscale(tmp_path / "pipe.mp4", tmp_path / "out.mp4", backend="reference")
