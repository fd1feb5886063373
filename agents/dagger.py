"""DAgger (Ross et al., 2011) in the batch: the student acts, the expert labels every state."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from agents.config import DaggerConfig
from agents.networks import MultiTaskPolicy, split_observation
from agents.vec_env import TaskVecEnv


def dagger(
    policy: MultiTaskPolicy,
    env: TaskVecEnv,
    expert: Callable[[], np.ndarray],
    config: DaggerConfig,
    rng: np.random.Generator,
    on_round: Callable[[int, float], bool],
) -> None:
    """Teach the policy's actor to act as the expert would in the states the policy reaches.

    The actor is fitted to the rounds so far on a core of its own while a copy of it, older by a
    round, makes the next one: what is learned does not depend on how long either takes.

    Args:
        policy: its actor is trained in place.
        env: where it acts; stepped config.steps_per_task times for each of its tasks.
        expert: returns the expert's actions (n, a) for env's present states.
        config: settings.
        rng: draws minibatches, and where the expert acts.
        on_round: called with (env steps, loss) after each round; returns whether to go on.
    """
    optimizer = torch.optim.Adam(policy.actor.parameters(), lr=config.learning_rate, fused=True)
    observation, actor = env.reset(), copy.deepcopy(policy.actor)
    drawn, led_by = rng.spawn(2)
    steps = env.num_envs * config.rollout
    rounds = max(1, config.steps_per_task * len(env.env.tasks) // steps)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, rounds)
    data: dict[str, list[np.ndarray]] = {name: [] for name in ("state", "task", "index", "label")}
    fitting = None
    with ThreadPoolExecutor(1) as core:
        for k in range(rounds):
            share = max(0.0, 1.0 - 10 * k / rounds)  # of the environments in which the expert acts
            for _ in range(config.rollout):
                inputs = split_observation(
                    {name: torch.as_tensor(value) for name, value in observation.items()}
                )
                label = expert()
                for name, value in zip(
                    data, (*(x.numpy() for x in inputs), label.astype(np.float32)), strict=True
                ):
                    data[name].append(value.copy())
                with torch.no_grad():
                    action = actor(*inputs).numpy()
                led = led_by.random(env.num_envs) < share
                observation, *_ = env.step(np.where(led[:, None], label, action))
            if fitting:
                if not on_round(k * steps, fitting.result()):
                    return
                schedule.step()
            actor.load_state_dict(policy.actor.state_dict())
            stacked = {name: np.concatenate(values) for name, values in data.items()}
            data = {name: [value] for name, value in stacked.items()}
            tensors = {name: torch.as_tensor(value) for name, value in stacked.items()}
            fitting = core.submit(
                fit, policy, optimizer, tensors, config.updates, config.minibatch, drawn
            )
        on_round(rounds * steps, fitting.result())


def fit(
    policy: MultiTaskPolicy,
    optimizer,
    data: dict[str, torch.Tensor],
    updates: int,
    minibatch: int,
    rng: np.random.Generator,
) -> float:
    """Train the actor to give the labels (n, a) for state, task and index; returns the mean L1 loss."""
    losses = []
    for _ in range(updates):
        rows = torch.as_tensor(rng.integers(len(data["label"]), size=minibatch))
        given = policy.actor(*(data[name][rows] for name in ("state", "task", "index")))
        loss = (given - data["label"][rows]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))
