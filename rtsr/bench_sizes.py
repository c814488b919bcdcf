"""`python -m rtsr.bench_sizes CLIP...`: how large encoders make upscaled pictures, for the table in rtsr/disk.py."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from rtsr.backends import EngineChoice, open_engine
from rtsr.frames import Frame, VideoSpec, batched
from rtsr.sinks.encoding import Encoding, container_format
from rtsr.sinks.video import EncodedVideo
from rtsr.sources.file import FileSource

FRAMES = 12  # of each clip; with one keyframe in so few, more bits than a film needs
# Encoder, the output's suffix, and the qualities to try: the default one and a coarser one, to learn the step.
ENCODERS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "libx264": (".mp4", (18, 24)),
    "libx265": (".mp4", (20, 26)),
    "libsvtav1": (".mp4", (27, 39)),
    "libvpx-vp9": (".webm", (28, 40)),
    "prores": (".mov", (None,)),
    "ffv1": (".mkv", (None,)),
    "mjpeg": (".mov", (None,)),
    "png": (".mov", (None,)),
}


def upscaled(clip: Path, scale: int) -> tuple[VideoSpec, list[Frame]]:
    """The beginning of a clip after the `fast` engine, and the clip's own spec."""
    with (
        closing(FileSource(clip)) as source,
        closing(open_engine(EngineChoice(scale, "fast", bits=source.spec.pixels.bits))) as engine,
    ):
        frames = islice(source.frames(), FRAMES)
        return source.spec, [frame for batch in engine.stream(batched(frames, 1)) for frame in batch.frames()]


def bits_per_pixel(spec: VideoSpec, frames: Sequence[Frame], codec: str, suffix: str, crf: int | None) -> float:
    height, width = frames[0].y.shape[1:]
    output, file = Path(f"out{suffix}"), io.BytesIO()
    encoder = Encoding(codec, crf).resolve(output, spec)
    video = EncodedVideo(file, container_format(output), spec, (width, height), encoder, frames[0].pts)
    for frame in frames:
        video.write(frame)
    video.finish()
    return 8 * len(file.getvalue()) / (len(frames) * width * height)


def main(clips: list[str]) -> None:
    samples = {f"{Path(clip).stem} x{scale}": upscaled(Path(clip), scale) for clip in clips for scale in (2,)}
    for codec, (suffix, qualities) in ENCODERS.items():
        for crf in qualities:
            found = {name: bits_per_pixel(*sample, codec, suffix, crf) for name, sample in samples.items()}
            each = ", ".join(f"{name} {bits:.4f}" for name, bits in found.items())
            least, most = min(found.values()), max(found.values())
            print(f"{codec:12} {crf or '':2}  {least:.4f} to {most:.4f} bits a pixel ({each})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
