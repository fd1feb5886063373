"""The documentation is true: its code runs, its commands are commands, its links lead somewhere."""

import io
import pathlib
import re
import shlex

import pytest
import stored
from rich.console import Console

from uncap.envs.observations import layout
from uncap.evaluation import cli

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
)
ELSEWHERE = "docs/policies.md"  # in test_foreign.py, with the files that it names
SPAN = re.compile(r"`((?:python train\.py|uncap)(?: [^`]*)?)`")
LINE = re.compile(r"^(?:python train\.py|uncap)(?: .*)?$", re.MULTILINE)
YOURS = ("honey-jar", "mine", "mymodule:policy")  # names that a reader gives something of their own
MADE = ("mine", "theirs", "expert", "runs/mine", "RUN")  # run folders, or results


def code_blocks() -> list:
    """The Python code of every page."""
    found = []
    for page in PAGES:
        parts = (ROOT / page).read_text(encoding="utf-8").split("```python")[1:]
        if page != ELSEWHERE:
            found += [
                pytest.param(page, part.split("```")[0], id=f"{page}-{number}")
                for number, part in enumerate(parts)
            ]
    return found


def documented(page: str) -> list[str]:
    """The command lines of a page, without comments."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [*SPAN.findall(text), *LINE.findall(text)]
    return [re.sub(r"\s+#.*", "", line.replace("...", "")).strip() for line in lines]


COMMANDS = sorted({line for page in PAGES for line in documented(page)})


@pytest.mark.parametrize(("page", "code"), code_blocks())
def test_code_of_the_documentation_runs(page, code, monkeypatch, table):
    monkeypatch.chdir(ROOT)
    exec(compile(code, page, "exec"), {"__name__": "example"})


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> pathlib.Path:
    """A folder with what the commands name."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    stored.make_run(folder / "runs/mine")
    for name in MADE:
        if not (folder / name).exists():
            (folder / name).symlink_to(folder / "runs/mine")
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_a_documented_command_is_one(line, desk, monkeypatch):
    monkeypatch.chdir(desk)
    asked = []
    monkeypatch.setattr(cli, "load", lambda where: lambda settings, console: asked.append(settings))
    words = shlex.split(line)[1 if line.startswith("uncap") else 2 :]
    if {"honey-jar", "mymodule"} & set(words) or words[-1:] == ["mine"] or "--body mine" in line:
        words = [word for word in words if word not in YOURS]
        assert not words or words[0] in cli.COMMANDS or words[0].startswith("-")
        return
    try:
        cli.run(words, Console(file=io.StringIO(), markup=False))
    except SystemExit as end:  # help, or a completion
        assert not end.code
        return
    assert asked


def test_the_commands_were_found():
    names = {shlex.split(line)[-1 if line == "uncap" else 0] for line in COMMANDS}
    assert names == {"uncap", "python"}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "#")):
            path, _, _ = target.partition("#")
            assert ((ROOT / page).parent / path).exists(), target


def test_the_columns_of_the_state_are_those_of_the_table():
    text = (ROOT / "docs/environment.md").read_text(encoding="utf-8")
    first = 0
    for part in layout("full").parts:
        last = first + part.size - 1
        columns = str(first) if part.size == 1 else f"{first} to {last}"
        assert f"| {columns} | `{part.name}` | {part.words} | {part.factor:.4g} |" in text
        first += part.size


def test_the_first_page_is_short():
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") <= 150


@pytest.mark.parametrize("page", PAGES)
def test_scripts_that_are_named_are_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"(?:benchmarks|tests)/[\w/]+\.(?:py|toml)", text):
        assert (ROOT / name).exists(), name
