"""Multi-task PPO (Schulman et al., 2017) on a device, after `agents/ppo.py`, from scratch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uncap.agents import checkpoints
from uncap.agents.config import PPOConfig
from uncap.agents.device.config import WideConfig
from uncap.agents.device.rollout import Rollout, advantages, normalised
from uncap.agents.device.scale import DeviceReturnScale
from uncap.agents.device.worlds import Tensors, Worlds, tensors_in
from uncap.agents.networks import MultiTaskPolicy
from uncap.agents.ppo import ACTOR_RATE, SMALLEST_DEVIATION, largest_deviation
from uncap.envs.device.states import copies_of, write_back

# stable-baselines3's defaults, which PPO has on the CPU
VALUE_WEIGHT = 0.5
LARGEST_GRADIENT = 0.5
ADAM_EPSILON = 1e-5


class DevicePPO:
    """Actor and critic learn from rollouts of all worlds, which stay on the device.

    As on the CPU, rewards are scaled and advantages normalised within each task.

    Args:
        policy: on the worlds' device; it is trained in place.
        worlds: where it acts.
        config: settings: `ppo`, without what follows a warm start: those named `warm_*`,
            `critic_warmup` and `guidance`.
        seed: of the actions' noise, which is torch's own, and of minibatches.

    Attributes:
        env_steps: so far.
        used: share of the budget so far.

    Raises:
        ValueError: a policy or settings that need more than there is here.
    """

    def __init__(self, policy: MultiTaskPolicy, worlds: Worlds, config: WideConfig, seed: int):
        _refuse_unknown(policy, config.ppo)
        self.policy = policy
        self.worlds = worlds
        self.config = config.ppo
        self.env_steps = 0
        self.used = 0.0
        self._scale = DeviceReturnScale(worlds.sums, self.config.gamma)
        self._rollout = Rollout(self.config.rollout)
        torch.manual_seed(seed)
        self._generator = torch.Generator(worlds.device).manual_seed(seed)
        groups = [
            {"params": [*policy.actor.parameters(), policy.log_std]},
            {"params": list(policy.critic.parameters())},
        ]
        self._optimizer = torch.optim.Adam(
            groups, lr=self.config.learning_rate, eps=ADAM_EPSILON, fused=True
        )

    def run(
        self, on_update: Callable[[int, float], float], stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Learn until the budget is used, or a stop is asked for.

        Args:
            on_update: called with (env steps, approximate KL divergence) after each update;
                returns the share of the budget that is used. At 1 or more, this was the last one.
            stop: asked before each rollout; its state can be saved then.
        """
        while self.used < 1 and not stop():
            last_value = self._collect()
            self.used = on_update(self.env_steps, self._update(last_value))

    def snapshot(self) -> dict[str, Any]:
        """All that the next rollout and update read, see `saved.save`."""
        return {
            "policy": copies_of(self.policy.state_dict()),
            "worlds": self.worlds.snapshot(),
            "scale": copies_of(self._scale.memory()),
            "optimizer": checkpoints.optimizer_state(self._optimizer),
            "generator": self._generator.get_state().numpy(),
            "noise": _noise_state(self.worlds.device).numpy(),
            "env_steps": self.env_steps,
            "used": self.used,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Return to a snapshot.

        Raises:
            ValueError, RuntimeError: it is of another policy, or of other worlds.
        """
        self.worlds.restore(snapshot["worlds"])
        self.policy.load_state_dict(tensors_in(snapshot["policy"]))
        write_back(self._scale.memory(), snapshot["scale"])
        checkpoints.load_optimizer(self._optimizer, snapshot["optimizer"])
        self._generator.set_state(torch.as_tensor(snapshot["generator"]))
        _set_noise_state(self.worlds.device, torch.as_tensor(snapshot["noise"]))
        self.env_steps, self.used = snapshot["env_steps"], snapshot["used"]

    @torch.no_grad()
    def _collect(self) -> Tensor:
        """Act for a rollout; values (n,) of the states after it."""
        policy, worlds = self.policy, self.worlds
        policy.noise = None
        for step in range(self.config.rollout):
            action, value, log_prob = policy(worlds.observation)
            before = {**worlds.observation, "value": value[:, 0], "log_prob": log_prob}
            self._rollout.write(step, before)
            reward, running, ended = worlds.step(action)
            scaled = self._scale(reward, ended, running)
            after = {"action": action, "reward": scaled, "running": running, "ended": ended}
            self._rollout.write(step, after)
        self.env_steps += self.config.rollout * len(worlds)
        return policy.predict_values(worlds.observation)[:, 0]

    def _update(self, last_value: Tensor) -> float:
        """Some epochs on the rollout, until the policy has moved too far; how far it has."""
        self._set_rates()
        batches = self._batches(self._learned_from(last_value))
        divergence = 0.0
        for batch in batches:
            loss, divergence = self._loss(batch)
            if divergence > 1.5 * self.config.target_kl:
                break
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), LARGEST_GRADIENT)
            self._optimizer.step()
        largest = largest_deviation(self.config, self.env_steps)
        with torch.no_grad():
            self.policy.log_std.clamp_(np.log(SMALLEST_DEVIATION), np.log(largest))
        return divergence

    def _set_rates(self) -> None:
        """The narrower the actions, the more a step changes the policy: the actor's rate falls."""
        config = self.config
        narrowed = largest_deviation(config, self.env_steps) / largest_deviation(config, 0)
        share = narrowed * ACTOR_RATE.get(self.policy.network.body, 1.0)
        actor, critic = self._optimizer.param_groups
        actor["lr"] = config.learning_rate * share
        critic["lr"] = config.learning_rate

    def _learned_from(self, last_value: Tensor) -> Tensors:
        """The rollout's steps, (steps, ...) by name, without those in which a world restarted."""
        columns, config = self._rollout.columns, self.config
        value, running = columns["value"], columns["running"]
        advantage = advantages(
            columns["reward"], value, last_value, columns["ended"], config.gamma, config.gae_lambda
        )
        columns = {
            **columns,
            "target": advantage + value,
            "advantage": normalised(advantage, running, self.worlds.sums),
        }
        return {name: column[running] for name, column in columns.items()}

    def _batches(self, steps: Tensors) -> Iterator[Tensors]:
        """Minibatches of the steps, in a new order in every epoch."""
        config, count = self.config, len(steps["reward"])
        size = config.rollout * len(self.worlds) // config.minibatches
        for _ in range(config.epochs):
            order = torch.randperm(count, generator=self._generator, device=self.worlds.device)
            for rows in order.split(size):
                yield {name: column[rows] for name, column in steps.items()}

    def _loss(self, batch: Tensors) -> tuple[Tensor, float]:
        """Clipped surrogate and squared error of the values; approximate KL divergence."""
        clip = self.config.clip
        value, log_prob, _ = self.policy.evaluate_actions(batch, batch["action"])
        log_ratio = log_prob - batch["log_prob"]
        ratio = log_ratio.exp()
        advantage = batch["advantage"]
        surrogate = torch.min(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip))
        squared = (batch["target"] - value[:, 0]) ** 2
        divergence = (ratio - 1 - log_ratio).mean()
        return VALUE_WEIGHT * squared.mean() - surrogate.mean(), divergence.item()


def _noise_state(device: torch.device) -> Tensor:
    """State of torch's own generator, which draws the noise of actions on a device."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_noise_state(device: torch.device, state: Tensor) -> None:
    """Return to what `_noise_state` gave."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


def _refuse_unknown(policy: MultiTaskPolicy, config: PPOConfig) -> None:
    """Refuse what is on the CPU only.

    Raises:
        ValueError: what it is.
    """
    if policy.network.sensors != "full":
        raise ValueError("PPO on a device needs the sensors full: worlds observe nothing beside")
    if policy.popart or config.popart or config.rule != "sum" or config.anneal_steps:
        raise ValueError("PPO on a device has neither popart, anneal_steps nor a rule but sum")
