"""The wheel: what it holds, and that it works in an empty folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PARTS = ("envs", "agents", "evaluation")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """The wheel of this checkout, built from a copy of what belongs to it."""
    pytest.importorskip("setuptools", minversion="77")  # as pyproject.toml asks
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "uncap", *PARTS):
        (source / name).symlink_to(ROOT / name)
    made = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    words += ["--wheel-dir", made, source]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (found,) = made.glob("uncap-*.whl")
    return found


def test_it_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {
        f"uncap/{path.relative_to(ROOT)}" for part in PARTS for path in (ROOT / part).rglob("*.py")
    }
    policies = {
        f"uncap/pretrained/{folder}/{file}"
        for folder in ("first", "mt16")
        for file in ("config.json", "checkpoint/tensors.safetensors")
    }
    own = {"uncap/__init__.py", "uncap/__main__.py", "uncap/py.typed"}
    assert names == modules | own | policies


def test_it_works_in_an_empty_folder(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    code = "import uncap, gymnasium; print(uncap.__file__, gymnasium.spec('Uncap/Jar-v0').id)"
    acts = (
        "import uncap, numpy; print(uncap.load('pretrained').predict(numpy.zeros(36), task='jar'))"
    )
    said = []
    # no environment is made: compiling for a new place takes half a minute
    for words in (
        ["-c", code],
        ["-c", acts],
        ["-m", "uncap", "--help"],
        ["-m", "uncap", "nothing"],
    ):
        done = subprocess.run(
            [sys.executable, "-P", *words],
            cwd=tmp_path / "empty",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        said.append(done.stdout + done.stderr)
    imported, acted, listed, mistaken = said
    assert acted.startswith("(array([")
    assert imported.startswith(str(tmp_path / "site/uncap/__init__.py"))
    assert imported.endswith("Uncap/Jar-v0\n")
    assert listed.startswith("usage: uncap [COMMAND]")
    assert mistaken.startswith("error: ") and mistaken.count("\n") == 1
    assert list((tmp_path / "empty").iterdir()) == []


STUB = """#!/bin/sh
echo "$*" >> {log}
case "$*" in *"config list") echo "{settings}";; esac
"""


@pytest.mark.parametrize(
    ("settings", "words", "comes_from_the_index"),
    [
        ("", [], True),
        ("global.timeout='9'", [], True),
        ("", ["CUDA=1"], False),
        ("global.index-url='https://mirror'", [], False),
        (":env:.find-links='/wheels'", [], False),
    ],
)
def test_make_takes_the_cpu_build_of_torch(settings, words, comes_from_the_index, tmp_path):
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    stub, log = tmp_path / "stub", tmp_path / "log"
    stub.write_text(STUB.format(log=log, settings=settings))
    stub.chmod(0o755)
    command = [make, ".venv/installed", f"PYTHON={stub}", f"RUN={stub}", *words]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    installs = [line for line in log.read_text().splitlines() if "pip install" in line]
    assert len(installs) == 1
    assert ("https://download.pytorch.org/whl/cpu" in installs[0]) == comes_from_the_index
