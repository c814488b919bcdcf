"""Every recipe's two stages on generated pictures: the loss falls, a resumed run equals an undisturbed one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import drawing

torch = pytest.importorskip("torch")

from training import checkpoint, loop, recipe, train  # noqa: E402
from training.data import DataError, Pair, make_pairs, sample  # noqa: E402
from training.perceptual import LAYERS, Backbone, torchvision_indices  # noqa: E402
from training.steps import Detail, Fidelity, Helpers, Step  # noqa: E402
from training.teach import taught  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quiet_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "open_board", lambda _: loop.SilentBoard())


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out as torchvision's VGG-19, with a few random channels."""
    torch.manual_seed(0)
    weights, inputs = {}, 3
    for index, layer in zip(torchvision_indices(), LAYERS, strict=True):
        outputs = 4 * int(layer[4])
        weights[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3) * (2 / (9 * inputs)) ** 0.5
        weights[f"features.{index}.bias"] = torch.zeros(outputs)
        inputs = outputs
    file = tmp_path_factory.mktemp("backbone") / "vgg19.pth"
    torch.save(weights, file)
    return file


def pairs(name: str, teacher: torch.nn.Module | None = None) -> list[Pair]:
    chosen = recipe.load(name)
    made = make_pairs([drawing(i, 128) for i in range(3)], 4, chosen.degradation, chosen.channels)
    if teacher is None:
        return made
    return [Pair(pair.hr, pair.lr, loop.upscale(teacher, pair.lr, 4)) for pair in made]


def make_step(name: str, end: str, backbone_file: Path | None, steps: int) -> tuple[Step, list[Pair], object]:
    chosen, stage, args = train.settle(train.parse([
        name, "--steps", str(steps), "--batch", "2", "--crop", "12", "--show-every", "1000", "--device", "cpu",
    ]), end)  # fmt: skip
    torch.manual_seed(0)
    G = chosen.generator(4)
    teacher = recipe.load(chosen.teacher).generator(4).eval() if chosen.teacher else None
    helpers = Helpers(Backbone(backbone_file) if backbone_file else None, teacher)
    step = (Fidelity if end == "fidelity" else Detail)(G, stage, steps, 4, helpers)
    if isinstance(step, Detail):
        object.__setattr__(step.stage, "d_alone", 2)
    return step, pairs(name, teacher), args


def test_terms_by_flags_stand_beside_the_pixel_losses() -> None:
    _, stage, args = train.settle(train.parse(["fast", "--fft", "0.05", "--steady", "2"]))
    assert (stage.losses.l1, stage.losses.fft, stage.losses.steady) == (1, 0.05, 2)
    assert "--fft 0.05 --steady 2.0" in train.command(vars(args))
    _, stage, args = train.settle(train.parse(["fast"]))
    assert (stage.losses.fft, stage.losses.steady) == (0, 0)
    assert "fft" not in train.command(vars(args))


@pytest.mark.parametrize("mse_from", [0.0, 1.0])
def test_steady_nets_answer_noise_less(mse_from: float) -> None:
    """Trained on the same batches, by L1 or MSE: the term decides how far other noise moves the output."""
    data = pairs("nano")

    def moved(weight: float) -> float:
        _, stage, _ = train.settle(train.parse(["nano", "--steady", str(weight), "--mse-from", str(mse_from)]))
        torch.manual_seed(0)
        step = Fidelity(recipe.load("nano").generator(4), stage, 40, 4)
        for n in range(30):
            terms = step(sample(data, 4, 2, 16, np.random.default_rng(n), 0), n)
            assert ("steady" in terms) == (weight > 0)
        lr = sample(data, 4, 2, 16, np.random.default_rng(99), 0).lr
        noise = torch.randn(lr.shape, generator=torch.Generator().manual_seed(1)) * 2 / 255
        with torch.no_grad():
            return float((step.upscale(lr) - step.upscale((lr + noise).clamp(0, 1))).abs().mean())

    assert moved(20) < 0.8 * moved(0)


@pytest.mark.parametrize("name", ["nano", *recipe.SYSTEMS])
def test_fidelity_stage_learns(name: str, backbone_file: Path) -> None:
    step, data, args = make_step(name, "fidelity", backbone_file, 40)
    batch = sample(data, 4, 2, 12, np.random.default_rng(0), args.ramps)

    def error() -> float:
        with torch.no_grad():
            return float((step.upscale(batch.lr) - batch.hr).abs().mean())

    before = error()
    for n in range(24):
        assert all(term.isfinite() for term in step(batch, n).values())
    assert error() < 0.95 * before


@pytest.mark.parametrize("name", [n for n in ("nano", *recipe.SYSTEMS) if recipe.load(n).detail])
def test_detail_stage_runs_and_resumes_bit_for_bit(name: str, tmp_path: Path, backbone_file: Path) -> None:
    def run(folder: str, *stops: int) -> dict:
        for stop in stops:
            step, data, args = make_step(name, "detail", backbone_file, 6)
            args.stop_after = stop
            loop.fit(step, data, data[:1], tmp_path / folder, args)
        return checkpoint.load(tmp_path / folder / "last.pt")

    whole, parts = run("whole", 6), run("parts", 3, 6)
    assert whole["step"] == parts["step"] == 6
    for net in ("G", "ema", "D"):
        for key, tensor in whole[net].items():
            assert torch.equal(tensor, parts[net][key]), f"{net} {key}"
    start = make_step(name, "detail", backbone_file, 6)[0].G.state_dict()
    assert any(not torch.equal(tensor, whole["G"][key]) for key, tensor in start.items())
    assert all(tensor.isfinite().all() for tensor in whole["ema"].values() if tensor.is_floating_point())


def test_batch_norm_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    def run(folder: str, *stops: int) -> dict:
        for stop in stops:
            step, data, args = make_step("fast_srgan", "fidelity", None, 6)
            args.stop_after = stop
            loop.fit(step, data, data[:1], tmp_path / folder, args)
        return checkpoint.load(tmp_path / folder / "last.pt")

    whole, parts = run("whole", 6), run("parts", 2, 6)
    for net in ("G", "ema"):
        for key, tensor in whole[net].items():
            assert torch.equal(tensor, parts[net][key]), f"{net} {key}"


def test_discriminator_learns_alone_at_first(backbone_file: Path) -> None:
    step, data, args = make_step("fast_srgan", "detail", backbone_file, 10)
    batch = sample(data, 4, 2, 12, np.random.default_rng(0), args.ramps)
    G = [p.clone() for p in step.G.parameters()]
    terms = step(batch, 0)
    assert terms.keys() == {"D"}
    assert all(torch.equal(a, b) for a, b in zip(G, step.G.parameters(), strict=True))
    assert {"mse", "content", "adversarial", "D"} <= step(batch, 5).keys()


def test_ladder_detail_has_the_video_terms(backbone_file: Path) -> None:
    step, data, args = make_step("nano", "detail", backbone_file, 10)
    terms = step(sample(data, 4, 2, 12, np.random.default_rng(0), args.ramps), 5)
    assert {"temporal", "codec", "content", "l1"} <= terms.keys()
    assert all(float(term) >= 0 for name, term in terms.items() if name != "adversarial")


def test_every_optional_term_can_be_asked_for(backbone_file: Path) -> None:
    """Terms that no recipe uses today run all the same."""
    step, data, args = make_step("fast_srgan", "detail", backbone_file, 10)
    weights = recipe.Losses(charbonnier=1, fft=1, tv=1, style=1, ldl=1, matching=1, temporal=1, codec=1, adversarial=1)
    object.__setattr__(step.stage, "losses", weights)
    terms = step(sample(data, 4, 2, 12, np.random.default_rng(0), args.ramps), 5)
    named = {"charbonnier", "fft", "tv", "style", "ldl", "matching", "temporal", "codec", "adversarial", "D"}
    assert terms.keys() == named
    assert all(term.isfinite() for term in terms.values())


def test_missing_backbone_is_said_loudly_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "PERCEPTUAL", tmp_path / "none")
    assert train.open_backbone(None, recipe.load("srgan").stage("detail")) is None
    assert "NO PERCEPTUAL BACKBONE" in capsys.readouterr().out
    step, data, _ = make_step("srgan", "detail", None, 10)
    assert "fft_for_content" in step(sample(data, 4, 2, 12, np.random.default_rng(0), 0), 5)
    with pytest.raises(DataError, match="cannot be read"):
        train.open_backbone(tmp_path / "none", recipe.load("srgan").stage("detail"))


def test_backbone_layers(backbone_file: Path) -> None:
    backbone = Backbone(backbone_file)
    features = backbone(torch.rand(1, 1, 32, 32), {"conv1_2_pre": 1, "conv3_1": 1})
    assert features["conv1_2_pre"].shape[2:] == (32, 32)
    assert features["conv3_1"].shape[2:] == (8, 8)
    assert features["conv3_1"].min() >= 0 > features["conv1_2_pre"].min()
    with pytest.raises(DataError, match="no conv6_1"):
        backbone.check({"conv6_1": 1})


def test_teacher_is_cached_and_its_checkpoint_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen, stage, args = train.settle(train.parse(["distil_esrgan", "--data", str(tmp_path / "data")]))
    with pytest.raises(DataError, match=r"run training\.train distil_teacher first"):
        train.open_teacher(args, chosen, stage)
    from training.generators import ThinRRDBNet

    teacher, data = ThinRRDBNet(4, 8, 8, 1).eval(), pairs("distil_esrgan")
    first = taught(data, data, teacher, args, tmp_path / "cache")
    assert first[0].teacher is not None
    assert first[0].teacher.shape == first[0].hr.shape
    monkeypatch.setattr("training.teach.enlarge", None)  # the second time nothing is computed
    again = taught(data, data, teacher, args, tmp_path / "cache")
    np.testing.assert_array_equal(first[1].teacher, again[1].teacher)


def test_detail_needs_the_fidelity_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["fast_srgan", "--stage", "detail"]) == 1
    assert "train the fidelity stage first" in capsys.readouterr().err


def test_both_stages_from_the_command_line(
    picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone_file: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [
        "fast_srgan",
        "--scale",
        "2",
        "--steps",
        "2",
        "--batch",
        "1",
        "--crop",
        "16",
        "--data",
        str(picture_folder),
    ]
    monkeypatch.setattr("training.data.load_pictures", lambda *_: [drawing(i, 64) for i in range(2)])
    assert train.main([*words, "--perceptual", str(backbone_file)]) == 0
    for folder in ("fast_srgan-x2-clean", "fast_srgan-x2-clean-detail"):
        assert checkpoint.load(tmp_path / "runs" / folder / "last.pt")["step"] == 2


def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    """torchrun with two gloo processes: equal weights on both, and those of one process that sees all crops."""
    worker = ROOT / "tests" / "training" / "ddp_worker.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29511"]
    done = subprocess.run(
        [*launch, str(worker), str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=120,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'training'}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = torch.load(tmp_path / "alone.pt", weights_only=True)
    assert ranks[0].keys() == alone.keys()
    for name, weight in ranks[0].items():
        assert torch.equal(weight, ranks[1][name]), name
        torch.testing.assert_close(weight, alone[name], atol=2e-3, rtol=2e-2)
    assert checkpoint.load(tmp_path / "run" / "last.pt")["step"] == 3
