"""Shared by the training tests: generated pictures, and the benchmark files where they lie beside the checkout."""

from pathlib import Path

import cv2
import pytest
from pictures import drawing

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


RUN_ENGINES = (
    "test_ablate",
    "test_evaluate",
    "test_export",
    "test_quality",
    "test_rgb_engines",
    "test_trained_engines",
)
TRAINS = ("fine_tuning_runs", "a_run_is_a_line")  # of those


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What trains comes first: torch's training crashes in a process in which OpenVINO has run (2.13 and 2026.4)."""
    items.sort(key=lambda item: item.path.stem in RUN_ENGINES and not any(name in item.name for name in TRAINS))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Nets this small gain nothing from more, and lose much where other work shares the cores."""
    pytest.importorskip("torch").set_num_threads(1)


@pytest.fixture
def benchmark_sets() -> Path:
    """Folder with Set5, Set14 and BSD100; skips where it is missing."""
    if not (DATA / "test" / "Set5").is_dir():
        pytest.skip(f"the benchmark pictures are not at {DATA / 'test'}")
    return DATA / "test"


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 generated pictures; two are held out for validation (every 20th) or tiny."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(25):
        cv2.imwrite(str(folder / f"{i:02d}.png"), drawing(i))
    return folder
