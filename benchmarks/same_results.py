"""Run small jobs in two checkouts and compare what they learned, value for value.

    python benchmarks/same_results.py HEAD~1
    python benchmarks/same_results.py ../other-checkout --jobs quick sac

For changes of layout, which must not change results. The other checkout is a folder or a git
revision; both run with the Python that runs this script, one after the other. Compared are
results.json, episodes.csv and metrics.csv (without seconds, speeds and the machine), and every
tensor of every checkpoint, whatever its name and file. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import numpy as np
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = "--quick --no-videos --seed 0"
JOBS = {
    "quick": "--quick --no-videos --seed 0",
    "scratch": f"{SMALL} --warm-start none --env-steps 3200 --transfer-steps 0",
    "sac": f"{SMALL} --algorithm sac --task-set unrelated --env-steps 9600 --transfer-steps 0",
    "alone": f"{SMALL} --alone --task-set unrelated --warm-start none --env-steps 2560",
}
IGNORED = ("seconds", "machine", "per_second", "versions")  # parts of keys that may differ


def main() -> None:
    """Compare this checkout with another one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", help="folder of a checkout, or a git revision of this one")
    parser.add_argument("--jobs", nargs="*", choices=list(JOBS), default=list(JOBS))
    options = parser.parse_args()
    different = 0
    with checkout(options.other) as other, tempfile.TemporaryDirectory() as temporary:
        for name in options.jobs:
            folders = []
            for label, tree in (("here", ROOT), ("there", other)):
                folder = pathlib.Path(temporary) / f"{name}-{label}"
                train(tree, JOBS[name], folder)
                folders.append(folder)
            differences = list(compare(*folders))
            different += bool(differences)
            print(f"{name}: {'DIFFERENT' if differences else 'same'}", flush=True)
            for line in differences[:20]:
                print(f"  {line}")
    sys.exit(1 if different else 0)


@contextlib.contextmanager
def checkout(name: str) -> Iterator[pathlib.Path]:
    """The folder of a checkout: as given, or a temporary one of a git revision."""
    if pathlib.Path(name).is_dir():
        yield pathlib.Path(name).resolve()
        return
    folder = tempfile.mkdtemp()
    git = ["git", "-C", str(ROOT), "worktree"]
    try:
        subprocess.run([*git, "add", "--quiet", "--detach", folder, name], check=True)
        yield pathlib.Path(folder)
    finally:
        subprocess.run([*git, "remove", "--force", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def train(tree: pathlib.Path, flags: str, out: pathlib.Path) -> None:
    """Run one job in a checkout.

    Raises:
        SystemExit: it failed.
    """
    command = [sys.executable, str(tree / "train.py"), "train", *flags.split(), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree}: {' '.join(command)} failed: {done.stderr}")


def compare(a: pathlib.Path, b: pathlib.Path) -> Iterator[str]:
    """A line for every difference between two run folders."""
    yield from json_differences(results(a), results(b), "results.json")
    for name in ("episodes.csv", "metrics.csv"):
        ours, theirs = tables(a, name), tables(b, name)
        if ours.keys() != theirs.keys():
            yield f"{name}: {sorted(ours)} and {sorted(theirs)}"
        for place in ours.keys() & theirs.keys():
            if ours[place] != theirs[place]:
                yield f"{place}: {first_difference(ours[place], theirs[place])}"
    ours, theirs = tensors(a), tensors(b)
    if not ours:
        yield "no checkpoint"
    if ours != theirs:
        missing = sum((theirs - ours).values())
        yield f"checkpoints: {missing} of {sum(theirs.values())} tensors are not the same"


def results(run: pathlib.Path) -> dict:
    """Every results.json under a run folder, by its place."""
    files = sorted(run.rglob("results.json"))
    return {str(file.relative_to(run)): json.loads(file.read_text()) for file in files}


def tables(run: pathlib.Path, name: str) -> dict[str, list[dict[str, str]]]:
    """Every table of a name under a run folder, by its place, without seconds."""
    found = {}
    for file in sorted(run.rglob(name)):
        rows = csv.DictReader(file.read_text().splitlines())
        kept = [{k: v for k, v in row.items() if not ignored(k)} for row in rows]
        found[str(file.relative_to(run))] = kept
    return found


def tensors(run: pathlib.Path) -> Counter:
    """Type, shape and bytes of every tensor under a run folder, whatever its name."""
    found: Counter = Counter()
    for file in sorted(run.rglob("*.safetensors")):
        for value in load_file(file).values():
            found[str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()] += 1
    return found


def ignored(key: str) -> bool:
    """Whether values of a key may differ between two runs."""
    return any(part in key for part in IGNORED)


def json_differences(a: object, b: object, place: str) -> Iterator[str]:
    """A line for every value in which two trees differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b:
                yield f"{place}: {key} is only in one of them"
            elif not ignored(key):
                yield from json_differences(a[key], b[key], f"{place}/{key}")
    elif a != b:
        yield f"{place}: {a} and {b}"


def first_difference(a: list[dict[str, str]], b: list[dict[str, str]]) -> str:
    """Where two tables begin to differ."""
    for number, (row, other) in enumerate(zip(a, b, strict=False), start=1):
        if row != other:
            keys = [key for key in row.keys() | other.keys() if row.get(key) != other.get(key)]
            values = {key: (row.get(key), other.get(key)) for key in sorted(keys)[:4]}
            return f"row {number}: {values}"
    return f"{len(a)} and {len(b)} rows"


if __name__ == "__main__":
    main()
