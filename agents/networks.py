"""Task-conditioned actor-critic: a body shared by all tasks, and a head.

The task's index is an argument of the networks, never sliced out of the observation.
"""

from __future__ import annotations

import math

import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import nn


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


HEADS = {"shared": SharedHead, "per_task": PerTaskHead}


class TaskNetwork(nn.Module):
    """MLP body on state and conditioning, then a head chosen by the task's index."""

    def __init__(self, inputs: int, outputs: int, num_tasks: int, head: str, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, width), nn.ELU(), nn.Linear(width, width), nn.ELU())
        self.head = HEADS[head](width, outputs, num_tasks)

    def forward(self, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map features (n, inputs) and task index (n,) to (n, outputs)."""
        return self.head(self.body(features), index)


class MultiTaskPolicy(ActorCriticPolicy):
    """Gaussian actor and critic for observations {state, task?, index}.

    Args:
        num_tasks: tasks a `per_task` head is made for.
        head: shared | per_task.
        width: units of each of the two hidden layers.
        deviation: initial standard deviation of the actions.
        **kwargs: of stable-baselines3's policies, passed by its algorithms.
    """

    def __init__(self, *args, num_tasks: int = 1, head: str = "shared", width: int = 256, deviation: float = 0.5, **kwargs):
        self.num_tasks, self.head, self.width, self.deviation = num_tasks, head, width, deviation
        super().__init__(*args, features_extractor_class=CombinedExtractor, **kwargs)

    def _build(self, lr_schedule) -> None:
        inputs = sum(s.shape[0] for name, s in self.observation_space.spaces.items() if name != "index")
        actions = self.action_space.shape[0]
        self.actor = TaskNetwork(inputs, actions, self.num_tasks, self.head, self.width)
        self.critic = TaskNetwork(inputs, 1, self.num_tasks, self.head, self.width)
        self.log_std = nn.Parameter(torch.full((actions,), math.log(self.deviation)))
        self.action_dist = DiagGaussianDistribution(actions)
        groups = [{"params": [*self.actor.parameters(), self.log_std]}, {"params": list(self.critic.parameters())}]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)

    @staticmethod
    def _inputs(obs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [obs[k] for k in ("state", "task") if k in obs]
        return torch.cat(parts, 1), obs["index"][:, 0].long()

    def get_distribution(self, obs):
        """Gaussian over actions for observations (n, ...)."""
        return self.action_dist.proba_distribution(self.actor(*self._inputs(obs)), self.log_std)

    def predict_values(self, obs):
        """Values (n, 1)."""
        return self.critic(*self._inputs(obs))

    def forward(self, obs, deterministic: bool = False):
        """Actions (n, a), values (n, 1) and log probabilities (n,)."""
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs, actions):
        """Values (n, 1), log probabilities (n,) and entropy (n,) of given actions."""
        distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()

    def _predict(self, observation, deterministic: bool = False):
        return self.get_distribution(observation).get_actions(deterministic=deterministic)

    def adopt(self, source: MultiTaskPolicy) -> None:
        """Copy another policy's weights; new tasks' heads start as the mean of the source's.

        Raises:
            ValueError: the networks differ in more than their tasks.
        """
        own, weights = self.state_dict(), {}
        for name, value in source.state_dict().items():
            if value.shape != own[name].shape and self.head == "per_task":
                value = value.mean(0, keepdim=True).expand_as(own[name])
            if value.shape != own[name].shape:
                raise ValueError(f"cannot adopt {name}: {tuple(value.shape)} here is {tuple(own[name].shape)}")
            weights[name] = value
        self.load_state_dict(weights)
