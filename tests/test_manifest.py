"""Manifests: what is wrong with an engine's file is said with its name and its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import save_repeat_engine

from rtsr.backends import EngineChoice, open_engine
from rtsr.errors import ConfigError, EngineError
from rtsr.manifest import Manifest, engines_folder, find_engine, installed_engines, load_manifest, read_engine


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One engine, `repeat-x2`, installed in a folder of its own that a test may spoil."""
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    save_repeat_engine(tmp_path, 2)
    return tmp_path


def spoil(folder: Path, **changes: Any) -> Path:
    """Change keys of the manifest; None removes one."""
    path = folder / "repeat-x2.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        load_manifest(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = save_repeat_engine(tmp_path, 3)
    assert load_manifest(tmp_path / "repeat-x3.json") == saved


def test_all_engines_of_the_folder_are_listed(engines: Path) -> None:
    names = {engine.name for engine in installed_engines()}
    assert (
        names
        == {file.stem for file in engines.glob("*.onnx")}
        >= {"repeat-x2", "repeat-x2-float", "repeat-x3", "repeat-x4"}
    )
    assert engines_folder() == engines


def test_an_unknown_key_is_named(folder: Path) -> None:
    sentence = refusal(spoil(folder, colour="blue"))
    assert "colour" in sentence and "repeat-x2.json" in sentence


@pytest.mark.parametrize("key", ["scale", "sha256", "output", "contract", "licence"])
def test_a_missing_key_is_named(folder: Path, key: str) -> None:
    sentence = refusal(spoil(folder, **{key: None}))
    assert key in sentence and "repeat-x2.json" in sentence


def test_no_key_is_blamed_that_may_be_missing(folder: Path) -> None:
    assert load_manifest(spoil(folder, quality=None)).quality == {}
    assert "quality" not in refusal(spoil(folder, licence=None))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scale", 5),
        ("end", "middle"),
        ("degradation", "rain"),
        ("precision", "int4"),
        ("output", "rgb"),
        ("contract", 99),
    ],
)
def test_a_value_outside_the_contract_is_named(folder: Path, key: str, value: object) -> None:
    sentence = refusal(spoil(folder, **{key: value}))
    assert key in sentence and str(value) in sentence


@pytest.mark.parametrize("detail", [-0.5, 1.5, "half", True, float("nan"), [1]], ids=str)
def test_detail_is_a_share(folder: Path, detail: object) -> None:
    assert "detail must be a number from 0 to 1" in refusal(spoil(folder, detail=detail))


def test_the_end_is_detail_exactly_where_there_is_some(folder: Path) -> None:
    load_manifest(spoil(folder, detail=None))  # as in manifests from before there was a dial
    for end, detail in (("fidelity", 0.5), ("detail", 0), ("detail", None)):
        assert f"end is '{end}' and detail is {detail or 0:g}" in refusal(spoil(folder, end=end, detail=detail))
    assert load_manifest(spoil(folder, end="detail", detail=1)).detail == 1.0


@pytest.mark.parametrize("file", ["../repeat-x2.onnx", "/etc/passwd", "sub/repeat-x2.onnx", ""])
def test_the_file_lies_beside_its_manifest(folder: Path, file: str) -> None:
    assert "file" in refusal(spoil(folder, file=file))


@pytest.mark.parametrize("text", ["", "{", "[]", '"name"', "null"])
def test_what_is_no_manifest_is_said_to_be_none(folder: Path, text: str) -> None:
    path = folder / "repeat-x2.json"
    path.write_text(text)
    assert "repeat-x2.json" in refusal(path)


def test_an_engine_that_is_not_the_described_one_is_refused(folder: Path) -> None:
    data = bytearray((folder / "repeat-x2.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "repeat-x2.onnx").write_bytes(bytes(data))
    with pytest.raises(EngineError, match="sha256"):
        read_engine(installed_engines()[0])


def test_an_engine_without_its_file_is_refused(folder: Path) -> None:
    (folder / "repeat-x2.onnx").unlink()
    with pytest.raises(EngineError, match=r"repeat-x2.onnx .*No such file"):
        read_engine(installed_engines()[0])


def find(folder: Path, **wanted: Any) -> Manifest:
    choice = {"tier": "repeat", "scale": 2, "degradation": "stream", "precision": "int8", "output": "phases"} | wanted
    return find_engine(**choice)


def test_the_engine_that_fits_is_found(folder: Path) -> None:
    assert find(folder).name == "repeat-x2"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"tier": "huge"}, ["huge", "repeat"]),  # what was asked for and what there is
        ({"scale": 4}, ["scale 4", "2"]),
        ({"degradation": "clean"}, ["clean", "pass --degradation stream"]),
        ({"precision": "float"}, ["float"]),
    ],
)
def test_no_engine_for_a_wish_says_what_there_is(folder: Path, wanted: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        find(folder, **wanted)
    assert all(word in str(caught.value) for word in words)


def test_an_empty_folder_is_said_to_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    with pytest.raises(ConfigError, match="none"):
        find(tmp_path)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_file_that_is_no_onnx_is_one_sentence(folder: Path, backend: str) -> None:
    import hashlib

    pytest.importorskip(backend)
    garbage = b"this is not a graph" * 10
    (folder / "repeat-x2.onnx").write_bytes(garbage)
    spoil(folder, sha256=hashlib.sha256(garbage).hexdigest())
    with pytest.raises(EngineError) as caught:
        open_engine(EngineChoice(2, "repeat", "stream", backend))
    assert "repeat-x2" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "choice",
    [{"scale": 5}, {"scale": 1}, {"scale": 0}, {"backend": "cuda"}, {"degradation": "rain"}],
    ids=str,
)
def test_a_choice_that_cannot_be_is_refused_at_once(choice: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        EngineChoice(**choice)
    assert str(next(iter(choice.values()))) in str(caught.value)
