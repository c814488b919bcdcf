"""--cluster as far as it goes without Ray; tests/test_cluster_ray.py has the rest."""

from __future__ import annotations

import socket
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import write_clip
from commands import SMALL, rtsr

from rtsr.cluster.connection import Cluster, connected
from rtsr.cluster.crew import Place, places
from rtsr.cluster.likeness import try_out, with_threads_named
from rtsr.devices import CPU
from rtsr.errors import ClusterError, ConfigError
from rtsr.frames import VideoSpec
from rtsr.options import Options
from rtsr.sinks.encoding import Encoder, Encoding

SPEC = VideoSpec(96, 64, Fraction(1, 90000), Fraction(24))
SIZE = (192, 128)


@pytest.mark.parametrize("address", ["", "host", "host:", "host:99999", "ray://host", "http://a:1", "a b:1", "auto:1x"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address; write auto or ray://HOST:PORT"):
        Cluster(address)


def test_devices_and_a_cluster_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--cluster and --devices both"):
        Options(devices=(CPU,), cluster=Cluster("auto"))


def test_missing_ray_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--cluster needs Ray .*pip install 'rtsr\[cluster\]'"), connected("auto"):
        pass


def test_nobody_at_the_address(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rtsr[cluster]'")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{unheard.getsockname()[1]}"
        with pytest.raises(ClusterError, match="cannot be reached: Connection refused"), connected(address):
            pass


def test_the_command_line_names_the_cluster(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "in.mp4")
    outcome = rtsr("upscale", film, "-o", tmp_path / "out.mp4", "--cluster", "nowhere", *SMALL)
    assert outcome.code == 2
    assert "'nowhere' is no address" in outcome.sentence


def node(number: int, host: str, alive: bool = True, **resources: float) -> dict[str, object]:
    return {"NodeID": f"id{number}", "NodeManagerHostname": host, "Alive": alive, "Resources": resources}


def test_a_cpu_engine_has_one_worker_on_each_machine() -> None:
    nodes = [
        node(1, "head"),
        node(2, "big", CPU=64.0, GPU=2.0),
        node(3, "small", CPU=2.0),
        node(4, "small", CPU=4.0),
        node(5, "gone", alive=False, CPU=8.0),
    ]
    assert places(nodes, on_gpu=False) == [
        Place("id2", "big", 64),
        Place("id3", "small", 2),
        Place("id4", "small#2", 4),
    ]


def test_a_gpu_engine_has_one_worker_on_each_gpu() -> None:
    nodes = [node(1, "big", CPU=64.0, GPU=2.0), node(2, "small", CPU=2.0)]
    assert places(nodes, on_gpu=True) == [Place("id1", "big", 32, 1), Place("id1", "big#2", 32, 1)]


def encoder(codec: str, **options: str) -> Encoder:
    return Encoding(codec, options=tuple(options.items())).resolve(Path("out.mkv"), SPEC)


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {}), ("libx265", {}), ("libx265", {"x265-params": "info=0"})]
)
def test_naming_the_threads_an_encoder_chooses_changes_nothing(codec: str, options: dict[str, str]) -> None:
    from rtsr.backends.reference import ReferenceEngine

    free = encoder(codec, **options)
    named = with_threads_named(free, SPEC, SIZE)
    assert int(named.options["threads"]) >= 1
    engine = ReferenceEngine(2)
    assert try_out(engine, named, SPEC, SIZE) == try_out(engine, free, SPEC, SIZE)


def test_threads_that_somebody_chose_stay() -> None:
    chosen = encoder("libx264", threads="5")
    assert with_threads_named(chosen, SPEC, SIZE) is chosen
    other = encoder("ffv1")
    assert with_threads_named(other, SPEC, SIZE) is other


def test_a_trial_tells_one_encoder_from_another() -> None:
    from rtsr.backends.reference import ReferenceEngine

    two, three = (try_out(ReferenceEngine(2), encoder("libx264", threads=n), SPEC, SIZE) for n in "23")
    assert two.upscaled == three.upscaled
    assert two.encoded != three.encoded
    assert two.versions["PyAV"] == av.__version__
