"""DAgger (Ross et al., 2011) in the batch: the student acts, the expert labels every state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import cast

import numpy as np
import torch

from agents.config import DaggerConfig
from agents.networks import MultiTaskPolicy, TaskNetwork, split_observation
from agents.vec_env import TaskVecEnv

# Labelled states: state (n, s), task (n, t), index (n,), and label (n, a), the expert's action.
Labelled = dict[str, np.ndarray]


def dagger(
    policy: MultiTaskPolicy,
    env: TaskVecEnv,
    expert: Callable[[], np.ndarray],
    config: DaggerConfig,
    rng: np.random.Generator,
    on_round: Callable[[int, float], bool],
) -> None:
    """Teach the policy's actor to act as the expert would in the states the policy reaches.

    In a round, a copy of the actor acts; then the actor is fitted to the states of all rounds so
    far. The fit takes a core of its own while the next round is collected, so that the copy is
    always a round older than the actor. What is learned does not depend on how long either takes.

    Args:
        policy: its actor is trained in place.
        env: where the copy acts; stepped config.steps_per_task times for each of its tasks.
        expert: returns the expert's actions (n, a) for env's present states.
        config: settings.
        rng: draws minibatches, and where the expert acts.
        on_round: called with (env steps, loss) after each round; returns whether to go on.
    """
    minibatch_rng, lead_rng = rng.spawn(2)
    steps = env.num_envs * config.rollout  # environment steps per round
    rounds = max(1, config.steps_per_task * len(env.closures.tasks) // steps)
    optimizer = torch.optim.Adam(policy.actor.parameters(), lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, rounds)
    collector = _Collector(env, expert, copy.deepcopy(policy.actor), lead_rng)
    data: list[Labelled] = []
    fitting: Future[float] | None = None
    with ThreadPoolExecutor(1) as executor:
        for k in range(rounds):
            data += collector.collect(config.rollout, _expert_share(k, rounds))
            if fitting is not None:  # the fit after round k - 1
                going = on_round(k * steps, fitting.result())
                if not going:
                    return
                schedule.step()
            collector.actor.load_state_dict(policy.actor.state_dict())
            data = [_joined(data)]
            tensors = {name: torch.as_tensor(values) for name, values in data[0].items()}
            fitting = executor.submit(
                fit, policy, optimizer, tensors, config.updates, config.minibatch, minibatch_rng
            )
        if fitting is not None:
            on_round(rounds * steps, fitting.result())


def _expert_share(k: int, rounds: int) -> float:
    """Share of the environments in which the expert acts: falls to 0 in the first tenth."""
    return max(0.0, 1.0 - 10 * k / rounds)


class _Collector:
    """Acts in the environment and has the expert label what it reaches.

    Args:
        env: reset here.
        expert: returns the expert's actions (n, a) for env's present states.
        actor: acts.
        rng: draws where the expert acts instead.
    """

    def __init__(
        self,
        env: TaskVecEnv,
        expert: Callable[[], np.ndarray],
        actor: TaskNetwork,
        rng: np.random.Generator,
    ):
        self.env = env
        self.expert = expert
        self.actor = actor
        self.rng = rng
        self.observation = cast("dict[str, np.ndarray]", env.reset())

    def collect(self, steps: int, expert_share: float) -> list[Labelled]:
        """The labelled states (n, ...) of so many control steps, and go on from there."""
        return [self._step(expert_share) for _ in range(steps)]

    def _step(self, expert_share: float) -> Labelled:
        tensors = {name: torch.as_tensor(values) for name, values in self.observation.items()}
        state, task, index = split_observation(tensors)
        label = self.expert()  # (n, a)
        labelled = {  # copies: the environment may write into its arrays
            "state": state.numpy().copy(),
            "task": task.numpy().copy(),
            "index": index.numpy().copy(),
            "label": label.astype(np.float32),
        }
        with torch.no_grad():
            action = self.actor(state, task, index).numpy()  # (n, a)
        expert_acts = self.rng.random(self.env.num_envs) < expert_share  # (n,)
        executed = np.where(expert_acts[:, None], label, action)  # (n, a)
        observation, *_ = self.env.step(executed)
        self.observation = cast("dict[str, np.ndarray]", observation)
        return labelled


def _joined(parts: list[Labelled]) -> Labelled:
    """All labelled states, one part after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def fit(
    policy: MultiTaskPolicy,
    optimizer: torch.optim.Optimizer,
    data: dict[str, torch.Tensor],
    updates: int,
    minibatch: int,
    rng: np.random.Generator,
) -> float:
    """Train the actor to give the expert's actions.

    Args:
        policy: its actor is trained in place.
        optimizer: of the actor's parameters.
        data: state (n, s), task (n, t), index (n,) and label (n, a).
        updates: number of minibatches.
        minibatch: labelled states in each.
        rng: draws minibatches.

    Returns:
        The mean L1 loss.
    """
    losses = []
    for _ in range(updates):
        rows = torch.as_tensor(rng.integers(len(data["label"]), size=minibatch))
        action = policy.actor(data["state"][rows], data["task"][rows], data["index"][rows])
        loss = (action - data["label"][rows]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))
