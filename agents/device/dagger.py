"""DAgger (Ross et al., 2011) on a device: act, label, keep and fit without leaving it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from uncap.agents import checkpoints
from uncap.agents.dagger import INPUTS, fit
from uncap.agents.device.config import WideConfig
from uncap.agents.device.worlds import Tensors, Worlds, tensors_in
from uncap.agents.networks import MultiTaskPolicy, actor_inputs
from uncap.envs.device.states import copies_of

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

    def snapshot(self) -> dict[str, Any]:
        """Copies of the states, and how many were added and have room."""
        room = len(next(iter(self._columns.values()))) if self._columns else 0
        return {"columns": copies_of(self.all()), "added": self._added, "room": room}

    def restore(self, snapshot: dict[str, Any], device: torch.device) -> None:
        """Return to a snapshot, on a device."""
        self._added = snapshot["added"]
        self._columns = {}
        for name, values in snapshot["columns"].items():
            states = torch.as_tensor(values, device=device)
            column = states.new_empty(snapshot["room"], *states.shape[1:])
            column[: len(states)] = states
            self._columns[name] = column

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
        used: share of the budget so far.

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
        self.used = 0.0
        self.states = LabelledStates(config.states)
        self._rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        self._generator = torch.Generator(worlds.device).manual_seed(seed)
        self._optimizer = torch.optim.Adam(
            policy.actor.parameters(), lr=self.config.learning_rate, fused=True
        )

    def run(
        self, on_round: Callable[[int, float], float], stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Teach until the budget is used, or a stop is asked for.

        Args:
            on_round: called with (env steps, mean L1 loss) after each round; returns the share of
                the budget that is used. At 1 or more, this was the last round.
            stop: asked before each round; its state can be saved then.
        """
        while self.used < 1 and not stop():
            self._collect(max(0.0, 1.0 - self.used / self.config.lead))
            for group in self._optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 - (1 - LAST_RATE) * self.used)
            loss = fit(
                self.policy,
                self._optimizer,
                self.states.all(),
                self.config.updates,
                self.config.minibatch,
                self._rng,
            )
            self.used = on_round(self.env_steps, loss)

    def snapshot(self) -> dict[str, Any]:
        """All that the next round reads, see `saved.save`."""
        return {
            "policy": copies_of(self.policy.state_dict()),
            "worlds": self.worlds.snapshot(),
            "states": self.states.snapshot(),
            "optimizer": checkpoints.optimizer_state(self._optimizer),
            "generator": self._generator.get_state().numpy(),
            "minibatches": self._rng.bit_generator.state,
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
        self.states.restore(snapshot["states"], self.worlds.device)
        checkpoints.load_optimizer(self._optimizer, snapshot["optimizer"])
        self._generator.set_state(torch.as_tensor(snapshot["generator"]))
        self._rng.bit_generator.state = snapshot["minibatches"]
        self.env_steps, self.used = snapshot["env_steps"], snapshot["used"]

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
