"""Multi-task PPO: stable-baselines3's, with balance between tasks and a choice of gradient rule."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.type_aliases import DictRolloutBufferSamples
from stable_baselines3.common.utils import explained_variance

from uncap.agents import sb3
from uncap.agents.algorithm import Algorithm
from uncap.agents.balance import PopArt
from uncap.agents.config import LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.dagger import fit
from uncap.agents.gradients import GradientRule, cosines
from uncap.agents.networks import MultiTaskPolicy, split_observation
from uncap.agents.vec_env import TaskVecEnv

# From scratch, the actors of these bodies learn at this share of the rate: at all of it,
# `target_kl` soon ended a transformer's updates after 2 to 18 of 64 minibatches, and its
# critic's with them.
ACTOR_RATE = {"transformer": 0.3}

# Smallest deviation that advantages are divided by, in deviations of the return: on a task that
# is solved, advantages are the critic's noise, and noise of deviation 1 unlearns it.
ADVANTAGE_FLOOR = 0.3
LAST_RATE = 0.1  # share of the actor's learning rate after `anneal_steps`
SMALLEST_DEVIATION = 0.03  # of the actions


def largest_deviation(config: PPOConfig, env_steps: int) -> float:
    """Largest standard deviation of the actions after so many environment steps."""
    steps, deviations = np.transpose(config.deviations)
    return float(np.interp(env_steps, steps, deviations))


class TaskRolloutBuffer(DictRolloutBuffer):
    """Rollout buffer whose advantages have mean 0 and deviation 1 within each task.

    Attributes:
        popart: normalises returns and values per task, too; None: they stay in rewards.
    """

    popart: PopArt | None = None

    def compute_returns_and_advantage(self, last_values: torch.Tensor, dones: np.ndarray) -> None:
        """Generalised advantages, then normalisation over each task's share of the rollout."""
        super().compute_returns_and_advantage(last_values, dones)
        task = self.observations["index"][..., 0]  # (steps, n)
        for index in np.unique(task).astype(int):
            of_task = task == index  # (steps, n)
            if self.popart:
                self._normalise_values(index, of_task)
            advantages = self.advantages[of_task]
            spread = max(advantages.std(), ADVANTAGE_FLOOR)
            self.advantages[of_task] = (advantages - advantages.mean()) / spread

    def _normalise_values(self, index: int, of_task: np.ndarray) -> None:
        """Normalise returns and values of a task by statistics that move with its returns."""
        assert self.popart is not None
        self.popart.update(index, self.returns[of_task])
        mean = self.popart.policy.value_mean[index].item()
        spread = self.popart.policy.value_std[index].item()
        self.returns[of_task] = (self.returns[of_task] - mean) / spread
        self.values[of_task] = (self.values[of_task] - mean) / spread


class TimedPPO(sb3.Timed, stable_baselines3.PPO):
    """stable-baselines3's PPO, timed."""

    def train(self) -> None:
        """One update."""
        with self.timed("update"):
            super().train()


class TaskLosses(NamedTuple):
    """Losses of a minibatch, of the k tasks that are present in it."""

    actor: list[torch.Tensor]  # k clipped surrogates
    critic: list[torch.Tensor]  # k losses of the values
    present: torch.Tensor  # (k,) their indices
    shares: list[float]  # k shares of the minibatch
    log_ratio: torch.Tensor  # (batch,) of the actions' probabilities, now over then
    entropy: torch.Tensor  # (batch,) of the actions


class MultiTaskPPO(TimedPPO):
    """PPO whose critic has a learning rate of its own, and can train alone for the first updates.

    A policy that was learned elsewhere is tuned gently; its critic starts from nothing and must
    be quick, or its errors unlearn the policy.

    Attributes:
        config: settings.
        warm: whether the policy did not start from nothing.
        rules: the gradient rules of actor and critic; None: stable-baselines3's own update.
        critic_warmup: updates that still train the critic alone.
        guidance: minibatches of imitation after each update.
        watch_cosines: record `cosines`.
        cosines: (tasks, tasks) between the tasks' actor gradients of the last update's first
            minibatch.
    """

    policy: MultiTaskPolicy
    rollout_buffer: TaskRolloutBuffer
    seed: int
    target_kl: float | None

    def __init__(self, *args: Any, config: PPOConfig | None = None, warm: bool = False, **kwargs):
        self.config = config or PPOConfig()
        self.warm = warm
        self.rules: tuple[GradientRule, GradientRule] | None = None
        self.critic_warmup = 0
        self.guidance = 0
        self.watch_cosines = False
        self.cosines: np.ndarray | None = None
        super().__init__(*args, **kwargs)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """One rollout, whose noise begins anew: a resumed run then equals an uninterrupted one."""
        self.policy.noise = None
        return super().collect_rollouts(*args, **kwargs)

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        actor, critic = self.policy.optimizer.param_groups
        if not self.warm:  # the narrower the actions, the more a step changes the policy
            now = largest_deviation(self.config, self.num_timesteps)
            actor["lr"] *= now / largest_deviation(self.config, 0)
            actor["lr"] *= ACTOR_RATE.get(self.policy.network.body, 1.0)
        if self.config.anneal_steps:
            done = min(1.0, self.num_timesteps / self.config.anneal_steps)
            actor["lr"] *= 1 - (1 - LAST_RATE) * done
        critic["lr"] = self.config.learning_rate
        self.logger.record("train/learning_rate", actor["lr"])

    def train(self) -> None:
        """One update; while the critic warms up the actor stands still."""
        warming_up = self.critic_warmup > 0
        if self.watch_cosines:
            self._record_cosines()
        with self._actor_frozen() if warming_up else contextlib.nullcontext():
            if self.rules is None:
                super().train()
            else:
                with self.timed("update"):
                    self._train_by_rule(*self.rules)
        if self.guidance and not warming_up:
            with self.timed("update"):
                self._imitate()
        self.critic_warmup = max(0, self.critic_warmup - 1)
        largest = largest_deviation(self.config, self.num_timesteps)
        with torch.no_grad():
            self.policy.log_std.clamp_(np.log(SMALLEST_DEVIATION), np.log(largest))

    @contextlib.contextmanager
    def _actor_frozen(self) -> Iterator[None]:
        parameters = [*self.policy.actor.parameters(), self.policy.log_std]
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
        for parameter in learning:
            parameter.requires_grad_(True)

    def _imitate(self) -> None:
        """Imitate the expert in the states of the rollout, so that imitation is not unlearned."""
        observations = {
            name: torch.as_tensor(values.reshape(-1, values.shape[-1]))  # (steps x n, size)
            for name, values in self.rollout_buffer.observations.items()
        }
        state, task, index = split_observation(observations)
        data = {**observations, "state": state, "task": task, "index": index}
        rng = np.random.default_rng([self.seed, self.num_timesteps])
        fit(self.policy, self.policy.optimizer, data, self.guidance, self.batch_size, rng)

    def _losses(self, batch: DictRolloutBufferSamples) -> TaskLosses:
        """Clipped surrogate (Schulman et al., 2017) and value loss of every task in a minibatch.

        One forward pass per task: a loss then reaches its own samples only, and its gradient
        costs no more than they do.
        """
        clip = self._clip()
        index = batch.observations["index"][:, 0].long()  # (batch,)
        present = index.unique()
        losses = TaskLosses([], [], present, [], torch.empty(0), torch.empty(0))
        log_ratios, entropies = [], []
        for task in present:
            of_task = index == task
            observations = {name: values[of_task] for name, values in batch.observations.items()}
            actions = batch.actions[of_task]
            values, log_prob, entropy = self.policy.evaluate_actions(observations, actions)
            assert entropy is not None  # a Gaussian's
            log_ratio = log_prob - batch.old_log_prob[of_task]
            advantages = batch.advantages[of_task]
            ratio = log_ratio.exp()
            clipped = ratio.clamp(1 - clip, 1 + clip)
            losses.actor.append(-torch.min(advantages * ratio, advantages * clipped).mean())
            squared = (batch.returns[of_task] - values[:, 0]) ** 2
            losses.critic.append(self.vf_coef * squared.mean())
            losses.shares.append(len(actions) / len(index))
            log_ratios.append(log_ratio.detach())
            entropies.append(entropy.detach())
        return losses._replace(log_ratio=torch.cat(log_ratios), entropy=torch.cat(entropies))

    def _clip(self) -> float:
        """How far from 1 the ratio of the actions' probabilities counts."""
        schedule: Any = self.clip_range  # a function, once the model is set up
        return schedule(sb3.remaining(self))

    def _train_by_rule(self, actor_rule: GradientRule, critic_rule: GradientRule) -> None:
        """stable-baselines3's update, with the gradients of the tasks' losses combined by rules."""
        self._update_learning_rate(self.policy.optimizer)
        self._step_by_rule(actor_rule, critic_rule)
        values, returns = self.rollout_buffer.values, self.rollout_buffer.returns
        explained = explained_variance(values.flatten(), returns.flatten())
        self.logger.record("train/explained_variance", explained)
        self.logger.record("train/std", self.policy.log_std.detach().exp().mean().item())
        self.logger.record("train/n_updates", sb3.updates(self), exclude="tensorboard")
        self.logger.record("train/clip_range", self._clip())

    def _step_by_rule(self, actor_rule: GradientRule, critic_rule: GradientRule) -> None:
        """The gradient steps of an update, until the policy has moved too far."""
        actor = [*self.policy.actor.parameters(), self.policy.log_std]
        critic = list(self.policy.critic.parameters())
        actor_rule.reset()
        critic_rule.reset()
        for _ in range(self.n_epochs):
            sb3.set_updates(self, sb3.updates(self) + 1)
            divergences = []
            for batch in self.rollout_buffer.get(self.batch_size):
                losses = self._losses(batch)
                divergence = (losses.log_ratio.exp() - 1 - losses.log_ratio).mean()
                divergences.append(divergence.item())
                self._record(losses, float(np.mean(divergences)))
                if self._diverged(divergence):
                    return
                self.policy.optimizer.zero_grad()
                actor_rule.backward(losses.actor, actor)
                critic_rule.backward(losses.critic, critic)
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()

    def _record(self, losses: TaskLosses, divergence: float) -> None:
        """Record what stable-baselines3's own update records of a minibatch.

        Args:
            losses: of the minibatch.
            divergence: mean over the minibatches of this epoch; the last epoch's is logged.
        """
        actor, critic = (
            sum(share * loss.item() for share, loss in zip(losses.shares, part, strict=True))
            for part in (losses.actor, losses.critic)
        )
        clipped = (losses.log_ratio.exp() - 1).abs() > self._clip()
        self.logger.record_mean("train/entropy_loss", -losses.entropy.mean().item())
        self.logger.record_mean("train/policy_gradient_loss", actor)
        self.logger.record_mean("train/value_loss", critic / self.vf_coef)
        self.logger.record_mean("train/clip_fraction", clipped.float().mean().item())
        self.logger.record("train/approx_kl", divergence)
        self.logger.record("train/loss", actor + critic)

    def _diverged(self, divergence: torch.Tensor) -> bool:
        """Whether the policy moved too far in this update, as stable-baselines3 tells it."""
        return self.target_kl is not None and bool(divergence > 1.5 * self.target_kl)

    def _record_cosines(self) -> None:
        state = np.random.get_state()  # noqa: NPY002 - looking must not change the minibatches
        batch = next(iter(self.rollout_buffer.get(self.batch_size)))
        np.random.set_state(state)  # noqa: NPY002
        losses = self._losses(batch)
        tasks = self.policy.num_tasks
        self.cosines = np.full((tasks, tasks), np.nan)
        between = cosines(losses.actor, self.policy.actor.parameters())
        present = losses.present.numpy()
        self.cosines[np.ix_(present, present)] = between


class PPO(Algorithm):
    """Multi-task PPO."""

    policy_class = MultiTaskPolicy
    guided = True
    sees_pictures = True
    groups = ("network", "ppo")
    model: MultiTaskPPO

    @staticmethod
    def scales_rewards(config: LearnerConfig) -> bool:
        """Unless PopArt normalises values instead."""
        return not config.ppo.popart

    @classmethod
    def check(cls, config: LearnerConfig) -> None:
        """Refuse a rollout that does not fill its minibatches.

        Raises:
            ValueError: what is wrong.
        """
        super().check(config)
        ppo = config.ppo
        rollout = ppo.warm_rollout if config.warm else ppo.rollout
        steps = rollout * config.num_envs
        if steps // ppo.minibatches < 2:
            raise ValueError(
                f"--ppo.minibatches {ppo.minibatches} leaves fewer than 2 of the {steps} "
                "environment steps of a rollout for each"
            )

    @classmethod
    def build(cls, env: TaskVecEnv, config: LearnerConfig, seed: int) -> MultiTaskPPO:
        """Make the model, with the `warm_*` settings unless its policy starts from nothing."""
        ppo, warm = config.ppo, config.warm
        tasks = len(env.closures.tasks)
        rollout = ppo.warm_rollout if warm else ppo.rollout
        model = MultiTaskPPO(
            MultiTaskPolicy,
            env,
            config=ppo,
            warm=warm,
            learning_rate=ppo.warm_learning_rate if warm else ppo.learning_rate,
            n_steps=rollout,
            batch_size=rollout * env.num_envs // ppo.minibatches,
            n_epochs=ppo.warm_epochs if warm else ppo.epochs,
            gamma=ppo.gamma,
            gae_lambda=ppo.gae_lambda,
            clip_range=ppo.clip,
            target_kl=ppo.target_kl,
            normalize_advantage=False,
            rollout_buffer_class=TaskRolloutBuffer,
            seed=seed,
            device="cpu",
            policy_kwargs={
                "num_tasks": tasks,
                "network": config.network,
                "popart": ppo.popart,
                "deviation": ppo.warm_deviation if warm else largest_deviation(ppo, 0),
                "correlation": 0.0 if warm else ppo.correlation,
            },
        )
        model.critic_warmup = ppo.critic_warmup if warm else 0
        model.guidance = ppo.guidance if env.expert else 0
        if ppo.popart:
            model.rollout_buffer.popart = PopArt(model.policy)
        if ppo.rule != "sum":
            model.rules = (GradientRule(ppo.rule, tasks), GradientRule(ppo.rule, tasks))
        return model

    @classmethod
    def build_policy(cls, observation_space, action_space, meta) -> MultiTaskPolicy:
        """Make an untrained policy from what a checkpoint says of it."""
        return MultiTaskPolicy(
            observation_space,
            action_space,
            lambda _: 0.0,
            num_tasks=meta["num_tasks"],
            network=NetworkConfig(**meta["network"]),
            popart=meta["popart"],
        )

    @property
    def cosines(self) -> np.ndarray | None:
        """Cosines (tasks, tasks) between the tasks' gradients in the last update, where watched."""
        return self.model.cosines

    def watch_cosines(self) -> None:
        """Record the cosines between the tasks' gradients from now on."""
        self.model.watch_cosines = True

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The exact state, and the cosines of the last update."""
        tensors, meta = super().save()
        if self.model.cosines is not None:
            tensors["cosines"] = self.model.cosines
        return tensors, meta

    def resume(self, tensors, meta) -> None:
        """Return to a saved state."""
        super().resume(tensors, meta)
        self.model.cosines = tensors.get("cosines")
