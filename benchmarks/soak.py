"""Kill every job of the kill harness, a hundred times in all; then step for an hour.

    python benchmarks/soak.py
    python benchmarks/soak.py --kills 0 --minutes 20 --window 30

Exit status 1 if a killed run ends otherwise than one that was not, or if memory or speed of
stepping with resets change by more than 3 % after the first window (medians of the first and of
the last five windows). Speed is a ratio to that of the bare physics, measured in turn with it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import kills  # noqa: E402 - of this checkout

from uncap.envs import TASK_SETS, ClosureVectorEnv  # noqa: E402
from uncap.evaluation.benchmark import environment_block, physics_block  # noqa: E402

PER_RUN = 3  # kills
WINDOWS = 5  # at the start and at the end
CLOCK = time.process_time  # of this process alone: others may use the machine, too
LIMIT = 0.03  # relative change
RESET_EVERY = 500  # control steps


def main() -> None:
    """Kill, then step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--jobs", nargs="*", choices=list(kills.JOBS), default=list(kills.JOBS))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--window", type=float, default=60, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    different = 0
    if options.kills:
        with tempfile.TemporaryDirectory() as folder, addresses(options.jobs) as given:
            different = kill(pathlib.Path(folder), options.jobs, options.kills, options.seed, given)
    changed = options.minutes > 0 and step(options.minutes, options.window, options.seed)
    sys.exit(1 if different or changed else 0)


@contextlib.contextmanager
def addresses(names: list[str]) -> Iterator[dict]:
    """What jobs are given: the address of a Ray cluster of two nodes on this machine."""
    if "ray" not in names:
        yield {}
        return
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}  # bytes
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    cluster.add_node(**small)
    yield {"RAY": cluster.address}
    cluster.shutdown()


def kill(folder: pathlib.Path, names: list[str], count: int, seed: int, given: dict) -> int:
    """Kill jobs in turn, so often in all; how many runs were different."""
    rng = np.random.default_rng(seed)
    harness: dict[str, kills.Killing] = {}
    copied = [kills.JOBS[name].copied for name in names if kills.JOBS[name].copied]
    for name in dict.fromkeys(["demos", *copied, *names]):  # what others are given comes first
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


def step(minutes: float, window: float, seed: int) -> bool:
    """Step all rows with random actions and resets; whether memory or speed changed.

    Blocks of control steps alternate with the bare physics of the same steps, as `train.py
    benchmark` does, so that a ratio of the two tells the program's speed where the machine is
    shared with others.
    """
    env = ClosureVectorEnv(
        TASK_SETS["mt24"].train, 48, seed=seed, threads=1, autoreset_mode="SameStep"
    )
    rng = np.random.default_rng(seed)
    env.reset()
    ratios, speeds, memories = [], [], []
    for number in range(1 + max(2 * WINDOWS, round(60 * minutes / window) - 1)):
        ratio, speed = stepped(env, rng, window)
        if number:  # the first one warms up
            gc.collect()
            ratios.append(ratio)
            speeds.append(speed)
            memories.append(memory())
            print(
                f"window {number + 1}: {100 * ratio:.1f} % of raw physics, {speed:,.0f} steps/s, "
                f"{memories[-1]:.1f} MiB",
                flush=True,
            )
    env.close()
    report("steps/s, not judged", speeds)
    return any([report("% of raw physics", [100 * r for r in ratios]), report("MiB", memories)])


def stepped(env: ClosureVectorEnv, rng: np.random.Generator, window: float) -> tuple[float, float]:
    """Step for a window of seconds; the share of raw physics' speed, and environment steps/s.

    Resets count as the environment's time.
    """
    env_seconds, physics_seconds, steps = 0.0, 0.0, 0
    ends = time.perf_counter() + window
    while time.perf_counter() < ends:
        seconds, states = environment_block(env, rng, CLOCK)
        physics_seconds += physics_block(env, states, CLOCK)
        steps += len(states)
        if steps % RESET_EVERY == 0:
            began = CLOCK()
            env.reset(seed=steps)
            seconds += CLOCK() - began
        env_seconds += seconds
    return physics_seconds / env_seconds, steps * env.num_envs / env_seconds


def report(name: str, values: list[float]) -> bool:
    """Print how a number changed; whether by more than the limit."""
    first, last = statistics.median(values[:WINDOWS]), statistics.median(values[-WINDOWS:])
    change = last / first - 1
    print(f"{first:,.1f} at the start, {last:,.1f} at the end ({100 * change:+.1f} %): {name}")
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
