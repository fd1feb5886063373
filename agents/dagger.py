"""DAgger (Ross et al., 2011) in the batch: the student acts, the expert labels every state."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch

from uncap.agents import checkpoints
from uncap.agents.config import CloneConfig, DaggerConfig
from uncap.agents.networks import MultiTaskPolicy, TaskNetwork, actor_inputs
from uncap.agents.vec_env import TaskVecEnv

# Labelled states: state (n, s), task (n, t), index (n,), label (n, a), the expert's action, and
# where the policy sees pictures, rgb (n, pixels) uint8.
Labelled = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]  # the same
INPUTS = ("state", "task", "index", "rgb")  # of an actor, in their order; not all have pictures
Rehearse = Callable[[Tensors, np.random.Generator], Tensors]
"""rehearse(a minibatch of present states, generator) -> as many labelled states of before"""


class Teacher:
    """Fits a policy's actor to labels, so many times, by Adam whose rate falls to a share.

    Between two fits its state can be saved; another one that is given it goes on exactly so.

    Args:
        policy: its actor is trained in place.
        config: settings of the fits.
        fits: how many.
        rng: draws minibatches.
        fused: whether Adam steps all parameters at once.
        falls_to: the share of the rate at the last fit; 1 keeps it.

    Attributes:
        done: fits so far.
        rehearse: see the function `fit`.
    """

    rehearse: Rehearse | None = None

    def __init__(
        self,
        policy: MultiTaskPolicy,
        config: DaggerConfig | CloneConfig,
        fits: int,
        rng: np.random.Generator,
        fused: bool,
        falls_to: float = 0.1,
    ):
        self.policy = policy
        self.config = config
        self.fits = fits
        self.rng = rng
        parameters = self.parameters()
        self.optimizer = torch.optim.Adam(parameters, lr=config.learning_rate, fused=fused)
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, falls_to, fits)
        self.done = 0

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained."""
        return list(self.policy.actor.parameters())

    def fit(self, data: dict[str, torch.Tensor]) -> float:
        """Fit the actor to labelled states, see the function `fit`; returns the mean L1 loss."""
        updates, minibatch = self.config.updates, self.config.minibatch
        noise = self.config.noise if isinstance(self.config, CloneConfig) else 0.0
        loss = fit(
            self.policy,
            self.optimizer,
            data,
            updates,
            minibatch,
            self.rng,
            self.rehearse,
            noise,
        )
        self.schedule.step()
        self.done += 1
        return loss

    def state(self) -> dict[str, Any]:
        """Everything but the policy, as nested dictionaries of arrays and JSON."""
        return {
            "done": self.done,
            "optimizer": checkpoints.optimizer_state(self.optimizer),
            "rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": self.schedule.state_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a saved state."""
        self.done = state["done"]
        checkpoints.load_optimizer(self.optimizer, state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for group, rate in zip(self.optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate
        self.rng = checkpoints.generator_in(state["rng"])


class Dagger(Teacher):
    """Teaches a policy's actor to act as the expert would in the states that the policy reaches.

    In a round, a copy of the actor acts; then the actor is fitted to the states of all rounds so
    far. The fit takes a core of its own while the next round is collected, so that the copy is
    always a round older than the actor. What is learned does not depend on how long either takes.

    Args:
        policy: its actor is trained in place.
        env: where the copy acts; stepped `config.total` times, its sub-environments together.
        expert: returns the expert's actions (n, a) for env's present states.
        config: settings.
        rng: draws minibatches, and where the expert acts.
        state: to go on from; policy and env are in the state that they had then.
    """

    def __init__(
        self,
        policy: MultiTaskPolicy,
        env: TaskVecEnv,
        expert: Callable[[], np.ndarray],
        config: DaggerConfig,
        rng: np.random.Generator,
        state: Mapping[str, Any] | None = None,
    ):
        minibatch_rng, lead_rng = rng.spawn(2)
        self.rollout = self.round_length(env, config)
        self.steps = env.num_envs * self.rollout  # environment steps per round
        rounds = self.count_rounds(env, config)
        super().__init__(policy, config, rounds, minibatch_rng, fused=True)
        self.lead = config.lead
        self.collector = self.make_collector(env, expert, lead_rng)
        self.data: Labelled = {}  # to fit to next
        if state is None:
            self.collector.observation = cast("dict[str, np.ndarray]", env.reset())
        else:
            self.load(state)

    def round_length(self, env: TaskVecEnv, config: DaggerConfig) -> int:
        """Control steps of a round, of each sub-environment."""
        return config.rollout

    def count_rounds(self, env: TaskVecEnv, config: DaggerConfig) -> int:
        """How many, of `round_length` each."""
        return max(1, config.total(len(env.closures.tasks)) // self.steps)

    @property
    def collected(self) -> int:
        """Rounds whose steps are counted: those that were learned from."""
        return self.done

    @property
    def can_be_saved(self) -> bool:
        """Whether the state between the present rounds can be saved."""
        return True

    def make_collector(
        self, env: TaskVecEnv, expert: Callable[[], np.ndarray], rng: np.random.Generator
    ) -> Collector:
        """Make what acts and labels."""
        return Collector(env, expert, copy.deepcopy(self.policy.actor), rng)

    def run(self, on_round: Callable[[int, float], bool]) -> None:
        """Teach what is not taught yet.

        Args:
            on_round: called with (env steps, loss) after each round after which the state can be
                saved; returns whether to go on.
        """
        # torch tells MKL its number of threads for the thread that asks only
        threads = torch.get_num_threads()
        with ThreadPoolExecutor(1, "fit", torch.set_num_threads, (threads,)) as executor:
            while self.done < self.fits:
                if not self.data:
                    self.data = _joined(self._collect(0))
                tensors = {name: torch.as_tensor(values) for name, values in self.data.items()}
                following = self.done + 1
                fitting = executor.submit(self.fit, tensors)
                new = self._collect(following) if following < self.fits else []
                loss = fitting.result()
                self.collector.take(self.policy)
                self.data = _joined([self.data, *new]) if new else {}
                if self.can_be_saved and not on_round(self.collected * self.steps, loss):
                    return

    def _collect(self, number: int) -> list[Labelled]:
        """The labelled states of a round."""
        return self.collector.collect(self.rollout, _expert_share(number, self.fits, self.lead))

    def state(self) -> dict[str, Any]:
        """Everything but policy and environment, as nested dictionaries of arrays and JSON.

        The copy that acts is the policy's actor between two rounds.
        """
        return {
            **super().state(),
            **self.collector.state(),
            "data": self.data,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a saved state."""
        super().load(state)
        self.collector.load(state)
        self.data = state["data"]


def _expert_share(k: int, rounds: int, lead: float) -> float:
    """Share of the environments in which the expert acts: falls to 0 in the first `lead`."""
    return max(0.0, 1.0 - k / (lead * rounds))


class Collector:
    """Acts in the environment and has the expert label what it reaches.

    Args:
        env: where it acts.
        expert: returns the expert's actions (n, a) for env's present states.
        actor: acts.
        rng: draws where the expert acts instead.

    Attributes:
        observation: env's present one.
    """

    observation: dict[str, np.ndarray]

    def __init__(
        self,
        env: TaskVecEnv,
        expert: Callable[[], np.ndarray],
        actor: TaskNetwork,
        rng: np.random.Generator,
    ):
        self.env = env
        self.expert = expert
        self.actor = actor
        self.rng = rng

    def take(self, policy: MultiTaskPolicy) -> None:
        """Act as a policy does now."""
        self.actor.load_state_dict(policy.actor.state_dict())

    def state(self) -> dict[str, Any]:
        """Its generator, and env's present observation."""
        return {"lead": self.rng.bit_generator.state, "observation": self.observation}

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a saved state."""
        self.rng = checkpoints.generator_in(state["lead"])
        self.observation = state["observation"]

    def collect(self, steps: int, expert_share: float) -> list[Labelled]:
        """The labelled states (n, ...) of so many control steps, and go on from there."""
        return [self._step(expert_share) for _ in range(steps)]

    def _step(self, expert_share: float) -> Labelled:
        tensors = {name: torch.as_tensor(values) for name, values in self.observation.items()}
        inputs = actor_inputs(tensors)
        label = self.expert()  # (n, a)
        labelled = {  # copies: the environment may write into its arrays
            name: values.numpy().copy() for name, values in zip(INPUTS, inputs, strict=False)
        }
        labelled["label"] = label.astype(np.float32)
        with torch.no_grad():
            action = self.actor(*inputs).numpy()  # (n, a)
        expert_acts = self.rng.random(self.env.num_envs) < expert_share  # (n,)
        executed = np.where(expert_acts[:, None], label, action)  # (n, a)
        observation, *_ = self.env.step(executed)
        self.observation = cast("dict[str, np.ndarray]", observation)
        return labelled


def _joined(parts: list[Labelled]) -> Labelled:
    """All labelled states, one part after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def inputs_of(data: Tensors) -> tuple[torch.Tensor, ...]:
    """The inputs of an actor among labelled states."""
    return tuple(data[name] for name in INPUTS if name in data)


def fit(
    policy: MultiTaskPolicy,
    optimizer: torch.optim.Optimizer,
    data: dict[str, torch.Tensor],
    updates: int,
    minibatch: int,
    rng: np.random.Generator,
    rehearse: Rehearse | None = None,
    noise: float = 0.0,
) -> float:
    """Train the actor to give the expert's actions.

    Args:
        policy: its actor is trained in place.
        optimizer: of the actor's parameters.
        data: state (n, s), task (n, t), index (n,) and label (n, a); and rgb (n, pixels), where
            the policy sees pictures.
        updates: number of minibatches.
        minibatch: labelled states in each.
        rng: draws minibatches.
        rehearse: gives further labelled states, which are half of each minibatch.
        noise: deviation of Gaussian noise on the states, in deviations of the data's states.

    Returns:
        The mean L1 loss; nan without minibatches.
    """
    losses = []
    count = math.ceil(minibatch / 2) if rehearse else minibatch
    deviation = noise * data["state"].std(0, correction=0) if noise else None  # (s,)
    for _ in range(updates):
        rows = torch.as_tensor(rng.integers(len(data["label"]), size=count))
        rows = rows.to(data["label"].device)
        batch = {name: data[name][rows] for name in (*INPUTS, "label") if name in data}
        if deviation is not None:
            drawn = rng.standard_normal(batch["state"].shape, np.float32)
            batch["state"] = batch["state"] + deviation * torch.as_tensor(
                drawn, device=deviation.device
            )
        if rehearse:
            before = rehearse(batch, rng)
            batch = {name: torch.cat([batch[name], before[name]]) for name in batch}
        action = policy.actor(*inputs_of(batch))
        loss = (action - batch["label"]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())  # to read it would wait for an accelerator
    return float(np.mean([loss.item() for loss in losses])) if losses else math.nan
