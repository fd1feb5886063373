"""Warm starts: what a policy learns before reinforcement. A row each in `tables.WARM_STARTS`."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

from uncap.agents.config import CloneConfig, DaggerConfig
from uncap.agents.learner import Learner


class WarmStartConfig(NamedTuple):
    """Settings of all warm starts; each takes what it needs."""

    dagger: DaggerConfig
    clone: CloneConfig
    demos: pathlib.Path | None  # a recording


class Progress(NamedTuple):
    """How far a warm start is."""

    done: int  # of total
    total: int
    loss: float  # mean L1 distance from the expert's action
    env_steps: int  # so far


OnProgress = Callable[[Progress], bool]  # returns whether to go on


def dagger(learner: Learner, config: WarmStartConfig, on_progress: OnProgress) -> None:
    """Imitate the scripted experts in the states that the policy reaches."""
    total = config.dagger.total(len(learner.tasks))

    def on_round(env_steps: int, loss: float) -> bool:
        return on_progress(Progress(env_steps, total, loss, env_steps))

    learner.imitate_experts(config.dagger, on_round)


def clone(learner: Learner, config: WarmStartConfig, on_progress: OnProgress) -> None:
    """Imitate recorded episodes.

    Raises:
        ValueError: no recording, or it lacks a task of the learner's.
    """
    epochs = config.clone.epochs

    def on_epoch(epoch: int, loss: float) -> bool:
        return on_progress(Progress(epoch, epochs, loss, 0))

    learner.clone_demonstrations(config.demos or pathlib.Path(""), config.clone, on_epoch)


def none(learner: Learner, config: WarmStartConfig, on_progress: OnProgress) -> None:
    """Learn by reinforcement from scratch."""
