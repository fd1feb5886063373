"""Evaluation: a fixed quota of episodes per (task, start), and a table of episodes.

Every (task, start) pair has its own sub-environment and runs exactly one episode, so
quick successes cannot crowd out slow failures.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.vector import AutoresetMode

from envs import ClosureVectorEnv
from envs.experts import expert_action
from evaluation.statistics import wilson

Act = Callable[
    [dict[str, np.ndarray], np.ndarray], np.ndarray
]  # act(observation, task index) -> (n, 5)
Policy = Callable[[ClosureVectorEnv], Act]  # a policy is made for the environment it acts in
EVALUATION_SEED = 7_000_000  # starts of every evaluation; training draws from other seeds
_CHUNK = 200  # sub-environments at a time


@dataclasses.dataclass(frozen=True)
class Episode:
    """One evaluation episode: a row of episodes.csv."""

    task: str
    start: int
    success: bool  # open for the last 5 control steps of the episode
    success_any: bool  # open for 5 control steps at any time
    progress: float
    steps_to_success: int  # first control step of success; -1 if never
    contact_fraction: float
    total_reward: float


def zero(env: ClosureVectorEnv) -> Act:
    """The policy that does nothing."""
    return lambda observation, task: np.zeros((len(task), 5))


def random(env: ClosureVectorEnv) -> Act:
    """Uniform actions, from a fixed seed."""
    rng = np.random.default_rng(0)
    return lambda observation, task: rng.uniform(-1, 1, (len(task), 5))


def expert(env: ClosureVectorEnv) -> Act:
    """The scripted opener; it reads the simulation, not the observation."""
    return lambda observation, task: expert_action(env.batch.measure())


BUILT_IN: dict[str, Policy] = {f.__name__: f for f in (zero, random, expert)}


def run_episodes(
    env, act: Act, task_names: Sequence[str], starts: np.ndarray, seeds: Sequence[int]
) -> list[Episode]:
    """One episode in every sub-environment of env.

    Args:
        env: vector environment with autoreset disabled.
        act: the policy.
        task_names: (n,) task of each sub-environment.
        starts: (n,) number of the start of each.
        seeds: (n,) seed of each start.
    """
    observation, info = env.reset(seed=list(seeds))
    first, reward = np.full(env.num_envs, -1), np.zeros(env.num_envs)
    done = np.zeros(env.num_envs, bool)
    last = {
        k: np.zeros(env.num_envs)
        for k in ("success", "success_any", "progress", "contact_fraction")
    }  # at each one's end
    step = 0
    while not done.all():
        observation, r, terminated, truncated, info = env.step(act(observation, info["task"]))
        step += 1
        reward += np.where(done, 0.0, r)
        first = np.where((first < 0) & info["success_any"] & ~done, step, first)
        last = {k: np.where(done, value, info[k]) for k, value in last.items()}
        done |= terminated | truncated
    columns = (
        last["success"],
        last["success_any"],
        last["progress"],
        first,
        last["contact_fraction"],
        reward,
    )
    return [
        Episode(name, int(start), bool(s), bool(a), float(p), int(f), float(c), float(r))
        for name, start, s, a, p, f, c, r in zip(task_names, starts, *columns, strict=True)
    ]


def evaluate(
    policy: Policy,
    tasks: Sequence[str],
    episodes: int,
    *,
    conditioning: str = "parameters",
    known_tasks: Sequence[str] | None = None,
    seed: int = EVALUATION_SEED,
    threads: int = 0,
    level: str = "default",
) -> list[Episode]:
    """Run `episodes` episodes of every task; start k of a task is the same for every policy.

    Args:
        policy: makes act(observation, task) for an environment.
        tasks: rows of the table.
        episodes: per task.
        conditioning: what the policy is told, see `envs.conditioning`.
        known_tasks: rows that `one_hot` has components for.
        seed: of the starts.
        threads: of the physics; results do not depend on it.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.

    Returns:
        Episodes, sorted by task and start.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    table: list[Episode] = []
    share = max(1, _CHUNK // len(tasks))
    for low in range(0, episodes, share):
        count = min(share, episodes - low)
        env = ClosureVectorEnv(
            tasks,
            count * len(tasks),
            conditioning=conditioning,
            known_tasks=known_tasks,
            threads=threads,
            autoreset_mode=AutoresetMode.DISABLED,
            level=level,
        )
        starts = low + np.arange(env.num_envs) // len(tasks)
        names = [tasks[t] for t in env.task]
        table += run_episodes(env, policy(env), names, starts, [seed + int(s) for s in starts])
        env.close()
    order = {name: k for k, name in enumerate(tasks)}
    return sorted(table, key=lambda e: (order[e.task], e.start))


def summary(table: Sequence[Episode]) -> dict:
    """Success per task with 95 % Wilson intervals, mean and worst over tasks."""
    per_task = {}
    for name in dict.fromkeys(e.task for e in table):
        rows = [e for e in table if e.task == name]
        wins = sum(e.success for e in rows)
        low, high = wilson(wins, len(rows))
        times = [e.steps_to_success for e in rows if e.success]
        per_task[name] = {
            "success": wins / len(rows),
            "low": low,
            "high": high,
            "episodes": len(rows),
            "success_any": float(np.mean([e.success_any for e in rows])),
            "progress": float(np.mean([e.progress for e in rows])),
            "contact_fraction": float(np.mean([e.contact_fraction for e in rows])),
            "steps_to_success": float(np.median(times)) if times else None,
        }
    rates = [t["success"] for t in per_task.values()]
    return {
        "mean_success": float(np.mean(rates)),
        "worst_success": float(np.min(rates)),
        "per_task": per_task,
    }


def write_episodes(table: Sequence[Episode], path: pathlib.Path) -> None:
    """Write the table as CSV, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Episode)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(e) for e in table)
    os.replace(temporary, path)
