"""Every row on the engine warp: does it go as on the engine cpu, and does its expert open it?

    UNCAP_WARP_DEVICE=cpu python benchmarks/warp_parity.py
    UNCAP_WARP_DEVICE=cpu python benchmarks/warp_parity.py --worlds
    UNCAP_WARP_DEVICE=cpu python benchmarks/warp_parity.py --audit

A line per row: success of the expert on warp and, with the same actions from the same starts, on
cpu; the median over episodes of how far lids are apart (m or rad, the worst joint) in the last
control step before they come off, and the most; steps where touched, stage or released differ
between the engines; worlds without room for their contacts (of the whole batch), and simulations
put back. Rows are all of the table and a sample of the composed ones; `--together 13` has them in
four batches, which is faster on a GPU. What is done is kept in `--out`, batch by batch: the same
command of the same code goes on.

On warp it is the vector environment that plays; with `--worlds` it is `DeviceClosures`, whose whole
control step is on the device, on CUDA in its graph. Then a line has the median difference of what
is observed and of rewards, too, and which graph there was.

A row fails, with exit status 1 and the reason, if its expert opens less than 95 % and less than on
cpu; if lids, what is observed or what is paid are further apart than `--most`, in the median; if a
simulation is put back on warp and on cpu none; if a world lacked room; if
in more than a quarter of the episodes latches differ for more than two control steps. Rows that
open in less than 95 % on both are named, and do not fail.

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
from typing import Any, NamedTuple, Protocol

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from one_line import above_zero, in_one_line  # noqa: E402

from uncap.agents.files import read_json, write_json  # noqa: E402
from uncap.envs import CLOSURES, ClosureVectorEnv, grammar  # noqa: E402
from uncap.envs.batch import ClosureBatch  # noqa: E402
from uncap.envs.composed import row_name  # noqa: E402
from uncap.envs.experts import expert_action  # noqa: E402
from uncap.envs.mechanisms import MECHANISMS  # noqa: E402
from uncap.envs.tables import lookup  # noqa: E402
from uncap.evaluation.audit import search  # noqa: E402

LEAST_SUCCESS = 0.95
COMPOSED = 12  # rows, of mechanisms far apart in their list
MOST_OTHERWISE = (
    0.25  # share of a row's episodes in which latches may differ: docs/gpu.md, "Parity"
)
BRIEFLY = 2  # control steps, in which they may in every episode
AUDIT_SEED = 7  # as that of `train.py audit`
Found = dict[str, Any]  # numbers of a row, and words


class Check(NamedTuple):
    """What is done with the rows.

    Attributes:
        measure: gives what is found of rows, by name.
        line: what is printed of a row.
        problems: why a row fails, in words; none if it does not.
        together: rows that are measured at once.
        options: names of the options that results depend on.
    """

    measure: Callable[[list[str]], dict[str, Found]]
    line: Callable[[str, Found], str]
    problems: Callable[[Found], list[str]]
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
    parser.add_argument("--most", type=float, default=1e-3, help="median difference")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--worlds", action="store_true", help="the control step on the device")
    way.add_argument("--audit", action="store_true", help="search for cheats on warp instead")
    parser.add_argument("--plans", type=whole, default=200, help="of each round of the audit")
    parser.add_argument("--rounds", type=whole, default=10, help="of the audit")
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="default: runs/warp_parity.json, or warp_worlds.json or warp_audit.json there",
    )
    options = parser.parse_args()
    name = "warp_audit" if options.audit else "warp_worlds" if options.worlds else "warp_parity"
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
    if not options.audit and (hard := hard_rows(done)):
        print(f"less than {LEAST_SUCCESS:.0%} on both:", ", ".join(hard))
    wrong = [
        f"{name} ({', '.join(problems)})"
        for name, row in done.items()
        if (problems := check.problems(row))
    ]
    what = "with a cheat" if options.audit else "that do not agree"
    print(f"{len(done)} rows, {len(wrong)} {what}{': ' if wrong else ''}{', '.join(wrong)}")
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
    return Check(
        lambda names: compared(names, options.episodes, options.worlds),
        line,
        lambda row: disagreements(row, options.most),
        options.together,
        options=("episodes", "together", "worlds"),
    )


def disagreements(row: Found, most: float) -> list[str]:
    """Why the engines do not agree on a row, in words; see above.

    Args:
        row: what was found.
        most: that lids (m or rad), observed numbers and rewards may be apart in the median.
    """
    words = {"median": "apart", "seen": "observed apart", "paid": "paid apart"}
    found = []
    if row["success"] < min(LEAST_SUCCESS, row["success_on_cpu"]):
        found.append(f"success {row['success']:.2f}, cpu {row['success_on_cpu']:.2f}")
    found += [
        f"{words[name]} {row[name]:.1e}" for name in words if name in row and not row[name] <= most
    ]
    if row["diverged"] and not row["diverged_on_cpu"]:
        found.append(f"{row['diverged']} put back, none on cpu")
    if row["overflows"]:
        found.append(f"{row['overflows']} worlds of its batch without room for contacts")
    if row["otherwise"] > MOST_OTHERWISE * row["episodes"]:
        found.append(f"latches differ in {row['otherwise']} of {row['episodes']} episodes")
    return found


def hard_rows(done: dict[str, Found]) -> list[str]:
    """Rows that are opened too seldom on both engines, with the shares."""
    return [
        f"{name} ({row['success']:.2f}, cpu {row['success_on_cpu']:.2f})"
        for name, row in done.items()
        if max(row["success"], row["success_on_cpu"]) < LEAST_SUCCESS
    ]


def audit_of(options: argparse.Namespace) -> Check:
    """The search for cheats on warp."""
    return Check(
        lambda names: {name: audited(name, options.plans, options.rounds) for name in names},
        line_of_audit,
        lambda row: [f"{row['cheats']} cheats"] if row["cheats"] else [],
        together=1,
        options=("plans", "rounds"),
    )


def all_rows() -> list[str]:
    """The rows of the table, and of some composed mechanisms."""
    sequences = [sequence for length in (1, 2, 3) for sequence in grammar.sequences(length)]
    sample = sequences[:: len(sequences) // COMPOSED]
    return [*CLOSURES, *(row_name(sequence, 0) for sequence in sample)]


class Seen(NamedTuple):
    """What n episodes have come to after a control step.

    Attributes:
        success: bool (n,).
        diverged: bool (n,), put back in this episode.
        lid: (n, joints) m or rad.
        released: bool (n,).
        latches: (3, n), touched, released and stage.
        state: (n, size) of the observations.
        reward: (n,).
    """

    success: np.ndarray
    diverged: np.ndarray
    lid: np.ndarray
    released: np.ndarray
    latches: np.ndarray
    state: np.ndarray
    reward: np.ndarray


class Player(Protocol):
    """n episodes on an engine, of which number i opens row i modulo the number of rows."""

    def expert(self) -> np.ndarray:
        """The expert's actions (n, 5)."""
        ...

    def step(self, action: np.ndarray) -> Seen:
        """Advance all by a control step."""
        ...

    def overflows(self) -> int:
        """How often a world lacked room for its contacts."""
        ...


class OnHost:
    """See `Player`: the vector environment, on an engine."""

    graph = ""

    def __init__(self, names: list[str], n: int, engine: str):
        self.env = ClosureVectorEnv(tuple(names), n, engine=engine)
        self.env.reset(seed=0)

    def expert(self) -> np.ndarray:
        """See `Player`."""
        return expert_action(self.env.batch.measure())

    def step(self, action: np.ndarray) -> Seen:
        """See `Player`."""
        observation, reward, _, _, info = self.env.step(action)
        own = self.env.batch
        return Seen(
            info["success"],
            info["diverged"] > 0,
            own.qpos[:, own.lid_qpos_columns].copy(),
            own.released.copy(),
            np.stack([own.touched, own.released, own.stage]),
            observation["state"],
            reward,
        )

    def overflows(self) -> int:
        """See `Player`."""
        return getattr(self.env.batch.sim, "overflows", 0)


class OnDevice:
    """See `Player`: `DeviceClosures`, from the starts of an environment that has just been reset.

    Attributes:
        graph: how much of a control step is one.
    """

    def __init__(self, names: list[str], env: ClosureVectorEnv):
        from uncap.envs.device.closures import DeviceClosures
        from uncap.envs.device.starts import numbers_of
        from uncap.envs.device.warp_worlds import WarpWorlds

        n, batch = env.num_envs, ClosureBatch(tuple(names), len(names))
        self._worlds = WarpWorlds(batch, n)
        self._closures = DeviceClosures(
            batch, self._worlds, starts=n // len(names), expert=True, seed=0
        )
        in_rows = np.argsort(env.task, kind="stable")
        starts = {name: values[in_rows] for name, values in numbers_of(env.batch).items()}
        self._closures._starts.replace(starts)  # in their place: a graph reads that memory
        _, self._info = self._closures.reset(seed=0)
        self._lid = env.batch.lid_qpos_columns
        self.graph = "control step" if self._worlds.is_captured else "physics"

    def expert(self) -> np.ndarray:
        """See `Player`."""
        return self._info["expert"].cpu().numpy()

    def step(self, action: np.ndarray) -> Seen:
        """See `Player`."""
        import torch

        from uncap.envs.device.arrays import tensor_of

        observation, reward, _, _, self._info = self._closures.step(torch.as_tensor(action))
        lids = self._closures.step_of.lids
        latches = [
            tensor_of(own).cpu().numpy() for own in (lids.touched, lids.released, lids.stage)
        ]
        return Seen(
            self._info["success"].cpu().numpy(),
            self._info["diverged"].cpu().numpy() > 0,
            self._worlds.arrays["qpos"][:, self._lid].cpu().numpy(),
            latches[1].copy(),
            np.stack(latches),
            observation["state"].cpu().numpy(),
            reward.cpu().numpy(),
        )

    def overflows(self) -> int:
        """See `Player`."""
        self._closures.check()
        return self._worlds.engine.overflows


class Differences:
    """How two players' episodes differ, step by step.

    Attributes:
        apart: (n,) m or rad between lids, in the last step in which both were on.
        otherwise: (n,) steps in which latches differed.
        success: of both, bool (2, n).
        diverged: likewise.
    """

    def __init__(self, n: int):
        self.apart = np.zeros(n)
        self.otherwise = np.zeros(n, int)
        self.success = np.zeros((2, n), bool)
        self.diverged = np.zeros((2, n), bool)
        self._held = np.zeros(n)  # steps
        self._seen, self._paid = np.zeros(n), np.zeros(n)

    def add(self, running: np.ndarray, one: Seen, other: Seen) -> None:
        """Add a step of those episodes, bool (n,), that have not ended."""
        self.success = np.where(running, [one.success, other.success], self.success)
        self.diverged |= running & np.stack([one.diverged, other.diverged])
        self.otherwise += running & (one.latches != other.latches).any(0)
        held = running & ~(one.released | other.released)
        self.apart = np.where(held, np.abs(one.lid - other.lid).max(1), self.apart)
        self._held += held
        self._seen += held * np.abs(one.state - other.state).mean(1)
        self._paid += held * np.abs(one.reward - other.reward)

    def seen(self) -> np.ndarray:
        """(n,) mean difference of the observed numbers while both lids were on."""
        return self._seen / np.maximum(self._held, 1)

    def paid(self) -> np.ndarray:
        """(n,) that of rewards."""
        return self._paid / np.maximum(self._held, 1)


def compared(names: list[str], episodes: int, worlds: bool = False) -> dict[str, Found]:
    """The expert's episodes of rows in one batch on warp, and the same actions on cpu; by row.

    Args:
        names: of the rows.
        episodes: of each.
        worlds: whether `DeviceClosures` plays on warp, in place of the vector environment.
    """
    began = time.perf_counter()
    n = episodes * len(names)
    cpu = OnHost(names, n, "cpu")
    warp = OnDevice(names, cpu.env) if worlds else OnHost(names, n, "warp")
    steps = np.asarray(cpu.env.max_steps)  # (n,) control steps of an episode
    found = Differences(n)
    for step in range(steps.max()):
        action = warp.expert()
        found.add(step < steps, warp.step(action), cpu.step(action))
    about = {
        "overflows": warp.overflows(),
        "episodes": episodes,
        "seconds": (time.perf_counter() - began) / len(names),
    }
    if worlds:
        about["graph"] = warp.graph
    return {
        name: {**of_row(found, slice(row, None, len(names)), worlds), **about}
        for row, name in enumerate(names)
    }


def of_row(found: Differences, own: slice, worlds: bool) -> Found:
    """What was found of a row, whose episodes are `own`."""
    on_warp, on_cpu = found.success[:, own].mean(1)
    put_back, put_back_on_cpu = found.diverged[:, own].sum(1)
    row = {
        "success": float(on_warp),
        "success_on_cpu": float(on_cpu),
        "median": float(np.median(found.apart[own])),
        "most": float(found.apart[own].max()),
        "latched_otherwise": int(found.otherwise[own].sum()),
        "otherwise": int((found.otherwise[own] > BRIEFLY).sum()),
        "diverged": int(put_back),
        "diverged_on_cpu": int(put_back_on_cpu),
    }
    if worlds:
        row["seen"] = float(np.median(found.seen()[own]))
        row["paid"] = float(np.median(found.paid()[own]))
    return row


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
    beside = ""
    if "graph" in row:
        beside = f"sees {row['seen']:.1e}  pays {row['paid']:.1e}  graph: {row['graph']}  "
    return (
        f"{name:36} warp {row['success']:.2f}  cpu {row['success_on_cpu']:.2f}  "
        f"apart {row['median']:.1e} (most {row['most']:.1e})  {beside}"
        f"latches differ {row['latched_otherwise']:3}  overflows {row['overflows']}  "
        f"diverged {row['diverged']} (cpu {row['diverged_on_cpu']})  {row['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
