"""Folders of pictures or videos -> shards to train on: `python -m training.prepare photos/ holidays.mkv --out data`.

Writes train-00.tar, train-01.tar, ... and MANIFEST.csv, which `--data` of training.train reads. Videos give one frame
per scene (and one every few seconds of a long one); blurred frames, duplicates and what is too small are dropped and
counted. Every 20th picture is held out for validation.
"""

import argparse
import csv
import io
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from training.data import IMAGES, DataError, read_rgb

Picture = NDArray[np.uint8]
VIDEOS = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".ts", ".mpg"}
CUT = 0.35  # histogram distance between neighbouring frames that means another scene
ALIKE = 6  # of 64 bits: two pictures whose hashes differ in fewer are the same one
SHARD_BYTES = 200 << 20


class Candidate(NamedTuple):
    """A picture and where it comes from."""

    rgb: Picture
    source: str


def scene_frames(file: Path, every_s: float) -> Iterator[Candidate]:
    """The sharpest frame of each scene, and of each `every_s` seconds of a scene. Raises DataError if unreadable."""
    best: tuple[float, Picture, float] | None = None  # sharpness, frame, seconds
    before, began = None, 0.0
    try:
        with av.open(str(file)) as container:
            for frame in container.decode(video=0):
                rgb = frame.to_ndarray(format="rgb24").astype(np.uint8)
                now, seconds = histogram(rgb), float(frame.time or 0)
                cut = before is not None and float(np.abs(now - before).sum() / 2) > CUT
                if best is not None and (cut or seconds - began >= every_s):
                    yield Candidate(best[1], f"{file.name}@{best[2]:.2f}s")
                    best, began = None, seconds
                found = sharpness(rgb)
                if best is None or found > best[0]:
                    best = (found, rgb, seconds)
                before = now
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{file} is not a video that can be read: {error}") from error
    if best is not None:
        yield Candidate(best[1], f"{file.name}@{best[2]:.2f}s")


def histogram(rgb: Picture) -> NDArray[np.float64]:
    """Shares of 8 levels of each colour, of a small copy: what changes at a cut and not with motion."""
    small = cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_AREA).astype(np.uint8)
    counts = [np.bincount(small[..., c].ravel() >> 5, minlength=8) for c in range(3)]
    return np.concatenate(counts) / (3 * small.shape[0] * small.shape[1])


def sharpness(rgb: Picture) -> float:
    """Variance of the Laplacian of luma (Pech-Pacheco et al. 2000); under about 60 a picture looks soft."""
    return float(cv2.Laplacian(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def difference_hash(rgb: Picture) -> int:
    """64 bits that nearly equal pictures share: which of two neighbours in a 9x8 copy is brighter."""
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    return int("".join("1" if bit else "0" for bit in (small[:, 1:] > small[:, :-1]).ravel()), 2)


def candidates(sources: list[Path], every_s: float, dropped: Counter[str]) -> Iterator[Candidate]:
    """All pictures and chosen frames under the sources; what cannot be read is said and counted."""
    for file in files_of(sources):
        try:
            if file.suffix.lower() in VIDEOS:
                yield from scene_frames(file, every_s)
            else:
                yield Candidate(read_rgb(file), file.name)
        except DataError as error:
            print(f"skipped: {error}")
            dropped["unreadable"] += 1


def files_of(sources: list[Path]) -> Iterator[Path]:
    for source in sources:
        if not source.exists():
            raise DataError(f"{source} is not there")
        inside = sorted(source.rglob("*")) if source.is_dir() else [source]
        yield from (p for p in inside if p.is_file() and p.suffix.lower() in IMAGES | VIDEOS)


def chosen(found: Iterator[Candidate], smallest: int, softest: float, dropped: Counter[str]) -> Iterator[Candidate]:
    """What is large and sharp enough and not yet there."""
    hashes: list[int] = []
    for candidate in found:
        if min(candidate.rgb.shape[:2]) < smallest:
            dropped["too small"] += 1
        elif sharpness(candidate.rgb) < softest:
            dropped["blurred"] += 1
        elif any((difference_hash(candidate.rgb) ^ other).bit_count() < ALIKE for other in hashes):
            dropped["duplicate"] += 1
        else:
            hashes.append(difference_hash(candidate.rgb))
            yield candidate


def write_shards(pictures: Iterator[Candidate], out: Path, licence: str) -> int:
    """JPEGs (quality 95, 4:4:4) into tars of about 200 MB, and the manifest; how many pictures."""
    out.mkdir(parents=True, exist_ok=True)
    rows, tar, shard, count = [], None, "", 0
    written = SHARD_BYTES
    for count, (rgb, source) in enumerate(pictures, 1):
        if written >= SHARD_BYTES:
            if tar is not None:
                tar.close()
            shard = f"train-{len({row[0] for row in rows}):02d}.tar"
            tar, written = tarfile.open(out / shard, "w"), 0  # noqa: SIM115 - closed where the next one opens
        options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), options)[1].tobytes()
        member = tarfile.TarInfo(f"{count:06d}.jpg")
        member.size = len(data)
        assert tar is not None
        tar.addfile(member, io.BytesIO(data))
        written += len(data)
        split = "val" if count % 20 == 0 else "train"
        rows.append((shard, member.name, source, licence, rgb.shape[1], rgb.shape[0], split, len(data)))
    if tar is not None:
        tar.close()
    with (out / "MANIFEST.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("shard", "name", "source", "licence", "width", "height", "split", "bytes"))
        table.writerows(rows)
    return count


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m training.prepare", description=(__doc__ or "").split("\n")[0])
    p.add_argument("sources", type=Path, nargs="+", help="folders, pictures or videos")
    p.add_argument("--out", type=Path, required=True, help="folder for the shards")
    p.add_argument("--smallest", type=int, default=256, metavar="PIXELS", help="shortest side a picture must have")
    p.add_argument("--softest", type=float, default=60, help="least variance of the Laplacian")
    p.add_argument("--every", type=float, default=4, metavar="SECONDS", help="a frame at least this often in a scene")
    p.add_argument("--licence", default="", help="noted for every picture in the manifest")
    return p.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    dropped: Counter[str] = Counter()
    try:
        found = chosen(candidates(args.sources, args.every, dropped), args.smallest, args.softest, dropped)
        count = write_shards(found, args.out, args.licence)
    except (DataError, OSError) as error:
        print(f"preparing stopped: {error}", file=sys.stderr)
        return 1
    said = ", ".join(f"{number} {reason}" for reason, number in sorted(dropped.items())) or "none"
    print(f"{count} pictures in {args.out}; dropped: {said}")
    if not count:
        print("preparing stopped: nothing was left to train on", file=sys.stderr)
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
