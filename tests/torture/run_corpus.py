"""Upscale the torture corpus and compare with what its JSON files expect: python -m torture.run_corpus FOLDER

One line for each file, then a summary; exits with 1 if anything deviates.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from clips import TOLERANT, main_video

from torture.entry import Expect
from torture.films import number_in
from torture.worker import Outcome, Worker

STEP_MS = 1.5  # Matroska and FLV round to a millisecond, at both ends of a span
SOUND_FRAME_S = 0.035  # the longest frame of sound that a first one may be cut by


def check(name: str, folder: Path, results: Path, worker: Worker) -> tuple[list[str], float]:
    """Do one file of a corpus. Returns what deviates, and how long the job took."""
    told = json.loads((folder / f"{name}.json").read_text())
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in told["expect"].items()}
    expect = Expect(**fields)
    output = results / told["output"]
    if output.parent != results:
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir(parents=True)
    with _address(folder, told["served"]) as at:
        source = f"{at}/{told['file']}"
        arguments = ["upscale", source, "-o", output, *told["arguments"]]
        outcome = worker.run(*arguments, *(["--overwrite"] if output.parent == results else []))
        faults = _conduct(outcome, expect)
        if outcome.code == 0 == expect.exit_code:
            try:
                faults += _contents(output, expect)
            except (av.error.FFmpegError, OSError, ValueError) as error:
                faults.append(f"the output cannot be read: {error}")
            if expect.verify:
                faults += _verified(worker, source, output, told["arguments"])
    faults += _leftovers(results, output)
    return faults, outcome.seconds


def _conduct(outcome: Outcome, expect: Expect) -> list[str]:
    """Exit code, error and notices."""
    said = " | ".join(outcome.sentences)
    faults = []
    if outcome.code != expect.exit_code:
        faults.append(f"exit code {outcome.code} instead of {expect.exit_code}: {said}")
    elif outcome.code and len(outcome.sentences) != 1:
        faults.append(f"not one sentence: {said}")
    elif not re.search(expect.sentence, said, re.DOTALL):
        faults.append(f"the error {said!r} does not say {expect.sentence!r}")
    if outcome.code == 0:
        notes = "\n".join(outcome.notes)
        faults += [f"no notice says {wanted!r}" for wanted in expect.notices if not re.search(wanted, notes)]
    if outcome.threads:
        faults.append(f"threads are left: {', '.join(outcome.threads)}")
    return faults


def _verified(worker: Worker, source: str, output: Path, arguments: list[str]) -> list[str]:
    """`rtsr verify`, with the trim and the rate of the job."""
    kept = [part for option in ("--start", "--end", "--rate") for part in _option(arguments, option)]
    verdict = worker.run("verify", source, output, *kept)
    return [f"verify: {' '.join(verdict.sentences)}"] if verdict.code else []


def _option(arguments: list[str], name: str) -> list[str]:
    return arguments[arguments.index(name) :][:2] if name in arguments else []


def _contents(output: Path, expect: Expect) -> list[str]:
    """The finished file against the expectation, read by PyAV alone."""
    faults: list[str] = []

    def compare(what: str, found: Any, wanted: Any, same: Callable[[Any, Any], bool] = lambda a, b: a == b) -> None:
        if wanted is not None and not same(found, wanted):
            faults.append(f"{what}: {found} instead of {wanted}")

    with _opened(output) as container:
        stream = main_video(container)
        compare("streams", _counts(container), expect.streams)
        compare("codec", stream.codec_context.codec.canonical_name, expect.codec)
        compare("chapters", tuple(c["metadata"].get("title") for c in container.chapters()), expect.chapters)
        languages = tuple(s.metadata.get("language", "und") for s in container.streams.audio)
        compare("languages", languages, expect.languages)
        ratio = stream.codec_context.sample_aspect_ratio
        compare("sample aspect ratio", str(Fraction(ratio)) if ratio else "1", expect.sample_aspect_ratio)
        known = {key.lower(): value for key, value in container.metadata.items()}
        for key, value in expect.tags.items():
            compare(f"tag {key}", known.get(key.lower()), value)
        pictures = list(_decoded(container, stream))
    first = pictures[0]
    compare("frames", len(pictures), expect.frames)
    compare("size", (first.width, first.height), expect.size)
    # yuvj420p is yuv420p with full range, which the colour says.
    compare("pixel format", first.format.name.replace("yuvj", "yuv"), expect.pix_fmt, lambda a, b: a in b)
    compare("rotation", first.rotation, expect.rotation, lambda a, b: (a - b) % 360 == 0)
    compare("interlaced", first.interlaced_frame, expect.interlaced)
    color = (first.colorspace, first.color_primaries, first.color_trc, first.color_range)
    compare("colour", tuple(map(int, color)), expect.color, _same_color)
    compare("HDR", _hdr(first), expect.hdr)
    if expect.numbers is not None:
        compare("numbers", tuple(number_in(picture, 2) for picture in pictures), tuple(expect.numbers))
    span = Fraction(pictures[-1].pts - first.pts) * Fraction(first.time_base)
    compare("span", round(float(span), 4), expect.span_s, lambda a, b: abs(a - b) * 1000 <= STEP_MS)
    if expect.delay_s is not None:
        delay = float(first.pts * Fraction(first.time_base) - _first_sound(output))
        compare("delay", round(delay, 4), expect.delay_s, lambda a, b: abs(a - b) <= SOUND_FRAME_S)
    return faults


def _decoded(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """All pictures. FFmpeg's own VP8 and VP9 decoders leave the alpha out that WebM keeps beside; libvpx's do not."""
    if "1" not in (stream.metadata.get("alpha_mode"), stream.metadata.get("ALPHA_MODE")):
        yield from container.decode(stream)
        return
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[stream.codec_context.codec.canonical_name]
    decoder: Any = av.CodecContext.create(name, "r")
    for packet in container.demux(stream):
        for frame in decoder.decode(packet if packet.size else None):
            frame.time_base = stream.time_base
            yield frame


def _same_color(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Unsaid range (0) means limited (1), and most codecs cannot leave it unsaid."""
    return found[:3] == wanted[:3] and (found[3] or 1) == (wanted[3] or 1)


def _opened(path: Path) -> Any:
    name = str(path)
    return (
        av.open(name, format="image2", **TOLERANT)
        if "%" in path.name and path.suffix == ".png"
        else av.open(f"file:{name}", **TOLERANT)
    )


def _counts(container: Any) -> dict[str, int]:
    kinds = [stream.type or "unknown" for stream in container.streams]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def _hdr(frame: av.VideoFrame) -> dict[str, float] | None:
    """Mastering display and content light level of a picture."""
    import numpy as np

    display, light = (frame.side_data.get(n) for n in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"))
    if display is None or light is None:
        return None
    values = np.frombuffer(display, np.int32).tolist()
    cll, fall = np.frombuffer(light, np.uint32).tolist()[:2]
    lowest, highest = values[16] / values[17], values[18] / values[19]
    return {
        "max_luminance": round(highest, 4),
        "min_luminance": round(lowest, 5),
        "max_cll": cll,
        "max_fall": fall,
    }


def _first_sound(path: Path) -> Fraction:
    """When the first sample is heard, in seconds."""
    with av.open(f"file:{path}", **TOLERANT) as container:
        frame = next(container.decode(container.streams.audio[0]))
        return Fraction(frame.pts) * Fraction(frame.time_base)


def _leftovers(results: Path, output: Path) -> list[str]:
    """Whatever lies in the folder of results beside the output; taken away, so that the next file finds it empty."""
    left = [path for path in results.iterdir() if path not in (output, output.parent)]
    for path in list(results.iterdir()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [f"left behind: {path.name}" for path in left]


@contextmanager
def _address(folder: Path, served: bool) -> Iterator[str]:
    """Where rtsr finds the corpus: its folder, or an http server of this process."""
    if not served:
        yield str(folder)
        return

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="what torture.corpus made")
    parser.add_argument("--only", default="", metavar="NAME", help="files whose name contains this")
    options = parser.parse_args()
    folder = options.folder.resolve()
    names = sorted(path.name.removesuffix(".json") for path in folder.glob("*.json") if options.only in path.name)
    results = folder / "results"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    failed = []
    with Worker() as worker:
        for name in names:
            faults, seconds = check(name, folder, results, worker)
            print(f"{'FAIL' if faults else 'ok  '} {name!r:28} {seconds:5.1f} s  {'; '.join(faults)}", flush=True)
            failed += [name] * bool(faults)
    print(f"{len(names) - len(failed)} of {len(names)} as expected")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
