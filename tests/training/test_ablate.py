"""Comparing bodies: all cost the same, start as an interpolation, and are measured as it says."""

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("openvino")

from training import ablate, train  # noqa: E402
from training.data import DataError  # noqa: E402
from training.generators.imdn import IMDN, open_imdn  # noqa: E402
from training.loop import upscale  # noqa: E402
from training.models import TIERS  # noqa: E402
from training.recipe import load  # noqa: E402
from training.resize import imresize  # noqa: E402


@pytest.mark.parametrize("name", ablate.VARIANTS)
def test_variants_cost_the_same_and_start_as_an_interpolation(name: str) -> None:
    G = ablate.VARIANTS[name].generator(4).eval()
    macs, ms = ablate.cost(G, repeats=1)
    assert 0.85 < macs / TIERS["fast"].macs(4) < 1.1
    assert ms > 0
    y = np.add.outer(np.arange(24), 4 * np.arange(32)).astype(np.uint8)
    inner = np.s_[16:-16, 16:-16]
    off = upscale(G, y, 4)[inner].astype(int) - imresize(y, 4)[inner]
    assert np.abs(off).max() <= 1 or name == "skip-none"


def test_macs_are_those_of_the_ladder() -> None:
    tier = TIERS["nano"]
    assert ablate.cost(load("nano").generator(4), repeats=1)[0] == tier.macs(4)


def test_a_run_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    for i in range(20):
        cv2.imwrite(str(tmp_path / f"{i:02}.png"), rng.integers(0, 256, (264, 264, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    assert ablate.main(["mse", "--steps", "2", "--data", str(tmp_path)]) == 0
    *_, line = capsys.readouterr().out.splitlines()
    name, score, *_ = line.split()
    assert name == "mse"
    assert 12 < float(score) < 17  # the luma of white noise varies by 42 code values, and cannot be guessed
    with pytest.raises(SystemExit):
        ablate.main(["no-such-body"])


def test_a_tier_shares_its_loss_with_a_teacher() -> None:
    flags = ["fast", "--teacher", "imdn.safetensors", "--teacher-share", "0.25"]
    _, stage, args = train.settle(train.parse(flags))
    shared = train.with_teacher(stage, args).losses
    assert (shared.l1, shared.teacher) == (0.75, 0.25)
    with pytest.raises(DataError, match="clean x4"):
        train.with_teacher(stage, train.settle(train.parse([*flags, "--scale", "2"]))[2])


def test_the_teacher_is_the_published_one(tmp_path: Path, benchmark_sets: Path) -> None:
    from rtsr.metrics import psnr, rgb_to_y
    from training.evaluate import read_rgb

    if not ablate.TEACHER.exists():
        pytest.skip(f"{ablate.TEACHER} is missing")
    net, scores = open_imdn(ablate.TEACHER), []
    for file in sorted((benchmark_sets / "Set5" / "LRx4").glob("*.png")):
        sr, hr = upscale(net, read_rgb(file), 4), read_rgb(benchmark_sets / "Set5" / "HR" / file.name)
        scores.append(psnr(rgb_to_y(sr), rgb_to_y(hr[: sr.shape[0], : sr.shape[1]]), 4))
    assert np.mean(scores) == pytest.approx(32.21, abs=0.02)  # as published
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="does not hold IMDN's weights"):
        open_imdn(tmp_path / "no.safetensors")
    assert sum(p.numel() for p in IMDN().parameters()) == sum(p.numel() for p in net.parameters())
