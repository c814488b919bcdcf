"""Training goes on from an engine: the generator made of it computes what the engine computes."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino")

from training import checkpoint, export, recipe, train  # noqa: E402
from training.data import DataError  # noqa: E402
from training.models import Ladder  # noqa: E402
from training.reopen import take_over  # noqa: E402


def trained_state(name: str, scale: int = 4) -> dict:
    """A checkpoint whose parameters and batch statistics lie off their initial values."""
    torch.manual_seed(1)
    _, _, args = train.settle(train.parse([name, "--scale", str(scale)]))
    G = recipe.load(name).generator(scale)
    with torch.no_grad():
        for p in G.parameters():
            p.add_(0.02 * torch.randn_like(p))
    G.train()(torch.rand(2, recipe.load(name).channels, 24, 24))  # batch norms see something
    return {"ema": G.state_dict(), "args": vars(args)}


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", ["nano", "fast_srgan", "srgan", "rrdb_lite", "distil_esrgan"])
def test_the_net_made_of_an_engine_computes_the_same(name: str, scale: int, tmp_path: Path) -> None:
    state = trained_state(name, scale)
    file, _ = export.write_engine(state, "phases", tmp_path)
    trained = recipe.load(name).generator(scale)
    trained.load_state_dict(state["ema"])
    x = torch.rand(4, recipe.load(name).channels, 24, 24)
    G = recipe.load(name).generator(scale)

    take_over(G, file, x)

    with torch.no_grad():
        expected, found = trained.eval()(x), G.eval()(x)
        assert (expected - trained.skip(x) if name != "nano" else expected).std() > 1e-3  # not the interpolation alone
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)  # RGB engines hold their weights in fp16
        torch.testing.assert_close(G.train()(x), found, atol=1e-3, rtol=0)  # training starts from the same function


def test_a_ladder_takes_the_body_of_another_scale(tmp_path: Path) -> None:
    file, _ = export.write_engine(trained_state("nano"), "phases", tmp_path)
    G, untrained = recipe.load("nano").generator(2), recipe.load("nano").generator(2)
    trained = recipe.load("nano").generator(4)
    trained.load_state_dict(trained_state("nano")["ema"])

    take_over(G, file, torch.zeros(1, 1, 8, 8))

    for found, expected in zip(G.hidden(), trained.hidden(), strict=True):
        torch.testing.assert_close(found.weight, expected.weight)
    y = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(G(y), untrained(y))  # the tail is still the interpolation


@pytest.mark.parametrize(("width", "depth"), [(8, 9), (12, 6), (16, 7)])
def test_a_larger_ladder_starts_as_the_same_function(width: int, depth: int, tmp_path: Path) -> None:
    state = trained_state("nano")
    file, _ = export.write_engine(state, "phases", tmp_path)
    trained = recipe.load("nano").generator(4)
    trained.load_state_dict(state["ema"])
    G, y = Ladder(width, depth, 4), torch.rand(2, 1, 24, 24)

    take_over(G, file, y)

    torch.testing.assert_close(G(y), trained(y), atol=1e-5, rtol=0)
    G(y).square().mean().backward()
    assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in (*G.body, G.tail))
    assert G.tail.weight.grad[:, 8:].any() or width == 8  # the new channels are about to be listened to


def test_only_float_engines_of_the_same_net_are_taken(tmp_path: Path) -> None:
    file, _ = export.write_engine(trained_state("nano"), "phases", tmp_path)
    x = torch.zeros(1, 1, 8, 8)
    with pytest.raises(DataError, match="not a float engine of this architecture"):
        take_over(Ladder(8, 5, 4), file, x)
    with pytest.raises(DataError, match="not a float engine of this architecture"):
        take_over(Ladder(6, 6, 4), file, x)
    with pytest.raises(DataError, match="not a float engine of this architecture"):
        take_over(recipe.load("nano").generator(4), Path("engines/nano-x4-clean-int8.onnx"), x)
    (broken := tmp_path / "broken.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match="not an ONNX file"):
        take_over(recipe.load("nano").generator(4), broken, x)


def test_a_run_starts_from_an_engine(tmp_path: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = export.write_engine(trained_state("nano"), "phases", tmp_path)
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "2", "--batch", "2", "--crop", "16", "--lr", "1e-9", "--lr-muon", "1e-9"]
    assert train.main(["nano", "--init", str(file), "--data", str(picture_folder), "--name", "on", *few]) == 0
    state = checkpoint.load(tmp_path / "runs" / "on" / "last.pt")
    y = np.random.default_rng(0).integers(0, 256, (16, 16)).astype(np.uint8)
    before = export.torch_result(export.load_layers(trained_state("nano")), y)
    after = export.torch_result(export.load_layers(state), y)
    assert np.abs(before.astype(int) - after).max() <= 1
