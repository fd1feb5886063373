"""Send the same controls to every closure in two checkouts, and compare the states bit for bit.

    python benchmarks/same_physics.py HEAD~1

For changes that must leave the physics as they are. The other checkout is a folder or a git
revision. Its experts, with noise on their actions, make the controls: lids are opened, missed and
dropped. Compared are MuJoCo's states, progress and release after every control step, of the rows
that both checkouts have. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from same_results import ROOT, checkout

NOISES = (0.0, 0.3, 0.8)  # standard deviations of the actions' noise
EACH = 4  # episodes of a row and noise
STEPS = 110

# Run in either checkout: record, or replay where the file of controls is there
_DRIVE = """
import pathlib, sys
import numpy as np
from uncap.envs import CLOSURES
from uncap.envs.batch import ClosureBatch
from uncap.envs.experts import expert_action

controls, out, steps, each, *noises = sys.argv[1:]
noises = np.array(noises, float)
replayed = dict(np.load(controls)) if pathlib.Path(controls).exists() else {}
sent, found = {}, {}
further = ("right-ccw-up", "down-screwcw-left", "pressleft-cw", "left-ccw-swing", "ccw-presscw-up")
composed = [name for words in further if (name := f"composed-{words}-0") in CLOSURES]
for name in [*CLOSURES, *composed]:
    n = int(each) * len(noises)
    ids = np.arange(n)
    batch = ClosureBatch((name,), n, threads=1)
    batch.reset(ids, np.zeros(n, int), [np.random.default_rng(i) for i in ids])
    rng = np.random.default_rng(1)
    noise = np.repeat(noises, int(each))[:, None]
    actions, states = [], []
    for step in range(int(steps)):
        if name in replayed:
            action = replayed[name][step]
        else:
            action = expert_action(batch.measure()) + noise * rng.normal(size=(n, 5))
            action = np.clip(action, -1, 1)
        batch.step(action)
        actions.append(action)
        parts = batch.sim.state, batch.progress()[:, None], batch.released[:, None]
        states.append(np.concatenate(parts, 1))
    sent[name], found[name] = np.array(actions), np.array(states)
if not replayed:
    np.savez(controls, **sent)
np.savez(out, **found)
"""


def main() -> None:
    """Compare this checkout with another one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", help="folder of a checkout, or a git revision of this one")
    options = parser.parse_args()
    different = 0
    with checkout(options.other) as other, tempfile.TemporaryDirectory() as temporary:
        controls = pathlib.Path(temporary) / "controls.npz"
        there = drive(other, controls, pathlib.Path(temporary) / "there.npz")
        here = drive(ROOT, controls, pathlib.Path(temporary) / "here.npz")
        for name in [name for name in there if name in here]:
            same = np.array_equal(there[name], here[name])
            different += not same
            step = "" if same else f", from control step {_first_difference(there, here, name)} on"
            print(f"{name}: {'same' if same else 'DIFFERENT'}{step}", flush=True)
    sys.exit(1 if different else 0)


def drive(tree: pathlib.Path, controls: pathlib.Path, out: pathlib.Path) -> dict[str, np.ndarray]:
    """States (steps, n, ...) by row, of one checkout.

    Raises:
        SystemExit: it failed.
    """
    numbers = [str(number) for number in (STEPS, EACH, *NOISES)]
    command = [sys.executable, "-c", _DRIVE, str(controls), str(out), *numbers]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree}: {done.stderr}")
    return dict(np.load(out))


def _first_difference(
    there: dict[str, np.ndarray], here: dict[str, np.ndarray], name: str
) -> int | str:
    """The control step from which on the states of a row differ."""
    if there[name].shape != here[name].shape:
        return "the first (other sizes)"
    return int(np.flatnonzero((there[name] != here[name]).any((1, 2)))[0])


if __name__ == "__main__":
    main()
