"""Multi-task PPO: stable-baselines3's, with balance between tasks and a choice of gradient rule."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

from agents.balance import PopArt
from agents.config import NetworkConfig, PPOConfig
from agents.dagger import fit
from agents.gradients import GradientRule, cosines
from agents.networks import MultiTaskPolicy, split_observation
from agents.vec_env import TaskVecEnv

# From nothing these bodies' actors learn at a share of the rate: at all of it, `target_kl` soon ended a transformer's
# updates after 2 to 18 of 64 minibatches, and its critic's with them.
ACTOR_RATE = {"transformer": 0.3}


def largest_deviation(config: PPOConfig, env_steps: int) -> float:
    """Largest standard deviation of the actions after so many environment steps."""
    return float(np.interp(env_steps, *np.transpose(config.deviations)))


# Smallest deviation that advantages are divided by, in deviations of the return: on a
# task that is solved, advantages are the critic's noise, and unit noise unlearns it.
ADVANTAGE_FLOOR = 0.3


class TaskRolloutBuffer(DictRolloutBuffer):
    """Rollout buffer whose advantages have mean 0 and deviation 1 within each task.

    Attributes:
        popart: normalises returns and values per task, too; None: they stay in rewards.
    """

    popart: PopArt | None = None

    def compute_returns_and_advantage(self, last_values, dones) -> None:
        """Generalised advantages, then normalisation over each task's share of the rollout."""
        super().compute_returns_and_advantage(last_values, dones)
        task = self.observations["index"][..., 0]  # (steps, n)
        for t in np.unique(task).astype(int):
            own = task == t
            if self.popart:
                self.popart.update(t, self.returns[own])
                mean, spread = (
                    self.popart.policy.value_mean[t].item(),
                    self.popart.policy.value_std[t].item(),
                )
                self.returns[own] = (self.returns[own] - mean) / spread
                self.values[own] = (self.values[own] - mean) / spread
            spread = max(self.advantages[own].std(), ADVANTAGE_FLOOR)
            self.advantages[own] = (self.advantages[own] - self.advantages[own].mean()) / spread


class TimedPPO(PPO):
    """stable-baselines3's PPO, timed.

    Attributes:
        seconds: spent in rollouts and in updates, so far.
    """

    critic_warmup, watch_cosines, cosines = 0, False, None  # see MultiTaskPPO

    def __init__(self, *args, **kwargs):
        self.seconds: dict[str, float] = {}
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, *args, **kwargs) -> bool:
        """One rollout."""
        with self._timed("rollout"):
            return super().collect_rollouts(*args, **kwargs)

    def train(self) -> None:
        """One update."""
        with self._timed("update"):
            super().train()

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - began


class MultiTaskPPO(TimedPPO):
    """PPO whose critic has a learning rate of its own, and can train alone for the first updates.

    A policy that was learned elsewhere is tuned gently; its critic starts from nothing
    and must be quick, or its errors unlearn the policy.

    Attributes:
        rules: the gradient rules of actor and critic; None: stable-baselines3's own update.
        critic_warmup: updates that still train the critic alone.
        cosines: (tasks, tasks) between the tasks' actor gradients of the last update's
            first minibatch, when `watch_cosines` is set.
    """

    rules: tuple[GradientRule, GradientRule] | None = None
    guidance = 0
    config, warm = PPOConfig(), False

    def collect_rollouts(self, *args, **kwargs) -> bool:
        """One rollout, with a noise of its own: a resumed run then goes on as if it had not stopped."""
        self.policy.noise = None
        return super().collect_rollouts(*args, **kwargs)

    def _update_learning_rate(self, optimizers) -> None:
        super()._update_learning_rate(optimizers)
        actor, critic = self.policy.optimizer.param_groups
        if not self.warm:  # the narrower the actions, the more a step changes the policy
            actor["lr"] *= self.config.largest_deviation(self.num_timesteps) / largest_deviation(
                self.config, 0
            )
            actor["lr"] *= ACTOR_RATE.get(self.policy.network.body, 1.0)
        critic["lr"] = self.config.learning_rate

    def train(self) -> None:
        """One update; while the critic warms up the actor stands still."""
        warming = self.critic_warmup > 0
        frozen = [*self.policy.actor.parameters(), self.policy.log_std] if warming else []
        if self.watch_cosines:
            self._watch()
        for p in frozen:
            p.requires_grad_(False)
        if self.rules is None:
            super().train()
        else:
            with self._timed("update"):
                self._train_by_rule()
        for p in frozen:
            p.requires_grad_(True)
        if self.guidance and not warming:
            with self._timed("update"):
                self._imitate()
        self.critic_warmup = max(0, self.critic_warmup - 1)
        with torch.no_grad():
            self.policy.log_std.clamp_(
                np.log(0.03), np.log(largest_deviation(self.config, self.num_timesteps))
            )

    def _imitate(self) -> None:
        """Some minibatches of imitation in the states of the rollout, so that what was imitated is not unlearned."""
        data = {
            k: torch.as_tensor(v.reshape(-1, v.shape[-1]))
            for k, v in self.rollout_buffer.observations.items()
        }
        state, task, index = split_observation(data)
        data |= {"state": state, "task": task, "index": index}
        rng = np.random.default_rng([self.seed, self.num_timesteps])
        fit(self.policy, self.policy.optimizer, data, self.guidance, self.batch_size, rng)

    def _losses(
        self, batch
    ) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Clipped surrogate and value loss of every task that is present, their indices, and log ratios (b,).

        One forward pass per task: a loss then reaches its own samples only, and its gradient costs no more than they do.
        """
        clip, index = (
            self.clip_range(self._current_progress_remaining),
            batch.observations["index"][:, 0].long(),
        )
        actor, critic, log_ratios, present = [], [], [], index.unique()
        for own in (index == task for task in present):
            observations = {name: values[own] for name, values in batch.observations.items()}
            values, log_prob, _ = self.policy.evaluate_actions(observations, batch.actions[own])
            log_ratio, advantages = log_prob - batch.old_log_prob[own], batch.advantages[own]
            ratio = log_ratio.exp()
            actor.append(
                -torch.min(advantages * ratio, advantages * ratio.clamp(1 - clip, 1 + clip)).mean()
            )
            critic.append(self.vf_coef * ((batch.returns[own] - values[:, 0]) ** 2).mean())
            log_ratios.append(log_ratio.detach())
        return actor, critic, present, torch.cat(log_ratios)

    def _train_by_rule(self) -> None:
        """stable-baselines3's update, with the gradients of the tasks' losses combined by rules."""
        self._update_learning_rate(self.policy.optimizer)
        parts = (
            [*self.policy.actor.parameters(), self.policy.log_std],
            list(self.policy.critic.parameters()),
        )
        for rule in self.rules:
            rule.reset()
        for _ in range(self.n_epochs):
            self._n_updates += 1
            for batch in self.rollout_buffer.get(self.batch_size):
                *losses, _, log_ratio = self._losses(batch)
                if (
                    self.target_kl is not None
                    and (log_ratio.exp() - 1 - log_ratio).mean() > 1.5 * self.target_kl
                ):
                    return
                self.policy.optimizer.zero_grad()
                for rule, loss, parameters in zip(self.rules, losses, parts, strict=True):
                    rule.backward(loss, parameters)
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()

    def _watch(self) -> None:
        state = np.random.get_state()  # noqa: NPY002 - looking must not change which minibatches follow
        batch = next(iter(self.rollout_buffer.get(self.batch_size)))
        np.random.set_state(state)  # noqa: NPY002
        actor, _, present, _ = self._losses(batch)
        self.cosines = np.full((self.policy.num_tasks,) * 2, np.nan)
        self.cosines[np.ix_(present, present)] = cosines(actor, self.policy.actor.parameters())


def make_ppo(
    env: TaskVecEnv, config: PPOConfig, network: NetworkConfig, seed: int, warm: bool
) -> MultiTaskPPO:
    """A learner for env; `warm` when its policy will not start from nothing."""
    rate = config.warm_learning_rate if warm else config.learning_rate
    rollout = config.warm_rollout if warm else config.rollout
    tasks = len(env.env.tasks)
    algorithm = MultiTaskPPO(
        MultiTaskPolicy,
        env,
        learning_rate=rate,
        n_steps=rollout,
        batch_size=rollout * env.num_envs // config.minibatches,
        n_epochs=config.warm_epochs if warm else config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        target_kl=config.target_kl,
        normalize_advantage=False,
        rollout_buffer_class=TaskRolloutBuffer,
        seed=seed,
        device="cpu",
        policy_kwargs={
            "num_tasks": tasks,
            "network": network,
            "popart": config.popart,
            "deviation": config.warm_deviation if warm else largest_deviation(config, 0),
            "correlation": 0.0 if warm else config.correlation,
        },
    )
    algorithm.config, algorithm.warm = config, warm
    algorithm.critic_warmup = config.critic_warmup if warm else 0
    algorithm.guidance = config.guidance if env.expert else 0
    if config.popart:
        algorithm.rollout_buffer.popart = PopArt(algorithm.policy)
    if config.rule != "sum":
        algorithm.rules = (GradientRule(config.rule, tasks), GradientRule(config.rule, tasks))
    return algorithm
