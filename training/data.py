"""Pictures into memory: tar shards or a folder -> pairs of uint8 luma, LR and HR; random training crops out of them."""

import csv
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training import degradations
from training.metrics import rgb_to_y
from training.resize import imresize

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


class DataError(Exception):
    """The data cannot be used; the message is one sentence for the user."""


class Pair(NamedTuple):
    """Truth and input of one picture: hr (s*H, s*W) and lr (H, W), uint8 luma."""

    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (H, W, 3) RGB. Raises DataError if it cannot be decoded."""
    return decode_rgb(path.read_bytes(), str(path))


def decode_rgb(data: bytes, name: str) -> NDArray[np.uint8]:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise DataError(f"{name} is not a picture that can be read")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def stored_files(source: Path, split: str) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the pictures under `source`: a folder of tar shards (with MANIFEST.csv) or of pictures.

    The shards' manifest says which pictures are held out (`split=val`); in a plain folder every 20th is.
    """
    shards = sorted(source.glob("*.tar"))
    if shards:
        held_out = held_out_names(source / "MANIFEST.csv")
        for shard in shards:
            with tarfile.open(shard) as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    if stream and ((shard.name, member.name) in held_out) == (split == "val"):
                        yield f"{shard.name}/{member.name}", stream.read()
    else:
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGES)
        for i, path in enumerate(files):
            if (i % 20 == 19) == (split == "val"):
                yield str(path.relative_to(source)), path.read_bytes()


def held_out_names(manifest: Path) -> set[tuple[str, str]]:
    if not manifest.exists():
        return set()
    with manifest.open(newline="") as file:
        return {(row["shard"], row["name"]) for row in csv.DictReader(file) if row["split"] == "val"}


def load_pictures(source: Path, split: str = "train", smallest: int = 192) -> list[NDArray[np.uint8]]:
    """All readable RGB pictures with both sides >= `smallest`. The others are listed, skipped and counted.

    Raises DataError if nothing is left.
    """
    pictures, skipped = [], []
    for name, data in stored_files(source, split):
        try:
            rgb = decode_rgb(data, name)
            if min(rgb.shape[:2]) < smallest:
                raise DataError(f"{name} is smaller than {smallest} pixels")
            pictures.append(rgb)
        except DataError as error:
            skipped.append(str(error))
    for line in skipped:
        print(f"skipped: {line}")
    if skipped:
        print(f"skipped {len(skipped)} of {len(skipped) + len(pictures)} pictures")
    if not pictures:
        raise DataError(f"no {split} pictures in {source}: give --data a folder of pictures or of tar shards")
    return pictures


def crop_to_multiple(rgb: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Cut right and bottom so that both sides are multiples of `scale`."""
    height, width = rgb.shape[:2]
    return rgb[: height - height % scale, : width - width % scale]


def clean_pairs(pictures: list[NDArray[np.uint8]], scale: int) -> list[Pair]:
    """The benchmark degradation: MATLAB bicubic of the RGB picture, then luma of both."""
    cut = [crop_to_multiple(rgb, scale) for rgb in pictures]
    return [Pair(rgb_to_y(rgb), rgb_to_y(imresize(rgb, 1 / scale))) for rgb in cut]


def stream_pairs(pictures: list[NDArray[np.uint8]], scale: int, rounds: int = 3) -> list[Pair]:
    """The *stream* degradation, each picture `rounds` times with other parameters; the same on every call."""
    rng = np.random.default_rng(0)
    lumas = [rgb_to_y(crop_to_multiple(rgb, scale)) for rgb in pictures]
    return [Pair(*pair) for _ in range(rounds) for pair in degradations.stream_pairs(lumas, scale, rng)]


def load_pairs(source: Path, split: str, scale: int, degradation: str, smallest: int, cache: Path) -> list[Pair]:
    """The pairs a run trains on, made once and kept in `cache` until the pictures or the degradations change.

    smallest: shortest side a picture must have.
    """
    file = cache / f"{degradation}-x{scale}-{split}-{fingerprint(source, smallest)}.npz"
    if file.exists():
        with np.load(file) as arrays:
            return [Pair(arrays[f"hr{i}"], arrays[f"lr{i}"]) for i in range(len(arrays.files) // 2)]
    pictures = load_pictures(source, split, smallest)
    pairs = (clean_pairs if degradation == "clean" else stream_pairs)(pictures, scale)
    cache.mkdir(parents=True, exist_ok=True)
    part = cache / f"{file.stem}-{os.getpid()}.part"
    with part.open("wb") as stream:
        named = {f"{kind}{i}": picture for i, pair in enumerate(pairs) for kind, picture in pair._asdict().items()}
        np.savez(stream, **named)
    part.replace(file)
    return pairs


def fingerprint(source: Path, smallest: int) -> str:
    """Changes with the files in `source` (names, sizes, times) and with the version of the degradations."""
    files = sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in source.rglob("*") if p.is_file())
    return hashlib.sha256(repr((files, smallest, degradations.VERSION)).encode()).hexdigest()[:12]


def sample(pairs: list[Pair], scale: int, count: int, size: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random training batch: lr (count, 1, size, size) and hr (count, 1, s*size, s*size), float32 in [0, 1].

    Each crop is turned and mirrored at random (the eight symmetries of the square).
    """
    lr = np.empty((count, 1, size, size), np.uint8)
    hr = np.empty((count, 1, size * scale, size * scale), np.uint8)
    for i in range(count):
        pair = pairs[rng.integers(len(pairs))]
        top, left = (int(rng.integers(side - size + 1)) for side in pair.lr.shape)
        turn, mirror = int(rng.integers(4)), bool(rng.integers(2))
        lr[i, 0] = symmetry(pair.lr[top : top + size, left : left + size], turn, mirror)
        y, x, length = top * scale, left * scale, size * scale
        hr[i, 0] = symmetry(pair.hr[y : y + length, x : x + length], turn, mirror)
    return torch.from_numpy(lr).float().div_(255), torch.from_numpy(hr).float().div_(255)


def symmetry(picture: NDArray[np.uint8], turn: int, mirror: bool) -> NDArray[np.uint8]:
    """Quarter turns, then a left-right mirror."""
    picture = np.rot90(picture, turn)
    return picture[:, ::-1] if mirror else picture
