"""Closed captions (CEA-608 inside the video, as television has them) go through, each with its own picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import draw, picture

import rtsr
from rtsr.errors import ConfigError
from rtsr.sinks.encoding import Encoding
from rtsr.verify import verify

FRAMES, RATE = 30, 25
# Odd parity, as line 21 has it; "resume caption loading" among letters.
PAIRS = [(0x94, 0x20), *((0xC1 + 2 * i % 16, 0x20 + i) for i in range(FRAMES - 1))]


def sei(pair: tuple[int, int]) -> bytes:
    """An H.264 unit that holds one caption pair: ITU-T T.35 user data as ATSC A/53 part 4 packs it."""
    data = b"\xb5\x00\x31GA94\x03" + bytes([0x41, 0xFF, 0xFC, *pair, 0xFF])
    return b"\x00\x00\x00\x01\x06\x04" + bytes([len(data)]) + data + b"\x80"


def write_captioned(path: Path, codec: str = "libx264") -> Path:
    """A television recording: every picture has captions of its own, B-frames between them."""
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"bf": "2", "forced-idr": "1"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for i in range(FRAMES + 1):
            drawn = None
            if i < FRAMES:
                drawn = picture(draw(i, 96, 64), "yuv420p")
                drawn.pts, drawn.time_base = i, Fraction(1, RATE)
            for packet in stream.encode(drawn):
                assert packet.pts is not None
                shown = int(packet.pts * packet.time_base * RATE)
                captioned = av.Packet(sei(PAIRS[shown]) + bytes(packet))
                captioned.pts, captioned.dts, captioned.time_base = packet.pts, packet.dts, packet.time_base
                captioned.is_keyframe, captioned.stream = packet.is_keyframe, stream
                container.mux(captioned)
    if codec == "libx264":
        return path
    other = path.with_stem(f"{path.stem}-{codec}")
    with av.open(str(path)) as source, av.open(str(other), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for frame in source.decode(video=0):
            frame.pict_type = 0  # type: ignore[assignment]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return other


def captions_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        found = [frame.side_data.get("A53_CC") for frame in container.decode(video=0)]
    return [b"" if each is None else bytes(each) for each in found]


@pytest.mark.parametrize("source_codec", ["libx264", "mpeg2video"])
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".mkv", "libx265"), (".ts", "libx264")])
def test_every_picture_keeps_its_captions(source_codec: str, suffix: str, codec: str, tmp_path: Path) -> None:
    source = write_captioned(tmp_path / "tv.ts", source_codec)
    expected = [bytes([0xFC, *pair]) for pair in PAIRS]
    assert captions_of(source) == expected
    output = tmp_path / f"out{suffix}"

    rtsr.upscale(source, output, backend="reference", encoding=Encoding(codec=codec))

    assert captions_of(output) == expected


def test_an_encoder_that_has_no_captions_stops_the_job(tmp_path: Path) -> None:
    source = write_captioned(tmp_path / "tv.ts")
    with pytest.raises(ConfigError, match="closed captions, which libvpx-vp9 does not write"):
        rtsr.upscale(source, tmp_path / "out.webm", backend="reference")
    report = rtsr.upscale(source, tmp_path / "out.webm", backend="reference", drop_unsupported=True)
    assert any("closed captions" in notice for notice in report.notices)


def test_verify_misses_captions(tmp_path: Path) -> None:
    source, output = write_captioned(tmp_path / "tv.ts"), tmp_path / "out.mkv"
    rtsr.upscale(source, output, backend="reference")
    assert not verify(str(source), str(output)).findings
    bare = tmp_path / "bare.mkv"
    with av.open(str(output)) as container, av.open(str(bare), "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        strip = av.BitStreamFilterContext("filter_units=remove_types=6", container.streams.video[0], stream)
        for packet in container.demux(video=0):
            for kept in strip.filter(packet if packet.size else None):
                kept.stream = stream
                copy.mux(kept)
    assert any("closed captions at" in finding for finding in verify(str(source), str(bare)).findings)
