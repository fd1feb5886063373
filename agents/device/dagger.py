"""DAgger (Ross et al., 2011) on a device: act, label, keep and fit without leaving it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from uncap.agents.dagger import INPUTS, fit
from uncap.agents.device.config import WideConfig
from uncap.agents.device.worlds import Tensors, Worlds
from uncap.agents.networks import MultiTaskPolicy, actor_inputs

LAST_RATE = 0.1  # share of the learning rate at the end, as on the CPU


class LabelledStates:
    """Labelled states in tensors of a fixed size; once full, new ones replace the oldest.

    Args:
        capacity: states that fit; at least a batch.
    """

    def __init__(self, capacity: int):
        self._capacity = capacity
        self._columns: Tensors = {}
        self._added = 0

    def add(self, batch: Tensors) -> None:
        """Add copies of a batch (n, ...) by name; n is the same every time."""
        n = len(next(iter(batch.values())))
        batches = max(1, self._capacity // n)
        if not self._columns:
            self._columns = {
                name: values.new_empty(batches * n, *values.shape[1:])
                for name, values in batch.items()
            }
        first = self._added // n % batches * n
        for name, values in batch.items():
            self._columns[name][first : first + n] = values
        self._added += n

    def all(self) -> Tensors:
        """The states, (states, ...) by name; they are not copied."""
        return {name: column[: self._added] for name, column in self._columns.items()}


class DeviceDagger:
    """Teaches a policy's actor to act as the expert would in the states that the policy reaches.

    In a round the actor acts in all worlds, then is fitted to the states of all rounds so far, by
    the function `dagger.fit`. With nothing beside it on the device, no copy of the actor acts.

    Args:
        policy: on the worlds' device; its actor is trained in place.
        worlds: that compute the expert's actions.
        config: settings: `states` and `dagger`.
        seed: of minibatches, and of where the expert acts.

    Attributes:
        env_steps: so far.

    Raises:
        ValueError: the worlds compute no expert's actions.
    """

    def __init__(self, policy: MultiTaskPolicy, worlds: Worlds, config: WideConfig, seed: int):
        if worlds.label is None:
            raise ValueError("DAgger needs DeviceClosures with expert=True")
        self.policy = policy
        self.worlds = worlds
        self.config = config.dagger
        self.env_steps = 0
        self.states = LabelledStates(config.states)
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        self._generator = torch.Generator(worlds.device).manual_seed(seed)
        self._optimizer = torch.optim.Adam(
            policy.actor.parameters(), lr=self.config.learning_rate, fused=True
        )

    def run(self, on_round: Callable[[int, float], float]) -> None:
        """Teach until the budget is used.

        Args:
            on_round: called with (env steps, mean L1 loss) after each round; returns the share of
                the budget that is used. At 1 or more, this was the last round.
        """
        used = 0.0
        while used < 1:
            self._collect(max(0.0, 1.0 - used / self.config.lead))
            for group in self._optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 - (1 - LAST_RATE) * used)
            loss = fit(
                self.policy,
                self._optimizer,
                self.states.all(),
                self.config.updates,
                self.config.minibatch,
                self._rng,
            )
            used = on_round(self.env_steps, loss)

    @torch.no_grad()
    def _collect(self, expert_share: float) -> None:
        """Act and label for a round.

        Args:
            expert_share: of the worlds, in which the expert acts.
        """
        worlds = self.worlds
        for _ in range(self.config.rollout):
            assert worlds.label is not None
            inputs, label = actor_inputs(worlds.observation), worlds.label
            self.states.add({**dict(zip(INPUTS, inputs, strict=False)), "label": label})
            action = self.policy.actor(*inputs)  # (n, a)
            drawn = torch.rand(len(worlds), generator=self._generator, device=worlds.device)
            expert_acts = drawn < expert_share  # (n,)
            worlds.step(torch.where(expert_acts[:, None], label, action))
            self.env_steps += len(worlds)
