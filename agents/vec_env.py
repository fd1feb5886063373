"""Adapter: the vector environment as a stable-baselines3 VecEnv, with rewards scaled per task."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorWrapper
from stable_baselines3.common.vec_env import VecEnv

from uncap.agents import sb3
from uncap.agents.encoder import flat_pictures

if TYPE_CHECKING:  # so that loading a policy loads no simulation
    from uncap.agents.memory import Recall
    from uncap.envs import ClosureVectorEnv

VARIANCE_FLOOR = 1e-2  # added to the variance of returns: rewards of a task without any stay small


class ReturnScale:
    """Running standard deviation of the discounted return, one per task (Welford, 1962).

    Dividing rewards by it gives every task value targets of the same size.

    Args:
        num_tasks: tasks.
        num_envs: sub-environments.
        gamma: discount per control step.

    Attributes:
        returns: (n,) discounted return of each present episode.
        count: (tasks,) returns seen.
        mean: (tasks,) of the returns.
        m2: (tasks,) sum of their squared deviations from the mean.
    """

    def __init__(self, num_tasks: int, num_envs: int, gamma: float):
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.count = np.full(num_tasks, 1e-4)
        self.mean = np.zeros(num_tasks)
        self.m2 = np.zeros(num_tasks)

    def __call__(self, reward: np.ndarray, done: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Scale rewards (n,) of the tasks (n,), and learn from them."""
        self.returns = self.returns * self.gamma + reward
        tasks = len(self.count)
        count = np.bincount(task, minlength=tasks)  # (tasks,), of this step
        mean = np.bincount(task, self.returns, tasks) / np.maximum(count, 1)
        m2 = np.bincount(task, (self.returns - mean[task]) ** 2, tasks)
        delta = mean - self.mean
        total = self.count + count
        self.m2 += m2 + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total
        self.returns[done] = 0.0
        variance = self.m2 / self.count
        return reward / np.sqrt(variance + VARIANCE_FLOOR)[task]

    def state(self) -> dict[str, np.ndarray]:
        """Everything it has learned, by name."""
        return {name: getattr(self, name).copy() for name in ("returns", "count", "mean", "m2")}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Return to a saved state."""
        for name, value in state.items():
            setattr(self, name, np.array(value))


class TaskVecEnv(VecEnv):
    """ClosureVectorEnv for stable-baselines3; observations gain `index`, the task's (n, 1).

    Args:
        env: the environment, with autoreset_mode SAME_STEP, wrapped or not: wrappers change what
            is observed, done and paid.
        gamma: discount of the returns that rewards are scaled by.
        scaled: scale rewards per task.
        plain: leave observations and rewards as they are: for stable-baselines3's algorithms.
        expert: gives the expert's actions (n, a) for the present states; they join the
            observations as `label`.
        told_size: numbers of the task vector that a memory finds out, which joins the observations
            as `task`; 0 without a memory.

    Attributes:
        env: the environment.
        closures: the same, without wrappers.
        seconds: spent in steps, so far.
        returns: (n,) sum of the rewards of each present episode, unscaled.
        episodes: (task, success) of the episodes that ended since they were last taken.
        recall: what the policy remembers; needed before the first reset, where there is a memory.
    """

    def __init__(
        self,
        env: ClosureVectorEnv | VectorWrapper,
        gamma: float = 0.99,
        scaled: bool = True,
        plain: bool = False,
        expert: Callable[[], np.ndarray] | None = None,
        told_size: int = 0,
    ):
        closures: Any = env.unwrapped
        if getattr(closures, "autoreset_mode", None) != AutoresetMode.SAME_STEP:
            raise ValueError("stable-baselines3 needs an environment with autoreset_mode SAME_STEP")
        self.env = env
        self.closures: ClosureVectorEnv = closures
        self.seconds = 0.0
        self.scaled = scaled and not plain
        self.plain = plain
        self.expert = expert
        self.told_size = told_size
        self.recall: Recall | None = None
        self.scale = ReturnScale(len(closures.tasks), env.num_envs, gamma)
        self.episodes: list[tuple[int, bool]] = []
        self.returns = np.zeros(env.num_envs)
        super().__init__(env.num_envs, self._space(), env.single_action_space)

    def _space(self) -> gym.Space:
        single: Any = self.env.single_observation_space
        if self.plain:
            return single
        spaces = dict(single.spaces)
        spaces["index"] = gym.spaces.Box(0, len(self.closures.tasks), (1,), np.float32)
        if "rgb" in spaces:
            spaces["rgb"] = flat_pictures()
        if self.expert:
            spaces["label"] = self.closures.single_action_space
        if self.told_size:
            spaces["task"] = gym.spaces.Box(-np.inf, np.inf, (self.told_size,), np.float32)
        return gym.spaces.Dict(spaces)

    def observe(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add the tasks' indices, the expert's labels, and what a memory finds out, to a batch."""
        if self.plain:
            return observation
        observation = {**observation, "index": self.closures.task[:, None].astype(np.float32)}
        if "rgb" in observation:
            observation["rgb"] = observation["rgb"].reshape(self.num_envs, -1)
        if self.recall:
            observation["task"] = self.recall.observe(observation["state"])
        if self.expert:  # by what is remembered now
            observation["label"] = self.expert().astype(np.float32)
        return observation

    def reset(self) -> Any:
        """Start all episodes; `reset_infos` tells of them.

        Raises:
            ValueError: `set_options` asked for something else than tasks.
        """
        options = self._batched(sb3.take_options(self))
        observation, info = self.env.reset(seed=sb3.take_seed(self), options=options)
        self.returns[:] = 0
        self.scale.returns[:] = 0
        self.reset_infos = _info_of_each(info)
        return self.observe(observation)

    def _batched(self, options: list[dict[str, Any]]) -> dict[str, Any]:
        """The options of each sub-environment as those of the batch: a task for each, or none."""
        names = dict.fromkeys(name for one in options for name in one)
        if not names:
            return {}
        if list(names) != ["task"] or not all(options) or len(options) != self.num_envs:
            raise ValueError(
                f"options must be a task for each of the {self.num_envs} sub-environments, "
                f"not {', '.join(map(repr, names))}"
            )
        return {"task": [one["task"] for one in options]}

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`.

        Raises:
            ValueError: an action that is NaN or infinite; nothing is stepped.
        """
        finite = np.isfinite(actions)
        if not finite.all():
            invalid = np.count_nonzero(~finite.reshape(self.num_envs, -1).all(1))
            raise ValueError(
                f"actions of {invalid} of {self.num_envs} sub-environments are NaN or infinite: "
                "the policy has diverged; a lower learning rate may help"
            )
        self._actions = actions

    def step_wait(self) -> Any:
        """Step all; infos are the environment's, and what stable-baselines3 reads at an end."""
        began = time.perf_counter()
        task = self.closures.task.copy()  # a finished sub-environment may draw another one
        if self.recall:
            self.recall.acted(self._actions)
        observation, reward, _, done, info = self.env.step(self._actions)
        ended = done & (self.closures.attempt == 0) if self.ends_with_trials else done
        self.returns += reward
        if self.scaled:
            reward = self.scale(reward, ended, task)
        infos = self._infos(done, task, info)
        for i in np.flatnonzero(done & ~ended):  # an attempt that another one follows
            del infos[i]["terminal_observation"], infos[i]["episode"]
            infos[i]["TimeLimit.truncated"] = False
        self.returns[ended] = 0
        self.seconds += time.perf_counter() - began
        return self.observe(observation), reward.astype(np.float32), ended, infos

    @property
    def ends_with_trials(self) -> bool:
        """Whether an episode of the algorithm is a trial with all its attempts.

        Its return then is that of all; its success that of the last one.
        """
        return self.recall is not None

    def _infos(self, done: np.ndarray, task: np.ndarray, info: dict) -> list[dict[str, Any]]:
        """The info of each sub-environment; `reset_infos` gets that of new episodes."""
        infos = _info_of_each(info)
        for i in np.flatnonzero(done).tolist():
            self.reset_infos[i] = infos[i]
            last = {name: info["final_info"][name][i].item() for name in infos[i]}
            infos[i] = {**last, **self._episode_info(i, int(task[i]), info)}
        for present in infos:
            present.setdefault("TimeLimit.truncated", False)
            present.setdefault("is_success", present["success"])
        return infos

    def _episode_info(self, i: int, task: int, info: dict) -> dict[str, Any]:
        """What stable-baselines3 reads of an episode that ended."""
        success = bool(info["final_info"]["success"][i])
        self.episodes.append((task, success))
        terminal = info["final_obs"][i]
        if not self.plain:
            terminal = {**terminal, "index": np.array([task], np.float32)}
            if "rgb" in terminal:
                terminal["rgb"] = terminal["rgb"].reshape(-1)
            if self.recall:  # the memory does not see the last state: what it found out before
                terminal["task"] = self.recall.told[i].copy()
        length = int(info["final_info"]["steps"][i])
        if self.ends_with_trials:
            length *= self.closures.attempts
        return {
            "terminal_observation": terminal,
            "TimeLimit.truncated": True,
            "is_success": success,
            "episode": {"r": self.returns[i], "l": length},
        }

    def take_successes(self) -> np.ndarray:
        """Success rate (tasks,) of the episodes finished since the last call; nan where none."""
        finished = self.episodes
        self.episodes = []
        rates = np.full(len(self.closures.tasks), np.nan)
        for index in range(len(rates)):
            if successes := [success for task, success in finished if task == index]:
                rates[index] = np.mean(successes)
        return rates

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The environment's attribute, once per sub-environment."""
        return [getattr(self.closures, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set the environment's attribute."""
        setattr(self.closures, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list:
        """Call a method of the environment, once; its value, once per sub-environment."""
        value = getattr(self.closures, method_name)(*args, **kwargs)
        return [value] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> Sequence[bool]:
        """No sub-environment is wrapped."""
        return [False] * len(list(self._get_indices(indices)))


def _info_of_each(info: dict[str, Any]) -> list[dict[str, Any]]:
    """The numbers of an info, arrays (n,) by name, as a dictionary for each sub-environment."""
    columns = {name: values.tolist() for name, values in info.items() if _is_column(name, values)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_column(name: str, values: Any) -> bool:
    """Whether it is an array of numbers; Gymnasium's final observations and infos are not."""
    return isinstance(values, np.ndarray) and values.dtype != object and not name.startswith("_")
