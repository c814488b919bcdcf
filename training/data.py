"""Pictures into memory: tar shards or a folder -> pairs of uint8 HR and LR; random training crops out of them."""

import csv
import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rtsr.metrics import rgb_to_y
from training import degradations
from training.resize import imresize

DEGRADATIONS = ("clean", "kernels", "nearest", "stream", "wild")  # nearest: one of the kernels alone, to compare
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


class DataError(Exception):
    """The data cannot be used; the message is one sentence for the user."""


class Pair(NamedTuple):
    """Truth and input of one picture: hr (s*H, s*W) and lr (H, W), uint8; luma, or RGB with a third axis.

    teacher: what a teacher made of lr, as hr.
    """

    hr: NDArray[np.uint8]
    lr: NDArray[np.uint8]
    teacher: NDArray[np.uint8] | None = None


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


def clean_pairs(pictures: list[NDArray[np.uint8]], scale: int, channels: int = 1) -> list[Pair]:
    """The benchmark degradation: MATLAB bicubic of the RGB picture; luma of both where channels is 1."""
    cut = [crop_to_multiple(rgb, scale) for rgb in pictures]
    pairs = (Pair(rgb, imresize(rgb, 1 / scale)) for rgb in cut)
    return [Pair(rgb_to_y(pair.hr), rgb_to_y(pair.lr)) if channels == 1 else pair for pair in pairs]


def kernel_pairs(
    pictures: list[NDArray[np.uint8]], scale: int, channels: int = 1, kernels: Sequence[str] = degradations.KERNELS
) -> list[Pair]:
    """Each picture once per kernel: shrunk by nearest, bilinear and bicubic."""
    cut = [crop_to_multiple(rgb, scale) for rgb in pictures]
    cut = [rgb_to_y(rgb) for rgb in cut] if channels == 1 else cut
    return [Pair(hr, degradations.shrink(hr, scale, kernel)) for hr in cut for kernel in kernels]


def coded_pairs(pictures: list[NDArray[np.uint8]], scale: int, channels: int, profile: str) -> list[Pair]:
    """The profiles *stream* and *wild*, each picture three times with other parameters; the same on every call."""
    rng = np.random.default_rng(0)
    cut = [crop_to_multiple(rgb, scale) for rgb in pictures]
    cut = [rgb_to_y(rgb) for rgb in cut] if channels == 1 else cut
    return [Pair(*pair) for _ in range(3) for pair in degradations.coded_pairs(cut, scale, rng, profile)]


def make_pairs(pictures: list[NDArray[np.uint8]], scale: int, degradation: str, channels: int = 1) -> list[Pair]:
    """Pairs under one of DEGRADATIONS. channels: 1 luma, 3 RGB."""
    match degradation:
        case "clean":
            return clean_pairs(pictures, scale, channels)
        case "kernels":
            return kernel_pairs(pictures, scale, channels)
        case "nearest":
            return kernel_pairs(pictures, scale, channels, ["nearest"])
        case _:
            return coded_pairs(pictures, scale, channels, degradation)


def load_pairs(
    source: Path, split: str, scale: int, degradation: str, smallest: int, cache: Path, channels: int = 1
) -> list[Pair]:
    """The pairs a run trains on, made once and kept in `cache` until the pictures or the degradations change.

    smallest: shortest side a picture must have. channels: 1 luma, 3 RGB.
    """
    colour = "" if channels == 1 else "-rgb"
    file = cache / f"{degradation}{colour}-x{scale}-{split}-{fingerprint(source, smallest)}.npz"
    if file.exists():
        return read_pairs(file)
    pairs = make_pairs(load_pictures(source, split, smallest), scale, degradation, channels)
    write_pairs(file, pairs)
    return pairs


def write_pairs(file: Path, pairs: list[Pair]) -> None:
    """One .npz; a truth that several pairs share is written once. A killed run leaves no half a file."""
    named: dict[str, NDArray[np.uint8]] = {}
    written: dict[int, str] = {}
    for i, pair in enumerate(pairs):
        if id(pair.hr) not in written:
            written[id(pair.hr)] = f"hr{i}"
            named[f"hr{i}"] = pair.hr
        named[f"lr{i}"] = pair.lr
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.parent / f"{file.stem}-{os.getpid()}.part"
    with part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **named)
    part.replace(file)


def read_pairs(file: Path) -> list[Pair]:
    pairs, hr = [], np.empty(0, np.uint8)
    with np.load(file) as arrays:
        count = sum(name.startswith("lr") for name in arrays.files)
        for i in range(count):
            hr = arrays[f"hr{i}"] if f"hr{i}" in arrays.files else hr
            pairs.append(Pair(hr, arrays[f"lr{i}"]))
    return pairs


def fingerprint(source: Path, smallest: int) -> str:
    """Changes with the files in `source` (names, sizes, times) and with the version of the degradations."""
    files = sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in source.rglob("*") if p.is_file())
    return hashlib.sha256(repr((files, smallest, degradations.VERSION)).encode()).hexdigest()[:12]


class Batch(NamedTuple):
    """A training batch, float32 in [0, 1]: lr (N, C, size, size), hr and teacher (N, C, s*size, s*size)."""

    lr: Tensor
    hr: Tensor
    teacher: Tensor | None = None


class Crop(NamedTuple):
    """Where a training crop lies: LR pixels from the top left of pair `which`, quarter turns, mirrored or not."""

    which: int
    top: int
    left: int
    turn: int
    mirror: bool


def draw_crop(pairs: list[Pair], size: int, rng: np.random.Generator) -> Crop:
    """Any place of any picture, in any of the eight symmetries of the square."""
    which = int(rng.integers(len(pairs)))
    top, left = (int(rng.integers(side - size + 1)) for side in pairs[which].lr.shape[:2])
    return Crop(which, top, left, int(rng.integers(4)), bool(rng.integers(2)))


def sample(pairs: list[Pair], scale: int, count: int, size: int, rng: np.random.Generator, ramps: int = 0) -> Batch:
    """A random training batch.

    ramps: of the crops at the end of the batch, become flat or evenly rising colours: they teach a net to draw no
    grid where there is nothing to draw.
    """
    colours = pairs[0].lr.shape[2:] or (1,)
    lr, hr, taught = (np.empty((count, s, s, *colours), np.uint8) for s in (size, size * scale, size * scale))
    for i in range(count):
        crop = draw_crop(pairs, size, rng)
        pair = pairs[crop.which]
        if i >= count - ramps:
            lr[i], hr[i] = ramp(size, scale, colours[0], rng)
            taught[i] = hr[i]
            continue
        lr[i] = cut(pair.lr, crop, size).reshape(lr[i].shape)
        hr[i] = cut(pair.hr, crop, size, scale).reshape(hr[i].shape)
        if pair.teacher is not None:
            taught[i] = cut(pair.teacher, crop, size, scale).reshape(hr[i].shape)
    return Batch(as_floats(lr), as_floats(hr), None if pairs[0].teacher is None else as_floats(taught))


def cut(picture: NDArray[np.uint8], crop: Crop, size: int, scale: int = 1) -> NDArray[np.uint8]:
    """The crop out of a picture that is `scale` times larger than LR."""
    y, x, length = crop.top * scale, crop.left * scale, size * scale
    return symmetry(picture[y : y + length, x : x + length], crop.turn, crop.mirror)


def ramp(size: int, scale: int, channels: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """LR and HR (size, size, channels) of a plane of colour, flat one time in two, else rising evenly somewhere."""
    slope = rng.uniform(-0.5, 0.5, 2) * int(rng.integers(2))
    side = np.arange(size * scale)
    rising = np.add.outer(side * slope[0], side * slope[1])[..., None]
    hr = (rng.uniform(0, 255, channels) + rising).round().clip(0, 255).astype(np.uint8)
    return hr.reshape(size, scale, size, scale, -1).mean((1, 3)).round().astype(np.uint8), hr


def as_floats(pixels: NDArray[np.uint8]) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1], channels last in memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)


def symmetry(picture: NDArray[np.uint8], turn: int, mirror: bool) -> NDArray[np.uint8]:
    """Quarter turns, then a left-right mirror."""
    picture = np.rot90(picture, turn)
    return picture[:, ::-1] if mirror else picture
