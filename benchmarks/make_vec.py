"""Speed of `gymnasium.make_vec("Uncap/Jar-v0", 16)` as a share of `ClosureVectorEnv("jar", 16)`.

    python benchmarks/make_vec.py

Interleaved pairs on one thread; 0.95 or more in the median, or the exit status is 1.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import gymnasium as gym
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap import ClosureVectorEnv  # noqa: E402

LEAST = 0.95


def main() -> None:
    """Print the ratio of each pair, and their median."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--num-envs", type=int, default=16)
    options = parser.parse_args()
    made = gym.make_vec("Uncap/Jar-v0", options.num_envs, threads=1)
    direct = ClosureVectorEnv("jar", options.num_envs, threads=1)
    ratios = []
    for _ in range(options.pairs):
        theirs, ours = (rate(env, options.steps) for env in (made, direct))
        ratios.append(theirs / ours)
        print(f"make_vec {theirs:,.0f}/s, ClosureVectorEnv {ours:,.0f}/s: {ratios[-1]:.3f}")
    median = float(np.median(ratios))
    print(f"median {median:.3f}")
    sys.exit(1 if median < LEAST else 0)


def rate(env: gym.vector.VectorEnv, steps: int) -> float:
    """Environment steps per second of random actions."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (steps, env.num_envs, 5)).astype(np.float32)
    env.reset(seed=0)
    began = time.perf_counter()
    for action in actions:
        env.step(action)
    return steps * env.num_envs / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
