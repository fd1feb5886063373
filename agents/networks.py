"""Task-conditioned networks and the actor-critic policy made of two of them.

A network is a body (`agents/bodies.py`), which all tasks share, and a head. The task index is an
argument of the networks. It is never sliced out of a flat observation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import gymnasium as gym
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import nn

from uncap.agents.bodies import EMBEDDING
from uncap.agents.config import NetworkConfig
from uncap.agents.encoder import PictureEncoder
from uncap.agents.memory import Memory
from uncap.agents.tables import BODIES, HEADS, MEMORIES
from uncap.envs.sensors import SENSORS

# state (n, s), index (n, 1); where there is one, task (n, t), privileged (n, p) for critics, and
# pictures rgb (n, height, width, channels) uint8
Observation = dict[str, torch.Tensor]
DEFAULT_NETWORK = NetworkConfig()


class SharedHead(nn.Module):
    """One linear output for all tasks."""

    def __init__(self, width: int, outputs: int, num_tasks: int):
        super().__init__()
        self.linear = nn.Linear(width, outputs)

    def forward(self, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map features (n, width) to (n, outputs)."""
        return self.linear(features)


class PerTaskHead(nn.Module):
    """A linear output of its own for every task."""

    def __init__(self, width: int, outputs: int, num_tasks: int):
        super().__init__()
        bound = 1 / math.sqrt(width)  # as nn.Linear draws its weights
        self.weight = nn.Parameter(torch.empty(num_tasks, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(num_tasks, outputs))

    def forward(self, features: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map features (n, width) to (n, outputs), each sample by the head of its index (n,)."""
        weight = self.weight[index]  # (n, width, outputs)
        product = torch.bmm(features[:, None], weight)[:, 0]  # (n, outputs)
        return product + self.bias[index]


class TaskNetwork(nn.Module):
    """A body on state and task, then a head, which may depend on the task index.

    Where the sensors have pictures, what an encoder makes of these joins the state.

    Args:
        state_size: size of the state.
        task_size: size of the task vector, 0 where there is none.
        outputs: size of the output.
        num_tasks: number of embeddings and of `per_task` heads.
        config: what the network is made of.

    Attributes:
        given: (task_size,) that takes the place of every task vector, where it is set.
        encoder: of pictures; None where the sensors have none.

    Raises:
        ValueError: the body tells the parts of a state apart, and the sensors have pictures.
    """

    def __init__(
        self,
        state_size: int,
        task_size: int,
        outputs: int,
        num_tasks: int,
        config: NetworkConfig,
    ):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(num_tasks, EMBEDDING) if config.embedding else None
        body_task_size = EMBEDDING if config.embedding else task_size
        self.encoder = PictureEncoder() if SENSORS[config.sensors].pictures else None
        if self.encoder:
            _refuse_reading_parts(config.body)
            state_size += self.encoder.size
        body = BODIES[config.body]
        # one that tells the parts of a state apart has to know which there are
        layout = {"sensors": config.sensors} if getattr(body, "READS_PARTS", False) else {}
        self.body = body(state_size, body_task_size, num_tasks, config.width, **layout)
        self.head = HEADS[config.head](config.width, outputs, num_tasks)
        self.given: nn.Parameter | None = None

    def forward(
        self,
        state: torch.Tensor,
        task: torch.Tensor,
        index: torch.Tensor,
        rgb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map a state to (n, outputs).

        Args:
            state: (n, state_size).
            task: (n, task_size).
            index: (n,).
            rgb: pictures (n, height, width, channels) uint8, where there is an encoder.
        """
        if self.encoder is not None:
            state = torch.cat([state, self.encoder(rgb)], 1)
        if self.embedding is not None:
            task = self.embedding(index)  # (n, EMBEDDING)
        if self.given is not None:
            task = self.given.expand(len(state), -1)
        body_index = torch.zeros_like(index) if self.config.blind else index
        features = self.body(state, task, body_index)  # (n, width)
        return self.head(features, index)


def _refuse_reading_parts(body: str) -> None:
    """Refuse a body that has to know what each number of a state is.

    Raises:
        ValueError: it has.
    """
    able = [name for name in BODIES if not getattr(BODIES[name], "READS_PARTS", False)]
    if body not in able:
        raise ValueError(f"the body {body} sees no pictures: allowed: {', '.join(able)}")


def input_sizes(observation_space: gym.Space) -> tuple[int, int]:
    """Sizes of the state and of the task vector, 0 where there is none."""
    spaces = cast(gym.spaces.Dict, observation_space).spaces
    state_size, task_size = (
        cast(gym.spaces.Box, spaces[name]).shape[0] if name in spaces else 0
        for name in ("state", "task")
    )
    return state_size, task_size


def critic_inputs(
    observation_space: gym.Space, network: NetworkConfig
) -> tuple[int, NetworkConfig]:
    """Size of the state that a critic reads, and what its networks are made of.

    Where there is a `privileged` state, a critic reads that one: it is needed in training only
    (asymmetric actor-critic: Pinto et al., 2018). The actor never does.
    """
    spaces = cast(gym.spaces.Dict, observation_space).spaces
    if "privileged" not in spaces:
        return input_sizes(observation_space)[0], network
    size = cast(gym.spaces.Box, spaces["privileged"]).shape[0]
    return size, dataclasses.replace(network, sensors="full")


def split_observation(
    obs: Observation,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The inputs of a `TaskNetwork` in a batched observation.

    Returns:
        State (n, state_size), task vector (n, task_size; size 0 where there is none) and task
        index (n,).
    """
    state = obs["state"]
    task = obs["task"] if "task" in obs else state.new_zeros(len(state), 0)
    index = obs["index"][:, 0].long()
    return state, task, index


def actor_inputs(obs: Observation) -> tuple[torch.Tensor, ...]:
    """What `split_observation` gives, and the pictures `rgb`, where they are observed."""
    return (*split_observation(obs), *([obs["rgb"]] if "rgb" in obs else []))


def split_for_critic(obs: Observation) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The inputs of a critic's `TaskNetwork`: the privileged state, where there is one."""
    state, task, index = split_observation(obs)
    return obs.get("privileged", state), task, index


class MultiTaskPolicy(ActorCriticPolicy):
    """Gaussian actor, and critic, for observations {state, task?, index, privileged?, rgb?}.

    The critic reads `privileged` in place of `state`, where it is observed. The actor alone sees
    pictures.

    The critic gives values that are normalised per task, by the buffers `value_mean` and
    `value_std` (tasks,). These are 0 and 1 unless `balance.PopArt` moves them.

    Args:
        *args: of stable-baselines3's policies, passed by its algorithms.
        num_tasks: number of tasks, of embeddings and of `per_task` heads.
        network: what actor and critic are made of.
        popart: give the critic a head per task, whatever the actor has.
        deviation: initial standard deviation of the actions.
        correlation: of the fingers' noise between one control step of a rollout and the next.
        **kwargs: of stable-baselines3's policies, passed by its algorithms.

    Attributes:
        noise: standard normal noise of the last actions (n, a); None when a rollout begins.
        memory: finds out the task vector where the policy is not told; None without one. It is
            not called here: its owner keeps what it remembers, see `memory.Recall`.
    """

    value_mean: torch.Tensor  # (tasks,)
    value_std: torch.Tensor  # (tasks,)

    def __init__(
        self,
        *args,
        num_tasks: int = 1,
        network: NetworkConfig = DEFAULT_NETWORK,
        popart: bool = False,
        deviation: float = 0.5,
        correlation: float = 0.0,
        **kwargs,
    ):
        self.num_tasks = num_tasks
        self.network = network
        self.popart = popart
        self.deviation = deviation
        self.correlation = correlation
        self.noise: torch.Tensor | None = None
        self.memory: Memory | None = None
        super().__init__(*args, features_extractor_class=CombinedExtractor, **kwargs)

    def _build(self, lr_schedule) -> None:
        """Make the networks and their optimizer; stable-baselines3 calls this."""
        state_size, task_size = input_sizes(self.observation_space)
        actions = cast(gym.spaces.Box, self.action_space).shape[0]
        network = self.network
        critic_size, critic_network = critic_inputs(self.observation_space, network)
        if self.popart:
            critic_network = dataclasses.replace(critic_network, head="per_task")
        if network.memory:
            self.memory = MEMORIES[network.memory](state_size, self.num_tasks, network)
        self.actor = TaskNetwork(state_size, task_size, actions, self.num_tasks, network)
        self.critic = TaskNetwork(critic_size, task_size, 1, self.num_tasks, critic_network)
        self.register_buffer("value_mean", torch.zeros(self.num_tasks))
        self.register_buffer("value_std", torch.ones(self.num_tasks))
        self.log_std = nn.Parameter(torch.full((actions,), math.log(self.deviation)))
        self.action_dist = DiagGaussianDistribution(actions)
        groups = [
            {"params": [*self.actor.parameters(), self.log_std]},
            {"params": list(self.critic.parameters())},
        ]
        # The base class Optimizer, which stable-baselines3 names as the type, has no `lr`.
        self.optimizer = self.optimizer_class(
            groups,
            lr=lr_schedule(1),  # pyright: ignore[reportCallIssue]
            **self.optimizer_kwargs,
        )

    def get_distribution(self, obs: Observation) -> DiagGaussianDistribution:
        """Gaussian over actions for observations (n, ...)."""
        mean = self.actor(*actor_inputs(obs))  # (n, a)
        return self.action_dist.proba_distribution(mean, self.log_std)

    def predict_values(self, obs: Observation) -> torch.Tensor:
        """Values (n, 1), in rewards."""
        state, task, index = split_for_critic(obs)
        normalised = self.critic(state, task, index)  # (n, 1)
        return self.value_std[index, None] * normalised + self.value_mean[index, None]

    def forward(
        self, obs: Observation, deterministic: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Actions (n, a), values (n, 1) and log probabilities (n,)."""
        distribution = self.get_distribution(obs)
        mean = distribution.distribution.mean  # (n, a)
        deviation = distribution.distribution.stddev  # (n, a)
        noise = self._next_noise(mean)  # drawn in any case
        actions = mean if deterministic else mean + deviation * noise
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def _next_noise(self, mean: torch.Tensor) -> torch.Tensor:
        """Standard normal noise of the shape of mean (n, a), and keep it in `noise`.

        The noise of the last action, the fingers, is autoregressive: once they close they stay
        closed for some control steps, long enough to feel a hold (coloured noise in PPO:
        Hollenstein et al., 2024).
        """
        last = self.noise
        noise = torch.randn_like(mean)
        if last is not None and self.correlation:
            fresh_share = (1 - self.correlation**2) ** 0.5  # keeps the variance at 1
            noise[:, -1] = self.correlation * last[:, -1] + fresh_share * noise[:, -1]
        self.noise = noise
        return noise

    def evaluate_actions(
        self, obs: Observation, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Evaluate given actions (n, a).

        Returns:
            Values (n, 1), normalised; log probabilities (n,); entropies (n,).
        """
        distribution = self.get_distribution(obs)
        values = self.critic(*split_for_critic(obs))
        return values, distribution.log_prob(actions), distribution.entropy()

    def _predict(self, observation: Observation, deterministic: bool = False) -> torch.Tensor:
        return self.get_distribution(observation).get_actions(deterministic=deterministic)

    def act(self, obs: Observation) -> torch.Tensor:
        """Mean actions (n, a)."""
        return self.actor(*actor_inputs(obs))

    def adopt(self, source: MultiTaskPolicy, part: str = "") -> None:
        """Copy another policy's weights, see the function `adopt`."""
        adopt(self, source, part)


class TaskPolicy(Protocol):
    """A policy for a number of tasks, as `adopt` needs it."""

    num_tasks: int

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take tensors by name."""
        ...


def adopt(policy: TaskPolicy, source: TaskPolicy, part: str = "") -> None:
    """Copy the weights of source into policy.

    Where the two have different numbers of tasks, everything that there is one of per task starts
    as the mean over the source's tasks.

    Args:
        policy: is changed in place.
        source: of the same networks.
        part: what the names of the weights begin with that are copied, such as `critic.`.

    Raises:
        ValueError: the networks differ in more than their tasks.
    """
    targets = policy.state_dict()
    weights = {name: value for name, value in targets.items() if not name.startswith(part)}
    copied = {name: v for name, v in source.state_dict().items() if name.startswith(part)}
    for name, value in copied.items():
        target = targets[name]
        if _is_per_task(name) and _task_counts_differ(value, source, target, policy):
            value = value.mean(0, keepdim=True).expand_as(target)
        if value.shape != target.shape:
            raise ValueError(
                f"cannot adopt {name}: {tuple(value.shape)} here is {tuple(target.shape)}"
            )
        weights[name] = value
    policy.load_state_dict(weights)


def _is_per_task(name: str) -> bool:
    """Whether a tensor of this name can have an entry per task along its first axis."""
    if ".head." in name or "embedding" in name:
        return True
    return name.startswith(("value_", "log_ent_coef"))


def _task_counts_differ(
    value: torch.Tensor, source: TaskPolicy, target: torch.Tensor, policy: TaskPolicy
) -> bool:
    """Whether both tensors have an entry per task of their policy, and not equally many."""
    given = value.shape[:1]
    needed = target.shape[:1]
    per_task = given == (source.num_tasks,) and needed == (policy.num_tasks,)
    return per_task and given != needed
