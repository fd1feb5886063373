"""What a way to learn by reinforcement has to offer: build, warm start, learn, save, resume."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from uncap.agents import checkpoints, sb3
from uncap.agents.config import LearnerConfig, NetworkConfig
from uncap.agents.networks import TaskNetwork
from uncap.agents.tables import ALGORITHMS
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs.conditioning import REMEMBERING
from uncap.envs.observations import FULL, layout
from uncap.envs.sensors import SENSORS


class Algorithm:
    """An algorithm of stable-baselines3 as a `Learner` uses it.

    A new one is a subclass, and a row in `tables.ALGORITHMS`.

    Args:
        env: where it acts.
        config: settings.
        seed: of weights and minibatches.

    Attributes:
        model: stable-baselines3's object.
        policy_class: of its policies.
        phase: its name in metrics.csv.
        env_class: of the environment that it acts in.
        remembers: its policies have a memory, whatever they are told.
        takes_memory: its policies can have one of those that conditionings name.
        plain: leaves observations and rewards as the environment gives them.
        guided: can go on to imitate the scripted experts while it learns.
        replays_demonstrations: can learn from recorded transitions.
        sees_pictures: whether its policies can.
        fixed: flags that it works with at one value only, by their names in grids.
        groups: fields of `LearnerConfig` whose settings it reads: of network, ppo and sac.
    """

    policy_class: ClassVar[type[BasePolicy]]
    phase: ClassVar[str] = "ppo"
    env_class: ClassVar[type[TaskVecEnv]] = TaskVecEnv
    remembers: ClassVar[bool] = False
    takes_memory: ClassVar[bool] = True
    plain: ClassVar[bool] = False
    guided: ClassVar[bool] = False
    sees_pictures: ClassVar[bool] = False
    replays_demonstrations: ClassVar[bool] = False
    fixed: ClassVar[Mapping[str, Any]] = {}
    groups: ClassVar[tuple[str, ...]] = ("network",)

    def __init__(self, env: TaskVecEnv, config: LearnerConfig, seed: int):
        self.env = env
        self.model: Any = self.build(env, config, seed)
        sb3.silence(self.model)

    @staticmethod
    def scales_rewards(config: LearnerConfig) -> bool:
        """Whether the environment divides rewards by the deviation of each task's returns."""
        return False

    @classmethod
    def critic_sees_more(cls, sensors: str) -> bool:
        """Whether critics read the full state beside a policy that is given less of it."""
        return sensors != FULL and not cls.plain

    @classmethod
    def check(cls, config: LearnerConfig) -> None:
        """Refuse settings that cannot be built, before anything is made.

        Raises:
            ValueError: what is wrong.
        """
        if SENSORS[config.sensors].pictures and not cls.sees_pictures:
            able = [name for name, row in ALGORITHMS.items() if row.sees_pictures]
            raise ValueError(
                f"--algorithm {config.algorithm} sees no pictures: allowed: {', '.join(able)}"
            )
        if config.conditioning in REMEMBERING and not cls.takes_memory:
            raise ValueError(
                f"--conditioning {config.conditioning} has a memory, which --algorithm "
                f"{config.algorithm} cannot train: allowed with it are conditionings without one"
            )
        with torch.random.fork_rng():  # what is drawn here changes nothing
            network = dataclasses.replace(config.network, sensors=config.sensors)
            TaskNetwork(layout(config.sensors).size, 1, 1, 1, network)

    @classmethod
    def build(cls, env: TaskVecEnv, config: LearnerConfig, seed: int) -> BaseAlgorithm:
        """Make stable-baselines3's object."""
        raise NotImplementedError

    @classmethod
    def build_policy(
        cls, observation_space: gym.Space, action_space: gym.Space, meta: Mapping[str, Any]
    ) -> Any:
        """Make an untrained policy from what a checkpoint says of it."""
        return cls.policy_class(
            observation_space,
            action_space,
            lambda _: 0.0,
            num_tasks=meta["num_tasks"],
            network=NetworkConfig(**meta["network"]),
        )

    @property
    def policy(self) -> Any:
        """The policy, trained in place."""
        return self.model.policy

    @property
    def env_steps(self) -> int:
        """Environment steps of reinforcement learning so far."""
        return self.model.num_timesteps

    @property
    def seconds(self) -> dict[str, float]:
        """Spent in rollouts and in updates, so far."""
        return self.model.seconds

    @property
    def cosines(self) -> np.ndarray | None:
        """Cosines (tasks, tasks) between the tasks' gradients in the last update, where watched."""
        return None

    def watch_cosines(self) -> None:
        """Record the cosines between the tasks' gradients from now on."""
        raise ValueError(f"{type(self).__name__} has no gradients per task")

    def log_to(self, write: sb3.Write) -> None:
        """Hand diagnostics to a function after each update, by stable-baselines3's names.

        Args:
            write: called with numbers by name, and environment steps of reinforcement learning.
        """
        sb3.log_to(self.model, write)

    def warm_start(self, teach: Callable[[Any], None]) -> None:
        """Let a function teach the policy's actor; reinforcement learning goes on from there."""
        teach(self.policy)

    def add_demonstrations(self, transitions: dict[str, np.ndarray]) -> None:
        """Learn from recorded transitions, too."""
        raise ValueError(f"{type(self).__name__} does not learn from recorded transitions")

    def learn(self, env_steps: int, on_update: Callable[[], bool]) -> None:
        """Learn for so many more environment steps.

        Args:
            env_steps: from here on.
            on_update: called after each update; returns whether to go on.
        """
        sb3.learn(self.model, env_steps, on_update, fresh=not self.has_begun)

    @property
    def has_begun(self) -> bool:
        """Whether reinforcement learning has begun."""
        return sb3.has_begun(self.model)

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The exact state: tensors by name, and what goes into JSON. Call between updates."""
        policy = self.policy
        tensors = {f"policy/{name}": value.numpy() for name, value in policy.state_dict().items()}
        optimizer = checkpoints.optimizer_state(policy.optimizer)
        tensors |= checkpoints.flatten(optimizer, "optimizer/")
        if self.has_begun:
            observations, starts = sb3.rollout_state(self.model)
            tensors |= checkpoints.flatten(observations, "obs/")
            tensors["starts"] = starts
        meta = {
            "env_steps": self.env_steps,
            "critic_warmup": getattr(self.model, "critic_warmup", 0),
            "updates": sb3.updates(self.model),
            "episodes": sb3.episodes(self.model) if self.has_begun else [],
            "num_tasks": policy.num_tasks,
            "popart": policy.popart,
        }
        return tensors, meta

    def resume(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Return to a saved state."""
        load_weights(self.policy, tensors)
        optimizer = checkpoints.unflatten(tensors, "optimizer/")
        checkpoints.load_optimizer(self.policy.optimizer, optimizer)
        self.model.num_timesteps = meta["env_steps"]
        self.model.critic_warmup = meta["critic_warmup"]
        sb3.set_updates(self.model, meta["updates"])
        if "starts" in tensors:
            observations = checkpoints.unflatten(tensors, "obs/")
            sb3.set_rollout_state(self.model, observations, tensors["starts"])
            sb3.set_episodes(self.model, meta.get("episodes", []))  # older states have none


def load_weights(
    policy: torch.nn.Module, tensors: Mapping[str, np.ndarray], acts_only: bool = False
) -> None:
    """Load the weights of a policy from a checkpoint's tensors.

    Args:
        policy: is changed in place.
        tensors: of the checkpoint.
        acts_only: it has no critic, which is then left as it was made.

    Raises:
        RuntimeError: the tensors are not the policy's.
    """
    prefix = "policy/"
    weights = {
        name.removeprefix(prefix): torch.tensor(value)
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    if acts_only:
        made = policy.state_dict()
        weights |= {name: made[name] for name in made if name.startswith("critic")}
    policy.load_state_dict(weights)
