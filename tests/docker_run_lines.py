"""`python tests/docker_run_lines.py TARGET`: run a Dockerfile's steps in a clean folder, where no Docker engine is.

Stages, COPY, ENV, WORKDIR and `RUN --mount=type=bind,from=` do what they say below a temporary folder that stands for
`/`; then the health check and the entry point's `--version` run. The base image is this machine with a Python of the
right version, so what Debian's image holds or lacks is not tested. RUN lines must not name absolute paths, COPY takes
only what .dockerignore lets through, and the environment holds what the Dockerfile sets, and pip's own settings.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

REPOSITORY = Path(__file__).resolve().parent.parent
_PASSED_ON = re.compile("PIP_.*|.*_proxy|.*_PROXY|.*(CERT|SSL|CA_BUNDLE).*")  # how pip reaches its index
_MOUNT = re.compile(r"--mount=type=bind,from=(\S+?),source=(\S+?),target=(\S+)\s+")
_NOTHING_TO_RUN = {"ENTRYPOINT", "CMD", "HEALTHCHECK", "USER", "EXPOSE", "LABEL", "STOPSIGNAL"}


@dataclass
class Stage:
    """A stage that has been run: its root folder and what its instructions left."""

    root: Path
    workdir: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))
    env: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)  # of the instructions of _NOTHING_TO_RUN

    def at(self, path: str) -> Path:
        """Where a path of the image lies."""
        return self.root / (self.workdir / path).relative_to("/")

    def environment(self) -> dict[str, str]:
        """ENV, with the image's absolute paths below the root, and what the base image has on its PATH behind them."""
        passed = {key: value for key, value in os.environ.items() if _PASSED_ON.fullmatch(key)}
        rooted = {key: re.sub("(^|:)/", rf"\g<1>{self.root}/", value) for key, value in self.env.items()}
        path = [part for part in rooted.get("PATH", "").split(":") if part]
        return passed | rooted | {"PATH": ":".join([*path, str(self.root / "base"), "/usr/bin", "/bin"])}


def instructions(text: str) -> list[tuple[str, str]]:
    """(KEYWORD, rest) in order, with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(keyword.upper(), rest.strip()) for keyword, _, rest in found]


def stages(text: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Each stage by name: what it begins from, and its instructions."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    current: list[tuple[str, str]] | None = None
    for keyword, rest in instructions(text):
        if keyword == "FROM":
            image, _, name = rest.partition(" AS ")
            current = []
            found[name or image] = (image, current)
        elif current is not None:  # else an ARG for the base image's tag
            current.append((keyword, rest))
    return found


class Runner:
    """Runs stages, each from the base image on, in a folder of its own: a virtual environment knows its own path."""

    def __init__(self, dockerfile: Path, folder: Path, python: Path):
        self.stages = stages(dockerfile.read_text())
        self._folder, self._python = folder, python
        self._allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().split() if line[0] == "!"]

    def run(self, name: str) -> Stage:
        stage = Stage(self._folder / name)
        for folder in ("base", "tmp"):
            (stage.root / folder).mkdir(parents=True)
        (stage.root / "base" / "python").symlink_to(self._python)
        for keyword, rest in self._steps(name):
            print(f"[{name}] {keyword} {rest}", flush=True)
            self._step(stage, keyword, rest)
        return stage

    def _steps(self, name: str) -> list[tuple[str, str]]:
        image, steps = self.stages[name]
        return (self._steps(image) if image in self.stages else []) + steps

    def _step(self, stage: Stage, keyword: str, rest: str) -> None:
        match keyword:
            case "WORKDIR":
                stage.workdir = stage.workdir / rest
                stage.at(".").mkdir(parents=True, exist_ok=True)
            case "ENV" | "ARG":
                for word in shlex.split(rest):
                    key, _, value = word.partition("=")
                    stage.env[key] = re.sub(r"\$(\w+)", lambda m: stage.env.get(m[1], ""), value)
            case "COPY":
                self._copy(stage, rest)
            case "RUN":
                self._execute(stage, rest)
            case _ if keyword in _NOTHING_TO_RUN:
                stage.last[keyword] = rest
            case _:
                raise SystemExit(f"{keyword} is not known here: {rest}")

    def _copy(self, stage: Stage, rest: str) -> None:
        *sources, to = rest.split()
        for source in sources:
            if not any(source == name or source.startswith(f"{name}/") for name in self._allowed):
                raise SystemExit(f".dockerignore keeps {source} out of the image's context")
            found, target = REPOSITORY / source, stage.at(to)
            if found.is_dir():
                shutil.copytree(found, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (target if to.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
                shutil.copy(found, target)

    def _execute(self, stage: Stage, rest: str) -> None:
        mounted = []
        while mount := _MOUNT.match(rest):
            rest = rest[mount.end() :]
            shutil.copytree(self.run(mount[1]).at(mount[2]), stage.at(mount[3]))
            mounted.append(stage.at(mount[3]))
        if absolute := [word for word in shlex.split(rest) if word.startswith("/")]:
            raise SystemExit(f"RUN names the absolute path {absolute[0]}, which would not stay in the clean folder")
        subprocess.run(["/bin/sh", "-ec", rest], cwd=stage.at("."), env=stage.environment(), check=True)
        for folder in mounted:
            shutil.rmtree(folder)


def execute(stage: Stage, command: list[str]) -> None:
    """Run a command in exec form as the image would."""
    rooted = [f"{stage.root}{word}" if word.startswith("/") else word for word in command]
    print("+", *command, flush=True)
    found = shutil.which(rooted[0], path=stage.environment()["PATH"])
    subprocess.run([found or rooted[0], *rooted[1:]], cwd=stage.at("."), env=stage.environment(), check=True)


def main(target: str, python: str = sys.executable) -> None:
    with tempfile.TemporaryDirectory(prefix="rtsr-image-") as folder:
        stage = Runner(REPOSITORY / "docker/Dockerfile", Path(folder), Path(python).resolve()).run(target)
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage.last.get("USER", "")):
            raise SystemExit(f"{target} would run as root")
        execute(stage, json.loads(stage.last["HEALTHCHECK"].partition("CMD ")[2]))
        execute(stage, [*json.loads(stage.last["ENTRYPOINT"]), "--version"])
        size = sum(file.stat().st_size for file in Path(folder, target).rglob("*") if file.is_file())
        print(f"{target}: every step ran; {size / 1e6:.0f} MB beside the base image")


if __name__ == "__main__":
    main(*sys.argv[1:])
