"""Multi-task SAC: stable-baselines3's, on the networks of PPO, with a temperature per task and demonstrations in the replay.

Soft actor-critic (Haarnoja et al., 2018) as for many tasks in Meta-World (Yu et al., 2019). A share of every batch can come from
demonstrations, and the critics' last features are normalised, so that they promise little for untried actions: RLPD (Ball et al., 2023).

A replay outlives every running scale. Rewards are therefore stored as the environment gives them, all in [0, 1], and multiplied by one
constant when they are used; what PPO's scale per task is for, the temperature per task does. A time limit is no end: values are
bootstrapped through it, by `TimeLimit.truncated` of TaskVecEnv and stable-baselines3's replay.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from torch import nn
from torch.nn import functional

from agents import demonstrations
from agents.config import NetworkConfig
from agents.networks import MultiTaskPolicy, TaskNetwork, split_observation
from agents.ppo import TimedPPO
from agents.tables import HEADS
from agents.vec_env import TaskVecEnv
from envs.observations import SIZE

LOG_STD = (-5.0, 0.5)  # bounds of the logarithm of the actions' deviation before squashing


class GaussianHead(nn.Module):
    """Means of the actions and, added to a constant, logarithms of their deviations, by a head each; the latter are 0 at first."""

    def __init__(self, head: str, width: int, actions: int, num_tasks: int):
        super().__init__()
        self.mean, self.spread = (HEADS[head](width, actions, num_tasks) for _ in range(2))
        for p in self.spread.parameters():
            nn.init.zeros_(p)

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
        return self.net(state, task, index).chunk(2, 1)[0].tanh()


class TwinCritic(nn.Module):
    """Two estimates of an action's value."""

    def __init__(self, state: int, task: int, actions: int, num_tasks: int, config: NetworkConfig):
        super().__init__()
        # The action stands beside the state. A transformer reads states as whole observations: for it, the action is one more.
        self.pad = SIZE - actions if config.body == "transformer" else 0
        self.nets = nn.ModuleList(
            TaskNetwork(state + actions + self.pad, task, 1, num_tasks, config) for _ in range(2)
        )
        for net in self.nets:  # what a head reads is normalised: its weights bound what it says
            net.head.register_forward_pre_hook(
                lambda head, given: (functional.layer_norm(given[0], given[0].shape[1:]), given[1])
            )

    def forward(self, obs: dict[str, torch.Tensor], actions: torch.Tensor) -> torch.Tensor:
        """Values (n, 2) of actions (n, a) for observations (n, ...)."""
        state, task, index = split_observation(obs)
        state = torch.cat([state, functional.pad(actions, (0, self.pad))], 1)
        return torch.cat([net(state, task, index) for net in self.nets], 1)


class MultiTaskSACPolicy(BasePolicy):
    """Actor, twin critics and their targets, and a temperature per task, for observations {state, task?, index}.

    Made as stable-baselines3 makes policies, and of `num_tasks` heads and temperatures, and networks of `network`; `deviation` of the
    actions, before the tanh, and `temperature` are where these begin.
    """

    popart, adopt = False, MultiTaskPolicy.adopt

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
        self.num_tasks, self.network = num_tasks, network
        sizes = [
            s.shape[0] if (s := observation_space.spaces.get(name)) else 0
            for name in ("state", "task")
        ]
        made = (*sizes, action_space.shape[0], num_tasks, network)
        self.actor, self.critic, self.critic_target = (
            SquashedActor(*made),
            TwinCritic(*made),
            TwinCritic(*made),
        )
        self.critic_target.load_state_dict(self.critic.state_dict())
        self.critic_target.requires_grad_(False)
        self.log_std = nn.Parameter(torch.full(action_space.shape, math.log(deviation)))
        self.log_ent_coef = nn.Parameter(torch.full((num_tasks,), math.log(temperature)))
        groups = (
            [*self.actor.parameters(), self.log_std],
            list(self.critic.parameters()),
            [self.log_ent_coef],
        )
        self.optimizer = torch.optim.Adam(
            [{"params": g} for g in groups], lr=lr_schedule(1), fused=True
        )

    def draw(self, obs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Random actions (n, a) in [-1, 1] and their log probabilities (n,)."""
        mean, spread = self.actor.net(*split_observation(obs)).chunk(2, 1)
        return SquashedDiagGaussianDistribution(mean.shape[1]).log_prob_from_params(
            mean, (self.log_std + spread).clamp(*LOG_STD)
        )

    def act(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Deterministic actions (n, a)."""
        return self.actor(*split_observation(obs))

    def _predict(self, observation, deterministic: bool = False):
        return self.act(observation) if deterministic else self.draw(observation)[0]


class TaskReplayBuffer(DictReplayBuffer):
    """Replay of which `share` of each batch is drawn from `demos` instead, while there are any."""

    demos: DictReplayBufferSamples | None = None
    share: float = 0.5

    def sample(self, batch_size: int, env=None) -> DictReplayBufferSamples:
        """Draw a batch; its last rows are demonstrations."""
        if self.demos is None:
            return super().sample(batch_size, env)
        count = round(self.share * batch_size)
        rows = torch.as_tensor(np.random.randint(len(self.demos.rewards), size=count))  # noqa: NPY002 - as stable-baselines3 draws

        def mixed(own, shown):
            return (
                {k: mixed(own[k], shown[k]) for k in own}
                if isinstance(own, dict)
                else torch.cat([own, shown[rows]])
            )

        own = super().sample(batch_size - count, env)
        return DictReplayBufferSamples(*map(mixed, own[:5], self.demos[:5]))

    def state(self) -> dict:
        """The experience it holds, by name; demonstrations stay where they came from."""
        columns = {
            name: getattr(self, name)[: self.size()]
            for name in ("actions", "rewards", "dones", "timeouts")
        }
        seen = {
            name: {k: v[: self.size()] for k, v in getattr(self, name).items()}
            for name in ("observations", "next_observations")
        }
        return {**columns, **seen, "place": np.array([self.pos, self.full])}

    def load(self, state: dict) -> None:
        """Return to a saved state."""
        for name in state.keys() - {"place"}:
            own, given = getattr(self, name), state[name]
            for old, new in (
                ((own[k], given[k]) for k in given) if isinstance(own, dict) else ((own, given),)
            ):
                old[: len(new)] = new
        self.pos, self.full = int(state["place"][0]), bool(state["place"][1])


class MultiTaskSAC(SAC):
    """SAC with a temperature per task, timed.

    It acts by its policy from the first step on: no uniform actions hide a warm start. One optimizer moves all at once.

    Attributes:
        seconds: spent in rollouts and in updates, so far.
        critic_warmup: updates that still train the critics alone.
    """

    critic_warmup, watch_cosines, cosines = 0, False, None  # see ppo.MultiTaskPPO
    _timed = TimedPPO._timed

    def __init__(self, *args, config: SACConfig, **kwargs):
        self.config, self.seconds = config, {}
        super().__init__(*args, **kwargs)
        self.replay_buffer.share = config.demo_share

    def add_demonstrations(self, data: dict[str, np.ndarray]) -> None:
        """Draw a share of each batch from transitions of `demonstration_transitions` from now on.

        Raises:
            ValueError: they are of other observations or of more tasks.
        """
        takes = {name: s.shape[0] for name, s in self.observation_space.spaces.items()}
        given = {
            name: data[name].shape[1] for name in ("state", "task", "index") if data[name].shape[1]
        }
        if given != takes or not 0 <= data["index"].max(initial=-1) < self.policy.num_tasks:
            raise ValueError(
                f"demonstrations of {given} do not fit a policy made for {takes} and {self.policy.num_tasks} tasks"
            )
        data = {name: torch.as_tensor(column) for name, column in data.items()}
        now = {name: data[name] for name in given}
        self.replay_buffer.demos = DictReplayBufferSamples(
            now, data["action"], {**now, "state": data["next_state"]}, data["done"], data["reward"]
        )

    def collect_rollouts(self, *args, **kwargs):
        """One rollout."""
        with self._timed("rollout"):
            return super().collect_rollouts(*args, **kwargs)

    def _sample_action(self, learning_starts, action_noise=None, n_envs: int = 1):
        return super()._sample_action(0, action_noise, n_envs)

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """One update: gradient steps; while the critics warm up the actor stands still."""
        with self._timed("update"):
            self.policy.set_training_mode(True)
            for step in range(gradient_steps):
                actor = self.critic_warmup == 0 and step % self.config.actor_every == 0
                losses = self.losses(self.replay_buffer.sample(batch_size), actor)
                self.policy.optimizer.zero_grad()
                sum(losses.values()).backward()
                self.policy.optimizer.step()
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
            self._n_updates += gradient_steps
            self.critic_warmup = max(0, self.critic_warmup - 1)

    def losses(self, batch: DictReplayBufferSamples, actor: bool = True) -> dict[str, torch.Tensor]:
        """Losses of the critics and, if asked for, of actor and temperatures; each reaches its own parameters alone."""
        index = batch.observations["index"][:, 0].long()
        own = self.policy.log_ent_coef[
            index if self.config.per_task_temperature else torch.zeros_like(index)
        ]  # (n,)
        temperature = own.detach().exp()
        with torch.no_grad():
            actions, log_prob = self.policy.draw(batch.next_observations)
            following = (
                self.critic_target(batch.next_observations, actions).amin(1)
                - temperature * log_prob
            )
            target = (
                self.config.reward_scale * batch.rewards[:, 0]
                + self.gamma * (1 - batch.dones[:, 0]) * following
            )
        losses = {
            "critic": 0.5
            * ((self.critic(batch.observations, batch.actions) - target[:, None]) ** 2)
            .mean(0)
            .sum()
        }
        if actor:
            actions, log_prob = self.policy.draw(batch.observations)
            self.critic.requires_grad_(False)
            losses["actor"] = (
                temperature * log_prob - self.critic(batch.observations, actions).amin(1)
            ).mean()
            self.critic.requires_grad_(True)
            goal = self.config.target_entropy * actions.shape[1]
            losses["temperature"] = -(own * (log_prob.detach() + goal)).mean()
        return losses


def demonstration_transitions(
    folder: pathlib.Path, tasks: Sequence[str], task_vectors: np.ndarray
) -> dict[str, np.ndarray]:
    """The executed transitions of a recording that are of `tasks`, told by task_vectors (tasks, t), as float32 arrays by name.

    `state`, `next_state` (n, s), `task` (n, t), `index` (n, 1) in `tasks`, `action` (n, a), `reward` (n, 1), unscaled, and
    `done` (n, 1), ends that are no time limits. `folder` is of `demonstrations.record`.

    Raises:
        ValueError: see `demonstrations.load`; or it lacks a task.
    """
    told, recorded = demonstrations.load(folder), demonstrations.metadata(folder)
    if missing := [t for t in tasks if t not in recorded["tasks"]]:
        raise ValueError(
            f"{folder} has no demonstrations of {', '.join(missing)} (recorded: {', '.join(recorded['tasks'])})"
        )
    import minari

    steps = [
        (e.observations["state"][1:], e.actions, e.rewards, e.terminations)
        for e in minari.MinariDataset(recorded["data"])
    ]
    following, action, reward, done = (
        np.concatenate(column) for column in zip(*steps, strict=True)
    )
    index = np.array([tasks.index(t) if t in tasks else -1 for t in recorded["tasks"]])[
        told["index"]
    ]
    own = index >= 0
    columns = {
        "state": told["state"],
        "next_state": following,
        "task": np.asarray(task_vectors)[index],
        "index": index[:, None],
        "action": action,
        "reward": reward[:, None],
        "done": done[:, None],
    }
    return {name: column[own].astype(np.float32) for name, column in columns.items()}


def make_sac(
    env: TaskVecEnv, config: SACConfig, network: NetworkConfig, seed: int, warm: bool = False
) -> MultiTaskSAC:
    """A learner for env; `warm` when its policy will not start from nothing.

    Raises:
        ValueError: the environment's rewards are scaled by what drifts.
    """
    if env.scaled:
        raise ValueError("SAC's replay needs rewards as they are: TaskVecEnv(..., scaled=False)")
    config = dataclasses.replace(
        config, target_entropy=config.warm_target_entropy if warm else config.target_entropy
    )
    algorithm = MultiTaskSAC(
        MultiTaskSACPolicy,
        env,
        config=config,
        learning_rate=config.learning_rate,
        buffer_size=config.buffer_size,
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        tau=config.tau,
        gamma=config.gamma,
        train_freq=config.train_freq,
        gradient_steps=config.gradient_steps,
        replay_buffer_class=TaskReplayBuffer,
        ent_coef=config.temperature,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "num_tasks": len(env.env.tasks),
            "network": network,
            "temperature": config.temperature,
            "deviation": config.warm_deviation if warm else config.deviation,
        },
    )
    actor, _, temperatures = algorithm.policy.optimizer.param_groups
    actor["lr"] = config.warm_learning_rate if warm else config.learning_rate
    temperatures["lr"] = config.temperature_rate
    algorithm.critic_warmup = config.critic_warmup if warm else 0
    return algorithm
