"""Task-conditioned networks: a body shared by all tasks, and a head; the actor-critic made of two of them.

The task's index is an argument of the networks, never sliced out of the observation.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import nn

from agents.bodies import EMBEDDING
from agents.config import NetworkConfig
from agents.tables import BODIES, HEADS


class SharedHead(nn.Module):
    """One linear output for all tasks."""

    def __init__(self, width: int, outputs: int, num_tasks: int):
        super().__init__()
        self.linear = nn.Linear(width, outputs)

    def forward(self, latent: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map (n, width) to (n, outputs)."""
        return self.linear(latent)


class PerTaskHead(nn.Module):
    """A linear output of its own for every task."""

    def __init__(self, width: int, outputs: int, num_tasks: int):
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(num_tasks, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_tasks, outputs))

    def forward(self, latent: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map (n, width) to (n, outputs) with the head of index (n,)."""
        return torch.bmm(latent[:, None], self.weight[index])[:, 0] + self.bias[index]


class TaskNetwork(nn.Module):
    """A body on state and task, then a head chosen by the task's index.

    Args:
        state: size of the state.
        task: size of the task's vector.
        outputs: numbers to give.
        num_tasks: tasks that embeddings and `per_task` heads are made for.
        config: what it is made of.
    """

    def __init__(self, state: int, task: int, outputs: int, num_tasks: int, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(num_tasks, EMBEDDING) if config.embedding else None
        self.body = BODIES[config.body](
            state, EMBEDDING if config.embedding else task, num_tasks, config.width
        )
        self.head = HEADS[config.head](config.width, outputs, num_tasks)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, outputs)."""
        if self.embedding is not None:
            task = self.embedding(index)
        told = torch.zeros_like(index) if self.config.blind else index
        return self.head(self.body(state, task, told), index)


def split_observation(
    obs: dict[str, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """State (n, state), task vector (n, task; size 0 where there is none) and index (n,) of an observation."""
    state = obs["state"]
    task = obs["task"] if "task" in obs else state.new_zeros(len(state), 0)
    return state, task, obs["index"][:, 0].long()


class MultiTaskPolicy(ActorCriticPolicy):
    """Gaussian actor and critic for observations {state, task?, index}.

    Values are normalised per task where `value_mean` and `value_std` (tasks,) say so, see `balance.PopArt`.

    Args:
        num_tasks: tasks a `per_task` head is made for.
        network: what actor and critic are made of.
        popart: give the critic a head per task, whatever the actor has.
        deviation: initial standard deviation of the actions.
        correlation: of the fingers' noise between one control step of a rollout and the next.
        **kwargs: of stable-baselines3's policies, passed by its algorithms.
    """

    def __init__(
        self,
        *args,
        num_tasks: int = 1,
        network: NetworkConfig = NetworkConfig(),
        popart: bool = False,
        deviation: float = 0.5,
        correlation: float = 0.0,
        **kwargs,
    ):
        self.num_tasks, self.network, self.popart, self.deviation = (
            num_tasks,
            network,
            popart,
            deviation,
        )
        self.correlation, self.noise = (
            correlation,
            None,
        )  # noise: (n, a) of the last actions, None when a rollout begins
        super().__init__(*args, features_extractor_class=CombinedExtractor, **kwargs)

    def _build(self, lr_schedule) -> None:
        sizes = [
            s.shape[0] if (s := self.observation_space.spaces.get(name)) else 0
            for name in ("state", "task")
        ]
        actions = self.action_space.shape[0]
        self.actor = TaskNetwork(*sizes, actions, self.num_tasks, self.network)
        critic = dataclasses.replace(self.network, head="per_task") if self.popart else self.network
        self.critic = TaskNetwork(*sizes, 1, self.num_tasks, critic)
        self.register_buffer("value_mean", torch.zeros(self.num_tasks))
        self.register_buffer("value_std", torch.ones(self.num_tasks))
        self.log_std = nn.Parameter(torch.full((actions,), math.log(self.deviation)))
        self.action_dist = DiagGaussianDistribution(actions)
        groups = [
            {"params": [*self.actor.parameters(), self.log_std]},
            {"params": list(self.critic.parameters())},
        ]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)

    def get_distribution(self, obs):
        """Gaussian over actions for observations (n, ...)."""
        return self.action_dist.proba_distribution(
            self.actor(*split_observation(obs)), self.log_std
        )

    def predict_values(self, obs):
        """Values (n, 1), in rewards."""
        state, task, index = split_observation(obs)
        return (
            self.value_std[index, None] * self.critic(state, task, index)
            + self.value_mean[index, None]
        )

    def forward(self, obs, deterministic: bool = False):
        """Actions (n, a), values (n, 1) and log probabilities (n,).

        Actions are Gaussian; the noise of the fingers, the last action, is autoregressive: once they close they stay closed
        for some steps, long enough to feel a hold (coloured noise in PPO: Hollenstein et al., 2024).
        """
        distribution = self.get_distribution(obs)
        mean, spread = distribution.distribution.mean, distribution.distribution.stddev
        last, self.noise = self.noise, torch.randn_like(mean)
        if last is not None and self.correlation:
            self.noise[:, -1] = (
                self.correlation * last[:, -1]
                + (1 - self.correlation**2) ** 0.5 * self.noise[:, -1]
            )
        actions = mean if deterministic else mean + spread * self.noise
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs, actions):
        """Values (n, 1), normalised, log probabilities (n,) and entropy (n,) of given actions."""
        distribution = self.get_distribution(obs)
        return (
            self.critic(*split_observation(obs)),
            distribution.log_prob(actions),
            distribution.entropy(),
        )

    def _predict(self, observation, deterministic: bool = False):
        return self.get_distribution(observation).get_actions(deterministic=deterministic)

    def act(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean actions (n, a)."""
        return self.actor(*split_observation(obs))

    def adopt(self, source: MultiTaskPolicy) -> None:
        """Copy another policy's weights; new tasks' heads start as the mean of the source's.

        Raises:
            ValueError: the networks differ in more than their tasks.
        """
        own, weights = self.state_dict(), {}
        for name, value in source.state_dict().items():
            per_task = (
                ".head." in name
                or "embedding" in name
                or name.startswith(("value_", "log_ent_coef"))
            )
            if (
                per_task
                and value.shape[:1] == (source.num_tasks,)
                and own[name].shape[:1] == (self.num_tasks,) != value.shape[:1]
            ):
                value = value.mean(0, keepdim=True).expand_as(own[name])
            if value.shape != own[name].shape:
                raise ValueError(
                    f"cannot adopt {name}: {tuple(value.shape)} here is {tuple(own[name].shape)}"
                )
            weights[name] = value
        self.load_state_dict(weights)
