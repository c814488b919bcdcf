"""docker/: what can be said of it without an engine. `make test-docker` runs the steps of the image for CPUs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import REPOSITORY
from docker_run_lines import Runner, stages

from rtsr.backends import BACKENDS

DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
TARGETS = ("cpu", "cuda", "tensorrt", "train")


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_checked_and_never_root(target: str) -> None:
    last = dict(stages(DOCKERFILE.read_text())[target][1])
    uid, gid = last["USER"].split(":")
    assert int(uid) > 0 and int(gid) > 0
    command = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    assert command[1] == "/opt/rtsr/healthcheck.py"
    assert command[2] in BACKENDS


@pytest.mark.parametrize("target", TARGETS)
def test_no_run_line_leaves_the_clean_folder(target: str) -> None:
    """An absolute path would be one of the machine that runs the lines."""
    for keyword, rest in stages(DOCKERFILE.read_text())[target][1]:
        if keyword == "RUN":
            line = re.sub(r"--mount=\S+", "", rest)
            assert not re.search(r"(^|[\s=\"'])/", line), line


def test_the_steps_run_and_paths_stay_below_the_root(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "ARG V=1\n"
        "FROM anything:${V} AS first\n"
        "ENV PLACE=/opt/place PATH=/opt/bin:$PATH\n"
        "WORKDIR /opt/place\n"
        "# a comment\n"
        "RUN echo made > file \\\n    && echo two >> file\n"
        "FROM first AS second\n"
        "RUN --mount=type=bind,from=first,source=/opt/place,target=/mnt/in cat ../../mnt/in/file > copy\n"
        'RUN echo "$PLACE $PATH" > names\n'
        "USER 1:1\n"
    )
    root = tmp_path / "roots"
    root.mkdir()
    stage = Runner(dockerfile, root, Path(sys.executable)).run("second")
    assert (root / "second/opt/place/copy").read_text() == "made\ntwo\n"
    place, path = (root / "second/opt/place/names").read_text().split()
    assert place == f"{root}/second/opt/place"
    assert path.split(":")[0] == f"{root}/second/opt/bin"
    assert stage.last["USER"] == "1:1"
    dockerfile.write_text("FROM anything AS bad\nRUN rm -r /home\n")
    with pytest.raises(SystemExit, match="/home"):
        Runner(dockerfile, root, Path(sys.executable)).run("bad")


def test_the_requirements_are_those_of_the_package_without_windows(tmp_path: Path) -> None:
    for file in (REPOSITORY / "pyproject.toml", REPOSITORY / "docker" / "requirements.py"):
        shutil.copy(file, tmp_path)
    command = [sys.executable, tmp_path / "requirements.py", "live"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["live"]]
    assert [line.replace("-headless", "") for line in lines] == wanted
    assert any(line.startswith("opencv-python-headless") for line in lines)


def test_the_health_check_passes_here() -> None:
    pytest.importorskip("openvino")
    script = REPOSITORY / "docker" / "healthcheck.py"
    done = subprocess.run([sys.executable, script, "openvino"], capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "healthy"), done.stderr
    done = subprocess.run([sys.executable, script, "no such"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode != 0


def test_compose_builds_targets_that_exist() -> None:
    text = (REPOSITORY / "docker" / "compose.yaml").read_text()
    assert set(re.findall(r"target: (\w+)", text)) <= set(TARGETS)
    assert "driver: nvidia" in text and "capabilities: [gpu" in text
    published = re.findall(r'ports: \["([^"]+)"\]', text)
    assert published and all(port.startswith("127.0.0.1:") for port in published)
