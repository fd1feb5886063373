"""Multi-task SAC: stable-baselines3's, on the networks of PPO, with a temperature per task.

Soft actor-critic (Haarnoja et al., 2018) as for many tasks in Meta-World (Yu et al., 2019). A
share of every batch can come from demonstrations, and the critics' last features are normalised,
so that they promise little for untried actions: RLPD (Ball et al., 2023).

A replay outlives every running scale. Rewards are therefore stored as the environment gives them,
all in [0, 1], and multiplied by one constant when they are used; what PPO's scale per task is for,
the temperature per task does. A time limit is not an end: values are bootstrapped through it, by
`TimeLimit.truncated` of TaskVecEnv and stable-baselines3's replay.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from torch import nn
from torch.nn import functional

from uncap.agents import checkpoints, demonstrations, sb3
from uncap.agents.algorithm import Algorithm
from uncap.agents.config import LearnerConfig, NetworkConfig, SACConfig
from uncap.agents.networks import (
    TaskNetwork,
    TaskPolicy,
    adopt,
    critic_inputs,
    input_sizes,
    split_for_critic,
    split_observation,
)
from uncap.agents.tables import HEADS
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs.conditioning import told
from uncap.envs.observations import layout, stage_in

RECORDED = {  # losses, by stable-baselines3's names
    "critic": "train/critic_loss",
    "actor": "train/actor_loss",
    "temperature": "train/ent_coef_loss",
}
LOG_STD = (-5.0, 0.5)  # bounds of the logarithm of the actions' deviation before squashing


class GaussianHead(nn.Module):
    """Means of the actions and logarithms of their deviations, by a head each.

    The logarithms are added to a constant of the policy, and are 0 at first.
    """

    def __init__(self, head: str, width: int, actions: int, num_tasks: int):
        super().__init__()
        self.mean = HEADS[head](width, actions, num_tasks)
        self.spread = HEADS[head](width, actions, num_tasks)
        for parameter in self.spread.parameters():
            nn.init.zeros_(parameter)

    def forward(self, latent: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map (n, width) to (n, 2 a)."""
        return torch.cat([self.mean(latent, index), self.spread(latent, index)], 1)


class SquashedActor(nn.Module):
    """Gaussian before a tanh; as a function it gives the deterministic action."""

    def __init__(self, state: int, task: int, actions: int, num_tasks: int, config: NetworkConfig):
        super().__init__()
        self.net = TaskNetwork(state, task, actions, num_tasks, config)
        self.net.head = GaussianHead(config.head, config.width, actions, num_tasks)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to actions (n, a) in [-1, 1]."""
        mean, _ = self.net(state, task, index).chunk(2, 1)
        return mean.tanh()


class TwinCritic(nn.Module):
    """Two estimates of an action's value.

    The action stands beside the state. A body that reads the state as whole observations, such
    as the transformer, gets the action padded to the size of one more.
    """

    def __init__(self, state: int, task: int, actions: int, num_tasks: int, config: NetworkConfig):
        super().__init__()
        whole = layout(config.sensors).size
        self.padding = whole - actions if config.body == "transformer" else 0
        inputs = state + actions + self.padding
        self.nets = nn.ModuleList(TaskNetwork(inputs, task, 1, num_tasks, config) for _ in range(2))
        for net in self.nets:  # what a head reads is normalised: its weights bound its output
            net.head.register_forward_pre_hook(_normalise_features)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue] - a module

    def forward(self, obs: dict[str, torch.Tensor], actions: torch.Tensor) -> torch.Tensor:
        """Values (n, 2) of actions (n, a) for observations (n, ...)."""
        state, task, index = split_for_critic(obs)
        padded = functional.pad(actions, (0, self.padding))
        inputs = torch.cat([state, padded], 1)
        return torch.cat([net(inputs, task, index) for net in self.nets], 1)


def _normalise_features(head: nn.Module, inputs: tuple) -> tuple:
    latent, index = inputs
    return functional.layer_norm(latent, latent.shape[1:]), index


class MultiTaskSACPolicy(BasePolicy):
    """Actor, twin critics and their targets, and a temperature per task.

    For observations {state, task?, index, privileged?}; the critics read `privileged` in place of
    `state`, where it is observed.

    Args:
        observation_space: a Dict.
        action_space: a Box in [-1, 1].
        lr_schedule: of stable-baselines3.
        num_tasks: heads and temperatures.
        network: what the networks are made of.
        deviation: initial, of the actions before the tanh.
        temperature: initial.
        use_sde: taken from stable-baselines3's call, and not used.
    """

    popart = False

    def __init__(
        self,
        observation_space,
        action_space,
        lr_schedule,
        *,
        num_tasks: int,
        network: NetworkConfig,
        deviation: float = 0.5,
        temperature: float = 1.0,
        use_sde: bool = False,
    ):
        super().__init__(observation_space, action_space, squash_output=True)
        self.num_tasks = num_tasks
        self.network = network
        state_size, task_size = input_sizes(observation_space)
        critic_size, critic_network = critic_inputs(observation_space, network)
        sizes = (task_size, action_space.shape[0], num_tasks)
        self.actor = SquashedActor(state_size, *sizes, network)
        self.critic = TwinCritic(critic_size, *sizes, critic_network)
        self.critic_target = TwinCritic(critic_size, *sizes, critic_network)
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.requires_grad_(False)
        self.log_std = nn.Parameter(torch.full(action_space.shape, math.log(deviation)))
        self.log_ent_coef = nn.Parameter(torch.full((num_tasks,), math.log(temperature)))
        groups = [
            {"params": [*self.actor.parameters(), self.log_std]},
            {"params": list(self.critic.parameters())},
            {"params": [self.log_ent_coef]},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=lr_schedule(1), fused=True)

    def draw(self, obs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Random actions (n, a) in [-1, 1] and their log probabilities (n,)."""
        mean, spread = self.actor.net(*split_observation(obs)).chunk(2, 1)
        log_std = (self.log_std + spread).clamp(*LOG_STD)
        distribution = SquashedDiagGaussianDistribution(mean.shape[1])
        return distribution.log_prob_from_params(mean, log_std)

    def act(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Deterministic actions (n, a)."""
        return self.actor(*split_observation(obs))

    def adopt(self, source: TaskPolicy) -> None:
        """Copy another policy's weights, see `networks.adopt`."""
        adopt(self, source)

    def _predict(self, observation: Any, deterministic: bool = False) -> torch.Tensor:
        return self.act(observation) if deterministic else self.draw(observation)[0]


class TaskReplayBuffer(DictReplayBuffer):
    """Replay of which `share` of each batch is drawn from `demos` instead, while there are any."""

    COLUMNS = ("actions", "rewards", "dones", "timeouts")
    NESTED = ("observations", "next_observations")  # dictionaries of columns

    demos: DictReplayBufferSamples | None = None
    share: float = 0.5

    def sample(self, batch_size: int, env: Any = None) -> DictReplayBufferSamples:
        """Draw a batch; its last rows are demonstrations."""
        if self.demos is None:
            return super().sample(batch_size, env)
        count = round(self.share * batch_size)
        drawn = np.random.randint(len(self.demos.rewards), size=count)  # noqa: NPY002 - as stable-baselines3
        rows = torch.as_tensor(drawn)
        experience = super().sample(batch_size - count, env)
        parts = zip(experience[:5], self.demos[:5], strict=True)
        return DictReplayBufferSamples(*(_joined(own, demos, rows) for own, demos in parts))

    def state(self) -> dict[str, Any]:
        """The experience it holds, by name; demonstrations stay where they came from."""
        size = self.size()
        state: dict[str, Any] = {name: getattr(self, name)[:size] for name in self.COLUMNS}
        for name in self.NESTED:
            state[name] = {key: column[:size] for key, column in getattr(self, name).items()}
        return {**state, "place": np.array([self.pos, self.full])}

    def load(self, state: dict[str, Any]) -> None:
        """Return to a saved state."""
        for name in self.COLUMNS:
            getattr(self, name)[: len(state[name])] = state[name]
        for name in self.NESTED:
            for key, column in state[name].items():
                getattr(self, name)[key][: len(column)] = column
        position, full = state["place"]
        self.pos = int(position)
        self.full = bool(full)


def _joined(experience: Any, demos: Any, rows: torch.Tensor) -> Any:
    """Experience followed by some rows of demonstrations, by name where there are names."""
    if isinstance(experience, dict):
        return {name: _joined(value, demos[name], rows) for name, value in experience.items()}
    return torch.cat([experience, demos[rows]])


class MultiTaskSAC(sb3.Timed, stable_baselines3.SAC):
    """SAC with a temperature per task, timed.

    It acts by its policy from the first step on: uniform actions would hide a warm start. One
    optimizer moves all parameters at once.

    Attributes:
        config: settings.
        critic_warmup: updates that still train the critics alone.
    """

    policy: MultiTaskSACPolicy
    critic: TwinCritic
    critic_target: TwinCritic
    replay_buffer: TaskReplayBuffer

    def __init__(self, *args: Any, config: SACConfig, **kwargs: Any):
        self.config = config
        self.critic_warmup = 0
        super().__init__(*args, **kwargs)
        self.replay_buffer.share = config.demo_share

    def add_demonstrations(self, data: dict[str, np.ndarray]) -> None:
        """Draw a share of each batch from transitions of `demonstration_transitions` from now on.

        Raises:
            ValueError: they are of other observations or of more tasks.
        """
        spaces: Any = self.observation_space
        expected = {name: space.shape[0] for name, space in spaces.spaces.items()}
        names = [name for name in ("state", "task", "index") if data[name].shape[1]]
        given = {name: data[name].shape[1] for name in names}
        tasks = self.policy.num_tasks
        if given != expected or not 0 <= data["index"].max(initial=-1) < tasks:
            raise ValueError(
                f"demonstrations of {given} do not fit a policy made for {expected} "
                f"and {tasks} tasks"
            )
        tensors = {name: torch.as_tensor(column) for name, column in data.items()}
        now = {name: tensors[name] for name in names}
        changing = {name: tensors[f"next_{name}"] for name in names if name != "index"}
        following = {**now, **changing}
        self.replay_buffer.demos = DictReplayBufferSamples(
            now, tensors["action"], following, tensors["done"], tensors["reward"]
        )

    def _sample_action(self, learning_starts: int, action_noise: Any = None, n_envs: int = 1):
        return super()._sample_action(0, action_noise, n_envs)

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """One update: gradient steps; while the critics warm up the actor stands still."""
        with self.timed("update"):
            self.policy.set_training_mode(True)
            for step in range(gradient_steps):
                actor = self.critic_warmup == 0 and step % self.config.actor_every == 0
                batch = self.replay_buffer.sample(batch_size)
                losses = self.losses(batch, actor)
                self._step(sum(losses.values()))
                for name, loss in losses.items():
                    self.logger.record_mean(RECORDED[name], loss.item())
            sb3.set_updates(self, sb3.updates(self) + gradient_steps)
            self.critic_warmup = max(0, self.critic_warmup - 1)
            self._record_settings()

    def _record_settings(self) -> None:
        """Record the temperature, the mean of the tasks' where each has its own, and the rate."""
        used = self.policy.num_tasks if self.config.per_task_temperature else 1
        temperature = self.policy.log_ent_coef.detach()[:used].exp().mean()
        self.logger.record("train/ent_coef", temperature.item())
        actor, *_ = self.policy.optimizer.param_groups
        self.logger.record("train/learning_rate", actor["lr"])
        self.logger.record("train/n_updates", sb3.updates(self), exclude="tensorboard")

    def _step(self, loss: Any) -> None:
        self.policy.optimizer.zero_grad()
        loss.backward()
        self.policy.optimizer.step()
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)

    def losses(self, batch: DictReplayBufferSamples, actor: bool = True) -> dict[str, torch.Tensor]:
        """Losses of the critics and, if asked for, of actor and temperatures.

        Each reaches its own parameters alone.
        """
        index = batch.observations["index"][:, 0].long()  # (batch,)
        if not self.config.per_task_temperature:
            index = torch.zeros_like(index)
        log_temperature = self.policy.log_ent_coef[index]  # (batch,)
        temperature = log_temperature.detach().exp()
        target = self._target(batch, temperature)
        error = self.critic(batch.observations, batch.actions) - target[:, None]  # (batch, 2)
        losses = {"critic": 0.5 * (error**2).mean(0).sum()}
        if actor:
            actions, log_prob = self.policy.draw(batch.observations)
            self.critic.requires_grad_(False)
            value = self.critic(batch.observations, actions).amin(1)
            losses["actor"] = (temperature * log_prob - value).mean()
            self.critic.requires_grad_(True)
            goal = self.config.target_entropy * actions.shape[1]
            losses["temperature"] = -(log_temperature * (log_prob.detach() + goal)).mean()
        return losses

    def _target(self, batch: DictReplayBufferSamples, temperature: torch.Tensor) -> torch.Tensor:
        """Soft targets (batch,) of the critics."""
        with torch.no_grad():
            actions, log_prob = self.policy.draw(batch.next_observations)
            value = self.critic_target(batch.next_observations, actions).amin(1)
            following = value - temperature * log_prob
            reward = self.config.reward_scale * batch.rewards[:, 0]
            return reward + self.gamma * (1 - batch.dones[:, 0]) * following


def demonstration_transitions(
    folder: pathlib.Path, tasks: Sequence[str], task_vectors: np.ndarray
) -> dict[str, np.ndarray]:
    """The executed transitions of a recording that are of `tasks`, as float32 arrays by name.

    Args:
        folder: of `demonstrations.record`.
        tasks: rows, in the order of their indices.
        task_vectors: conditioning vectors, see `conditioning.vectors`.

    Returns:
        `state`, `next_state` (n, s), `task`, `next_task` (n, t), what is told in these, `index`
        (n, 1) in `tasks`, `action` (n, a), `reward` (n, 1), unscaled, and `done` (n, 1), ends that
        are no time limits.

    Raises:
        ValueError: see `demonstrations.load`; or it lacks a task.
    """
    data = demonstrations.load(folder)
    recorded = demonstrations.metadata(folder)
    index = demonstrations.task_indices(folder, tasks)[data["index"]]  # (n,), -1 for other tasks
    import minari

    steps = [
        (e.observations["state"][1:], e.actions, e.rewards, e.terminations)
        for e in minari.MinariDataset(recorded["data"])
    ]
    following, action, reward, done = (
        np.concatenate(column) for column in zip(*steps, strict=True)
    )
    vectors = np.asarray(task_vectors)
    columns = {
        "state": data["state"],
        "next_state": following,
        "task": told(vectors, index, stage_in(data["state"])),
        "next_task": told(vectors, index, stage_in(following)),
        "index": index[:, None],
        "action": action,
        "reward": reward[:, None],
        "done": done[:, None],
    }
    known = index >= 0
    return {name: column[known].astype(np.float32) for name, column in columns.items()}


class SAC(Algorithm):
    """Multi-task SAC."""

    policy_class = MultiTaskSACPolicy
    phase = "sac"
    replays_demonstrations = True
    takes_memory = False
    fixed = {"rule": "sum", "popart": False, "cosines": False, "transfer_steps": 0}
    groups = ("network", "sac")
    model: MultiTaskSAC

    @classmethod
    def build(cls, env: TaskVecEnv, config: LearnerConfig, seed: int) -> MultiTaskSAC:
        """Make the model, with the `warm_*` settings where its policy does not start from nothing.

        Raises:
            ValueError: the environment's rewards are scaled by what drifts.
        """
        if env.scaled:
            raise ValueError("SAC's replay needs rewards as they are: TaskVecEnv(scaled=False)")
        sac, warm = config.sac, config.warm
        if warm:
            sac = dataclasses.replace(sac, target_entropy=sac.warm_target_entropy)
        model = MultiTaskSAC(
            MultiTaskSACPolicy,
            env,
            config=sac,
            learning_rate=sac.learning_rate,
            buffer_size=sac.buffer_size,
            learning_starts=sac.learning_starts,
            batch_size=sac.batch_size,
            tau=sac.tau,
            gamma=sac.gamma,
            train_freq=sac.train_freq,
            gradient_steps=sac.gradient_steps,
            replay_buffer_class=TaskReplayBuffer,
            ent_coef=sac.temperature,
            seed=seed,
            device="cpu",
            policy_kwargs={
                "num_tasks": len(env.closures.tasks),
                "network": config.network,
                "temperature": sac.temperature,
                "deviation": sac.warm_deviation if warm else sac.deviation,
            },
        )
        actor, _, temperatures = model.policy.optimizer.param_groups
        actor["lr"] = sac.warm_learning_rate if warm else sac.learning_rate
        temperatures["lr"] = sac.temperature_rate
        model.critic_warmup = sac.critic_warmup if warm else 0
        return model

    def add_demonstrations(self, transitions: dict[str, np.ndarray]) -> None:
        """Draw a share of each batch from recorded transitions from now on."""
        self.model.add_demonstrations(transitions)

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The exact state, replay included."""
        tensors, meta = super().save()
        if self.has_begun:
            tensors |= checkpoints.flatten(self.model.replay_buffer.state(), "replay/")
        return tensors, meta

    def resume(self, tensors, meta) -> None:
        """Return to a saved state, replay included."""
        super().resume(tensors, meta)
        if "starts" in tensors:
            self.model.replay_buffer.load(checkpoints.unflatten(tensors, "replay/"))
