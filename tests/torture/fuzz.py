"""Upscale damaged files: python -m torture.fuzz [--count 2000] [--seed N] [--jobs 2] [--only NUMBER] [--keep FOLDER]

Small films in a dozen containers are damaged, each in a way drawn by chance from its number and the seed. Whatever a
job does with one, it must end by itself, with an exit code that is documented, one sentence if that is not 0, no
thread, no file left that the sentence does not name, and nothing under the output's name that lacks something. Prints
what became of them, and every violation with the number that makes it again; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from clips import Attachment, Chapter, decoded

from torture.containers import MPEG2, VP9
from torture.films import X264, Pictures, Sound, Titles, write_film
from torture.worker import CRASHED, HUNG, Outcome, Worker

EXIT_CODES = {
    0: "whole",
    1: "out of memory",
    2: "refused",
    3: "unreadable",
    4: "engine",
    5: "not writable",
    6: "damage told",
}
LIMIT_S = 60  # for a job of 24 pictures; one that takes longer gets LONG_LIMIT_S to show that it is only slow
LONG_LIMIT_S = 600
MEMORY = 4 << 30  # of address space: a header that states a huge picture must not take the machine down
ABSURD = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
# Names and numbers behind which sizes, counts, rates and times stand: mp4, AVI, Matroska, ASF, Ogg, PNG and GIF.
FIELDS = (
    *(b"tkhd", b"mvhd", b"mdhd", b"elst", b"stts", b"ctts", b"stsz", b"stsc", b"stco", b"stss", b"avc1", b"hev1"),
    *(b"avcC", b"trun", b"tfdt", b"mp4a", b"avih", b"strh", b"strf", b"idx1", b"movi", b"vids", b"auds"),
    *(
        b"\x2a\xd7\xb1",
        b"\x44\x89",
        b"\x23\xe3\x83",
        b"\xb0\x82",
        b"\xba\x81",
        b"\xe7\x82",
        b"\x1f\x43\xb6\x75",
        b"\xa3",
    ),
    *(b"\x3e\xb6", b"IHDR", b"fcTL", b"onMetaData", b"\x00\x00\x01\xe0", b"\x00\x00\x01\xb3", b"\x47\x40"),
)


def seeds(folder: Path) -> list[Path]:
    """The undamaged films, a second each."""
    h265 = {"preset": "ultrafast", "x265-params": "log-level=error:keyint=12"}
    ass = Titles("ass", ((100, 400, b"0,0,Default,,0,0,0,,a"), (500, 900, b"1,0,Default,,0,0,0,,b")))
    h264, mpeg4 = small("libx264"), small("mpeg4", options={"qscale": "2", "g": "12"})
    gif = small("gif", pix_fmt="rgb8", rate=Fraction(20), time_base=Fraction(1, 100), options={})
    films: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "plain.mp4": ([h264, Sound()], {}),
        "fragments.mp4": ([h264, Sound()], {"mux_options": {"movflags": "+frag_keyframe+empty_moov"}}),
        "pcm.mov": ([h264, Sound("pcm_s16le")], {"chapters": [Chapter(0, 500, "a"), Chapter(500, 1000, "b")]}),
        "subtitles.mkv": ([h264, Sound("flac"), ass], {"attachments": [Attachment()], "metadata": {"title": "film"}}),
        "checksums.mkv": ([small("ffv1", options={"slicecrc": "1", "level": "3"})], {}),
        "hevc.mkv": ([small("libx265", pix_fmt="yuv420p10le", options=h265), Sound()], {}),
        "vp9.webm": ([small("libvpx-vp9", options=VP9, time_base=Fraction(1, 1000)), Sound("libopus")], {}),
        "mpeg4.avi": ([mpeg4, Sound("mp3")], {}),
        "h264.ts": ([h264, Sound("ac3")], {}),
        "mpeg2.mpg": ([small("mpeg2video", options=MPEG2), Sound("mp2")], {"fmt": "vob"}),
        "h264.flv": ([h264, Sound()], {}),
        "wmv2.wmv": ([small("wmv2", options={"qscale": "2"})], {"fmt": "asf"}),
        "h264.nut": ([h264, Sound("flac")], {}),
        "animated.gif": ([gif], {}),
        "prores.mov": ([small("prores", pix_fmt="yuv422p10le", options={}, frames=6)], {}),
        "raw.h264": ([small("libx264", options={**X264, "bf": "0"})], {}),
    }
    return [write_film(folder / name, *streams, **more) for name, (streams, more) in films.items()]


def small(codec: str, **more: Any) -> Pictures:
    return Pictures(codec, width=64, height=48, **more)


# ---- damage: bytes in, bytes out, all chance from the generator given ----


def flips(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 1, 3, 10, 100))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return data


def flips_in_headers(data: bytearray, chance: random.Random) -> bytearray:
    """Near the beginning or the end, where containers keep what they say of themselves."""
    for _ in range(chance.choice((1, 2, 5))):
        near = chance.randrange(min(len(data), 1200))
        data[near if chance.random() < 0.6 else -1 - near] ^= 1 << chance.randrange(8)
    return data


def truncation(data: bytearray, chance: random.Random) -> bytearray:
    return data[: chance.randrange(1, len(data))]


def beheading(data: bytearray, chance: random.Random) -> bytearray:
    return data[chance.randrange(1, len(data)) :]


def _range(data: bytearray, chance: random.Random) -> slice:
    size = min(chance.choice((16, 188, 512, 2048, 8192)), len(data) - 1)
    at = chance.randrange(len(data) - size)
    return slice(at, at + size)


def swapped_blocks(data: bytearray, chance: random.Random) -> bytearray:
    for _ in range(chance.choice((1, 5))):
        one, other = _range(data, chance), _range(data, chance)
        data[one], data[other] = bytes(data[other]), bytes(data[one])
    return data


def doubled_block(data: bytearray, chance: random.Random) -> bytearray:
    where = _range(data, chance)
    return data[: where.stop] + data[where.start :]


def missing_block(data: bytearray, chance: random.Random) -> bytearray:
    del data[_range(data, chance)]
    return data


def zeros(data: bytearray, chance: random.Random) -> bytearray:
    where = _range(data, chance)
    data[where] = bytes(where.stop - where.start)
    return data


def noise(data: bytearray, chance: random.Random) -> bytearray:
    where = _range(data, chance)
    data[where] = chance.randbytes(where.stop - where.start)
    return data


def absurd_fields(data: bytearray, chance: random.Random) -> bytearray:
    """Numbers that no film has, where sizes, counts, durations, rates and times stand."""
    places = [match.end() for name in FIELDS for match in re.finditer(re.escape(name), data)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = (chance.choice(places) if places else 0) + chance.randrange(64)
        number, order = chance.choice(ABSURD), chance.choice("<>")
        width = chance.choice("HIQ")
        value = struct.pack(order + width, number % 2 ** (8 * struct.calcsize(width)))
        if at + len(value) <= len(data):
            data[at : at + len(value)] = value
    return data


DAMAGE: tuple[Callable[[bytearray, random.Random], bytearray], ...] = (
    flips,
    flips_in_headers,
    truncation,
    beheading,
    swapped_blocks,
    doubled_block,
    missing_block,
    zeros,
    noise,
    absurd_fields,
    absurd_fields,
)


def packet_damage(source: Path, target: Path, chance: random.Random) -> str:
    """Copy a film packet by packet, with packets shuffled, doubled, lost, emptied, or at absurd times.

    Returns what was done; empty if the muxer refused that.
    """
    way = chance.choice(("shuffled", "doubled", "lost", "shortened", "late"))
    try:
        with av.open(str(source)) as old, av.open(str(target), "w", format=_muxer(source)) as new:
            streams = {
                s.index: new.add_stream_from_template(s, opaque=True)
                for s in old.streams
                if s.type in ("video", "audio")
            }
            packets = [p for p in old.demux([old.streams[i] for i in streams]) if p.size]
            payloads = [bytes(p) for p in packets]
            picked = chance.sample(range(len(packets)), min(len(packets), chance.choice((2, 4, 10))))
            if way == "shuffled":
                shuffled = chance.sample(picked, len(picked))
                payloads = [payloads[dict(zip(picked, shuffled, strict=True)).get(i, i)] for i in range(len(packets))]
            later = 0
            for i, packet in enumerate(packets):
                if way == "lost" and i in picked:
                    continue
                if way == "late" and i == max(picked):
                    later = chance.choice((1, 1000, 1 << 20, 1 << 31, 1 << 40))
                data = (
                    payloads[i][: chance.randrange(1, len(payloads[i]) + 1)]
                    if way == "shortened" and i in picked
                    else payloads[i]
                )
                for _ in range(2 if way == "doubled" and i in picked else 1):
                    copy = av.Packet(data)
                    copy.stream, copy.time_base = streams[packet.stream.index], packet.time_base
                    copy.pts = None if packet.pts is None else packet.pts + later
                    copy.dts = None if packet.dts is None else packet.dts + later
                    copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
                    new.mux(copy)
    except (av.error.FFmpegError, ValueError, LookupError):
        return ""
    return f"packets {way}" if target.exists() else ""


def _muxer(source: Path) -> str | None:
    return {".mpg": "vob", ".wmv": "asf"}.get(source.suffix)


def damage(source: Path, folder: Path, chance: random.Random) -> tuple[Path, str]:
    """A damaged copy of a film in a folder, and what was done to it."""
    target = folder / f"in{source.suffix}"
    if chance.random() < 0.25 and (what := packet_damage(source, target, chance)):
        return target, what
    data, names = bytearray(source.read_bytes()), []
    for way in chance.choices(DAMAGE, k=chance.choice((1, 1, 1, 2, 3))):
        data = way(data, chance) if len(data) > 1 else data
        names.append(way.__name__)
    target.write_bytes(data)
    return target, names[0] if len(names) == 1 else "several"


# ---- jobs ----


@dataclass
class Tally:
    """What became of the damaged films."""

    ends: Counter[tuple[str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    unnoticed: int = 0
    shorter: int = 0
    memory_mb: float = 0.0


class Fuzz:
    """Jobs on damaged films, reproducible by seed and number. keep: a folder for the films that showed a violation."""

    def __init__(
        self, films: list[Path], folder: Path, seed: int, keep: Path | None = None, long_limit_s: float = LONG_LIMIT_S
    ):
        self._long_limit_s = long_limit_s
        self._films, self._folder, self._seed, self._keep = films, folder, seed, keep
        self._pictures = {film: len(decoded(film)) for film in films}
        self.tally = Tally()

    def run(self, numbers: list[int], jobs: int) -> Tally:
        """Do these numbers on `jobs` processes."""
        with ThreadPoolExecutor(jobs, "fuzz") as pool:
            list(pool.map(self._some, [numbers[i::jobs] for i in range(jobs)]))
        return self.tally

    def _some(self, numbers: list[int]) -> None:
        with Worker(MEMORY) as worker:
            for number in numbers:
                folder = self._folder / f"{number}"
                folder.mkdir()
                self._one(number, folder, worker)
                shutil.rmtree(folder)

    def _one(self, number: int, folder: Path, worker: Worker) -> None:
        chance = random.Random(self._seed * 1_000_003 + number)
        film = chance.choice(self._films)
        source, what = damage(film, folder, chance)
        output = folder / f"out{chance.choice(('.mkv', '.mkv', '.mp4', '.ts'))}"
        before = source.read_bytes()
        arguments = ["upscale", source, "-o", output, "--scale", "2", "--backend", "reference", "--preset", "ultrafast"]
        arguments += ["--drop-unsupported"]
        outcome = worker.run(*arguments, limit_s=LIMIT_S)
        if outcome.code == HUNG:
            for path in folder.iterdir():
                if path != source:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            outcome = worker.run(*arguments, limit_s=self._long_limit_s)
            self.tally.slow.append(f"{number}: {film.name}, {what}: {outcome.seconds:.0f} s")
        faults = violations(outcome, source, output, worker)
        if source.read_bytes() != before:
            faults.append("the input was changed")
        if not faults and outcome.code == 0 and before != film.read_bytes():
            faults = self._shorter(film, source, outcome, worker)
            self.tally.unnoticed += not faults
        self.tally.ends[what, EXIT_CODES.get(outcome.code, str(outcome.code))] += 1
        self.tally.memory_mb = max(self.tally.memory_mb, outcome.memory_mb)
        for fault in faults:
            line = f"--seed {self._seed} --only {number}: {film.name}, {what}: {fault}"
            self.tally.violations.append(line)
            print(f"VIOLATION {line}", file=sys.stderr, flush=True)
        if faults and self._keep:
            self._keep.mkdir(exist_ok=True)
            shutil.copy(source, self._keep / f"{self._seed}-{number}-{film.name}")

    def _shorter(self, film: Path, source: Path, outcome: Outcome, worker: Worker) -> list[str]:
        """Pictures that a film lost before rtsr saw it: to be told if FFmpeg saw that something is wrong."""
        there = worker.run("decode", source, limit_s=LIMIT_S)
        seen = json.loads(there.stdout) if there.code == 0 else {}
        if not seen or seen["pictures"] >= self._pictures[film]:
            return []
        self.tally.shorter += 1
        told = any(re.search("damage|lost|missing|corrupt|FFmpeg", note) for note in outcome.notes)
        if told or not seen["errors"]:
            return []
        many = f"{seen['pictures']} of {self._pictures[film]} pictures"
        return [f"exit code 0 with {many}, of which FFmpeg says {'; '.join(seen['errors'])}"]


def violations(outcome: Outcome, source: Path, output: Path, worker: Worker) -> list[str]:
    """What a job did that none may do."""
    said = " | ".join(outcome.sentences)
    if outcome.code in (CRASHED, HUNG):
        return [f"{'crashed' if outcome.code == CRASHED else 'hung'}: {outcome.stderr}"]
    faults = []
    if outcome.code not in EXIT_CODES:
        faults.append(f"exit code {outcome.code}: {said}")
    elif (len(outcome.sentences) == 1) != (outcome.code != 0) or (outcome.code and not said.startswith("rtsr: ")):
        faults.append(f"exit code {outcome.code}, but {len(outcome.sentences)} sentences: {said}")
    if outcome.threads:
        faults.append(f"threads are left: {', '.join(outcome.threads)}")
    if outcome.tasks > 60 or outcome.files > 60:
        faults.append(f"{outcome.tasks} threads of the system and {outcome.files} open files are left")
    left = sorted(path.name for path in source.parent.iterdir() if path not in (source, output))
    faults += [f"{name} is left and not named: {said}" for name in left if name not in said or outcome.code == 0]
    if output.exists() != (outcome.code == 0):
        faults.append(f"exit code {outcome.code}, and the output is {'' if output.exists() else 'not '}there: {said}")
    if outcome.code == 0 and output.exists():
        faults += _lost(outcome, source, output, worker)
    return faults


def _lost(outcome: Outcome, source: Path, output: Path, worker: Worker) -> list[str]:
    """What a film that was given its final name lacks, as far as its damaged source tells."""
    faults = []
    if not any("left out" in note for note in outcome.notes):
        verdict = worker.run("verify", source, output, limit_s=LIMIT_S)
        faults += [f"verify: {' '.join(verdict.sentences)}"] if verdict.code else []
    there, made = (worker.run("decode", path, limit_s=LIMIT_S) for path in (source, output))
    if there.code or made.code:
        return [*faults, f"decoding ended with {there.code} and {made.code}"]
    was, now = json.loads(there.stdout), json.loads(made.stdout)
    if was["undecodable"] or was["corrupt"] or was["stopped"]:
        faults.append(f"exit code 0 for a source with {was}")
    if now["undecodable"] or now["corrupt"] or now["stopped"] or now["pictures"] != was["pictures"]:
        faults.append(f"the source has {was}, the output {now}")
    return faults


def table(tally: Tally) -> str:
    """Kinds of damage against ends, with their numbers."""
    ends = sorted({end for _, end in tally.ends})
    kinds = sorted({kind for kind, _ in tally.ends})
    rows = [f"| {'damage':18} | " + " | ".join(f"{end:>13}" for end in ends) + " |"]
    rows.append(f"|{'---|' * (len(ends) + 1)}")
    rows += [f"| {kind:18} | " + " | ".join(f"{tally.ends[kind, end]:13}" for end in ends) + " |" for kind in kinds]
    total = [sum(tally.ends[kind, end] for kind in kinds) for end in ends]
    rows.append(f"| {'all':18} | " + " | ".join(f"{number:13}" for number in total) + " |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", type=int, metavar="NUMBER")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    numbers = list(range(options.count)) if options.only is None else [options.only]
    with tempfile.TemporaryDirectory() as name:
        films, jobs = Path(name) / "films", Path(name) / "jobs"
        films.mkdir()
        jobs.mkdir()
        fuzz = Fuzz(seeds(films), jobs, options.seed, options.keep)
        tally = fuzz.run(numbers, min(options.jobs, len(numbers)))
    print(table(tally))
    print(f"{tally.unnoticed} damaged films became whole outputs: no reader can see that they are damaged;", end=" ")
    print(f"{tally.shorter} of these had lost pictures that they do not state")
    print(f"most memory of a process: {tally.memory_mb:.0f} MB")
    for line in tally.slow:
        print(f"slow: {line}")
    print(f"{len(numbers)} damaged films, {len(tally.violations)} violations")
    return bool(tally.violations)


if __name__ == "__main__":
    sys.exit(main())
