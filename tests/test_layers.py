"""The tree keeps its shape: imports point one way."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FORBIDDEN = {
    "envs": {"agents", "evaluation", "train"},
    "agents": {"evaluation", "train"},
    "evaluation": {"train"},
}
FILES = [
    ROOT / "train.py",
    *(p for package in FORBIDDEN for p in sorted((ROOT / package).glob("*.py"))),
]


def imported(path: pathlib.Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    assert not imported(path) & FORBIDDEN.get(path.parent.name, set())


def test_the_check_sees_imports():
    assert {"envs", "agents", "numpy"} <= imported(ROOT / "evaluation" / "experiment.py")
