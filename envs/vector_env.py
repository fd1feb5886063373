"""gymnasium.vector.VectorEnv over the batch: many closures, one step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs import observations, rewards
from envs.batch import CONTROL_DT, ClosureBatch
from envs.closures import CLOSURES
from envs.conditioning import CONDITIONINGS, vectors
from envs.episodes import EpisodeTracker, StateHistory
from envs.pixels import Pixels
from envs.tables import lookup

ACTION_SIZE = 5  # numbers of an action, see `ClosureBatch.step`
Observation = dict[str, np.ndarray]
Info = dict[str, Any]


class ObservationKind(NamedTuple):
    """What an observation shows beside the task vector, and one line on it."""

    state: bool
    rgb: bool
    words: str


OBSERVATIONS = {
    "state": ObservationKind(True, False, "what is measured, laid out in `observations.PARTS`"),
    "rgb": ObservationKind(False, True, "the pictures of two cameras"),
    "state+rgb": ObservationKind(True, True, "both"),
}


class ClosureVectorEnv(gym.vector.VectorEnv):
    """Sub-environment i opens tasks[i % len(tasks)]; all are stepped together.

    With `probabilities` (tasks,) set, a sub-environment draws its task anew for every episode.

    Observations are a Dict: `state` (n, 29 x history), laid out in `observations.PARTS`,
    oldest first; `rgb` (n, 84, 84, 6), two cameras; and `task` (n, size), the
    conditioning vector (absent where that is empty). Actions are (n, 5) in [-1, 1], see
    `ClosureBatch.step`. Episodes are truncated after the row's `steps`; nothing terminates them.

    Args:
        tasks: rows of the table of closures.
        num_envs: number of sub-environments.
        conditioning: a row of `conditioning.CONDITIONINGS`, or the tasks' vectors by name.
        threads: threads of the physics; 0: as many as the process has cores. Results do not
            depend on it.
        seed: seed of the first reset, unless that gets one.
        known_tasks: rows that `one_hot` has components for; by default `tasks`.
        autoreset_mode: Gymnasium's NEXT_STEP, SAME_STEP or DISABLED.
        variant_seed: which variants are drawn from the rows' ranges.
        observation: a row of OBSERVATIONS: state, rgb or state+rgb.
        history: how many of the last states an observation holds; by default what the row of
            the conditioning says: 1, and `conditioning.HISTORY` for `history`.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.

    Attributes:
        batch: the simulations.
        task: (n,) task index of the present episodes.
        task_vectors: (tasks, size) conditioning vectors.
        probabilities: (tasks,) of the next episodes' tasks; None: the tasks stay.

    Raises:
        KeyError: unknown task, conditioning, observation or level; close matches are named.
        ValueError: a number out of range; a conditioning that cannot act on a task.
        RenderingUnavailable: `rgb` without OpenGL.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(  # noqa: PLR0913 - the public choices of an environment, all by name
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
        if history is not None and history < 1:
            raise ValueError(f"history must be at least 1, not {history}")
        kind = lookup(OBSERVATIONS, observation, "observation")
        self.tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        self.num_envs = num_envs
        self.task_vectors = vectors(conditioning, self.tasks, known_tasks)
        if history is None:
            history = _states_of(conditioning)
        self.batch = ClosureBatch(
            self.tasks, num_envs, threads, variant_seed=variant_seed, level=level
        )
        self._history: StateHistory | None = None
        if kind.state:
            self._history = StateHistory(num_envs, history, observations.SIZE)
        self._pixels = Pixels(self.batch.pool) if kind.rgb else None
        self._set_spaces(history)
        self._set_autoreset(AutoresetMode(autoreset_mode))

        self.task = np.arange(num_envs) % len(self.tasks)
        self.probabilities: np.ndarray | None = None
        self._task_names = np.array(self.tasks)
        self._task_steps = np.array([CLOSURES[task].steps for task in self.tasks])
        self._first_seed = seed
        self._rngs: list[np.random.Generator] | None = None  # before the first reset
        self._tracker = EpisodeTracker(num_envs)
        self._done = np.zeros(num_envs, bool)  # episodes that the last step has ended

    def _set_spaces(self, history: int) -> None:
        """Set Gymnasium's four spaces; observations hold `history` states."""
        limit = observations.LIMIT
        spaces: dict[str, gym.Space] = {}
        if self._history is not None:
            size = history * observations.SIZE
            spaces["state"] = gym.spaces.Box(-limit, limit, (size,), np.float32)
        if self._pixels is not None:
            spaces["rgb"] = gym.spaces.Box(0, 255, self._pixels.shape, np.uint8)
        if self._has_task_vectors:
            size = self.task_vectors.shape[1]
            spaces["task"] = gym.spaces.Box(-limit, limit, (size,), np.float32)
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _set_autoreset(self, mode: AutoresetMode) -> None:
        self.autoreset_mode = mode
        self.metadata = {
            **self.metadata,
            "autoreset_mode": mode,
            "render_fps": round(1 / CONTROL_DT),
        }

    @property
    def _has_task_vectors(self) -> bool:
        return self.task_vectors.shape[1] > 0

    @property
    def max_steps(self) -> np.ndarray:
        """Control steps (n,) of the present episodes."""
        return self._task_steps[self.task]

    @property
    def success(self) -> np.ndarray:
        """Whether each closure has been open for the last 5 control steps, bool (n,)."""
        return self._tracker.success

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, Info]:
        """Start episodes: all, or those of `options={"reset_mask": bool (n,)}`.

        The same seed gives the same starts, for any number of threads. A list gives
        each sub-environment its own.
        """
        self._seed_generators(seed)
        self._restart(self._masked(options))
        measured = self.batch.measure()
        self._remember(measured, advance=False)
        return self._observation(), self._info(measured)

    def _seed_generators(self, seed: int | Sequence[int | None] | None) -> None:
        """Make new generators if there is a seed, and at the first reset."""
        if self._rngs is None and seed is None:
            seed = self._first_seed
        if isinstance(seed, Sequence):
            self._rngs = [np.random.default_rng(s) for s in seed]
        elif seed is not None or self._rngs is None:
            sequences = np.random.SeedSequence(seed).spawn(self.num_envs)
            self._rngs = [np.random.default_rng(sequence) for sequence in sequences]

    def _masked(self, options: dict[str, Any] | None) -> np.ndarray:
        """Sub-environments (k,) that a reset is asked for."""
        mask = (options or {}).get("reset_mask")
        if mask is None:
            return np.arange(self.num_envs)
        if np.shape(mask) != (self.num_envs,):
            raise ValueError(f"reset_mask must have shape ({self.num_envs},), not {np.shape(mask)}")
        return np.flatnonzero(mask)

    def _restart(self, ids: np.ndarray) -> None:
        """Start new episodes of sub-environments ids (k,)."""
        assert self._rngs is not None  # set by the first reset
        if len(ids):
            rngs = [self._rngs[i] for i in ids]
            if self.probabilities is not None:
                self.task[ids] = [rng.choice(len(self.tasks), p=self.probabilities) for rng in rngs]
            self.batch.reset(ids, self.task[ids], rngs)
        self._tracker.restart(ids)
        self._done[ids] = False
        if self._history is not None:
            self._history.restart(ids)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Advance every sub-environment by one control step (50 ms).

        In mode NEXT_STEP, sub-environments whose episode the last step ended restart instead:
        their action is ignored and their reward 0.

        Returns:
            Observations, rewards (n,), terminated (n,), truncated (n,) and info.
        """
        actions = self._valid_actions(actions)
        restarting = self._restarting_in_this_step()
        self.batch.step(actions)
        self._tracker.steps += 1
        if restarting.any():
            self._restart(np.flatnonzero(restarting))
        measured = self.batch.measure()
        self._tracker.update(measured, running=~restarting)
        self._remember(measured, advance=True)

        observation = self._observation()
        info = self._info(measured)
        reward = np.where(restarting, 0.0, rewards.total(info))
        terminated = np.zeros(self.num_envs, bool)
        truncated = self._tracker.steps >= self.max_steps
        self._done = truncated.copy()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and truncated.any():
            observation, info = self._restart_in_same_step(truncated, observation, info)
        return observation, reward, terminated, truncated, info

    def _valid_actions(self, actions: np.ndarray) -> np.ndarray:
        """Actions (n, 5) in [-1, 1], float64; a NaN is taken for 0.

        Raises:
            ResetNeeded: before the first reset.
            ValueError: wrong shape.
        """
        if self._rngs is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        actions = np.asarray(actions, np.float64)
        if actions.shape != (self.num_envs, ACTION_SIZE):
            raise ValueError(
                f"actions must have shape ({self.num_envs}, {ACTION_SIZE}), not {actions.shape}"
            )
        numbers = np.where(np.isnan(actions), 0.0, actions)
        return np.minimum(np.maximum(numbers, -1.0), 1.0)

    def _restarting_in_this_step(self) -> np.ndarray:
        """Sub-environments that restart instead of a control step, bool (n,): in NEXT_STEP only."""
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            return self._done.copy()
        return np.zeros(self.num_envs, bool)

    def _restart_in_same_step(
        self, truncated: np.ndarray, last_observation: Observation, last_info: Info
    ) -> tuple[Observation, Info]:
        """Restart the episodes that have just ended.

        Args:
            truncated: (n,) which ended.
            last_observation: of all sub-environments, before.
            last_info: the same.

        Returns:
            Observation and info of the new episodes. The info holds the last ones of those
            that ended, by Gymnasium's names.
        """
        ids = np.flatnonzero(truncated)
        self._restart(ids)
        measured = self.batch.measure()
        self._remember(measured, advance=False)
        observation = self._observation()
        info = self._info(measured)

        final_observations = np.full(self.num_envs, None, object)
        for i in ids:
            final_observations[i] = {key: values[i] for key, values in last_observation.items()}
        info["final_info"] = last_info
        info["_final_info"] = truncated.copy()
        info["final_obs"] = final_observations
        info["_final_obs"] = truncated.copy()
        return observation, info

    def _remember(self, measured: dict[str, np.ndarray], *, advance: bool) -> None:
        """Add the measured state, with its noise, to the history.

        Args:
            measured: measurements, see `ClosureBatch.measure`.
            advance: after a control step; else it takes the last state's place.
        """
        if self._history is None:
            return
        state = observations.observe(measured, self._tracker.held_progress)
        state = self.batch.variation.noisy(state)
        if advance:
            self._history.append(state)
        else:
            self._history.replace_last(state)

    def _observation(self) -> Observation:
        """Present observations, of the history as it is."""
        observation = {}
        if self._history is not None:
            observation["state"] = self._history.stacked()
        if self._pixels is not None:
            batch = self.batch
            observation["rgb"] = self._pixels.draw(
                batch.variant, batch.qpos, batch.mocap_pos, batch.mocap_quat
            )
        if self._has_task_vectors:
            observation["task"] = self.task_vectors[self.task]
        return observation

    def _info(self, measured: dict[str, np.ndarray]) -> Info:
        tracker = self._tracker
        success = tracker.success
        progress = measured["progress"]
        return {
            **rewards.reward_terms(measured, tracker.held_progress, success),
            "success": success,
            "success_any": tracker.succeeded.copy(),
            "progress": progress,
            "contact_fraction": tracker.held_progress / np.maximum(progress, 1e-9),
            "task": self.task.copy(),
            "task_name": self._task_names[self.task],
            "steps": tracker.steps.copy(),
        }

    def snapshot(self) -> dict[str, Any]:
        """The exact state of all sub-environments; checkpoints hold it by these names."""
        snapshot = {
            "batch": self.batch.snapshot(),
            "rngs": [rng.bit_generator.state for rng in self._rngs or []],
            "done": self._done.copy(),
        }
        if self._history is not None:
            snapshot["past"] = self._history.snapshot()
        return {**snapshot, **self._tracker.snapshot()}

    def restore(self, snapshot: dict[str, Any]) -> Observation:
        """Return to a snapshot; what follows is bit for bit what followed it.

        Returns:
            The observation at the snapshot.
        """
        self.batch.restore(snapshot["batch"])
        self.task = self.batch.task.copy()
        self._tracker.restore(snapshot)
        self._done = snapshot["done"].copy()
        if self._history is not None:
            self._history.restore(snapshot["past"])
        self._rngs = [_generator_in(state) for state in snapshot["rngs"]]
        return self._observation()

    def close_extras(self, **kwargs) -> None:
        """Free the renderers."""
        if self._pixels is not None:
            self._pixels.close()


def _states_of(conditioning: str | Mapping[str, np.ndarray]) -> int:
    """How many of the last states an observation holds for a conditioning."""
    if isinstance(conditioning, str):
        return lookup(CONDITIONINGS, conditioning, "conditioning").states
    return 1


def _generator_in(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator in a state of `bit_generator`."""
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng
