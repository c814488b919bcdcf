"""Training: it learns, it resumes bit for bit, it refuses bad input in one sentence."""

import errno
from pathlib import Path

import numpy as np
import pytest
from pictures import drawing

torch = pytest.importorskip("torch")

from training import checkpoint, loop, train  # noqa: E402
from training.data import DataError, Pair, clean_pairs, load_pairs, load_pictures, sample  # noqa: E402
from training.models import build  # noqa: E402
from training.steps import Fidelity  # noqa: E402


@pytest.fixture(autouse=True)
def quiet_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard takes seconds to import; one test below uses the real one."""
    monkeypatch.setattr(loop, "open_board", lambda _: loop.SilentBoard())


def options(*extra: str):
    return train.parse(["nano", "--scale", "2", "--batch", "4", "--crop", "24", "--show-every", "1000", *extra])


def pairs() -> list[Pair]:
    return clean_pairs([drawing(i) for i in range(4)], 2)


def run(folder: Path, *extra: str) -> dict:
    _, stage, args = train.settle(options(*extra))
    torch.manual_seed(args.seed)
    step = Fidelity(build(args.tier, args.scale), stage, args.steps, args.scale)
    loop.fit(step, pairs(), pairs()[:1], folder, args)
    return checkpoint.load(folder / "last.pt")


def test_loss_falls(tmp_path: Path) -> None:
    state = run(tmp_path, "--steps", "60")
    G = build("nano", 2)
    lr, hr, _ = sample(pairs(), 2, 8, 32, np.random.default_rng(9))
    truth = torch.nn.functional.pixel_unshuffle(hr, 2)
    with torch.no_grad():
        before = (G(lr) - truth).square().mean()
        G.load_state_dict(state["ema"])
        after = (G(lr) - truth).square().mean()
    assert after < 0.8 * before


def test_stopped_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", "--steps", "8")
    run(tmp_path / "parts", "--steps", "8", "--stop-after", "3")
    parts = run(tmp_path / "parts", "--steps", "8")
    assert parts["step"] == whole["step"] == 8
    for key in ("G", "ema"):
        for name, weights in whole[key].items():
            assert torch.equal(weights, parts[key][name]), f"{key} {name}"


def test_interrupt_ends_the_step_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    from training import steps

    real, calls = steps.average, []

    def interrupting(*args: object) -> None:
        real(*args)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(steps, "average", interrupting)
    assert run(tmp_path, "--steps", "50")["step"] == 2
    assert "interrupted after step 2" in (tmp_path / "log.txt").read_text()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nan_stops_with_the_step(tmp_path: Path) -> None:
    _, stage, args = train.settle(options("--steps", "5"))
    G = build("nano", 2)
    with torch.no_grad():
        G.skip.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="at step 0"):
        loop.fit(Fidelity(G, stage, 5, 2), pairs(), pairs()[:1], tmp_path, args)


def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "--steps", "300", "--stop-after", "3")
    monkeypatch.setattr(loop, "DIVERGED", 0.5)  # a loss above half its lowest value: any run
    with pytest.raises(FloatingPointError, match="diverged at step"):
        run(tmp_path, "--steps", "300", "--batch", "1", "--crop", "8")
    assert checkpoint.load(tmp_path / "last.pt")["step"] == 3


def test_full_disk_is_one_sentence_and_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "--steps", "5", "--stop-after", "2")
    before = (tmp_path / "last.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match=r"step 5 could not be saved.*No space left"):
        run(tmp_path, "--steps", "5")
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_checkpoint_of_another_architecture_is_one_sentence(tmp_path: Path) -> None:
    run(tmp_path, "--steps", "1")
    _, stage, args = train.settle(options("--steps", "2"))
    with pytest.raises(DataError, match="another architecture"):
        loop.fit(Fidelity(build("fast", 2), stage, 2, 2), pairs(), pairs()[:1], tmp_path, args)


def test_warm_start_takes_what_fits() -> None:
    small, large = build("fast", 2), build("fast", 4)
    train.warm_start(large, {k: v + 1 for k, v in small.state_dict().items()})
    assert torch.equal(large.head.weight, small.head.weight + 1)
    assert torch.equal(large.skip, build("fast", 4).skip)  # another shape: stays


def test_a_folder_of_pictures_trains_from_the_command_line(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real TensorBoard
    monkeypatch.chdir(tmp_path)
    words = ["nano", "--scale", "2", "--steps", "2", "--batch", "2", "--crop", "24", "--data", str(picture_folder)]
    assert train.main(words) == 0
    run_folder = tmp_path / "runs" / "nano-x2-clean"
    assert checkpoint.load(run_folder / "last.pt")["step"] == 2
    assert list(run_folder.glob("events.*"))
    assert "validation PSNR-Y" in (run_folder / "log.txt").read_text()


def test_broken_and_small_pictures_are_skipped_with_a_count(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted(picture_folder.iterdir())[:3]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    (tmp_path / "empty.jpg").touch()
    assert len(load_pictures(tmp_path, smallest=100)) == 3
    assert "skipped 2 of 5 pictures" in capsys.readouterr().out
    with pytest.raises(DataError, match="no train pictures"):
        load_pictures(tmp_path, smallest=1000)


def test_empty_data_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["nano", "--data", str(tmp_path / "nowhere")]) == 1
    assert "no train pictures in" in capsys.readouterr().err


def test_cached_pairs_equal_fresh_ones_and_notice_a_change(picture_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for file in sorted(picture_folder.iterdir())[:3]:
        (data / file.name).write_bytes(file.read_bytes())
    fresh, cached = (load_pairs(data, "train", 2, "clean", 100, tmp_path / "cache") for _ in range(2))
    assert len(fresh) == len(cached) == 3
    for a, b in zip(fresh, cached, strict=True):
        np.testing.assert_array_equal(a.lr, b.lr)
        np.testing.assert_array_equal(a.hr, b.hr)
    (data / "02.png").unlink()
    assert len(load_pairs(data, "train", 2, "clean", 100, tmp_path / "cache")) == 2


def test_sample_keeps_lr_and_hr_together() -> None:
    lr, hr, _ = sample(pairs(), 2, 16, 16, np.random.default_rng(0))
    assert lr.shape == (16, 1, 16, 16)
    assert hr.shape == (16, 1, 32, 32)
    means = torch.nn.functional.avg_pool2d(hr, 2)
    assert (means - lr).abs().mean() < 0.03


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_on_the_device_give_the_same_batches(channels: int) -> None:
    """What a GPU's gather must give, computed on the CPU: value for value what `sample` cuts out, teacher included."""
    from training.data import kernel_pairs
    from training.resident import Resident

    made = kernel_pairs([drawing(i, 96 + 12 * i) for i in range(3)], 2, channels)  # three pairs share a truth
    made = [Pair(pair.hr, pair.lr, 255 - pair.hr) for pair in made]
    pool = Resident(made, 2, torch.device("cpu"))
    assert len(pool.hr) == sum(pair.hr.size for pair in made) // 3
    for seed in range(3):
        cut, gathered = (
            take(6, 16, np.random.default_rng(seed), 2) for take in (lambda *a: sample(made, 2, *a), pool.sample)
        )
        for a, b in zip(cut, gathered, strict=True):
            assert torch.equal(a, b)
