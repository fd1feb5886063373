"""Kill every job of the kill harness, a hundred times in all; then step for an hour.

    python benchmarks/soak.py
    python benchmarks/soak.py --kills 0 --minutes 12

Exit status 1 if a killed run ends otherwise than one that was not, or if memory or speed of
stepping with resets change by more than 3 % from the second minute on (medians of the first and
of the last five windows).
"""

from __future__ import annotations

import argparse
import gc
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import kills  # noqa: E402 - of this checkout

from envs import TASK_SETS, ClosureVectorEnv  # noqa: E402

PER_RUN = 3  # kills
WINDOWS = 5  # at the start and at the end
LIMIT = 0.03  # relative change
SECONDS = 60.0  # of a window, and of what comes before the first one
RESET_EVERY = 500  # control steps


def main() -> None:
    """Kill, then step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", nargs="*", choices=list(kills.JOBS), default=list(kills.JOBS))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    different = 0
    if options.kills:
        with tempfile.TemporaryDirectory() as folder:
            different = kill(pathlib.Path(folder), options.jobs, options.kills, options.seed)
    changed = options.minutes > 0 and step(options.minutes, options.seed)
    sys.exit(1 if different or changed else 0)


def kill(folder: pathlib.Path, names: list[str], count: int, seed: int) -> int:
    """Kill jobs in turn, so often in all; how many runs were different."""
    rng = np.random.default_rng(seed)
    given: dict[str, pathlib.Path] = {}
    harness: dict[str, kills.Killing] = {}
    for name in dict.fromkeys(["demos", "scratch", *names]):  # what others are given comes first
        harness[name] = kills.Killing(kills.JOBS[name], folder / name, given)
        given[name] = harness[name].whole
        given["DEMOS"] = harness["demos"].whole
        print(f"{name}: {harness[name].seconds:.1f} s", flush=True)
    different, before = 0, -1
    while (done := sum(sum(harness[name].kills.values()) for name in names)) < count:
        assert done > before, "nothing can be killed: everything ends too soon"
        before = done
        for name in names:
            lines = harness[name].killed(rng, PER_RUN)
            different += bool(lines)
            print(f"{name}: {'; '.join(lines[:5]) or 'the same'}", flush=True)
    total = {name: sum(harness[name].kills.values()) for name in names}
    print(f"{sum(total.values())} kills, {different} runs different: {total}")
    return different


def step(minutes: float, seed: int) -> bool:
    """Step all rows with random actions and resets; whether memory or speed changed."""
    env = ClosureVectorEnv(TASK_SETS["mt24"].train, 48, seed=seed, autoreset_mode="SameStep")
    rng = np.random.default_rng(seed)
    env.reset()
    speeds, memories = [], []
    for window in range(1 + max(2 * WINDOWS, round(minutes) - 1)):
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS:
            env.step(rng.uniform(-1, 1, (env.num_envs, 5)))
            steps += 1
            if steps % RESET_EVERY == 0:
                env.reset(seed=steps)
        if window:  # the first one warms up
            gc.collect()
            speeds.append(steps * env.num_envs / (time.perf_counter() - began))
            memories.append(memory())
            print(f"minute {window + 1}: {speeds[-1]:,.0f} steps/s, {memories[-1]:.1f} MiB")
    env.close()
    return any([report("speed", speeds), report("memory", memories)])


def report(name: str, values: list[float]) -> bool:
    """Print how a number changed; whether by more than the limit."""
    first, last = statistics.median(values[:WINDOWS]), statistics.median(values[-WINDOWS:])
    change = last / first - 1
    print(f"{name}: {first:,.1f} at the start, {last:,.1f} at the end ({100 * change:+.1f} %)")
    return abs(change) > LIMIT


def memory() -> float:
    """MiB that this process has in memory; the most so far where the system tells no more."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    import resource  # not on Windows, where the harness cannot run

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
