"""Evaluation: one episode per (task, start), and the table of these episodes.

Every (task, start) pair has a sub-environment of its own and runs exactly one episode. A quota
of episodes in parallel environments would be biased instead: episodes that end early would be
counted more often.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from gymnasium.vector import AutoresetMode

from uncap.agents.files import replacing
from uncap.envs import CLOSURES, ClosureVectorEnv, checks
from uncap.envs.batch import CONTROL_DT
from uncap.envs.experts import expert_action
from uncap.envs.pool import VARIANT_STREAMS, VARIANTS
from uncap.envs.searching import Searcher
from uncap.envs.tables import lookup
from uncap.evaluation.statistics import pooled, wilson

Act = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]
"""act(observation, task index (n,)) -> actions (n, 5) in [-1, 1]"""
Policy = Callable[[ClosureVectorEnv], Act]
"""A policy is made for the environment that it acts in."""
Keep = Callable[[range, Callable[[], "list[Episode]"]], "list[Episode]"]
"""keep(numbers of the starts of a part, function that runs it) -> its episodes"""
EVALUATION_SEED = 7_000_000  # starts of every evaluation; training draws from other seeds
_MAX_SIMULATIONS = 200  # at a time (one per task if there are more tasks)
_ACTION_SIZE = 5
_FINAL_KEYS = (  # of info
    "success",
    "success_any",
    "progress",
    "contact_fraction",
    "diverged",
    "invalid_action",
)


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
    diverged: int = 0  # times that the simulation was put back
    invalid_actions: int = 0  # control steps whose action was not finite
    attempt: int = 0  # number of the episode in its trial


AnyEpisode = TypeVar("AnyEpisode", bound=Episode)


class Zero:
    """The policy that does nothing."""

    def __init__(self, env: ClosureVectorEnv):
        pass

    def __call__(self, observation: dict[str, np.ndarray], task_index: np.ndarray) -> np.ndarray:
        """Zero actions, (n, 5)."""
        return np.zeros((len(task_index), _ACTION_SIZE))


class Random:
    """Uniform actions, from a fixed seed."""

    def __init__(self, env: ClosureVectorEnv):
        self._rng = np.random.default_rng(0)

    def __call__(self, observation: dict[str, np.ndarray], task_index: np.ndarray) -> np.ndarray:
        """Actions, (n, 5)."""
        return self._rng.uniform(-1, 1, (len(task_index), _ACTION_SIZE))


class Expert:
    """The scripted opener; it reads the simulation, not the observation."""

    def __init__(self, env: ClosureVectorEnv):
        self._batch = env.batch

    def __call__(self, observation: dict[str, np.ndarray], task_index: np.ndarray) -> np.ndarray:
        """The expert's actions, (n, 5)."""
        return expert_action(self._batch.measure())


class Search:
    """The scripted search: it is not told which of the rows that look alike it has."""

    def __init__(self, env: ClosureVectorEnv):
        self._searcher = Searcher(env)

    def __call__(self, observation: dict[str, np.ndarray], task_index: np.ndarray) -> np.ndarray:
        """The actions of the expert of what each closure is taken for, (n, 5)."""
        return self._searcher.act()


BUILT_IN: dict[str, Policy] = {
    "zero": Zero,
    "random": Random,
    "expert": Expert,
    "search": Search,  # the one with a memory
}


@dataclasses.dataclass
class _Record:
    """What is recorded of the episodes of n sub-environments while they run."""

    done: np.ndarray  # (n,) bool: the episode has ended, nothing is recorded any more
    total_reward: np.ndarray  # (n,) up to now
    first_success: np.ndarray  # (n,) control step of the first success; -1 without one
    last_info: dict[str, np.ndarray]  # {key of _FINAL_KEYS: (n,)} at each one's last control step

    @classmethod
    def begin(cls, n: int) -> _Record:
        """The record before the first control step."""
        return cls(
            done=np.zeros(n, bool),
            total_reward=np.zeros(n),
            first_success=np.full(n, -1),
            last_info={key: np.zeros(n) for key in _FINAL_KEYS},
        )

    def add(
        self, step: int, reward: np.ndarray, info: dict[str, np.ndarray], ended: np.ndarray
    ) -> None:
        """Record a control step of the episodes that still run.

        Args:
            step: its number, from 1.
            reward: (n,) of this step.
            info: of the environment after it.
            ended: (n,) bool: episodes that end with this step.
        """
        done = self.done
        newly_solved = (self.first_success < 0) & info["success_any"] & ~done
        self.total_reward += np.where(done, 0.0, reward)
        self.first_success = np.where(newly_solved, step, self.first_success)
        self.last_info = {
            key: np.where(done, value, info[key]) for key, value in self.last_info.items()
        }
        self.done = done | ended

    def episodes(
        self, task_names: Sequence[str], starts: np.ndarray, attempt: int = 0
    ) -> list[Episode]:
        """The table's rows, one per sub-environment."""
        last = self.last_info
        numbers = range(len(self.done))  # of the sub-environments
        return [
            Episode(
                task=name,
                start=int(start),
                success=bool(last["success"][i]),
                success_any=bool(last["success_any"][i]),
                progress=float(last["progress"][i]),
                steps_to_success=int(self.first_success[i]),
                contact_fraction=float(last["contact_fraction"][i]),
                total_reward=float(self.total_reward[i]),
                diverged=int(last["diverged"][i]),
                invalid_actions=int(last["invalid_action"][i]),
                attempt=attempt,
            )
            for i, name, start in zip(numbers, task_names, starts, strict=True)
        ]


def run_trials(  # noqa: PLR0913 - the parts of an evaluation
    env: ClosureVectorEnv,
    policy: Policy,
    task_names: Sequence[str],
    starts: np.ndarray,
    seeds: Sequence[int],
    wiped: bool = False,
) -> list[Episode]:
    """One trial in every sub-environment of env: as many episodes as it has attempts.

    Args:
        env: vector environment of n sub-environments with autoreset disabled.
        policy: is made for env, and keeps what it remembers over the attempts.
        task_names: (n,) task of each sub-environment.
        starts: (n,) number of the start of each trial.
        seeds: (n,) seed of each start.
        wiped: make the policy anew for each attempt: it remembers none.

    Returns:
        Episodes: the first attempts, in the order of the sub-environments, then the second ones.
    """
    observation, info = env.reset(seed=list(seeds))
    act = policy(env)
    table: list[Episode] = []
    for attempt in range(env.attempts):
        if attempt:
            observation, info = env.reset(options={"next_attempt": True})
            act = policy(env) if wiped else act
        record = _play(env, act, observation, info)
        table += record.episodes(task_names, starts, attempt)
    return table


def _play(
    env: ClosureVectorEnv,
    act: Act,
    observation: dict[str, np.ndarray],
    info: dict[str, np.ndarray],
) -> _Record:
    """Act until the episode of every sub-environment has ended.

    Args:
        env: its episodes have just begun.
        act: the policy.
        observation: of the beginning.
        info: the same.
    """
    record = _Record.begin(env.num_envs)
    step = 0
    while not record.done.all():
        action = act(observation, info["task_index"])
        observation, reward, terminated, truncated, info = env.step(action)
        step += 1
        ended = terminated | truncated
        record.add(step, reward, info, ended)
        if ended.any() and not record.done.all():  # they wait for the others in new episodes
            observation, info = env.reset(options={"reset_mask": ended})
    return record


def evaluate(  # noqa: PLR0913 - what an evaluation may be of, by name
    policy: Policy,
    tasks: Sequence[str],
    episodes: int,
    *,
    conditioning: str = "parameters",
    known_tasks: Sequence[str] | None = None,
    seed: int = EVALUATION_SEED,
    threads: int = 0,
    level: str = "default",
    disturb: Mapping[str, int] | None = None,
    variants: str = "evaluation",
    variants_per_row: int = VARIANTS,
    sensors: str = "full",
    episode_steps: int | None = None,
    attempts: int = 1,
    wiped: bool = False,
    engine: str = "cpu",
    keep: Keep | None = None,
) -> list[Episode]:
    """Run `episodes` trials of every task; start k of a task is the same for every policy.

    Args:
        policy: makes act(observation, task index) for an environment.
        tasks: rows of the table.
        episodes: per task; where there are several attempts, trials.
        conditioning: what the policy is told of its task, see `uncap.envs.conditioning`.
        known_tasks: rows that `one_hot` has components for.
        seed: of start 0; start k has seed + k.
        threads: of the physics; results do not depend on it.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.
        disturb: strengths by factor, see `disturbances.FACTORS`; the starts stay the same.
        variants: from which stream they are drawn, a row of `pool.VARIANT_STREAMS`.
        variants_per_row: how many are drawn.
        sensors: what the policy senses, a row of `uncap.envs.sensors.SENSORS`.
        episode_steps: control steps of every episode; by default what each row says.
        attempts: episodes of a trial, all of one closure, see `ClosureVectorEnv`.
        wiped: the policy's memory is reset before every attempt.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.
        keep: is given each part's starts and a function that runs it, and returns its episodes:
            a part that was run before need not be run again.

    Returns:
        Episodes, sorted by task and start.

    Raises:
        ValueError: no episodes; several attempts of rows whose episodes differ in length.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, not {episodes}")
    if attempts > 1:
        attempt_steps(tasks, episode_steps)
    environment = functools.partial(
        ClosureVectorEnv,
        tasks,
        conditioning=conditioning,
        known_tasks=known_tasks,
        threads=threads,
        autoreset_mode=AutoresetMode.DISABLED,
        variants=variants_per_row,
        variant_seed=lookup(VARIANT_STREAMS, variants, "stream of variants"),
        level=level,
        disturb=disturb,
        sensors=sensors,
        episode_steps=episode_steps,
        attempts=attempts,
        engine=engine,
    )

    def run(starts: range) -> list[Episode]:
        env = environment(num_envs=len(starts) * len(tasks))
        # sub-environment i has task i % len(tasks)
        numbers = starts.start + np.arange(env.num_envs) // len(tasks)
        task_names = [tasks[index] for index in env.task.tolist()]
        seeds = [seed + number for number in numbers.tolist()]
        found = run_trials(env, policy, task_names, numbers, seeds, wiped)
        env.close()
        return found

    table: list[Episode] = []
    starts_at_once = max(1, _MAX_SIMULATIONS // len(tasks))
    for first in range(0, episodes, starts_at_once):
        starts = range(first, min(first + starts_at_once, episodes))
        part = functools.partial(run, starts)
        table += keep(starts, part) if keep else part()
    order = {name: k for k, name in enumerate(tasks)}
    return sorted(table, key=lambda e: (order[e.task], e.start, e.attempt))


def spread(
    tasks: tuple[str, ...], quota: int, most: int, turn: int | None
) -> tuple[tuple[str, ...], int]:
    """How a quota of episodes is spread over tasks: the same number for each.

    Args:
        tasks: rows.
        quota: episodes of all tasks together.
        most: episodes per task, at most.
        turn: where the quota is not enough for one of each, the tasks take turns: the next
            `quota` ones at each turn, from the first at turn 0. None: all have one.

    Returns:
        The tasks that are measured, in their order, and episodes of each.
    """
    if quota >= len(tasks) or turn is None:
        return tasks, min(most, max(1, quota // len(tasks)))
    chosen = {(turn * quota + k) % len(tasks) for k in range(quota)}
    return tuple(task for k, task in enumerate(tasks) if k in chosen), 1


def by_mechanism(per_task: Mapping[str, Mapping]) -> dict[str, dict]:
    """Success of each mechanism with its 95 % Wilson interval, over the episodes of its rows.

    Args:
        per_task: of a summary.
    """
    found = {}
    for mechanism in dict.fromkeys(CLOSURES[name].mechanism for name in per_task):
        found[mechanism] = together(
            [row for name, row in per_task.items() if CLOSURES[name].mechanism == mechanism]
        )
    return found


def together(rows: Sequence[Mapping]) -> dict:
    """Success over the episodes of some rows of a summary, with its 95 % Wilson interval."""
    success, low, high = pooled((row["success"], row["episodes"]) for row in rows)
    return {
        "success": success,
        "low": low,
        "high": high,
        "episodes": sum(row["episodes"] for row in rows),
        "rows": len(rows),
    }


def attempt_steps(tasks: Iterable[str], episode_steps: int | None) -> int:
    """Control steps of each attempt of a trial.

    Args:
        tasks: rows.
        episode_steps: of every episode; None: what each row says.

    Raises:
        ValueError: the rows' episodes differ in length.
    """
    lengths = (lookup(CLOSURES, task, "closure").steps for task in tasks)
    return episode_steps or checks.one_length("a trial", lengths)


def in_words(steps: int) -> str:
    """A number of control steps, with what that is in seconds."""
    return f"{steps} control steps ({steps * CONTROL_DT:.1f} s)"


def by_attempt(table: Sequence[Episode]) -> list[dict]:
    """Success of the first, second, ... attempts of all tasks, with 95 % Wilson intervals."""
    found = []
    for attempt in sorted({episode.attempt for episode in table}):
        of_attempt = [episode for episode in table if episode.attempt == attempt]
        found.append(together(list(summary(of_attempt)["per_task"].values())))
    return found


def last_attempts(table: Sequence[AnyEpisode]) -> list[AnyEpisode]:
    """The last attempt of each trial: attempts at one closure are not independent episodes."""
    last = max((episode.attempt for episode in table), default=0)
    return [episode for episode in table if episode.attempt == last]


def summary(table: Sequence[Episode]) -> dict:
    """Success per task with 95 % Wilson intervals, mean and worst over tasks.

    Of trials with several attempts it is that of the last ones.
    """
    table = last_attempts(table)
    per_task = {}
    for name in dict.fromkeys(episode.task for episode in table):
        per_task[name] = _task_summary([episode for episode in table if episode.task == name])
    rates = [task["success"] for task in per_task.values()]
    return {
        "mean_success": float(np.mean(rates)),
        "worst_success": float(np.min(rates)),
        "diverged": sum(episode.diverged for episode in table),
        "invalid_actions": sum(episode.invalid_actions for episode in table),
        "per_task": per_task,
    }


def _task_summary(episodes: Sequence[Episode]) -> dict:
    """Of the episodes of one task; steps to success is the median of the successful ones."""
    successes = sum(episode.success for episode in episodes)
    low, high = wilson(successes, len(episodes))
    steps_to_success = [episode.steps_to_success for episode in episodes if episode.success]
    return {
        "success": successes / len(episodes),
        "low": low,
        "high": high,
        "episodes": len(episodes),
        "success_any": float(np.mean([episode.success_any for episode in episodes])),
        "progress": float(np.mean([episode.progress for episode in episodes])),
        "contact_fraction": float(np.mean([episode.contact_fraction for episode in episodes])),
        "steps_to_success": float(np.median(steps_to_success)) if steps_to_success else None,
    }


def write_episodes(table: Sequence[Episode], path: pathlib.Path) -> None:
    """Write the table as CSV, whole or not at all."""
    write_rows(table, Episode, path)


def write_rows(table: Sequence[Any], row: Any, path: pathlib.Path) -> None:
    """Write dataclasses of one type as CSV, whole or not at all."""
    with (
        replacing(path) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(row)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(one) for one in table)
