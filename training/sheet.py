"""What engines make of what people film: `python -m training.sheet engines/fast-x4-stream-int8.onnx --out sheet.png`.

A row a subject (face, text, foliage, animation, night, film grain, out of focus, hair), a column each for bicubic, the
engines and the truth. Pictures are shrunk by the scale and, unless --clean, coded by x264 as three frames of a still
shot; the last one is shown. Chroma is not coded.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from rtsr.metrics import psnr, rgb_to_y
from training.clips import read_frames, recode
from training.data import DataError, decode_rgb, stored_files
from training.evaluate import read_rgb
from training.resize import imresize
from training.upscalers import Upscaler, open_upscalers, to_planes, to_rgb

Picture = NDArray[np.uint8]
GRAIN = 8.0  # standard deviation of the film grain in code values, noise two pixels wide
LABEL = 18  # rows of pixels for a caption


class Subject(NamedTuple):
    """A picture and where its crop begins, as shares of its height and width."""

    label: str
    source: str  # under the data folder; train:NAME is a held-out picture of the shards
    top: float
    left: float


SUBJECTS = (
    Subject("face", "test/BSD100/HR/img_035.png", 0.30, 0.25),
    Subject("text", "test/Set14/HR/img_013.png", 0.02, 0.05),
    Subject("foliage", "train:0404.jpg", 0.05, 0.02),
    Subject("animation", "clips_hr/bbb_1920x1080_60fps_vp8.webm", 0.35, 0.45),
    Subject("night", "train:0544.jpg", 0.35, 0.20),
    Subject("film grain", "train:0435.jpg", 0.05, 0.50),
    Subject("out of focus", "train:0250.jpg", 0.10, 0.05),
    Subject("hair", "train:0600.jpg", 0.30, 0.30),
)


def truth_of(subject: Subject, data: Path, held_out: dict[str, Picture]) -> Picture:
    """The RGB picture of a subject, its sides multiples of 24 (whole chroma samples at every scale)."""
    if subject.source.startswith("train:"):
        rgb = held_out[subject.source.removeprefix("train:")]
    elif subject.source.endswith(".png"):
        rgb = read_rgb(data / subject.source)
    else:
        y, u, v = read_frames(data / subject.source, 1)[0]
        large = [cv2.resize(plane, y.shape[::-1], interpolation=cv2.INTER_CUBIC) for plane in (u, v)]
        rgb = to_rgb(y, np.stack(large).astype(np.uint8))
    rgb = rgb[: rgb.shape[0] // 24 * 24, : rgb.shape[1] // 24 * 24]
    return grainy(rgb) if subject.label == "film grain" else rgb


def grainy(rgb: Picture) -> Picture:
    """The picture with grain on its luma."""
    noise = np.random.default_rng(0).normal(0, GRAIN, (rgb.shape[0] // 2, rgb.shape[1] // 2)).astype(np.float32)
    grain = cv2.resize(noise, rgb.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return (rgb + grain[..., None]).round().clip(0, 255).astype(np.uint8)


def filmed(rgb: Picture, scale: int, crf: int | None) -> tuple[Picture, Picture]:
    """The planes (y, uv) an engine is given: shrunk, luma coded unless crf is None."""
    y, uv = to_planes(imresize(rgb, 1 / scale))
    if crf is not None:
        grey = np.full((y.shape[0] // 2, y.shape[1] // 2), 128, np.uint8)
        y = recode([[y, grey, grey]] * 3, "x264", crf)[-1]
    return y, uv


def crop(rgb: Picture, subject: Subject, side: int) -> Picture:
    """The square of `side` pixels that shows the subject."""
    top, left = (int(share * (length - side)) for share, length in zip(subject[2:], rgb.shape, strict=False))
    return rgb[top : top + side, left : left + side]


def captioned(rgb: Picture, text: str) -> Picture:
    strip = np.full((LABEL, rgb.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (3, LABEL - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([strip, np.pad(rgb, ((0, 2), (0, 2), (0, 0)), constant_values=255)[:, :-2]])


def sheet(upscalers: dict[str, Upscaler], data: Path, side: int, crf: int | None) -> Picture:
    """The whole sheet, RGB. side: of a crop in pixels of the truth."""
    held_out = {
        name.rpartition("/")[2]: decode_rgb(stored, name) for name, stored in stored_files(data / "train", "val")
    }
    (scale,) = {upscaler.scale for upscaler in upscalers.values()}
    rows = []
    for subject in SUBJECTS:
        truth = truth_of(subject, data, held_out)
        y, uv = filmed(truth, scale, crf)
        cells = []
        for name, upscaler in upscalers.items():
            planes = upscaler.planes(y, uv)
            text = f"{name} {psnr(planes[0], rgb_to_y(truth)):.2f} dB"
            cells.append(captioned(crop(to_rgb(*planes), subject, side), text))
        rows.append(np.hstack([*cells, captioned(crop(truth, subject, side), subject.label)]))
    return np.vstack(rows)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.sheet", description=(__doc__ or "").split("\n")[0])
    p.add_argument("engines", nargs="+", help="engines/NAME.onnx of one scale, bicubic:S or lanczos:S")
    p.add_argument("--out", type=Path, default=Path("sheet.png"))
    p.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with test, train and clips_hr")
    p.add_argument("--side", type=int, default=224, help="of a crop, in pixels of the truth")
    p.add_argument("--crf", type=int, default=26, help="of the x264 encode")
    p.add_argument("--clean", action="store_true", help="no encode")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        opened = open_upscalers(args.engines)
        scales = sorted({upscaler.scale for upscaler in opened.values()})
        if len(scales) > 1:
            raise DataError(f"a sheet shows one scale, these have {scales}")
        first = open_upscalers([f"bicubic:{scales[0]}"])
        picture = sheet(first | opened, args.data, args.side, None if args.clean else args.crf)
    except (DataError, OSError, KeyError) as error:
        print(f"no sheet: {error}", file=sys.stderr)
        return 1
    cv2.imwrite(str(args.out), picture[..., ::-1])
    print(f"{args.out} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
