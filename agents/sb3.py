"""What Uncap needs of stable-baselines3 beyond its public names, in one place.

Written for stable-baselines3 2.6 to 2.9. The functions read and write private fields of its
algorithms; everywhere else only public names and the methods that its subclasses override are
used.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnv

SILENT = 10**9  # log interval that never comes
Write = Callable[[dict[str, float], int], None]  # (numbers by name, environment steps)


def has_begun(model: BaseAlgorithm) -> bool:
    """Whether a model has started its first rollout."""
    return model._last_obs is not None


def rollout_state(model: BaseAlgorithm) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Where the next rollout begins: observations (n, ...) by name, and episode starts (n,)."""
    observations: Any = model._last_obs
    starts: Any = model._last_episode_starts
    return dict(observations), starts


def set_rollout_state(
    model: BaseAlgorithm, observations: dict[str, np.ndarray], starts: np.ndarray
) -> None:
    """Begin the next rollout there, see `rollout_state`."""
    model._last_obs = observations
    model._last_episode_starts = starts


def updates(model: BaseAlgorithm) -> int:
    """Updates so far, as the model counts them."""
    return model._n_updates


def set_updates(model: BaseAlgorithm, count: int) -> None:
    """Set the number of updates so far."""
    model._n_updates = count


def remaining(model: BaseAlgorithm) -> float:
    """Share of the present call of `learn` that is left, the argument of schedules."""
    return model._current_progress_remaining


def prepare(model: BaseAlgorithm) -> None:
    """Do what `learn` does before its first rollout."""
    model._setup_learn(1)


def learn(model: BaseAlgorithm, env_steps: int, on_update: Callable[[], bool], fresh: bool) -> None:
    """Let a model learn for a number of environment steps.

    Args:
        model: stable-baselines3's.
        env_steps: from here on.
        on_update: called after each update; returns whether to go on.
        fresh: count environment steps from 0.
    """
    callback = _AfterUpdate(on_update)
    model.learn(env_steps, callback=callback, reset_num_timesteps=fresh, log_interval=SILENT)


def silence(model: BaseAlgorithm) -> None:
    """Give a model a logger that writes nothing: its own makes a folder, even to say nothing."""
    model.set_logger(Logger(None, []))


def log_to(model: BaseAlgorithm, write: Write) -> None:
    """Give a model a logger that hands its diagnostics to a function, at each `dump`."""
    model.set_logger(Logger(None, [_Handed(write)]))


def dump(model: Any) -> None:
    """Have a model log what it recorded since the last time, and its last episodes."""
    model.dump_logs()


def episodes(model: BaseAlgorithm) -> list[tuple[float, int, bool]]:
    """Return, length and success of the last episodes, whose means a model logs."""
    about, successes = model.ep_info_buffer or (), model.ep_success_buffer or ()
    return [
        (float(info["r"]), int(info["l"]), bool(success))
        for info, success in zip(about, successes, strict=True)
    ]


def set_episodes(model: BaseAlgorithm, last: Sequence[Sequence[float]]) -> None:
    """Set the last episodes, see `episodes`."""
    window = model._stats_window_size
    about = [{"r": total, "l": length} for total, length, _ in last]
    model.ep_info_buffer = deque(about, window)
    model.ep_success_buffer = deque([bool(success) for *_, success in last], window)


def awaits_first_reset(env: VecEnv) -> bool:
    """Whether a seed that `env.seed` asked for still waits for a reset."""
    return any(seed is not None for seed in env._seeds)


def take_seed(env: VecEnv) -> int | None:
    """The seed that `env.seed` asked for; asked for once."""
    seeds = [seed for seed in env._seeds if seed is not None]
    env._reset_seeds()
    return seeds[0] if seeds else None


def take_options(env: VecEnv) -> list[dict[str, Any]]:
    """The options that `env.set_options` asked for, of each sub-environment; asked for once."""
    options = env._options
    env._reset_options()
    return options


class Timed:
    """Mixin that times a model's rollouts and updates.

    Attributes:
        seconds: spent in `rollout` and in `update`, so far.
    """

    seconds: dict[str, float]

    def __init__(self, *args: Any, **kwargs: Any):
        self.seconds = {}
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """One rollout."""
        with self.timed("rollout"):
            return super().collect_rollouts(*args, **kwargs)  # pyright: ignore  # of the model

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time that passes to a part."""
        began = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began


class _Handed(KVWriter):
    """Hands the numbers that stable-baselines3 shows in TensorBoard to a function."""

    def __init__(self, function: Write):
        self.function = function

    def write(
        self,
        key_values: Mapping[str, Any],
        key_excluded: Mapping[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        shown = {
            name: float(value)
            for name, value in key_values.items()
            if "tensorboard" not in key_excluded[name]
        }
        self.function(shown, step)

    def close(self) -> None:
        pass


class _AfterUpdate(BaseCallback):
    """Calls a function between updates, and stops learning when it returns False."""

    def __init__(self, function: Callable[[], bool]):
        super().__init__()
        self.function = function
        self.goes_on = True
        self.first_rollout = True

    def _on_rollout_start(self) -> None:
        if not self.first_rollout:  # before the first rollout no update has happened
            self.goes_on = self.function()
        self.first_rollout = False

    def _on_step(self) -> bool:
        return self.goes_on

    def _on_training_end(self) -> None:
        if self.goes_on:
            self.function()
