"""Continual learning by imitation: what is done against forgetting while another row is learned.

A way is a function of what came before, and a row of REHEARSALS: it gives further labelled states,
which join half of each minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from uncap.agents.dagger import Dagger, Rehearse, Tensors
from uncap.agents.episodes import expert_episodes
from uncap.envs import ClosureVectorEnv


class Before(NamedTuple):
    """What was learned before the present row.

    Attributes:
        policy: as it was when the last row had been learned.
        tasks: the rows that were learned.
        indices: (rows,) theirs.
        vectors: (rows, t) what is told of them.
        episodes: of their experts that may be kept, of each.
        sensors: what the policy senses.
        episode_steps: control steps of an episode; None: what each row says.
        engine: what runs the experts' simulations.
    """

    policy: Any
    tasks: tuple[str, ...]
    indices: np.ndarray
    vectors: np.ndarray
    episodes: int
    sensors: str
    episode_steps: int | None
    engine: str = "cpu"


def nothing(before: Before) -> None:
    """Nothing is rehearsed: plain fine-tuning."""


def replay(before: Before) -> Rehearse:
    """Episodes of the rows' experts that were kept (experience replay: Rolnick et al., 2019)."""
    parts = [
        _expert_episodes(before, name, index, vector)
        for name, index, vector in zip(before.tasks, before.indices, before.vectors, strict=True)
    ]
    kept = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def rehearse(batch: Tensors, rng: np.random.Generator) -> Tensors:
        rows = torch.as_tensor(rng.integers(len(kept["label"]), size=len(batch["label"])))
        return {name: values[rows] for name, values in kept.items()}

    return rehearse


def distill(before: Before) -> Rehearse:
    """What the policy did before in the present states, told of the rows that it had learned.

    No state of these rows is kept (learning without forgetting: Li and Hoiem, 2017).
    """
    vectors = torch.as_tensor(before.vectors)
    indices = torch.as_tensor(before.indices)

    def rehearse(batch: Tensors, rng: np.random.Generator) -> Tensors:
        rows = torch.as_tensor(rng.integers(len(vectors), size=len(batch["label"])))
        state, task, index = batch["state"], vectors[rows], indices[rows]
        with torch.no_grad():
            label = before.policy.actor(state, task, index)
        return {"state": state, "task": task, "index": index, "label": label}

    return rehearse


class Way(NamedTuple):
    """A row of REHEARSALS."""

    prepare: Callable[[Before], Rehearse | None]
    words: str


REHEARSALS = {
    "sequential": Way(nothing, "plain fine-tuning, row after row"),
    "replay": Way(replay, "with a few kept episodes of each earlier row's expert"),
    "distill": Way(distill, "with what the policy did before, told of the earlier rows"),
}


class Rehearsing(Dagger):
    """DAgger on the present row; half of each minibatch is what is rehearsed.

    Args:
        *args: of `Dagger`.
        rehearse: gives what is rehearsed.
    """

    def __init__(self, *args: Any, rehearse: Rehearse):
        super().__init__(*args)
        self.rehearse = rehearse


def _expert_episodes(before: Before, name: str, index: int, vector: np.ndarray) -> Tensors:
    """Labelled states of episodes of a row's expert: the same ones whenever they are asked for."""
    env = ClosureVectorEnv(
        name,
        before.episodes,
        conditioning="none",
        sensors=before.sensors,
        episode_steps=before.episode_steps,
        autoreset_mode="Disabled",
        engine=before.engine,
    )
    observations, actions = expert_episodes(env, _KEPT_SEED)
    env.close()
    return {
        "state": observations["state"],
        "task": torch.as_tensor(vector).expand(len(actions), -1),
        "index": torch.full((len(actions),), int(index)),
        "label": actions,
    }


_KEPT_SEED = 4_000_000  # of kept episodes: no evaluation's


def told_vectors(task_vectors: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    """Vectors (rows, t) of rows.

    Raises:
        ValueError: what is told changes with the stage: no vector is a row's.
    """
    if task_vectors.ndim != 2:
        raise ValueError("what is told must not change with the stage: use parameters")
    return task_vectors[list(indices)]
