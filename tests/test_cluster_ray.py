"""A real Ray cluster on this machine, a process for each of its machines: the same file as one process makes.

One of the machines has a single core, which by itself would change what x264 writes, and none has an engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import Audio, Video, steady_pts, write_clip
from commands import SMALL, command, environment
from commands import rtsr as run_rtsr

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray", reason="Ray is not installed: pip install 'rtsr[cluster]', or make test-cluster")
cluster_utils = pytest.importorskip("ray.cluster_utils")

import rtsr  # noqa: E402
from rtsr.cluster import crew, share  # noqa: E402
from rtsr.cluster.connection import Cluster  # noqa: E402
from rtsr.errors import ClusterError, ConfigError, EngineError  # noqa: E402
from rtsr.job import Progress, Report  # noqa: E402
from rtsr.sinks.encoding import Encoding  # noqa: E402
from rtsr.sources import cuts  # noqa: E402

RATE, SECONDS = 12, 6
FILM = Video(pts=steady_pts(RATE * SECONDS, RATE), last_duration=7500, options={"bf": "2", "g": "10", "crf": "20"})
NODE = {"include_dashboard": False, "object_store_memory": 80 << 20}
CLIENT_PORT = 20087
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}  # to notice that a machine is gone


@pytest.fixture(autouse=True)
def segments_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "SEGMENT_S", 1)


@pytest.fixture(scope="module")
def head() -> Iterator[Any]:
    """A cluster without a machine that lends a CPU."""
    made = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={**NODE, "num_cpus": 0, "ray_client_server_port": CLIENT_PORT, "_system_config": QUICK},
    )
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def ray_cluster(head: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two machines more, of one core and of all."""
    no_engines = tmp_path_factory.mktemp("no_engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTSR_ENGINES", str(no_engines))
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        head.add_node(num_cpus=1, **NODE)
        os.sched_setaffinity(0, cores)
        head.add_node(num_cpus=1, **NODE)
    head.wait_for_nodes()
    return head


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("film") / "in.mp4", FILM, audio=[Audio(seconds=Fraction(SECONDS))])


@dataclass(frozen=True)
class Heavy:
    """A film whose segments take a while, and what one process makes of it."""

    film: Path
    alone: bytes


@pytest.fixture(scope="module")
def _heavy(tmp_path_factory: pytest.TempPathFactory) -> Heavy:
    large = replace(FILM, width=480, height=272, pts=steady_pts(RATE * 2 * SECONDS, RATE))
    film = write_clip(tmp_path_factory.mktemp("heavy") / "in.mp4", large)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuts, "SEGMENT_S", 2)
        upscale(film, film.with_name("alone.mp4"), scale=4)
    return Heavy(film, film.with_name("alone.mp4").read_bytes())


@pytest.fixture
def heavy(_heavy: Heavy, monkeypatch: pytest.MonkeyPatch) -> Heavy:
    monkeypatch.setattr(cuts, "SEGMENT_S", 2)
    return _heavy


@pytest.fixture
def alone(film: Path, tmp_path: Path) -> bytes:
    """What one process makes of the film."""
    upscale(film, tmp_path / "alone.mp4")
    return (tmp_path / "alone.mp4").read_bytes()


def upscale(film: Path, output: Path, **options: Any) -> Report:
    encoding = Encoding("libx264", preset="veryfast")
    return rtsr.upscale(film, output, **{"scale": 2, "backend": "reference", "encoding": encoding, **options})


def workers() -> list[int]:
    """The processes of all workers that are ready or on their way."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                name = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if name.startswith(b"ray::ClusterWorker"):
                found.append(int(folder.name))
    return found


def test_a_cluster_without_resources(head: Any, film: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"nobody in the cluster .* it has no machine that lends a CPU"):
        upscale(film, tmp_path / "out.mp4", cluster=Cluster(head.address))
    assert [path.name for path in tmp_path.iterdir()] == []


def test_two_machines_make_the_file_that_one_makes(ray_cluster: Any, film: Path, alone: bytes, tmp_path: Path) -> None:
    said: list[str] = []
    moments: list[Progress] = []
    report = upscale(
        film, tmp_path / "out.mp4", cluster=Cluster(ray_cluster.address), notice=said.append, progress=moments.append
    )
    assert (tmp_path / "out.mp4").read_bytes() == alone
    assert report.frames_out == moments[-1].stats.written == RATE * SECONDS
    assert sum(frames for _, frames in moments[-1].by_device) == RATE * SECONDS
    assert said == []
    assert not workers()


def test_the_input_is_read_through_the_caller_and_the_engine_travels(ray_cluster: Any, tmp_path: Path) -> None:
    video = Video(codec="rawvideo", width=320, height=180, pts=steady_pts(120, 24), options={})
    film = write_clip(tmp_path / "in.mkv", video, audio=[Audio("flac", seconds=Fraction(5))])
    assert film.stat().st_size > 8 << 20  # several blocks
    said: list[str] = []
    options = {"model": "nano", "backend": "openvino", "encoding": Encoding("libx264", preset="ultrafast")}
    upscale(film, tmp_path / "one.mkv", **options)
    through_caller = Cluster(ray_cluster.address, input="caller")
    upscale(film, tmp_path / "two.mkv", cluster=through_caller, notice=said.append, **options)
    assert (tmp_path / "two.mkv").read_bytes() == (tmp_path / "one.mkv").read_bytes()
    assert said and all("reads the input through this machine" in sentence for sentence in said)


def test_a_worker_killed_in_the_middle_is_replaced(ray_cluster: Any, heavy: Heavy, tmp_path: Path) -> None:
    said: list[str] = []
    killed: list[int] = []

    def kill_one(moment: Progress) -> None:
        at_work = [name for name, frames in moment.by_device if frames]
        if len(at_work) == 2 and not killed:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    upscale(
        heavy.film,
        tmp_path / "out.mp4",
        scale=4,
        cluster=Cluster(ray_cluster.address),
        progress=kill_one,
        notice=said.append,
    )
    assert (tmp_path / "out.mp4").read_bytes() == heavy.alone
    assert killed
    assert len(said) == 1 and "died" in said[0] and "another does it again" in said[0]


def test_a_worker_that_stalls_is_replaced(ray_cluster: Any, heavy: Heavy, tmp_path: Path) -> None:
    said: list[str] = []
    stopped: list[int] = []

    def stop_one(moment: Progress) -> None:
        if moment.stats.written and not stopped:
            stopped.append(workers()[0])
            os.kill(stopped[0], signal.SIGSTOP)

    patient = Cluster(ray_cluster.address, patience_s=6)
    try:
        upscale(heavy.film, tmp_path / "out.mp4", scale=4, cluster=patient, progress=stop_one, notice=said.append)
    finally:
        for process in stopped:
            if process in workers():
                os.kill(process, signal.SIGKILL)
    assert (tmp_path / "out.mp4").read_bytes() == heavy.alone
    assert any("no new frame for" in sentence or "no answer for" in sentence for sentence in said)


def test_three_failures_stop_the_job_and_it_goes_on_anywhere(ray_cluster: Any, heavy: Heavy, tmp_path: Path) -> None:
    def kill_all(moment: Progress) -> None:
        if moment.stats.written:
            for process in workers():
                os.kill(process, signal.SIGKILL)

    output = tmp_path / "out.mp4"
    with pytest.raises((EngineError, ClusterError), match="3 times"):
        upscale(heavy.film, output, scale=4, cluster=Cluster(ray_cluster.address), progress=kill_all)
    assert not output.exists()
    said: list[str] = []
    upscale(heavy.film, output, scale=4, notice=said.append)
    assert output.read_bytes() == heavy.alone


def test_a_local_job_goes_on_in_a_cluster(ray_cluster: Any, film: Path, alone: bytes, tmp_path: Path) -> None:
    def interrupt(moment: Progress) -> None:
        if moment.stats.written > 2.5 * RATE:
            raise KeyboardInterrupt

    output = tmp_path / "out.mp4"
    with pytest.raises(KeyboardInterrupt):
        upscale(film, output, progress=interrupt)
    said: list[str] = []
    upscale(film, output, cluster=Cluster(ray_cluster.address), notice=said.append)
    assert output.read_bytes() == alone
    assert said == [f"going on with {2 * RATE} frames that are finished"]


def test_a_machine_leaves(ray_cluster: Any, heavy: Heavy, tmp_path: Path) -> None:
    third = ray_cluster.add_node(num_cpus=1, **NODE)
    left: list[bool] = []

    def leave(moment: Progress) -> None:
        if len(moment.by_device) == 3 and not left:
            left.append(True)
            ray_cluster.remove_node(third, allow_graceful=False)

    upscale(
        heavy.film,
        tmp_path / "out.mp4",
        scale=4,
        cluster=Cluster(ray_cluster.address),
        progress=leave,
    )
    assert (tmp_path / "out.mp4").read_bytes() == heavy.alone
    assert left


def test_another_version_is_refused(
    ray_cluster: Any, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "__version__", "9.9")
    with pytest.raises(ConfigError, match=r"has rtsr 0\.1\.0 and this machine 9\.9; install the same everywhere"):
        upscale(film, tmp_path / "out.mp4", cluster=Cluster(ray_cluster.address))


def test_a_machine_that_makes_another_picture_gets_no_work(
    ray_cluster: Any, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = share.try_out
    monkeypatch.setattr(share, "try_out", lambda *parts: replace(original(*parts), upscaled="", versions={"PyAV": "1"}))
    with pytest.raises(ClusterError, match=r"the engine makes another result than here \(PyAV .* there, 1 here\)"):
        upscale(film, tmp_path / "out.mp4", cluster=Cluster(ray_cluster.address))


def test_pictures_that_a_machine_does_not_see(ray_cluster: Any, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, 64, 3), np.uint8))
    unseen = Cluster(ray_cluster.address, input="caller")
    with pytest.raises(ClusterError, match="numbered pictures are read from a shared folder only"):
        upscale(tmp_path / "%d.png", tmp_path / "out.mp4", cluster=unseen)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments at the real length, and many small frames in each."""
    pts = steady_pts(25 * 24, 24)
    return write_clip(tmp_path_factory.mktemp("long") / "in.mp4", replace(FILM, pts=pts, last_duration=3750))


def test_the_command_line_as_a_ray_client(ray_cluster: Any, long_film: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    address = f"ray://127.0.0.1:{CLIENT_PORT}"
    assert run_rtsr("upscale", long_film, "-o", one, *SMALL).code == 0
    outcome = run_rtsr("upscale", long_film, "-o", two, *SMALL, "--cluster", address, "--json")
    assert outcome.code == 0, outcome.stderr
    assert two.read_bytes() == one.read_bytes()
    assert json.loads(outcome.stdout)["frames_out"] == 600


def test_an_interrupted_job_can_be_continued(ray_cluster: Any, long_film: Path, tmp_path: Path) -> None:
    output, one = tmp_path / "out.mp4", tmp_path / "one.mp4"
    arguments = ("upscale", long_film, "-o", output, *SMALL)
    journal = tmp_path / "out.mp4.rtsr" / "journal.jsonl"
    job = subprocess.Popen(
        command(*arguments, "--cluster", ray_cluster.address), env=environment(), stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 100
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 1):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGINT)
    _, told = job.communicate(timeout=60)
    assert job.returncode == 130, told
    assert b"the same command goes on where it stopped" in told and b"Traceback" not in told
    assert run_rtsr(*arguments).code == 0
    assert run_rtsr("upscale", long_film, "-o", one, *SMALL).code == 0
    assert output.read_bytes() == one.read_bytes()
