"""A long film: python -m torture.long_film [--hours 2] [--rate 24]

A clip of eight seconds with a flash and a click is repeated by copying its packets until the film is long enough, then
upscaled through the command line with a trivial engine. Watches the memory of the job, and compares the distance of
the last flash and the last click in both files. Exits with 1 if memory grows by 1 MB in 10 minutes of film or more, or
if picture and sound end up 1 ms apart or more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from clips import main_video
from commands import command, environment

from torture.worker import resident_mb

CLIP_S = 8  # 375 frames of AAC at 48 kHz exactly, so that sound repeats without a seam
FLASH_S = Fraction(5)
SOUND_RATE, SOUND_FRAME = 48000, 1024
TICK = Fraction(1, 48000)  # holds both clocks exactly for 24, 25 and 30 pictures a second
WIDTH, HEIGHT = 64, 48
EVERY_S = 1.0
SETTLED = 0.1  # of the film: buffers and libraries have been loaded by then
MOST_MB_PER_10_MIN, MOST_OFFSET_S = 1.0, 0.001


def write_clip(path: Path, rate: int) -> Path:
    """Eight seconds with a white picture and a click at FLASH_S."""
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "bf": "0", "g": str(rate)}
        video: Any = container.add_stream("libx264", rate=rate, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound: Any = container.add_stream("aac", rate=SOUND_RATE)
        sound.codec_context.layout = "mono"
        for i in range(CLIP_S * rate):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, level in zip(frame.planes, (235 if i == FLASH_S * rate else 60 + i % 50, 128, 128), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            frame.pts, frame.time_base = i, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = np.zeros((1, CLIP_S * SOUND_RATE), np.float32)
        click = int(FLASH_S * SOUND_RATE)
        wave[0, click : click + 240] = 0.9 * np.sin(np.arange(240) * 2 * np.pi / 24)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, 0, TICK
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def write_long(path: Path, hours: float, rate: int) -> float:
    """Repeat the clip for so long. Returns the film's length in seconds."""
    times = round(hours * 3600 / CLIP_S)
    clip = write_clip(path.with_name("clip.mp4"), rate)
    with av.open(str(clip)) as old, av.open(str(path), "w") as container:
        streams = [container.add_stream_from_template(stream) for stream in old.streams]
        counts = CLIP_S * rate, CLIP_S * SOUND_RATE // SOUND_FRAME
        packets = [[bytes(p) for p in old_packets(clip, index) if p.size][:count] for index, count in enumerate(counts)]
        steps = SOUND_RATE // rate, SOUND_FRAME
        for turn in range(times):
            begin = turn * CLIP_S * SOUND_RATE
            for stream, payloads, step in zip(streams, packets, steps, strict=True):
                for i, data in enumerate(payloads):
                    packet = av.Packet(data)
                    packet.stream, packet.time_base = stream, TICK
                    packet.pts = packet.dts = begin + i * step
                    packet.duration = step
                    packet.is_keyframe = stream.type == "audio" or i % rate == 0
                    container.mux(packet)
    return times * CLIP_S


def old_packets(path: Path, index: int) -> list[av.Packet]:
    with av.open(str(path)) as container:
        return list(container.demux(container.streams[index]))


def watched(source: Path, output: Path) -> tuple[list[tuple[float, float]], float]:
    """Run the job. Returns (share of the time, MB) every EVERY_S, and the seconds it took."""
    arguments = ["--scale", "2", "--backend", "reference", "--preset", "ultrafast", "--quiet"]
    begun, seen = time.monotonic(), []
    with subprocess.Popen(command("upscale", source, "-o", output, *arguments), env=environment()) as process:
        folder = output.with_name(output.name + ".rtsr")
        while process.poll() is None:
            if folder.is_dir():
                seen.append((float(len(list(folder.glob("0*")))), resident_mb(process.pid)))
            time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(f"the job ended with {process.returncode}")
    return seen, time.monotonic() - begun


def slope(seen: list[tuple[float, float]], segment_s: float) -> float:
    """MB for 10 minutes of film, by the best straight line through what was seen while segments were being made."""
    last = max(segments for segments, _ in seen)
    points = [(n * segment_s / 600, mb) for n, mb in seen if SETTLED * last < n < last]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def ends(path: Path, length_s: float) -> tuple[Fraction, Fraction]:
    """When the last flash is shown, and the first sample of the last click is heard: both decoded, in seconds."""
    begin = length_s - CLIP_S
    flash = max(time for time, frame in _decoded(path, "video", begin) if _brightness(frame) > 200)
    clicks = []
    for time_, frame in _decoded(path, "audio", begin):
        loud = np.nonzero(np.abs(frame.to_ndarray()[0]) > 0.2)[0]
        if loud.size:
            clicks.append(time_ + Fraction(int(loud[0]), SOUND_RATE))
    # A click may reach into a second frame of sound.
    return flash, next(click for click in clicks if clicks[-1] - click < Fraction(1, 20))


def _decoded(path: Path, kind: str, begin: float) -> Iterator[tuple[Fraction, Any]]:
    with av.open(str(path)) as container:
        stream = main_video(container) if kind == "video" else container.streams.audio[0]
        container.seek(int(begin / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            yield Fraction(frame.pts) * Fraction(frame.time_base), frame


def _brightness(frame: av.VideoFrame) -> float:
    plane = frame.planes[0]
    return float(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width].mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--rate", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "long.mp4", Path(name) / "out.mp4"
        length_s = write_long(source, options.hours, options.rate)
        print(
            f"film: {length_s / 3600:.2f} h, {length_s * options.rate:.0f} pictures, {source.stat().st_size >> 20} MB"
        )
        seen, took_s = watched(source, output)
        before, after = ends(source, length_s), ends(output, length_s)
    growth = slope(seen, 10)
    most = max(mb for _, mb in seen)
    print(f"job: {took_s:.0f} s, {length_s / took_s:.0f} times as fast as the film")
    print(f"memory: {seen[0][1]:.0f} MB at first, {most:.0f} MB at most, {growth:+.3f} MB for 10 minutes of film")
    offset = (after[0] - after[1]) - (before[0] - before[1])
    print(f"last flash and click: {float(before[0]):.6f} {float(before[1]):.6f} s in the film,", end=" ")
    print(f"{float(after[0]):.6f} {float(after[1]):.6f} s in the output: offset {float(offset) * 1000:+.4f} ms")
    return not (growth < MOST_MB_PER_10_MIN and abs(offset) < MOST_OFFSET_S)


if __name__ == "__main__":
    sys.exit(main())
