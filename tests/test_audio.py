"""Sound encoded anew, or left out, where that was asked for: the same sound at the same moment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Audio, Disposition, Video, draw, main_video, packets, steady_pts, write_clip
from commands import SMALL
from commands import rtsr as command

import rtsr
from rtsr.errors import ConfigError, IncompleteError
from rtsr.sinks.audio import AUDIO_ENCODERS
from rtsr.verify import verify

RATE = 48000
FLASH = 12  # the frame that is white
FLASH_S = Fraction(FLASH, 24)
CODECS = [
    *((".mp4", codec) for codec in AUDIO_ENCODERS),
    *((".mkv", codec) for codec in ("aac", "libopus", "flac", "ac3", "mp3", "pcm_s16le")),
    (".mov", "alac"),
    (".mov", "pcm_s24le"),
    (".webm", "libopus"),
    (".ts", "aac"),
    (".ts", "libopus"),
    (".ts", "mp3"),
]


def upscale(source: Path, output: Path, **options: object) -> rtsr.job.Report:
    return rtsr.upscale(source, output, scale=2, backend="reference", **options)  # type: ignore[arg-type]


def write_sound(path: Path, tracks: Sequence[tuple[np.ndarray, int, int]], video: Video) -> Path:
    """A clip with tracks of exact samples: int16 (channels, samples), rate and first pts in samples."""
    layouts = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
    picture = write_clip(path.with_name("picture.mkv"), video)
    with av.open(str(picture)) as made, av.open(str(path), "w") as container:
        shown = container.add_stream_from_template(made.streams.video[0], opaque=True)
        feeds: list[Any] = []
        for samples, rate, start in tracks:
            layout = layouts[len(samples)]
            stream: Any = container.add_stream("pcm_s16le", rate=rate, layout=layout)
            packed = np.ascontiguousarray(samples.T.reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start
            feeds.append((stream, frame))
        for packet in made.demux():
            if packet.size:
                packet.stream = shown
                container.mux(packet)
        for stream, frame in feeds:
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    return path


def clicks(seconds: float, at: Sequence[Fraction], rate: int = RATE, channels: int = 2) -> np.ndarray:
    """Silence with a tick of a millisecond around each of some moments."""
    samples = np.zeros((channels, int(seconds * rate)), np.int16)
    half = rate // 2000
    for moment in at:
        middle = int(moment * rate)
        samples[:, middle - half : middle + half] = 24000 * np.hanning(2 * half)
    return samples


def flashing(frames: int = 24) -> Video:
    dark = [tuple(np.full_like(p, v) for p, v in zip(draw(0, 64, 48), (16, 128, 128), strict=True))] * frames
    dark[FLASH] = tuple(np.full_like(p, v) for p, v in zip(dark[0], (235, 128, 128), strict=True))
    return Video(pts=steady_pts(frames), planes=dark)  # type: ignore[arg-type]


def heard(path: Path, number: int = 0) -> tuple[Fraction, np.ndarray, int]:
    """When a track begins, its samples as float (channels, samples), and its rate."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        frames = list(container.decode(stream))
        packed = av.AudioResampler("flt")  # of eight planes, PyAV shows a ninth that is not there
        pieces = [piece for frame in frames for piece in packed.resample(frame)]
        samples = [piece.to_ndarray().reshape(-1, piece.layout.nb_channels).T for piece in pieces]
    first = frames[0]
    return Fraction(first.pts) * Fraction(first.time_base), np.concatenate(samples, 1), first.sample_rate


def moments_of_clicks(path: Path, number: int = 0) -> list[float]:
    begin, samples, rate = heard(path, number)
    loud = np.abs(samples[0])
    found = []
    while loud.max() > 0.3:
        at = int(loud.argmax())
        around = np.arange(max(at - rate // 500, 0), min(at + rate // 500, len(loud)))
        found.append(float(begin) + float((around * loud[around]).sum() / loud[around].sum()) / rate)
        loud[max(at - rate // 100, 0) : at + rate // 100] = 0
    return sorted(found)


def moment_of_flash(path: Path) -> float:
    with av.open(str(path)) as container:
        for picture in container.decode(main_video(container)):
            if np.asarray(np.from_dlpack(picture.planes[0])).mean() > 150:
                return float(picture.pts * Fraction(picture.time_base))
    raise AssertionError(f"{path}: no flash")


# ---- the same moment ----


@pytest.mark.parametrize(("suffix", "codec"), CODECS)
@pytest.mark.parametrize("late", [0, 6007], ids=["from-zero", "late"])
def test_a_click_stays_at_its_flash(suffix: str, codec: str, late: int, tmp_path: Path) -> None:
    """To under a millisecond, whatever delay the encoder has and whenever the sound begins."""
    samples = clicks(1.0, [FLASH_S])[:, late:]
    source = write_sound(tmp_path / "in.mov", [(samples, RATE, late)], flashing())
    upscale(source, tmp_path / f"out{suffix}", audio_codec=codec)
    (click,) = moments_of_clicks(tmp_path / f"out{suffix}")
    assert abs(click - moment_of_flash(tmp_path / f"out{suffix}")) < 1e-3


@pytest.mark.parametrize("rate", [44100, 22050, 96000])
@pytest.mark.parametrize("codec", ["libopus", "aac", "ac3"])
def test_a_click_stays_when_the_rate_must_change(rate: int, codec: str, tmp_path: Path) -> None:
    source = write_sound(tmp_path / "in.mov", [(clicks(1.0, [FLASH_S], rate), rate, 0)], flashing())
    upscale(source, tmp_path / "out.mkv", audio_codec=codec)
    (click,) = moments_of_clicks(tmp_path / "out.mkv")
    assert abs(click - float(FLASH_S)) < 1e-3
    assert heard(tmp_path / "out.mkv")[2] >= min(rate, 48000)


@pytest.mark.parametrize("codec", ["flac", "alac", "pcm_s16le"])
def test_a_lossless_codec_loses_no_sample(codec: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(-20000, 20000, (2, RATE), np.int16)
    source = write_sound(tmp_path / "in.mov", [(noise, RATE, 0)], flashing())
    upscale(source, tmp_path / "out.mov" if codec != "flac" else tmp_path / "out.mkv", audio_codec=codec)
    begin, samples, rate = heard(tmp_path / ("out.mov" if codec != "flac" else "out.mkv"))
    assert (begin, rate) == (0, RATE)
    assert (np.rint(samples * 32768).astype(np.int16) == noise).all()


def test_a_trim_is_exact_to_the_sample(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(-20000, 20000, (2, RATE), np.int16)
    source = write_sound(tmp_path / "in.mov", [(noise, RATE, 0)], flashing())
    start, end = Fraction(123457, 1_000_000), Fraction(7, 8)
    upscale(source, tmp_path / "out.mov", audio_codec="pcm_s16le", start=start, end=end)
    begin, samples, _ = heard(tmp_path / "out.mov")
    first, last = 5926, 42000  # 0.123457 s lies between samples 5925 and 5926
    assert (np.rint(samples * 32768).astype(np.int16) == noise[:, first:last]).all()
    assert abs(float(begin) - (first / RATE - float(start))) < 1 / RATE
    assert verify(source, tmp_path / "out.mov", start=start, end=end).findings == []


def test_a_click_stays_at_its_flash_in_a_trim(tmp_path: Path) -> None:
    source = write_sound(tmp_path / "in.mov", [(clicks(1.0, [FLASH_S]), RATE, 0)], flashing())
    start = Fraction(1, 3)
    upscale(source, tmp_path / "out.mp4", audio_codec="aac", start=start)
    (click,) = moments_of_clicks(tmp_path / "out.mp4")
    assert abs(click - moment_of_flash(tmp_path / "out.mp4")) < 1e-3
    assert abs(click - float(FLASH_S - start)) < 1e-3


def test_a_hole_in_the_sound_stays_a_hole(tmp_path: Path) -> None:
    """What comes behind missing packets is not pulled forward."""
    whole = write_clip(tmp_path / "whole.mkv", flashing(48), audio=[Audio("flac", seconds=Fraction(2))])
    with av.open(str(whole)) as old, av.open(str(tmp_path / "in.mkv"), "w") as new:
        streams = [new.add_stream_from_template(s, opaque=True) for s in old.streams]
        for packet in old.demux():
            time = (packet.pts or 0) * Fraction(packet.time_base or 1)
            if packet.size and not (packet.stream.index == 1 and Fraction(1, 2) < time < 1):
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    report = upscale(tmp_path / "in.mkv", tmp_path / "out.mkv", audio_codec="pcm_s16le")
    assert any("silence" in sentence for sentence in report.notices)
    _, before, _ = heard(whole)
    _, after, _ = heard(tmp_path / "out.mkv")
    assert abs(after.shape[1] - before.shape[1]) <= RATE // 1000
    behind = slice(RATE * 3 // 2, RATE * 3 // 2 + 4800)
    likeness = [np.corrcoef(before[0, behind], np.roll(after[0], shift)[behind])[0, 1] for shift in range(-48, 49)]
    assert max(likeness) > 0.99
    assert np.abs(after[0, int(0.7 * RATE) : int(0.9 * RATE)]).max() == 0


# ---- the same tracks ----


def test_tracks_stay_in_order_with_language_title_and_flags(tmp_path: Path) -> None:
    tracks = [
        Audio("flac", metadata={"language": "eng", "title": "Main", "BPS": "999"}),
        Audio("aac", metadata={"language": "deu", "title": "Kommentar"}, disposition=Disposition.comment),
        Audio("libopus", start=Fraction(1, 8), metadata={"language": "fra"}),
    ]
    source = write_clip(tmp_path / "in.mkv", audio=tracks)
    upscale(source, tmp_path / "out.mkv", audio_codec="aac")
    with av.open(str(tmp_path / "out.mkv")) as container:
        found = container.streams.audio
        assert [s.codec_context.codec.canonical_name for s in found] == ["aac"] * 3
        assert [s.metadata.get("language") for s in found] == ["eng", "deu", "fra"]
        assert [s.metadata.get("title") for s in found] == ["Main", "Kommentar", None]
        assert found[1].disposition & Disposition.comment
        assert "BPS" not in found[0].metadata  # of packets that are no longer there
    assert verify(source, tmp_path / "out.mkv").findings == []


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("codec", ["aac", "libopus", "flac"])
def test_every_channel_keeps_its_place(channels: int, codec: str, tmp_path: Path) -> None:
    times = np.arange(RATE) / RATE
    tones = np.stack([8000 * np.sin(2 * np.pi * (200 + 150 * n) * times) for n in range(channels)]).astype(np.int16)
    tones[3:4] = (8000 * np.sin(2 * np.pi * 60 * times)).astype(np.int16)  # the fourth is for low tones only
    source = write_sound(tmp_path / "in.mkv", [(tones, RATE, 0)], flashing())
    upscale(source, tmp_path / "out.mkv", audio_codec=codec)
    _, samples, rate = heard(tmp_path / "out.mkv")
    assert len(samples) == channels
    for number in range(channels):
        spectrum = np.abs(np.fft.rfft(samples[number, rate // 4 : rate * 3 // 4]))
        assert abs(int(spectrum.argmax()) * 2 - (60 if number == 3 else 200 + 150 * number)) <= 2


def test_no_audio_leaves_all_sound_out(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=[Audio(), Audio()])
    report = upscale(source, tmp_path / "out.mp4", no_audio=True)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [s.type for s in container.streams] == ["video"]
    assert sum("left out: as asked" in sentence for sentence in report.notices) == 2
    assert command("verify", source, tmp_path / "out.mp4", "--no-audio").code == 0
    assert "audio" in command("verify", source, tmp_path / "out.mp4").sentence


# ---- options that cannot work ----


def refused(source: Path, *options: object) -> str:
    outcome = command("upscale", source, *options, *SMALL, cwd=source.parent)
    assert outcome.code == 2
    assert [path.name for path in source.parent.iterdir()] == [source.name]
    return outcome.sentence


@pytest.mark.parametrize("name", ["aacc", "", "libx264", "opus "])
def test_a_wrong_name(name: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=[Audio()])
    assert "libopus" in refused(source, "-o", "out.mp4", "--audio-codec", name)


def test_both_options_at_once(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=[Audio()])
    assert "--no-audio" in refused(source, "-o", "out.mp4", "--audio-codec", "aac", "--no-audio")


def test_webm_names_the_codec_that_it_holds(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=[Audio()])
    assert "--audio-codec libopus" in refused(source, "-o", "out.webm")


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".webm"), ("flac", ".ts"), ("flac", ".avi"), ("alac", ".avi")])
def test_a_codec_that_the_container_cannot_hold(codec: str, suffix: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", audio=[Audio()])
    assert "cannot hold" in refused(source, "-o", f"out{suffix}", "--audio-codec", codec)


@pytest.mark.parametrize("codec", ["mp3", "ac3"])
def test_more_channels_than_a_codec_has(codec: str, tmp_path: Path) -> None:
    channels = 8
    write_sound(tmp_path / "in.mkv", [(clicks(0.5, [FLASH_S / 2], channels=channels), RATE, 0)], flashing())
    with pytest.raises(ConfigError, match="8"):
        upscale(tmp_path / "in.mkv", tmp_path / "out.mkv", audio_codec=codec)


@pytest.mark.parametrize("options", [("--no-audio",), ("--audio-codec", "aac")], ids=" ".join)
def test_an_option_with_nothing_to_do_says_so(options: tuple[str, ...], tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4")
    outcome = command("upscale", source, "-o", tmp_path / "out.mp4", *options, *SMALL)
    assert outcome.code == 0
    assert "has no sound" in outcome.stderr


# ---- damage ----


def damage_sound(path: Path, source: Path, numbers: Sequence[int]) -> Path:
    """Copy a clip with some packets of its first track overwritten with noise."""
    noise = np.random.default_rng(5)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = [new.add_stream_from_template(s, opaque=True) for s in old.streams]
        count = 0
        for packet in old.demux():
            if not packet.size:
                continue
            target = streams[packet.stream.index]
            if packet.stream.type == "audio":
                if count in numbers:
                    damaged = av.Packet(noise.bytes(packet.size))
                    damaged.pts, damaged.dts, damaged.duration = packet.pts, packet.dts, packet.duration
                    damaged.time_base = packet.time_base
                    packet = damaged
                count += 1
            packet.stream = target
            new.mux(packet)
    return path


def test_damaged_packets_are_counted_and_no_crash(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", audio=[Audio("flac", seconds=Fraction(1))])
    source = damage_sound(tmp_path / "in.mkv", whole, [3, 4])
    with pytest.raises(IncompleteError, match=r"2 packets did not decode \(near 0\.\d+ s"):
        upscale(source, tmp_path / "out.mkv", audio_codec="aac")
    assert (tmp_path / "out.mkv.part").exists()
    assert not (tmp_path / "out.mkv").exists()


def test_sound_that_is_all_damage_does_not_pass(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", audio=[Audio("flac", seconds=Fraction(1))])
    count = len(packets(whole, "audio"))
    source = damage_sound(tmp_path / "in.mkv", whole, range(count))
    with pytest.raises(IncompleteError, match="packets did not decode"):
        upscale(source, tmp_path / "out.mkv", audio_codec="aac")


# ---- verify ----

NOISE = np.fft.rfft(np.random.default_rng(3).normal(size=(2, 3 * RATE)))
NOISE[:, : 3 * 100] = NOISE[:, 3 * 3000 :] = 0  # 100 to 3000 Hz, as speech has
SOUND = (40000 * np.fft.irfft(NOISE)).clip(-30000, 30000).astype(np.int16)
LONG = Video(pts=steady_pts(72))


def later(samples: np.ndarray, by: int) -> np.ndarray:
    return np.concatenate([np.zeros((2, by), np.int16), samples[:, :-by]], 1)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (np.zeros_like(SOUND), "level"),
        (SOUND[:, ::-1], "different"),
        (SOUND[::-1], "channel"),
        (SOUND // 4, "level"),
        (later(SOUND, 240), "beside its moment"),
        (SOUND[:, : 2 * RATE], "ends"),
        (SOUND[:1], "channels"),
        (np.concatenate([SOUND[:, :RATE], np.zeros((2, 2 * RATE), np.int16)], 1), "channel 1"),
    ],
    ids=["silence", "backwards", "swapped", "quiet", "late", "short", "mono", "silent-later"],
)
def test_verify_finds_sound_that_is_wrong(other: np.ndarray, word: str, tmp_path: Path) -> None:
    source = write_sound(tmp_path / "in.mkv", [(SOUND, RATE, 0)], LONG)
    made = write_sound(tmp_path / "other.mkv", [(np.ascontiguousarray(other), RATE, 0)], LONG)
    upscale(made, tmp_path / "out.mkv", audio_codec="aac")
    assert word in "; ".join(verify(source, tmp_path / "out.mkv").findings)


def test_verify_accepts_what_is_right(tmp_path: Path) -> None:
    source = write_sound(tmp_path / "in.mkv", [(SOUND, RATE, 0)], LONG)
    for codec in ("aac", "libopus", "mp3", "ac3"):
        upscale(source, tmp_path / "out.mkv", audio_codec=codec, overwrite=True)
        verdict = verify(source, tmp_path / "out.mkv")
        assert verdict.findings == []
        assert verdict.facts["lowest_sound_likeness"] > 0.85


def test_a_copy_that_lacks_a_packet_is_no_conversion(tmp_path: Path) -> None:
    """One packet less in the middle: nothing that a comparison at a few moments would hear."""
    source = write_sound(tmp_path / "pcm.mkv", [(SOUND, RATE, 0)], LONG)
    upscale(source, tmp_path / "in.mp4", audio_codec="aac")
    upscale(tmp_path / "in.mp4", tmp_path / "whole.mp4")
    with av.open(str(tmp_path / "whole.mp4")) as old, av.open(str(tmp_path / "out.mp4"), "w") as new:
        streams = [new.add_stream_from_template(s, opaque=True) for s in old.streams]
        for number, packet in enumerate(p for p in old.demux() if p.size):
            if not (packet.stream.type == "audio" and number > 150):
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    assert "same packets" in "; ".join(verify(tmp_path / "in.mp4", tmp_path / "out.mp4").findings)


# ---- another program ----


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".webm", "libopus"), (".mkv", "flac"), (".ts", "mp3")])
def test_the_ffmpeg_program_hears_the_click_at_its_moment(suffix: str, codec: str, tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="pip install imageio-ffmpeg")
    source = write_sound(tmp_path / "in.mov", [(clicks(1.0, [FLASH_S]), RATE, 0)], flashing())
    upscale(source, tmp_path / f"out{suffix}", audio_codec=codec)
    read = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(tmp_path / f"out{suffix}")]
    wave = ["-map", "0:a:0", "-af", "aresample=48000:async=1:first_pts=0", "-ac", "1", "-f", "s16le", "-"]
    done = subprocess.run([*read, *wave], capture_output=True, check=True)
    assert done.stderr == b""
    samples = np.frombuffer(done.stdout, np.int16)
    allowed = RATE // 1000
    lead = {".ts": 1105}.get(suffix, 0)  # the encoder's delay, by which the program moves the picture, too
    assert abs(int(np.abs(samples.astype(np.int32)).argmax()) - int(FLASH_S * RATE) - lead) < allowed
