"""gymnasium.vector.VectorEnv over the batch: many closures, one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs import conditioning as conditionings
from envs import observations, rewards
from envs.batch import CONTROL_DT, ClosureBatch
from envs.closures import CLOSURES
from envs.pixels import Pixels
from envs.tables import lookup

OBSERVATIONS = {"state": ("state",), "rgb": ("rgb",), "state+rgb": ("state", "rgb")}
_TRACKERS = ("held_progress", "last_progress", "last_contact", "open_steps", "ever", "steps")


class ClosureVectorEnv(gym.vector.VectorEnv):
    """Sub-environment i opens tasks[i % len(tasks)]; all are stepped together.

    With `probabilities` (tasks,) set, a sub-environment draws its task anew for every episode.

    Observations are a Dict: `state` (n, 29 x history), laid out in `observations.PARTS`,
    oldest first; `rgb` (n, 84, 84, 6), two cameras; and `task` (n, size), the
    conditioning vector (absent for `none`). Actions are
    (n, 5) in [-1, 1], see `ClosureBatch.step`. Episodes are truncated after the row's
    `steps`; nothing terminates them.

    Args:
        tasks: rows of the table.
        num_envs: number of sub-environments.
        conditioning: a row of `conditioning.CONDITIONINGS`, or the tasks' vectors by name.
        threads: threads of the physics; 0: as many as the process has cores. Results do not depend on it.
        seed: seed of the first reset, unless that gets one.
        known_tasks: rows that `one_hot` has components for; by default `tasks`.
        autoreset_mode: Gymnasium's NEXT_STEP, SAME_STEP or DISABLED.
        variant_seed: which variants are drawn from the rows' ranges.
        observation: state | rgb | state+rgb.
        history: how many of the last states an observation holds; by default 1, and HISTORY
            for the conditioning `history`.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.

    Raises:
        KeyError: unknown task, conditioning, observation or level; close matches are named.
        RenderingUnavailable: `rgb` without OpenGL.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        tasks: str | Sequence[str],
        num_envs: int = 1,
        *,
        conditioning: str | Mapping[str, np.ndarray] = "one_hot",
        threads: int = 0,
        seed: int | None = None,
        known_tasks: Sequence[str] | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        variant_seed: int = 0,
        observation: str = "state",
        history: int | None = None,
        level: str = "default",
    ):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        if history is None:
            history = conditionings.HISTORY if conditioning == "history" else 1
        if history < 1:
            raise ValueError(f"history must be at least 1, not {history}")
        seen = lookup(OBSERVATIONS, observation, "observation")
        self.tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        self.num_envs = num_envs
        self.task_vectors = conditionings.vectors(conditioning, self.tasks, known_tasks)
        self.batch = ClosureBatch(
            self.tasks, num_envs, threads, variant_seed=variant_seed, level=level
        )
        self.task = np.arange(num_envs) % len(self.tasks)  # (n,)
        self.probabilities: np.ndarray | None = None  # (tasks,) of the next episodes' tasks
        self._names, self._lengths = (
            np.array(self.tasks),
            np.array([CLOSURES[t].steps for t in self.tasks]),
        )
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            **self.metadata,
            "autoreset_mode": self.autoreset_mode,
            "render_fps": round(1 / CONTROL_DT),
        }
        limit = observations.LIMIT
        self._past = (
            np.zeros((num_envs, history, observations.SIZE), np.float32)
            if "state" in seen
            else None
        )
        self._fresh = np.ones(num_envs, bool)
        self._pixels = Pixels(self.batch.pool) if "rgb" in seen else None
        spaces = {}
        if self._past is not None:
            spaces["state"] = gym.spaces.Box(
                -limit, limit, (history * observations.SIZE,), np.float32
            )
        if self._pixels:
            spaces["rgb"] = gym.spaces.Box(0, 255, self._pixels.shape, np.uint8)
        if self.task_vectors.shape[1]:
            spaces["task"] = gym.spaces.Box(-limit, limit, self.task_vectors.shape[1:], np.float32)
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (5,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seed = seed
        self._rngs: list[np.random.Generator] | None = None
        self.held_progress, self.last_progress = np.zeros(num_envs), np.zeros(num_envs)
        self.last_contact = np.zeros(num_envs, bool)
        self.open_steps, self.steps = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.ever, self._done = np.zeros(num_envs, bool), np.zeros(num_envs, bool)

    def reset(self, *, seed: int | Sequence[int | None] | None = None, options: dict | None = None):
        """Start episodes: all, or those of `options={"reset_mask": bool (n,)}`.

        The same seed gives the same starts, for any number of threads. A list gives
        each sub-environment its own.
        """
        if self._rngs is None and seed is None:
            seed = self._seed
        if isinstance(seed, Sequence):
            self._rngs = [np.random.default_rng(s) for s in seed]
        elif seed is not None or self._rngs is None:
            self._rngs = [
                np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(self.num_envs)
            ]
        mask = (options or {}).get("reset_mask")
        ids = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        if mask is not None and np.shape(mask) != (self.num_envs,):
            raise ValueError(f"reset_mask must have shape ({self.num_envs},), not {np.shape(mask)}")
        self._reset(ids)
        m = self.batch.measure()
        return self._observation(m, advance=False), self._info(m)

    @property
    def max_steps(self) -> np.ndarray:
        """Control steps (n,) of the present episodes."""
        return self._lengths[self.task]

    def _reset(self, ids: np.ndarray) -> None:
        if len(ids):
            if self.probabilities is not None:
                self.task[ids] = [
                    self._rngs[i].choice(len(self.tasks), p=self.probabilities) for i in ids
                ]
            self.batch.reset(ids, self.task[ids], [self._rngs[i] for i in ids])
        for name in _TRACKERS:
            getattr(self, name)[ids] = 0
        self._done[ids] = False
        self._fresh[ids] = True

    def step(self, actions: np.ndarray):
        """Advance every sub-environment by one control step (50 ms)."""
        if self._rngs is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.num_envs, 5):
            raise ValueError(f"actions must have shape ({self.num_envs}, 5), not {actions.shape}")
        restarted = (
            self._done.copy()
            if self.autoreset_mode == AutoresetMode.NEXT_STEP
            else np.zeros(self.num_envs, bool)
        )
        self.batch.step(
            np.minimum(np.maximum(np.where(np.isnan(actions), 0.0, actions), -1.0), 1.0)
        )
        self.steps += 1
        if restarted.any():
            self._reset(np.flatnonzero(restarted))
        m = self.batch.measure()
        self._track(m, ~restarted)
        info = self._info(m)
        reward = np.where(restarted, 0.0, rewards.total(info))
        truncated = self.steps >= self.max_steps
        observation = self._observation(m)
        self._done = truncated.copy()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and truncated.any():
            last, final = info, observation
            self._reset(np.flatnonzero(truncated))
            m = self.batch.measure()
            observation, info = self._observation(m, advance=False), self._info(m)
            info["final_info"], info["_final_info"] = last, truncated.copy()
            info["final_obs"] = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(truncated):
                info["final_obs"][i] = {k: v[i] for k, v in final.items()}
            info["_final_obs"] = truncated.copy()
        return observation, reward, np.zeros(self.num_envs, bool), truncated, info

    def _track(self, m: dict[str, np.ndarray], alive: np.ndarray) -> None:
        gain = m["progress"] - self.last_progress
        # a finger at the lid when the step begins, or a hold when it ends: a lid that flies into a finger came by itself
        held = self.last_contact | np.where(m["hold_rule"], m["holds"], m["contact"])
        self.held_progress = (
            np.minimum(
                np.maximum(self.held_progress + np.where(held, gain, np.minimum(0, gain)), 0), 1
            )
            * alive
        )
        self.last_progress, self.last_contact = m["progress"].copy(), m["contact"].copy()
        opened = rewards.is_open(m, self.held_progress)
        self.open_steps = np.where(opened & alive, self.open_steps + 1, 0)
        self.ever |= self.success

    @property
    def success(self) -> np.ndarray:
        """Whether each closure has been open for the last 5 control steps, bool (n,)."""
        return self.open_steps >= rewards.HOLD_STEPS

    def _observation(
        self, m: dict[str, np.ndarray] | None, advance: bool = True
    ) -> dict[str, np.ndarray]:
        """Observations of measurements m, which join the history; of the history as it is when m is None."""
        observation = {}
        if self._past is not None:
            if m is not None:
                now = self.batch.variation.noisy(observations.observe(m, self.held_progress))
                if advance:
                    self._past[:, :-1] = self._past[:, 1:]
                self._past[:, -1] = now
                if self._fresh.any():
                    self._past[self._fresh] = now[self._fresh, None]
                    self._fresh[:] = False
            observation["state"] = self._past.reshape(self.num_envs, -1).copy()
        if self._pixels:
            b = self.batch
            observation["rgb"] = self._pixels.draw(b.variant, b.qpos, b.mocap_pos, b.mocap_quat)
        if self.task_vectors.shape[1]:
            observation["task"] = self.task_vectors[self.task]
        return observation

    def _info(self, m: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        success = self.success
        return {
            **rewards.reward_terms(m, self.held_progress, success),
            "success": success,
            "success_any": self.ever.copy(),
            "progress": m["progress"],
            "contact_fraction": self.held_progress / np.maximum(m["progress"], 1e-9),
            "task": self.task.copy(),
            "task_name": self._names[self.task],
            "steps": self.steps.copy(),
        }

    def snapshot(self) -> dict:
        """The exact state of all sub-environments, random generators included."""
        rngs = [r.bit_generator.state for r in self._rngs or []]
        past = {} if self._past is None else {"past": self._past.copy()}
        return {
            "batch": self.batch.snapshot(),
            "rngs": rngs,
            "done": self._done.copy(),
            **past,
            **{k: getattr(self, k).copy() for k in _TRACKERS},
        }

    def restore(self, snapshot: dict) -> dict[str, np.ndarray]:
        """Return to a snapshot and its observation; what follows is bit for bit what followed it."""
        self.batch.restore(snapshot["batch"])
        for k in _TRACKERS:
            setattr(self, k, snapshot[k].copy())
        self._done, self.task = snapshot["done"].copy(), self.batch.task.copy()
        if self._past is not None:
            self._past[:] = snapshot["past"]
        self._fresh[:] = False
        self._rngs = [np.random.default_rng() for _ in snapshot["rngs"]]
        for rng, state in zip(self._rngs, snapshot["rngs"], strict=True):
            rng.bit_generator.state = state
        return self._observation(None)

    def close_extras(self, **kwargs) -> None:
        """Free the renderers."""
        if self._pixels:
            self._pixels.close()
