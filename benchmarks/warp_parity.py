"""Every row on the engine warp: does it go as on the engine cpu, and does its expert open it?

    UNCAP_WARP_DEVICE=cpu python benchmarks/warp_parity.py

A line per row: success of the expert on warp and, with the same actions, on cpu; the median over
episodes of how far lids are apart (m or rad, the worst joint) in the last control step before
they come off, and the most; how many control steps latched otherwise; worlds without room for
their contacts, and simulations put back. Rows are all of the table and a sample of the composed
ones. What is done is kept in `--out`: the same command goes on. Exit status 1 if an expert opens
less than 95 %, or the median is above `--most`.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.envs import CLOSURES, ClosureVectorEnv, grammar  # noqa: E402
from uncap.envs.composed import row_name  # noqa: E402
from uncap.envs.experts import expert_action  # noqa: E402

LEAST_SUCCESS = 0.95
COMPOSED = 12  # rows, of mechanisms far apart in their list


def main() -> None:
    """Go through the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=8, help="of each row")
    parser.add_argument("--rows", nargs="+", help="instead of all")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no row is begun")
    parser.add_argument("--most", type=float, default=1e-3, help="median difference, m or rad")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/warp_parity.json"))
    options = parser.parse_args()
    done = json.loads(options.out.read_text()) if options.out.exists() else {}
    began = time.monotonic()
    for name in options.rows or all_rows():
        if name in done:
            continue
        if time.monotonic() - began > 60 * options.minutes:
            print("the time is over: the same command goes on")
            break
        done[name] = compared(name, options.episodes)
        print(line(name, done[name]), flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(done, indent=1))
    wrong = [
        name
        for name, row in done.items()
        if row["success"] < LEAST_SUCCESS or row["median"] > options.most
    ]
    print(f"{len(done)} rows, {len(wrong)} that do not agree{': ' if wrong else ''}", *wrong)
    sys.exit(1 if wrong else 0)


def all_rows() -> list[str]:
    """The rows of the table, and of some composed mechanisms."""
    sequences = [sequence for length in (1, 2, 3) for sequence in grammar.sequences(length)]
    sample = sequences[:: len(sequences) // COMPOSED]
    return [*CLOSURES, *(row_name(sequence, 0) for sequence in sample)]


def compared(name: str, episodes: int) -> dict[str, float]:
    """The expert's episodes of a row on warp, and the same actions on cpu."""
    began = time.perf_counter()
    warp, cpu = (
        ClosureVectorEnv(name, episodes, engine=engine, autoreset_mode="Disabled")
        for engine in ("warp", "cpu")
    )
    for env in (warp, cpu):
        env.reset(seed=0)
    apart = np.zeros(episodes)
    otherwise = 0
    success = {}
    for _ in range(int(warp.max_steps[0])):
        action = expert_action(warp.batch.measure())
        success = {"warp": warp.step(action)[4]["success"], "cpu": cpu.step(action)[4]["success"]}
        one, other = warp.batch, cpu.batch
        lids = [own.qpos[:, own.lid_qpos_columns] for own in (one, other)]
        held = ~(one.released | other.released)
        apart = np.where(held, np.abs(lids[0] - lids[1]).max(1), apart)
        latches = [np.stack([own.touched, own.released, own.stage]) for own in (one, other)]
        otherwise += int((latches[0] != latches[1]).any(0).sum())
    return {
        "success": float(success["warp"].mean()),
        "success_on_cpu": float(success["cpu"].mean()),
        "median": float(np.median(apart)),
        "most": float(apart.max()),
        "latched_otherwise": otherwise,
        "overflows": warp.batch.sim.overflows,
        "diverged": int(warp.batch.diverged.sum()),
        "episodes": episodes,
        "seconds": time.perf_counter() - began,
    }


def line(name: str, row: dict[str, float]) -> str:
    """What is printed of a row."""
    return (
        f"{name:36} warp {row['success']:.2f}  cpu {row['success_on_cpu']:.2f}  "
        f"apart {row['median']:.1e} (most {row['most']:.1e})  "
        f"latched otherwise {row['latched_otherwise']:3}  overflows {row['overflows']}  "
        f"diverged {row['diverged']}  {row['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
