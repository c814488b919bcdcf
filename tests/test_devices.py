"""Several worker processes on one job: the same file as one makes, whatever happens to them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
from clips import Audio, Subtitles, Video, corrupt_packets, steady_pts, write_clip
from commands import SMALL, command, environment
from torture.corpus import ENTRIES, make

import rtsr
from rtsr.devices import CPU, Device, check_backend, parse_devices
from rtsr.errors import ConfigError, EngineError, IncompleteError
from rtsr.job import Report
from rtsr.sinks.encoding import Encoding
from rtsr.sources import cuts

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
RATE, SECONDS = 12, 4
FRAMES = RATE * SECONDS
TWO = (CPU, CPU)
FILM = Video(pts=steady_pts(FRAMES, RATE), last_duration=7500, options={"bf": "2", "g": "10", "crf": "20"})


@pytest.fixture(autouse=True)
def segments_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "SEGMENT_S", 1)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "in.mp4", FILM, audio=[Audio(seconds=Fraction(SECONDS))])


@pytest.fixture
def alone(film: Path, tmp_path: Path) -> bytes:
    """What one process makes of the film."""
    upscale(film, tmp_path / "alone.mp4")
    return (tmp_path / "alone.mp4").read_bytes()


def upscale(film: Path, output: Path, **options: object) -> Report:
    encoding = Encoding("libx264", preset="veryfast")
    return rtsr.upscale(film, output, **{"scale": 2, "backend": "reference", "encoding": encoding, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("steady.mp4", FILM),
        ("steady.mkv", FILM),
        ("vfr.mp4", Video(pts=[0, 3003, 6006, 60000, 61000, 95000, 100000, 250000, 253003], last_duration=90000)),
        ("late.mp4", Video(pts=steady_pts(30, RATE, start=126_000), last_duration=7500)),
        (
            "deep.mkv",
            Video(codec="libx265", pix_fmt="yuv420p10le", pts=steady_pts(30, RATE), options={"preset": "fast"}),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_two_workers_make_the_file_that_one_makes(name: str, video: Video, tmp_path: Path) -> None:
    film = write_clip(
        tmp_path / name,
        video,
        audio=[Audio(seconds=Fraction(3))],
        subtitles=[Subtitles("mov_text" if name.endswith("mp4") else "subrip")],
    )
    one, two = (tmp_path / f"{n}{film.suffix}" for n in ("one", "two"))
    said: list[str] = []
    alone = upscale(film, one)
    shared = upscale(film, two, devices=TWO, notice=said.append)
    assert two.read_bytes() == one.read_bytes()
    assert shared.frames_out == alone.frames_out == len(video.pts)
    assert not said
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({name, one.name, two.name})


def test_both_workers_work_and_are_shown(film: Path, tmp_path: Path) -> None:
    moments = []
    upscale(film, tmp_path / "out.mp4", devices=TWO, progress=moments.append)
    last = moments[-1]
    assert [name for name, _ in last.by_device] == ["cpu", "cpu"]
    assert sum(frames for _, frames in last.by_device) == last.stats.written == FRAMES
    assert last.expected == FRAMES


def test_a_worker_that_dies_is_replaced(film: Path, alone: bytes, tmp_path: Path) -> None:
    said: list[str] = []
    killed: list[int] = []

    def kill_one(moment: object) -> None:
        if not killed:
            worker = multiprocessing.active_children()[0]
            killed.append(worker.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    upscale(film, tmp_path / "out.mp4", devices=TWO, progress=kill_one, notice=said.append)
    assert (tmp_path / "out.mp4").read_bytes() == alone
    assert len(said) == 1 and "killed by SIGKILL" in said[0]


def test_three_deaths_on_one_segment_stop_the_job(film: Path, tmp_path: Path) -> None:
    def kill_all(moment: object) -> None:
        for worker in multiprocessing.active_children():
            worker.kill()

    with pytest.raises(EngineError, match=r"died \(killed by SIGKILL\), 3 times"):
        upscale(film, tmp_path / "out.mp4", devices=(CPU,) * 2, progress=kill_all)
    assert not multiprocessing.active_children()
    assert not (tmp_path / "out.mp4").exists()


def test_an_error_in_a_worker_is_raised_here(film: Path, tmp_path: Path) -> None:
    def lose_the_film(moment: object) -> None:
        copy.unlink(missing_ok=True)

    copy = tmp_path / "in.mp4"
    copy.write_bytes(film.read_bytes())
    with pytest.raises(rtsr.errors.SourceError, match=r"device cpu: .*in\.mp4: no such file"):
        upscale(copy, tmp_path / "out.mp4", devices=(CPU, CPU), progress=lose_the_film)
    assert not multiprocessing.active_children()


KILLED = """
import os, signal, sys
import rtsr
from rtsr.devices import CPU
from rtsr.sinks.encoding import Encoding
from rtsr.sources import cuts

if __name__ == "__main__":
    cuts.SEGMENT_S = 1
    film, output, frames = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rtsr.upscale(film, output, scale=2, backend="reference", devices=(CPU, CPU),
                 encoding=Encoding("libx264", preset="veryfast"),
                 progress=lambda moment: moment.stats.written >= frames and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("devices", [(), TWO], ids=["alone", "two"])
def test_a_killed_job_goes_on(devices: tuple[Device, ...], film: Path, alone: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    code = [sys.executable, "-c", KILLED, film, output, str(FRAMES // 2)]
    assert subprocess.run(code, capture_output=True).returncode == -signal.SIGKILL
    before: list[int] = []
    upscale(film, output, devices=devices, progress=lambda moment: before.append(moment.before))
    assert 0 < before[0] < FRAMES
    assert output.read_bytes() == alone


def test_what_one_began_two_can_finish(film: Path, alone: bytes, tmp_path: Path) -> None:
    def interrupt(moment: object) -> None:
        if moment.stats.written > FRAMES // 2:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale(film, tmp_path / "out.mp4", progress=interrupt)
    before: list[int] = []
    upscale(film, tmp_path / "out.mp4", devices=TWO, progress=lambda moment: before.append(moment.before))
    assert before[0] == FRAMES // 2
    assert (tmp_path / "out.mp4").read_bytes() == alone


SLOW = ("--codec", "libx264", "--preset", "veryslow", "--scale", "4")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_ctrl_c_ends_all_workers(tmp_path: Path) -> None:
    """To the whole process group, as a terminal sends it."""
    film = write_clip(tmp_path / "in.mp4", Video(width=320, height=180, pts=steady_pts(160, 8), options={"g": "12"}))
    running = subprocess.Popen(
        command("upscale", film, "-o", tmp_path / "out.mp4", *SMALL, *SLOW, "--devices", "cpu*2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    try:
        wait_for_tmp(tmp_path / "out.mp4.rtsr", running)
        os.killpg(running.pid, signal.SIGINT)
        _, stderr = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, stderr
    assert [line for line in stderr.decode().splitlines() if line.startswith("rtsr: interrupted")], stderr
    assert "Traceback" not in stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4"]
    deadline = time.monotonic() + 30  # Python's own tracker of resources ends by itself, a moment after
    while (left := alive_in_group(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def alive_in_group(group: int) -> list[str]:
    """Names of a process group's processes, without those that only wait for their parent to look at them."""
    names = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, its_group = rest.split()[:3]
            if int(its_group) == group and state != "Z":
                names.append(name)
    return names


def wait_for_tmp(folder: Path, running: subprocess.Popen[bytes]) -> None:
    """Until both workers are writing."""
    while len(list(folder.glob("*.tmp"))) < 2:
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)


def test_what_needs_repair_is_done_by_one_and_said(film: Path, tmp_path: Path) -> None:
    damaged = corrupt_packets(tmp_path / "damaged.mp4", film, [20, 21])
    said: list[str] = []
    with pytest.raises(IncompleteError) as one:
        upscale(damaged, tmp_path / "one.mp4")
    with pytest.raises(IncompleteError) as two:
        upscale(damaged, tmp_path / "two.mp4", devices=TWO, notice=said.append)
    assert str(one.value).replace("one.mp4", "two.mp4") == str(two.value)
    assert (tmp_path / "one.mp4.part").read_bytes() == (tmp_path / "two.mp4.part").read_bytes()
    assert any("one device works alone" in sentence for sentence in said)


def test_a_film_that_cannot_be_cut_is_done_by_one_and_said(tmp_path: Path) -> None:
    film = make(next(entry for entry in ENTRIES if entry.name == "duplicate-times.mkv"), tmp_path)
    said: list[str] = []
    upscale(film, tmp_path / "one.mkv", drop_unsupported=True)
    upscale(film, tmp_path / "two.mkv", drop_unsupported=True, devices=TWO, notice=said.append)
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "two.mkv").read_bytes()
    assert "one device works alone: not every picture has a time of its own" in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, []),
        ("cpu", ["cpu"]),
        ("cpu*3", ["cpu"] * 3),
        ("cpu, cpu", ["cpu"] * 2),
        ("0", ["0"]),
        ("0,2", ["0", "2"]),
        ("1*2", ["1", "1"]),
        ("all", ["0", "1", "2"]),
    ],
)
def test_devices_are_named(text: str | None, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices = parse_devices(text, count_gpus=lambda: 3)
    assert [device.name for device in devices] == names
    assert [device.visible for device in devices] == ["" if name == "cpu" else name for name in names]


@pytest.mark.parametrize("text", ["", "gpu", "cpu*0", "0,", "all,0", "cpu,0", "-1", "cpu*65", "cpu*99,0"])
def test_what_names_no_devices_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--devices"):
        parse_devices(text, count_gpus=lambda: 1)


def test_gpus_are_those_that_cuda_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-7f,3")
    assert [device.visible for device in parse_devices("1,0")] == ["3", "GPU-7f"]
    with pytest.raises(ConfigError, match="no GPU 2"):
        parse_devices("2")
    parse_devices("1")[0].claim()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_a_cpu_backend_on_a_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"NVIDIA GPU and backend openvino"):
        check_backend((Device("0", "0"),), "openvino")
    check_backend((CPU,), "openvino")
    check_backend((), "openvino")
