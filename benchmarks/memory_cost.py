"""What a memory costs: seconds per control step of the same policy with and without one.

    python benchmarks/memory_cost.py

Both act in the same rows from the same starts, in pairs, one after the other. Prints the ratio of
each pair and the median.
"""

from __future__ import annotations

import argparse
import statistics
import time

from one_line import above_zero

from uncap.agents.config import LearnerConfig, NetworkConfig
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting
from uncap.envs import ClosureVectorEnv, named_set


def main() -> None:
    """Time the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("--conditioning", default="belief")
    parser.add_argument("--task-set", default="alike")
    parser.add_argument("--width", type=above_zero(int), default=NetworkConfig().width)
    parser.add_argument("--memory-size", type=above_zero(int), default=NetworkConfig().memory_size)
    parser.add_argument("--num-envs", type=above_zero(int), default=64)
    parser.add_argument("--steps", type=above_zero(int), default=400)
    parser.add_argument("--pairs", type=above_zero(int), default=5)
    arguments = parser.parse_args()
    try:
        named_set(arguments.task_set)
    except ValueError as error:
        parser.error(str(error))
    ratios = []
    for pair in range(arguments.pairs):
        order = ("none", arguments.conditioning) if pair % 2 else (arguments.conditioning, "none")
        seconds = {name: timed(name, arguments) for name in order}
        ratios.append(seconds[arguments.conditioning] / seconds["none"])
        print(f"pair {pair + 1}: {ratios[-1]:.3f}", flush=True)
    print(f"median: {statistics.median(ratios):.3f} times the seconds of a policy without a memory")


def timed(conditioning: str, arguments: argparse.Namespace) -> float:
    """Seconds of so many control steps of an untrained policy."""
    tasks = named_set(arguments.task_set).train
    trials = {"episode_steps": 40, "attempts": 3}
    network = NetworkConfig(body="film", width=arguments.width, memory_size=arguments.memory_size)
    config = LearnerConfig(conditioning=conditioning, num_envs=2, network=network, **trials)
    learner = Learner(tasks, config, 0)
    env = ClosureVectorEnv(
        tasks, arguments.num_envs, conditioning=conditioning, autoreset_mode="SameStep", **trials
    )
    act = Acting(learner.policy, tasks)(env)
    observation, info = env.reset(seed=0)
    began = time.perf_counter()
    for _ in range(arguments.steps):
        observation, _, _, _, info = env.step(act(observation, info["task_index"]))
    seconds = time.perf_counter() - began
    env.close()
    learner.closures.close()
    return seconds


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
