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
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from uncap.evaluation.same import compare  # noqa: E402 - of this checkout, whichever is installed

SMALL = "--quick --no-videos --seed 0"
JOBS = {
    "quick": "--quick --no-videos --seed 0",
    "scratch": f"{SMALL} --warm-start none --env-steps 3200 --transfer-steps 0",
    "sac": f"{SMALL} --algorithm sac --task-set unrelated --env-steps 9600 --transfer-steps 0",
    "alone": f"{SMALL} --alone --task-set unrelated --warm-start none --env-steps 2560",
}


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


if __name__ == "__main__":
    main()
