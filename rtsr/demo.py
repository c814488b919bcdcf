"""`python -m rtsr.demo FOLDER`: make a small clip with moving detail and sound, upscale it, show the difference."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from rtsr.job import upscale
from rtsr.sinks.encoding import Encoding

SCALE, WIDTH, HEIGHT, RATE, SECONDS = 4, 320, 180, 24, 4
CROP = (slice(230, 470), slice(620, 940))  # of the large picture: text, fine lines and an edge
_TONE_HZ, _AUDIO_RATE = 440, 48_000


def main(folder: Path) -> None:
    """Writes demo.mp4, demo_4x.mp4 and before_after.png into folder."""
    folder.mkdir(parents=True, exist_ok=True)
    small, large, picture = folder / "demo.mp4", folder / f"demo_{SCALE}x.mp4", folder / "before_after.png"
    write_clip(small)
    report = upscale(small, large, scale=SCALE, encoding=Encoding(crf=12), overwrite=True)
    middle = RATE * SECONDS // 2
    truth, before, after = scene(middle), _frame(small, middle), _frame(large, middle)
    bicubic = cv2.resize(before, (WIDTH * SCALE, HEIGHT * SCALE), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(picture), side_by_side([("before (bicubic)", bicubic), ("after (rtsr)", after), ("truth", truth)]))
    print(f"{report.frames_out} frames, {report.fps:.0f} fps, engine {report.engine} on {report.backend}")
    print(f"luma PSNR of the frame shown: bicubic {psnr(bicubic, truth):.2f} dB, rtsr {psnr(after, truth):.2f} dB")
    print(f"before: {small}\nafter:  {large}\nlook:   {picture}")


def scene(index: int) -> np.ndarray:
    """The large picture (H, W, 3), BGR uint8, at frame `index`: text, fine curves and shapes that move."""
    height, width = HEIGHT * SCALE, WIDTH * SCALE
    shift = 2 * index
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    ground = np.stack([150 - 0.10 * yy, 120 + 0.06 * yy, 90 + 0.07 * xx], axis=-1)
    rings = np.sin(np.hypot(xx - 240 - shift, yy - 200) / 6.0)[..., None]
    picture = np.clip(ground + 22 * rings, 0, 255).astype(np.uint8)
    for i in range(24):  # fans of thin lines: the hardest thing for an interpolation
        angle = np.pi * (i / 24) + 0.004 * index
        end = (int(1000 + 210 * np.cos(angle)), int(400 - 210 * np.sin(angle)))
        cv2.line(picture, (1000, 400), end, (235, 235, 225), 2, cv2.LINE_AA)
    cv2.circle(picture, (640 + shift, 560), 90, (60, 70, 200), -1, cv2.LINE_AA)
    cv2.rectangle(picture, (90, 420), (330, 640), (40, 150, 190), 6, cv2.LINE_AA)
    for row, text in enumerate(("rtsr", "every frame, every packet", "2 3 4 times larger")):
        place = (300, 300 + 70 * row)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_DUPLEX, 1.6 - 0.3 * row, (20, 20, 20), 7, cv2.LINE_AA)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_DUPLEX, 1.6 - 0.3 * row, (245, 245, 245), 2, cv2.LINE_AA)
    return picture


def write_clip(path: Path) -> None:
    """The scene at a quarter of its size in H.264 (CRF 20), with a tone in AAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "20", "preset": "medium"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # OpenCV's BT.601 limited range is what _frame() turns back; say so in the file
        video.codec_context.colorspace, video.codec_context.color_range = 5, 1
        sound = container.add_stream("aac", rate=_AUDIO_RATE)
        sound.layout = "mono"
        for index in range(RATE * SECONDS):
            small = cv2.resize(scene(index), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            planar = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2YUV_I420), np.uint8)
            frame = av.VideoFrame.from_ndarray(planar, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        time = np.arange(_AUDIO_RATE * SECONDS) / _AUDIO_RATE
        tone = (0.2 * np.sin(2 * np.pi * _TONE_HZ * time)).astype(np.float32)[None]
        for begin in range(0, tone.shape[1], 1024):
            samples = av.AudioFrame.from_ndarray(tone[:, begin : begin + 1024], format="fltp", layout="mono")
            samples.pts, samples.rate = begin, _AUDIO_RATE
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))


def _frame(path: Path, index: int) -> np.ndarray:
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == index:
                return cv2.cvtColor(frame.to_ndarray(format="yuv420p"), cv2.COLOR_YUV2BGR_I420)
    raise ValueError(f"{path} has no frame {index}")


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of the luma of two BGR pictures, in dB."""
    luma = [cv2.cvtColor(p, cv2.COLOR_BGR2YUV)[..., 0].astype(np.float64) for p in (picture, truth)]
    return float(10 * np.log10(255**2 / np.mean((luma[0] - luma[1]) ** 2)))


def side_by_side(pictures: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Crops of pictures in a row, twice as large without smoothing, each with its name above."""
    columns = []
    for name, picture in pictures:
        crop = cv2.resize(picture[CROP], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        bar = np.full((44, crop.shape[1], 3), 30, np.uint8)
        cv2.putText(bar, name, (12, 31), cv2.FONT_HERSHEY_DUPLEX, 0.9, (240, 240, 240), 1, cv2.LINE_AA)
        columns.append(np.vstack([bar, crop]))
    return np.hstack(columns)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
