"""Every row on the engine warp: does it go as on the engine cpu, and does its expert open it?

    UNCAP_WARP_DEVICE=cpu python benchmarks/warp_parity.py
    UNCAP_WARP_DEVICE=cpu python benchmarks/warp_parity.py --audit

A line per row: success of the expert on warp and, with the same actions, on cpu; the median over
episodes of how far lids are apart (m or rad, the worst joint) in the last control step before
they come off, and the most; steps where touched, stage or released differ between the engines;
worlds without room for their contacts (of the whole batch), and simulations put back. Rows are all
of the table and a sample of the composed ones; `--together 26` has them in two batches, which is
faster on a GPU. What is done is kept in `--out`: the same command of the same code goes on. Exit
status 1 if an expert opens less than 95 % and less than on cpu, or the median is above `--most`.

`--audit` searches the rows for cheats on warp instead, as `train.py audit` does: plans that were
tried; successes without a finger on the lid, of which there must be none (exit status 1); honest
ones; and the most progress that no finger made.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from one_line import above_zero, in_one_line  # noqa: E402

from uncap.agents.files import read_json, write_json  # noqa: E402
from uncap.envs import CLOSURES, ClosureVectorEnv, grammar  # noqa: E402
from uncap.envs.composed import row_name  # noqa: E402
from uncap.envs.experts import expert_action  # noqa: E402
from uncap.envs.mechanisms import MECHANISMS  # noqa: E402
from uncap.envs.tables import lookup  # noqa: E402
from uncap.evaluation.audit import search  # noqa: E402

LEAST_SUCCESS = 0.95
COMPOSED = 12  # rows, of mechanisms far apart in their list
AUDIT_SEED = 7  # as that of `train.py audit`
Found = dict[str, float]  # of a row


class Check(NamedTuple):
    """What is done with the rows.

    Attributes:
        measure: gives what is found of rows, by name.
        line: what is printed of a row.
        is_wrong: whether a row fails.
        together: rows that are measured at once.
        options: names of the options that results depend on.
    """

    measure: Callable[[list[str]], dict[str, Found]]
    line: Callable[[str, Found], str]
    is_wrong: Callable[[Found], bool]
    together: int
    options: tuple[str, ...]


def main() -> None:
    """Read the command line, and go through the rows."""
    whole = above_zero(int)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=whole, default=8, help="of each row")
    parser.add_argument("--rows", nargs="+", help="instead of all")
    parser.add_argument("--together", type=whole, default=1, help="rows in one batch")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no row is begun")
    parser.add_argument("--most", type=float, default=1e-3, help="median difference, m or rad")
    parser.add_argument("--audit", action="store_true", help="search for cheats on warp instead")
    parser.add_argument("--plans", type=whole, default=200, help="of each round of the audit")
    parser.add_argument("--rounds", type=whole, default=10, help="of the audit")
    parser.add_argument(
        "--out", type=pathlib.Path, help="default: runs/warp_parity.json, or runs/warp_audit.json"
    )
    options = parser.parse_args()
    name = "warp_audit" if options.audit else "warp_parity"
    options.out = options.out or pathlib.Path("runs") / f"{name}.json"
    check = audit_of(options) if options.audit else parity_of(options)
    about = made_with(options, check)
    smaller = "--episodes or --together"
    with in_one_line(ValueError, smaller=smaller):
        for row in options.rows or ():
            lookup(CLOSURES, row, "closure")
        done = kept(options.out, about)
    with in_one_line(smaller=smaller):
        go_through(options, check, done, about)
    wrong = [name for name, row in done.items() if check.is_wrong(row)]
    problem = "with a cheat" if options.audit else "that do not agree"
    print(f"{len(done)} rows, {len(wrong)} {problem}{': ' if wrong else ''}", *wrong)
    sys.exit(1 if wrong else 0)


def go_through(
    options: argparse.Namespace, check: Check, done: dict[str, Found], about: dict[str, Any]
) -> None:
    """Measure the rows that are not done yet, and keep what is found.

    Args:
        options: of the command line.
        check: what is done with them.
        done: what was found before, by row; more is added.
        about: what it was made with.
    """
    began = time.monotonic()
    left = [name for name in options.rows or all_rows() if name not in done]
    if options.audit:  # of the rows that need contact at all
        left = [name for name in left if MECHANISMS[CLOSURES[name].mechanism].contact != "none"]
    for first in range(0, len(left), check.together):
        if time.monotonic() - began > 60 * options.minutes:
            print("the time is over: the same command goes on")
            break
        found = check.measure(left[first : first + check.together])
        done |= found
        print(*(check.line(name, row) for name, row in found.items()), sep="\n", flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, {"made_with": about, "rows": done})


def made_with(options: argparse.Namespace, check: Check) -> dict[str, Any]:
    """What results depend on: the code, the device and some options."""
    digest = hashlib.sha256()
    own = (pathlib.Path(__file__), ROOT / "evaluation/audit.py")
    for path in (*own, *sorted((ROOT / "envs").rglob("*.py"))):
        digest.update(path.read_bytes())
    named = {name: getattr(options, name) for name in check.options}
    device = os.environ.get("UNCAP_WARP_DEVICE", "")
    return {"code": digest.hexdigest()[:12], "device": device, **named}


def kept(path: pathlib.Path, about: dict[str, Any]) -> dict[str, Found]:
    """Results by row that a file has; none where there is no file.

    Raises:
        ValueError: they were made otherwise than now, or the file is damaged.
    """
    remedy = "choose another --out, or remove it"
    try:
        found = read_json(path, remedy)
    except FileNotFoundError:
        return {}
    before = found.get("made_with", {})
    if others := [name for name in about if before.get(name) != about[name]]:
        raise ValueError(f"{path} was made with other {', '.join(others)}: {remedy}")
    return found["rows"]


def parity_of(options: argparse.Namespace) -> Check:
    """The comparison of the engines."""

    def is_wrong(row: Found) -> bool:
        least = min(LEAST_SUCCESS, row["success_on_cpu"])
        return row["success"] < least or row["median"] > options.most

    return Check(
        lambda names: compared(names, options.episodes),
        line,
        is_wrong,
        options.together,
        options=("episodes", "together"),
    )


def audit_of(options: argparse.Namespace) -> Check:
    """The search for cheats on warp."""
    return Check(
        lambda names: {name: audited(name, options.plans, options.rounds) for name in names},
        line_of_audit,
        lambda row: row["cheats"] > 0,
        together=1,
        options=("plans", "rounds"),
    )


def all_rows() -> list[str]:
    """The rows of the table, and of some composed mechanisms."""
    sequences = [sequence for length in (1, 2, 3) for sequence in grammar.sequences(length)]
    sample = sequences[:: len(sequences) // COMPOSED]
    return [*CLOSURES, *(row_name(sequence, 0) for sequence in sample)]


def compared(names: list[str], episodes: int) -> dict[str, Found]:
    """The expert's episodes of rows in one batch on warp, and the same actions on cpu; by row."""
    began = time.perf_counter()
    n = episodes * len(names)
    warp, cpu = (ClosureVectorEnv(tuple(names), n, engine=engine) for engine in ("warp", "cpu"))
    for env in (warp, cpu):
        env.reset(seed=0)
    steps = np.asarray(warp.max_steps)  # (n,) control steps of an episode
    apart = np.zeros(n)
    otherwise = np.zeros(n, int)
    success = {"warp": np.zeros(n, bool), "cpu": np.zeros(n, bool)}
    diverged = np.zeros(n, bool)
    for step in range(steps.max()):
        running = step < steps
        action = expert_action(warp.batch.measure())
        for engine, env in (("warp", warp), ("cpu", cpu)):
            info = env.step(action)[4]
            success[engine] = np.where(running, info["success"], success[engine])
        one, other = warp.batch, cpu.batch
        lids = [own.qpos[:, own.lid_qpos_columns] for own in (one, other)]
        held = running & ~(one.released | other.released)
        apart = np.where(held, np.abs(lids[0] - lids[1]).max(1), apart)
        latches = [np.stack([own.touched, own.released, own.stage]) for own in (one, other)]
        otherwise += running & (latches[0] != latches[1]).any(0)
        diverged |= running & (one.diverged > 0)
    found = {}
    for row, name in enumerate(names):
        own = slice(row, None, len(names))  # its simulations
        found[name] = {
            "success": float(success["warp"][own].mean()),
            "success_on_cpu": float(success["cpu"][own].mean()),
            "median": float(np.median(apart[own])),
            "most": float(apart[own].max()),
            "latched_otherwise": int(otherwise[own].sum()),
            "overflows": warp.batch.sim.overflows,
            "diverged": int(diverged[own].sum()),
            "episodes": episodes,
            "seconds": (time.perf_counter() - began) / len(names),
        }
    return found


def audited(name: str, plans: int, rounds: int) -> Found:
    """What a search for cheats in a row finds on warp."""
    began = time.perf_counter()
    found = search(name, AUDIT_SEED, plans, rounds, engine="warp")
    return {
        "plans": found.candidates,
        "cheats": found.cheats,
        "honest": found.honest,
        "untouched": found.untouched,
        "seconds": time.perf_counter() - began,
    }


def line_of_audit(name: str, row: Found) -> str:
    """What is printed of a row of the audit."""
    return (
        f"{name:36} plans {row['plans']}  cheats {row['cheats']}  honest {row['honest']}  "
        f"untouched {row['untouched']:.2f}  {row['seconds']:.0f} s"
    )


def line(name: str, row: Found) -> str:
    """What is printed of a row of the comparison."""
    return (
        f"{name:36} warp {row['success']:.2f}  cpu {row['success_on_cpu']:.2f}  "
        f"apart {row['median']:.1e} (most {row['most']:.1e})  "
        f"latches differ {row['latched_otherwise']:3}  overflows {row['overflows']}  "
        f"diverged {row['diverged']}  {row['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
