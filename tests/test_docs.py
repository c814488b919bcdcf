"""The documents say what is there: links lead somewhere, commands parse, promises name tests that exist."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import typer
import typer.core
from conftest import REPOSITORY

from rtsr.cli import app

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "docker/*.md", "engines/*.md", "training/*.md", "tests/**/*.md")
    for page in REPOSITORY.glob(pattern)
)
_LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
CLICK = sys.modules[typer.BadParameter.__module__]  # click's exceptions, or those of the copy that newer typers bring
_OF_SHELL = re.compile(r"\s(\||>|2>|&&|;|&)(\s|$)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(text_of(page)):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def code_lines(text: str) -> Iterator[str]:
    """Lines of fenced and indented code, continued lines joined."""
    fenced = False
    whole = ""
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        if not (fenced or line.startswith("    ")):
            continue
        whole += line.strip()
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        yield whole
        whole = ""


def commands(page: Path, program: str) -> Iterator[tuple[list[str], bool]]:
    """(arguments, whether complete) of every mention of a program: lines of code, and `code` within sentences."""
    text = text_of(page)
    found = [(line, True) for line in code_lines(text)]
    found += [(code, False) for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    for line, complete in found:
        line = re.sub(r"^(\$ |[A-Z_]+=\S+ )+", "", re.sub(r"(^|\s)#.*", "", line)).strip()
        if line == program or line.startswith(program + " "):
            yield shlex.split(_OF_SHELL.split(line)[0].removesuffix("...").strip())[len(program.split()) :], complete


@cache
def command_line() -> typer.core.TyperGroup:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group


def complaint(arguments: list[str], complete: bool) -> str | None:
    """What the command line would say to these arguments; they are read, and nothing is run."""
    group = command_line()
    if not arguments or arguments[0] in ("--help", "--version"):
        return None
    name, rest = arguments[0], arguments[1:]
    if name.startswith("--"):
        known = {option for parameter in group.params for option in (*parameter.opts, *parameter.secondary_opts)}
        return None if name in known else f"rtsr has no option {name}"
    command = group.commands.get(name)
    if command is None:
        return f"rtsr has no command {name}"
    if "--help" in rest or (not rest and not complete):
        return None
    if name == "plan":  # takes all of upscale's
        command = group.commands["upscale"]
        rest = rest if {"-o", "--output"} & {*rest} else [*rest, "-o", "out.mkv"]
    try:
        command.make_context(name, list(rest))
    except CLICK.MissingParameter as error:
        return str(error) if complete else None
    except CLICK.ClickException as error:
        if not complete and isinstance(error, CLICK.BadOptionUsage):  # an option named without its value
            return None
        return error.format_message()
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_is_one(page: Path) -> None:
    wrong = [(words, why) for words, complete in commands(page, "rtsr") if (why := complaint(words, complete))]
    assert wrong == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("upscale a.mp4 -o b.mp4 --modle fast", "modle"),
        ("upscail a.mp4", "upscail"),
        ("upscale a.mp4", "output"),
        ("upscale a.mp4 -o b.mp4 --backend gpu", "gpu"),
        ("plan a.mp4 --crf high", "crf"),
    ],
)
def test_a_wrong_command_would_be_found(line: str, word: str) -> None:
    assert word in (complaint(line.split(), True) or "")


def test_commands_are_found_in_the_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `rtsr live`:\n\n    rtsr upscale a \\\n      -o b  # why\n\n```sh\nX=1 rtsr verify a b | less\n```\n"
    )
    found = sorted(commands(page, "rtsr"))
    assert found == [(["live"], False), (["upscale", "a", "-o", "b"], True), (["verify", "a", "b"], True)]


@cache
def options_of_training() -> set[str]:
    """Every option that a program of training/ or of tests/ defines."""
    found = set()
    for file in [*(REPOSITORY / "training").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py"), *bench_files()]:
        found |= set(re.findall(r"[\"'](--?[a-z][a-z0-9-]*)[\"']", file.read_text()))
    return found


def bench_files() -> list[Path]:
    return list((REPOSITORY / "rtsr").rglob("*.py"))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_is_run_exists_and_has_the_options(page: Path) -> None:
    for arguments, _ in commands(page, "python -m"):
        module, rest = arguments[0], arguments[1:]
        if module in ("pip", "pytest", "venv", "http.server"):
            continue
        path = Path(*module.split("."))
        places = [REPOSITORY / path, REPOSITORY / "tests" / path]
        assert any(p.with_suffix(".py").exists() or (p / "__main__.py").exists() for p in places), module
        unknown = {word.partition("=")[0] for word in rest if re.match("--[a-z]", word)} - options_of_training()
        assert unknown - {"--help"} == set(), (module, unknown)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for arguments, _ in commands(page, "make"):
        assert {word for word in arguments if "=" not in word} <= targets


@cache
def names_in(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def proofs() -> list[str]:
    pages = (REPOSITORY / "docs" / name for name in ("MEDIA.md", "FAQ.md", "SAFETY.md"))
    named = [found for page in pages for found in re.findall(r"`([\w/]+\.py::\w+|torture: [^`]+)`", text_of(page))]
    return sorted(set(named))


@pytest.mark.parametrize("proof", proofs())
def test_every_promise_names_a_test_that_exists(proof: str) -> None:
    if proof.startswith("torture: "):
        from torture.corpus import ENTRIES

        assert any(fnmatch(entry.name, proof.removeprefix("torture: ")) for entry in ENTRIES)
        return
    file, _, test = proof.partition("::")
    assert test in names_in(REPOSITORY / "tests" / file)


def test_every_promise_has_a_proof() -> None:
    table = text_of(REPOSITORY / "docs" / "MEDIA.md").partition("## Guarantees")[2].partition("##")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    assert len(rows) >= 16
    assert [row for row in rows if "::" not in row.split("|")[3] and "torture:" not in row.split("|")[3]] == []


def test_the_file_tree_names_what_is_there() -> None:
    tree = text_of(REPOSITORY / "README.md").partition("## Files")[2].partition("```\n")[2].partition("```")[0]
    names = re.findall(r"[\w/]+\.(?:py|md|sh|yaml)\b|Dockerfile", tree)
    there = {file.name for folder in REPOSITORY.iterdir() if folder.name[0] != "." for file in folder.rglob("*")}
    assert len(names) > 20
    assert [name for name in names if Path(name).name not in there] == []


def test_every_page_of_docs_is_in_the_index() -> None:
    index = text_of(REPOSITORY / "docs" / "README.md")
    pages = {page.name for page in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"({page})" not in index] == []


def examples() -> list[str]:
    """What the help texts show: `rtsr ...`, of every command and of the program."""
    group = command_line()
    helps = [group.epilog or "", *(command.help or "" for command in group.commands.values())]
    return [found for text in helps for found in re.findall(r"`(?:[A-Z_]+=\S+ )?rtsr ([^`]+)`", text)]


@pytest.mark.parametrize("example", examples())
def test_every_example_of_the_help_is_a_command(example: str) -> None:
    assert complaint(shlex.split(example), complete=len(example.split()) > 1) is None


def test_every_command_teaches_by_example() -> None:
    without = [name for name, command in command_line().commands.items() if f"rtsr {name}" not in (command.help or "")]
    assert without == []


@pytest.mark.parametrize(
    ("line", "word", "completed"), [("rtsr ups", 1, "upscale"), ("rtsr upscale --backe", 2, "--backend")]
)
def test_the_shell_can_complete(line: str, word: int, completed: str) -> None:
    asked = {"_RTSR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(word)}
    program = "import sys; sys.argv[0] = 'rtsr'; from rtsr.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **asked})
    assert completed in done.stdout.split()
