"""Continual learning by imitation: what is done against forgetting while another row is learned.

A way is a function of what came before, and a row of REHEARSALS: it gives further labelled states,
which join half of each minibatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from uncap.agents.config import DaggerConfig
from uncap.agents.dagger import Dagger
from uncap.agents.networks import MultiTaskPolicy
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs import ClosureVectorEnv
from uncap.envs.experts import expert_action

Tensors = dict[str, torch.Tensor]  # state (k, s), task (k, t), index (k,), label (k, a)
Rehearse = Callable[[Tensors, np.random.Generator], Tensors]
"""rehearse(a minibatch of present states, generator) -> as many labelled states of before"""


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
    """

    policy: Any
    tasks: tuple[str, ...]
    indices: np.ndarray
    vectors: np.ndarray
    episodes: int
    sensors: str
    episode_steps: int | None


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
        policy: see `Dagger`.
        env: likewise.
        expert: likewise.
        config: likewise.
        rng: likewise.
        state: likewise.
        rehearse: gives what is rehearsed.
    """

    def __init__(
        self,
        policy: MultiTaskPolicy,
        env: TaskVecEnv,
        expert: Callable[[], np.ndarray],
        config: DaggerConfig,
        rng: np.random.Generator,
        state: Mapping[str, Any] | None = None,
        *,
        rehearse: Rehearse,
    ):
        self.rehearse = rehearse
        super().__init__(policy, env, expert, config, rng, state)

    def fit(self, data: Tensors) -> float:
        """Fit the actor to present states and to those of before; the mean L1 loss of both."""
        half = math.ceil(self.config.minibatch / 2)
        losses = []
        for _ in range(self.config.updates):
            rows = torch.as_tensor(self.rng.integers(len(data["label"]), size=half))
            present = {name: data[name][rows] for name in ("state", "task", "index", "label")}
            before = self.rehearse(present, self.rng)
            batch = {name: torch.cat([present[name], before[name]]) for name in present}
            action = self.policy.actor(batch["state"], batch["task"], batch["index"])
            loss = (action - batch["label"]).abs().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.schedule.step()
        self.done += 1
        return float(np.mean(losses))


def _expert_episodes(before: Before, name: str, index: int, vector: np.ndarray) -> Tensors:
    """Labelled states of episodes of a row's expert: the same ones whenever they are asked for."""
    env = ClosureVectorEnv(
        name,
        before.episodes,
        conditioning="none",
        sensors=before.sensors,
        episode_steps=before.episode_steps,
        autoreset_mode="Disabled",
    )
    observation, _ = env.reset(seed=_KEPT_SEED)
    states: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    done = False
    while not done:
        states.append(observation["state"].copy())
        actions.append(expert_action(env.batch.measure()))
        observation, _, _, truncated, _ = env.step(actions[-1])
        done = bool(truncated.all())
    env.close()
    count = len(states) * before.episodes
    return {
        "state": torch.as_tensor(np.concatenate(states)),
        "task": torch.as_tensor(vector).expand(count, -1),
        "index": torch.full((count,), int(index)),
        "label": torch.as_tensor(np.concatenate(actions), dtype=torch.float32),
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
