"""Nothing here runs code that came in a data file: no pickle is loaded, by any of the ways that libraries have."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from training import checkpoint

# Calls by which a pickle, or code, gets loaded; np.load and torch.load do so only if asked to.
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = [file for folder in ("rtsr", "training") for file in sorted((REPOSITORY / folder).rglob("*.py"))]


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def arguments(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def complaints(file: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"imports {name}" for name in names if name.partition(".")[0] in FORBIDDEN]
    for name, call in calls(file):
        given = arguments(call)
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(f"line {call.lineno}: torch.load without weights_only=True")
        if "allow_pickle" in given and given["allow_pickle"] != "False":
            found.append(f"line {call.lineno}: {name} allows pickles")
        if name in ("torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "eval", "exec"):
            found.append(f"line {call.lineno}: {name}")
        if name == "onnx.load" and given.get("load_external_data") != "False":
            found.append(f"line {call.lineno}: onnx.load follows paths in the file")
    return found


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_no_source_file_loads_a_pickle(file: Path) -> None:
    assert complaints(file) == []


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from joblib import load", "torch.load(f)", "torch.load(f, weights_only=False)", "eval(x)"),
        *("np.load(f, allow_pickle=True)", "onnx.load(f)"),
    ],
)
def test_what_is_looked_for_would_be_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(line)
    assert complaints(tmp_path / "bad.py") != []


class Command:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.made,)


def test_a_checkpoint_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    torch.save({"ema": {}, "args": Command(tmp_path / "ran")}, tmp_path / "bad.pt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        checkpoint.load(tmp_path / "bad.pt")
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_keeps_what_a_run_needs(tmp_path: Path) -> None:
    state = {"ema": {"w": torch.ones(2)}, "args": {"data": tmp_path, "sets": [tmp_path], "lr": 0.1, "none": None}}
    checkpoint.save(tmp_path / "last.pt", state)
    assert checkpoint.load(tmp_path / "last.pt")["args"] == state["args"]
