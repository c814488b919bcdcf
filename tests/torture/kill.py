"""Kill a job at random moments, continue it, compare: python -m torture.kill [--trials 50] [--seed N]

A film of two minutes (variable frame rate, B-frames, sound) is upscaled undisturbed once. Then each trial starts the
same job, kills the process (SIGKILL) at a moment drawn by chance - any time, while the final file is being put
together, or while the journal is being written - and gives the same command again; every third trial kills that, too.
The finished file must have the undisturbed one's pictures, pts and packets of sound, and all segments that the journal
had must have been kept, so that one segment at most was done twice. Exits with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from clips import decoded, packets, planes_of
from commands import command, environment

from torture.films import Pictures, Sound, write_film

SECONDS = 120
TICK = Fraction(1, 90000)
POLL_S = 0.0003
WAYS = ("any time", "any time", "putting together", "journal")


@dataclass(frozen=True)
class Paths:
    """A job's files."""

    film: Path
    output: Path

    @property
    def journal(self) -> Path:
        return self.output.with_name(self.output.name + ".rtsr") / "journal.jsonl"

    @property
    def part(self) -> Path:
        return self.output.with_name(self.output.name + ".part")

    def journal_size(self) -> int:
        try:
            return self.journal.stat().st_size
        except OSError:
            return 0

    def start(self) -> subprocess.Popen[bytes]:
        arguments = ["--scale", "2", "--backend", "reference", "--preset", "ultrafast", "--json"]
        return subprocess.Popen(
            command("upscale", self.film, "-o", self.output, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed run makes, and how long its stages take, in seconds from its start."""

    contents: str
    file: str
    frames: int
    segments: int
    parted_s: float
    ended_s: float


def make_film(path: Path) -> Path:
    """Two minutes of about 8 pictures a second, no two of them the same time apart, and AAC."""
    drawn = np.random.default_rng(1).integers(4000, 19000, 2000).cumsum()
    stamps = [0, *(int(stamp) for stamp in drawn if stamp < SECONDS / TICK)]
    video = Pictures(time_base=TICK, rate=Fraction(8), pts=stamps, options={"bf": "3", "g": "40", "preset": "veryfast"})
    return write_film(path, video, Sound(seconds=Fraction(SECONDS)))


def contents(path: Path) -> str:
    """A digest of all that must be equal: each picture's pts and pixels, each packet of sound and its times."""
    digest = hashlib.sha256()
    for frame in decoded(path):
        digest.update(repr((frame.pts, frame.time_base)).encode())
        for plane in planes_of(frame):
            digest.update(plane.tobytes())
    for packet in packets(path, "audio"):
        digest.update(repr(packet).encode())
    return digest.hexdigest()


def undisturbed(paths: Paths) -> Undisturbed:
    """Run the job to its end and watch it."""
    begun, parted, sizes = time.monotonic(), 0.0, set()
    process = paths.start()
    while process.poll() is None:
        sizes.add(paths.journal_size())
        if not parted and paths.part.exists():
            parted = time.monotonic() - begun
        time.sleep(POLL_S)
    ended = time.monotonic() - begun
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr.decode()
    told = json.loads(stdout)
    file = hashlib.sha256(paths.output.read_bytes()).hexdigest()
    return Undisturbed(contents(paths.output), file, told["frames_out"], len(sizes - {0}) - 1, parted, ended)


def kill_when(paths: Paths, ready: Callable[[float], bool], then_s: float) -> bool:
    """Start the job, wait until ready(seconds since start) and then_s longer, kill it. Whether it was still running."""
    process = paths.start()
    begun = time.monotonic()
    while process.poll() is None and not ready(time.monotonic() - begun):
        time.sleep(POLL_S)
    end = time.monotonic() + then_s
    while process.poll() is None and time.monotonic() < end:
        time.sleep(POLL_S)
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running and process.returncode == -9


def kill(paths: Paths, way: str, whole: Undisturbed, chance: random.Random) -> bool:
    """Kill a run in one of WAYS; False if it had ended before the moment came."""
    match way:
        case "putting together":
            return kill_when(paths, lambda _: paths.part.exists(), chance.uniform(0, whole.ended_s - whole.parted_s))
        case "journal":
            steps = chance.randint(1, whole.segments)
            sizes = {paths.journal_size()}

            def grown(_: float) -> bool:
                sizes.add(paths.journal_size())
                return len(sizes) > steps

            return kill_when(paths, grown, chance.uniform(0, 0.004))
        case _:
            moment = chance.uniform(0, whole.ended_s)
            return kill_when(paths, lambda seconds: seconds >= moment, 0)


def journaled(paths: Paths) -> tuple[int, int]:
    """(frames, segments) that the journal says are done."""
    try:
        lines = paths.journal.read_bytes().split(b"\n")[1:-1]
    except OSError:
        return 0, 0
    return sum(json.loads(line)["frames"] for line in lines), len(lines)


def trial(number: int, paths: Paths, whole: Undisturbed, chance: random.Random) -> tuple[str, list[str]]:
    """Kill, perhaps again, continue, compare. Returns a line that tells what happened, and what is wrong."""
    way = WAYS[number % len(WAYS)]
    story: list[str] = []
    faults: list[str] = []
    planned = [way, chance.choice(WAYS[:3])] if number % 3 == 2 else [way]
    ways = list(planned)
    while ways:
        earlier = journaled(paths)
        if not kill(paths, ways[0], whole, chance):
            if not paths.output.exists():
                faults.append("ended by itself without an output")
                break
            paths.output.unlink()  # it was faster than the moment: begin the trial again
            story, ways = [], list(planned)
            continue
        if paths.output.exists():  # killed between the rename and the exit: the work is whole
            story.append(f"{ways.pop(0)}, after the rename")
            break
        frames, segments = journaled(paths)
        if frames < earlier[0]:
            faults.append(f"the journal had {earlier[0]} frames, now {frames}")
        files = len(list(paths.journal.parent.glob("0*.*"))) if paths.journal.parent.is_dir() else 0
        if files > segments + 1:
            faults.append(f"{files} segment files for {segments} lines of the journal")
        story.append(f"{ways.pop(0)}: {segments} segments{', .part' * paths.part.exists()}")
    if not paths.output.exists() and not faults:
        faults += _continued(paths, whole)
    if not faults:
        if contents(paths.output) != whole.contents:
            faults.append("the contents differ from an undisturbed run's")
        elif hashlib.sha256(paths.output.read_bytes()).hexdigest() == whole.file:
            story.append("same bytes")
    return "; ".join(story), faults


def _continued(paths: Paths, whole: Undisturbed) -> list[str]:
    """Give the command again and look how much of the killed run's work was kept."""
    kept = journaled(paths)[0]
    process = paths.start()
    stdout, stderr = process.communicate(timeout=300)
    said = stderr.decode()
    if process.returncode:
        return [f"going on ended with {process.returncode}: {said.strip()}"]
    faults = []
    if kept and f"after {kept} frames" not in said:
        faults.append(f"the journal had {kept} frames; going on said {said.strip()!r}")
    if (told := json.loads(stdout)["frames_out"]) != whole.frames:
        faults.append(f"{told} frames instead of {whole.frames}")
    if left := [path.name for path in paths.output.parent.iterdir() if path != paths.output]:
        faults.append(f"left behind: {', '.join(left)}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one trial by its number")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        film = make_film(Path(name) / "film.mp4")
        folder = Path(name) / "out"
        folder.mkdir()
        paths = Paths(film, folder / "out.mp4")
        whole = undisturbed(paths)
        print(
            f"undisturbed: {whole.frames} frames, {whole.segments} segments, {whole.ended_s:.1f} s, "
            f"of which {whole.ended_s - whole.parted_s:.1f} s putting together and checking",
            flush=True,
        )
        for number in range(options.trials) if options.only is None else [options.only]:
            shutil.rmtree(folder)
            folder.mkdir()
            story, faults = trial(number, paths, whole, random.Random(options.seed * 10_000 + number))
            failed += bool(faults)
            print(f"{'FAIL' if faults else 'ok  '} {number:3} {'; '.join([story, *faults])}", flush=True)
    trials = options.trials if options.only is None else 1
    print(f"{trials - failed} of {trials} killed jobs ended like the undisturbed one")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
