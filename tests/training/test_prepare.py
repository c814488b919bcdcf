"""Folders of pictures and videos become shards that training reads; the useless is dropped and counted."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import drawing

pytest.importorskip("torch")

from training import prepare
from training.codecs import coded
from training.data import load_pictures


def test_pictures_and_videos_become_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    sharp = [drawing(i, 160) for i in range(3)]
    for i, picture in enumerate(sharp):
        cv2.imwrite(str(source / f"{i}.png"), picture)
    cv2.imwrite(str(source / "again.jpg"), sharp[0])
    cv2.imwrite(str(source / "small.png"), drawing(7, 64))
    cv2.imwrite(str(source / "soft.png"), cv2.GaussianBlur(drawing(8, 160), (0, 0), 6))
    (source / "broken.png").write_bytes(b"no picture")
    scenes = np.stack([drawing(20, 160)] * 4 + [drawing(21, 160) // 4] * 4)
    (source / "clip.mkv").write_bytes(coded(scenes, "libx264", 12))
    (source / "broken.mkv").write_bytes(b"no video")

    words = [str(source), "--out", str(out), "--smallest", "128", "--softest", "40", "--licence", "CC0"]
    assert prepare.main(words) == 0
    said = capsys.readouterr().out
    assert "1 blurred, 1 duplicate, 1 too small, 2 unreadable" in said
    assert "5 pictures in" in said  # three pictures, two scenes
    pictures = load_pictures(out, smallest=100)
    assert len(pictures) == 5
    assert all(picture.shape == (160, 160, 3) for picture in pictures)
    manifest = (out / "MANIFEST.csv").read_text().splitlines()
    assert len(manifest) == 6
    assert all(",CC0," in line for line in manifest[1:])


def test_every_few_seconds_of_a_long_scene(tmp_path: Path) -> None:
    clip = np.stack([np.roll(drawing(3, 128), 3 * i, axis=1) for i in range(30)])  # one second
    (tmp_path / "clip.mkv").write_bytes(coded(clip, "libx264", 12))
    assert len(list(prepare.scene_frames(tmp_path / "clip.mkv", 10))) == 1
    assert len(list(prepare.scene_frames(tmp_path / "clip.mkv", 0.3))) == 4


def test_the_sharpest_frame_of_a_scene_is_taken(tmp_path: Path) -> None:
    sharp = drawing(3, 128)
    soft = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2), np.uint8)
    (tmp_path / "clip.mkv").write_bytes(coded(np.stack([soft, soft, sharp, soft]), "libx264", 5))
    (found,) = prepare.scene_frames(tmp_path / "clip.mkv", 10)
    assert prepare.sharpness(found.rgb) > 2 * prepare.sharpness(soft)


def test_nothing_to_train_on_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "nothing was left" in capsys.readouterr().err
    assert prepare.main([str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 1
    assert "is not there" in capsys.readouterr().err
