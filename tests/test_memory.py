"""The estimate of a job's memory against what real jobs take."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import pytest
from commands import environment

from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.switching import SwitchingEngine
from rtsr.backends.tiling import TilingEngine
from rtsr.frames import VideoSpec
from rtsr.memory import available_bytes, engine_bytes, memory_needed, parts_to_fit
from rtsr.sinks.encoding import Encoding
from rtsr.sources.file import FileSource
from rtsr.sources.media import Media

JOB = """
import sys
from pathlib import Path
import rtsr
from rtsr.sinks.encoding import Encoding

clip, output, scale, model, backend, codec = sys.argv[1:]
rtsr.upscale(clip, output, scale=int(scale), model=model, backend=backend, encoding=Encoding(codec), end=2)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) << 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("scale", "model", "backend", "codec"),
    [(2, "fast", "openvino", "libx264"), (4, "balanced", "openvino", "libx264"), (4, "fast", "reference", "libx265")],
)
def test_the_estimate_is_within_30_percent(
    scale: int, model: str, backend: str, codec: str, clips: Path, tmp_path: Path
) -> None:
    clip, output = clips / "bbb_480x360_aac.mp4", tmp_path / "out.mkv"
    with (
        closing(FileSource(Media(str(clip)))) as source,
        closing(open_engine(EngineChoice(scale, model, "stream", backend))) as engine,
    ):
        spec, encoder = source.spec, Encoding(codec).resolve(output, source.spec)
        expected = memory_needed(spec, (scale * spec.width, scale * spec.height), encoder, engine)
    command = [sys.executable, "-c", JOB, clip, output, str(scale), model, backend, codec]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert expected == pytest.approx(int(done.stdout), rel=0.3)


@pytest.mark.parametrize(
    ("meminfo", "limit", "current", "expected"),
    [
        ("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n", None, None, 4000 << 10),
        ("MemAvailable: 4000 kB\n", "max\n", "1000\n", 4000 << 10),
        ("MemAvailable: 4000 kB\n", "1048576\n", "48576\n", 1000000),
        (None, None, None, None),
    ],
)
def test_what_is_free_is_the_least_of_what_is_told(
    meminfo: str | None, limit: str | None, current: str | None, expected: int | None, tmp_path: Path
) -> None:
    files = {"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": limit, "sys/fs/cgroup/memory.current": current}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    assert available_bytes(tmp_path) == expected


def test_a_frame_is_cut_until_it_fits() -> None:
    spec = VideoSpec(3840, 2160, Fraction(1, 24))
    with closing(open_engine(EngineChoice(2, "fast", "stream", "openvino"))) as engine:
        needed = engine_bytes(engine, spec)
        assert parts_to_fit(engine, spec, None) == parts_to_fit(engine, spec, 2 * needed) == 0
        assert parts_to_fit(engine, spec, needed) == 1  # one frame at a time
        assert parts_to_fit(engine, spec, needed // 4) == 4


def test_an_engine_that_stands_by_takes_memory_too() -> None:
    """What works while another's plan is built is not free again before the job ends."""
    spec = VideoSpec(1280, 720, Fraction(1, 24))
    first, better = (open_engine(EngineChoice(2, model, "stream", "openvino")) for model in ("nano", "fast"))
    both = engine_bytes(first, spec) + engine_bytes(better, spec)
    with closing(SwitchingEngine(first, better, lambda not_wanted: None, lambda pts: 0)) as engine:
        assert engine_bytes(engine, spec) == engine_bytes(TilingEngine(engine), spec) == both
        assert parts_to_fit(engine, spec, 2 * both) == 0 and parts_to_fit(engine, spec, 2 * both - 2) == 1
