"""gymnasium.Env: one simulation, the n = 1 view of the vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from uncap.envs import checks
from uncap.envs.batch import CONTROL_DT
from uncap.envs.vector_env import ClosureVectorEnv

Observation = dict[str, np.ndarray]


class ClosureEnv(gym.Env):
    """One Panda and a closure; spaces and rules are `ClosureVectorEnv`'s.

    Of several rows, each episode takes the next one from a shuffled deck, or the one that the
    option `task` of `reset` names.

    Info is that of the vector environment as Python's numbers; after a step it has `is_success`,
    too, which stable-baselines3 reads at the end. It can be copied and pickled.

    Args:
        task: a row of the table of closures, or several.
        conditioning: a row of `conditioning.CONDITIONINGS`, or the task's vector by name.
        known_tasks: rows that `one_hot` has components for; by default those of `task`.
        render_mode: None or "rgb_array". `gymnasium.make` knows "human", too: a window, by pygame.
        variant_seed: which variants are drawn from the row's ranges, see `pool.VARIANT_STREAMS`.
        observation: state | rgb | state+rgb.
        history: how many of the last states an observation holds.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.
        disturb: what is disturbed beside that, see `ClosureVectorEnv`.
        sensors: what the state is made of, a row of `sensors.SENSORS`: full, arm or pictures.
        episode_steps: control steps of an episode; by default the row's `steps`.
        privileged: observe the `full` state, too, see `ClosureVectorEnv`.
        reward: what a control step is paid, a row of `rewards.REWARDS`.
        engine: what runs the simulation, a row of `engines.ENGINES`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / CONTROL_DT)}

    def __init__(  # noqa: PLR0913 - the public choices of an environment, all by name
        self,
        task: str | Sequence[str],
        *,
        conditioning: str | Mapping[str, np.ndarray] = "one_hot",
        known_tasks: Sequence[str] | None = None,
        render_mode: str | None = None,
        variant_seed: int = 0,
        observation: str = "state",
        history: int | None = None,
        level: str = "default",
        disturb: Mapping[str, int] | None = None,
        sensors: str = "full",
        privileged: bool = False,
        episode_steps: int | None = None,
        reward: str = "dense",
        engine: str = "cpu",
    ):
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"unknown render_mode {checks.brief(render_mode)}: allowed: None, 'rgb_array'"
            )
        self.render_mode = render_mode
        self._vector = ClosureVectorEnv(
            task,
            1,
            conditioning=conditioning,
            known_tasks=known_tasks,
            threads=1,
            assignment="fixed" if isinstance(task, str) else "deck",
            autoreset_mode=AutoresetMode.DISABLED,
            variant_seed=variant_seed,
            observation=observation,
            history=history,
            level=level,
            disturb=disturb,
            sensors=sensors,
            privileged=privileged,
            episode_steps=episode_steps,
            render_mode=render_mode,
            reward=reward,
            engine=engine,
        )
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; the same seed gives the same start.

        Args:
            seed: of the start.
            options: `task`: the row of the episode, one of the environment's.

        Raises:
            ValueError: a seed or an option that is not allowed; nothing is changed.
        """
        seed = checks.seed(seed)
        options = checks.options(options, ("task",))
        observation, info = self._vector.reset(seed=seed, options=options)
        super().reset(seed=seed)
        return _first_of_each(observation), _numbers(info)

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance one control step (50 ms).

        Raises:
            ResetNeeded: before the first reset, and after the end of an episode.
            ValueError: an action of another shape or type.
        """
        observation, reward, _, truncated, batched = self._vector.step(_batch_of_one(action))
        terminated = False
        info = _numbers(batched)
        info["is_success"] = info["success"]
        return (
            _first_of_each(observation),
            float(reward[0]),
            terminated,
            bool(truncated[0]),
            info,
        )

    @property
    def task_name(self) -> str:
        """The row of the present episode."""
        (name,) = self._vector.task_names
        return name

    def snapshot(self) -> dict[str, Any]:
        """The exact state, see `ClosureVectorEnv.snapshot`."""
        return self._vector.snapshot()

    def restore(self, snapshot: dict[str, Any]) -> Observation:
        """Return to a snapshot; what follows is bit for bit what followed it.

        Returns:
            The observation at the snapshot.

        Raises:
            ValueError: the snapshot is of something else, or damaged; nothing is changed.
        """
        return _first_of_each(self._vector.restore(snapshot))

    def render(self) -> np.ndarray | None:
        """A (480, 640, 3) uint8 frame, or None without a render mode."""
        frames = self._vector.render()
        return frames[0] if frames is not None else None

    def close(self) -> None:
        """Free the renderers."""
        self._vector.close_extras()


def without_limit(task: str, **choices: Any) -> ClosureEnv:
    """The environment of a row for `gymnasium.make`, which ends episodes itself.

    Its `max_episode_steps` is the row's unless it is told another one.

    Args:
        task: the row.
        choices: see `ClosureEnv`.

    Raises:
        ValueError: `episode_steps`, which would not be what ends them.
    """
    if "episode_steps" in choices:
        raise ValueError("gymnasium.make ends episodes by max_episode_steps, not episode_steps")
    return ClosureEnv(task, episode_steps=checks.MOST_STEPS, **choices)


def of_set(
    tasks: Sequence[str],
    lengths: tuple[int | None, int | None] = (None, None),
    episode_steps: int | None = None,
    **choices: Any,
) -> ClosureEnv:
    """The environment of a task set for `gymnasium.make`; it ends episodes as each row says.

    Gymnasium's `max_episode_steps` can only make episodes shorter: it cuts them from outside.
    `episode_steps` sets their length.

    Args:
        tasks: the rows.
        lengths: control steps of an episode in the set: of one attempt, and of several.
        episode_steps: the same, if not the set's.
        choices: see `ClosureEnv`.
    """
    steps = lengths[0] if episode_steps is None else episode_steps
    return ClosureEnv(tasks, episode_steps=steps, **choices)


def _first_of_each(batched: dict[str, Any]) -> dict[str, Any]:
    """The first sub-environment's entry of each array."""
    return {key: values[0] for key, values in batched.items()}


def _numbers(info: dict[str, Any]) -> dict[str, Any]:
    """The first sub-environment's entry of each array (1,), as Python's number."""
    return {key: values[0].item() for key, values in info.items()}


def _batch_of_one(action: Any) -> np.ndarray:
    """An action (5,) as (1, 5)."""
    return checks.numbers("an action", action)[None]
