"""Adapter: our vector environment as a stable-baselines3 VecEnv, with rewards scaled per task."""

from __future__ import annotations

import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv

from envs import ClosureVectorEnv


class ReturnScale:
    """Running standard deviation of the discounted return, one per task (Welford).

    Dividing rewards by it gives every task value targets of the same size.
    """

    def __init__(self, num_tasks: int, num_envs: int, gamma: float):
        self.gamma = gamma
        self.returns = np.zeros(num_envs)
        self.count, self.mean, self.m2 = (
            np.full(num_tasks, 1e-4),
            np.zeros(num_tasks),
            np.zeros(num_tasks),
        )

    def __call__(self, reward: np.ndarray, done: np.ndarray, task: np.ndarray) -> np.ndarray:
        """Scale rewards (n,) of the tasks (n,), and learn from them."""
        self.returns = self.returns * self.gamma + reward
        tasks = len(self.count)
        n = np.bincount(task, minlength=tasks)
        mean = np.bincount(task, self.returns, tasks) / np.maximum(n, 1)
        spread = np.bincount(task, (self.returns - mean[task]) ** 2, tasks)
        delta, total = mean - self.mean, self.count + n
        self.m2 += spread + delta**2 * self.count * n / total
        self.mean += delta * n / total
        self.count = total
        self.returns[done] = 0.0
        return reward / np.sqrt(self.m2 / self.count + 1e-2)[task]

    def state(self) -> dict[str, np.ndarray]:
        """Everything it has learned, by name."""
        return {k: getattr(self, k).copy() for k in ("returns", "count", "mean", "m2")}

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Return to a saved state."""
        for k, value in state.items():
            setattr(self, k, np.array(value))


class TaskVecEnv(VecEnv):
    """ClosureVectorEnv for stable-baselines3; observations gain `index`, the task's (n, 1).

    Args:
        env: the environment, with autoreset_mode SAME_STEP.
        gamma: discount of the returns that rewards are scaled by.
        scaled: scale rewards per task.
        plain: leave observations and rewards as they are: for stable-baselines3's own algorithms.
        expert: gives the expert's actions (n, a) for the present states; they join the observations as `label`.
    """

    def __init__(
        self,
        env: ClosureVectorEnv,
        gamma: float = 0.99,
        scaled: bool = True,
        plain: bool = False,
        expert: Callable[[], np.ndarray] | None = None,
    ):
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ValueError("stable-baselines3 needs an environment with autoreset_mode SAME_STEP")
        self.env = env
        self.seconds, self.scaled, self.plain = (
            0.0,
            scaled and not plain,
            plain,
        )  # seconds: spent in steps
        self.scale = ReturnScale(len(env.tasks), env.num_envs, gamma)
        self.episodes: list[tuple[int, bool]] = []  # (task, success) since last taken
        self.expert = expert
        own = {} if plain else {"index": gym.spaces.Box(0, len(env.tasks), (1,), np.float32)}
        own |= {"label": env.single_action_space} if expert else {}
        space = gym.spaces.Dict({**env.single_observation_space.spaces, **own})
        super().__init__(env.num_envs, space, env.single_action_space)
        self._return = np.zeros(env.num_envs)

    def observe(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add the tasks' indices, and the expert's labels, to a batched observation."""
        labels = {"label": self.expert().astype(np.float32)} if self.expert else {}
        return (
            observation
            if self.plain
            else {**observation, "index": self.env.task[:, None].astype(np.float32), **labels}
        )

    def reset(self):
        """Start all episodes."""
        seeds = [s for s in self._seeds if s is not None]
        observation, _ = self.env.reset(seed=seeds[0] if seeds else None)
        self._reset_seeds()
        self._return[:] = 0
        return self.observe(observation)

    def step_async(self, actions) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self):
        """Step all; infos are filled for finished episodes only."""
        began = time.perf_counter()
        task_then = self.env.task.copy()  # a finished sub-environment may have drawn another task
        observation, reward, _, done, info = self.env.step(self._actions)
        self._return += reward
        if self.scaled:
            reward = self.scale(reward, done, task_then)
        infos: list[dict] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            task, success = int(task_then[i]), bool(info["final_info"]["success"][i])
            self.episodes.append((task, success))
            terminal = {
                **info["final_obs"][i],
                **({} if self.plain else {"index": np.array([task], np.float32)}),
            }
            infos[i] = {
                "terminal_observation": terminal,
                "TimeLimit.truncated": True,
                "is_success": success,
                "episode": {"r": self._return[i], "l": int(info["final_info"]["steps"][i])},
            }
        self._return[done] = 0
        self.seconds += time.perf_counter() - began
        return self.observe(observation), reward.astype(np.float32), done, infos

    def take_successes(self) -> np.ndarray:
        """Success rate (tasks,) of the episodes finished since the last call; nan where none."""
        finished, self.episodes = self.episodes, []
        rates = np.full(len(self.env.tasks), np.nan)
        for t in range(len(rates)):
            if hits := [s for task, s in finished if task == t]:
                rates[t] = np.mean(hits)
        return rates

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name, indices=None):
        """The environment's attribute, once per sub-environment."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name, value, indices=None):
        """Set the environment's attribute."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name, *args, indices=None, **kwargs):
        """Call a method of the environment."""
        return [getattr(self.env, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class, indices=None):
        """No sub-environment is wrapped."""
        return [False] * self.num_envs
