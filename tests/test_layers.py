"""The tree keeps its shape: imports point one way, and what is light stays light."""

import ast
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FORBIDDEN = {  # "" is the package that holds them all
    "envs": {"", "agents", "evaluation"},
    "agents": {"", "evaluation"},
}
PARTS = ("envs", "agents", "evaluation")
FILES = [
    ROOT / "train.py",
    *(p for package in PARTS for p in sorted((ROOT / package).rglob("*.py"))),
]
LIGHT = (
    "uncap.agents.settings",
    "uncap.agents.config",
    "uncap.evaluation.config",
    "uncap.evaluation.program",
)  # what the command line imports
SB3 = "agents/sb3.py"  # the one module that knows stable-baselines3's private attributes
PRIVATE = {
    "_last_obs",
    "_last_episode_starts",
    "_n_updates",
    "_current_progress_remaining",
    "_setup_learn",
    "_seeds",
    "_reset_seeds",
    "_options",
    "_reset_options",
}


def path_of(module: str) -> pathlib.Path:
    return ROOT / (module.replace(".", "/") + ".py")


def modules_of(nodes: Iterable[ast.AST]) -> set[str]:
    """The modules that import statements name."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def parts_of(path: pathlib.Path) -> set[str]:
    """The parts of Uncap that a file imports, inside functions too."""
    tree = ast.parse(path.read_text())
    names = [module.split(".") for module in modules_of(ast.walk(tree))]
    return {name[1] if name[1:] else "" for name in names if name[0] == "uncap"}


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from run_on_import(child)


def attributes_of(text: str) -> set[str]:
    """The names of attributes that a text reads, writes, or names in a string."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)  # for getattr
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    assert not parts_of(path) & FORBIDDEN.get(path.relative_to(ROOT).parts[0], set())


def test_the_check_sees_imports():
    assert {"envs", "agents"} <= parts_of(ROOT / "evaluation" / "transfer.py")
    assert "" in parts_of(ROOT / "evaluation" / "places.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_parts_are_imported_by_their_full_name(path):
    """A second copy of the tables would be imported by the name of a folder."""
    tree = ast.parse(path.read_text())
    assert not {module.split(".")[0] for module in modules_of(ast.walk(tree))} & set(PARTS)


@pytest.mark.parametrize("module", LIGHT)
def test_settings_import_the_standard_library_and_each_other(module):
    imported = modules_of(run_on_import(ast.parse(path_of(module).read_text())))
    assert "__future__" in imported  # the check sees imports
    heavy = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert heavy <= set(LIGHT)


@pytest.mark.parametrize("package", ["agents", "evaluation"])
def test_only_one_module_names_private_attributes_of_stable_baselines3(package):
    for path in sorted((ROOT / package).glob("*.py")):
        if path != ROOT / SB3:
            assert not attributes_of(path.read_text()) & PRIVATE, path


def test_that_module_names_all_of_them():
    assert attributes_of((ROOT / SB3).read_text()) >= PRIVATE
    assert attributes_of("getattr(model, '_last_obs'); model._seeds = 1") >= {"_last_obs", "_seeds"}


def map_of(folder: str) -> set[str]:
    """The modules that docs/design.md names in its part on a folder."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    part = re.search(rf"^`{folder}/`(.*?)(?=^`\w[\w/]*/`|^## )", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`(\w+)`", part.group(1)))


@pytest.mark.parametrize("folder", ["envs", "envs/device", "agents", "agents/device", "evaluation"])
def test_the_map_names_every_module_and_no_other(folder):
    modules = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert map_of(folder) == modules
