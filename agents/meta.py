"""Starts that were trained to adapt: meta-learning over a source's rows.

An inner loop clones K expert episodes of a row, as a transfer will clone those of its target; an
outer loop changes the weights that the inner loop begins with. A way to do that is an `Outer` and
a row of WAYS.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from uncap.agents import checkpoints
from uncap.agents.dagger import Tensors, fit, inputs_of
from uncap.agents.episodes import labelled

SOURCE_SEED = 6_000_000  # of the rows' episodes: no evaluation's


@dataclasses.dataclass(frozen=True)
class MetaConfig:
    """Settings of the two loops; the same for every source.

    Attributes:
        rows: of the source, drawn, that it is trained on at most.
        iterations: of the outer loop, a row each.
        updates: minibatches of the inner loop.
        minibatch: labelled states in each.
        inner_rate: learning rate of the inner loop.
        step: of Reptile, at first; falls linearly to 0.
        outer_rate: learning rate of first-order MAML.
    """

    rows: int = 64
    iterations: int = 300
    updates: int = 20
    minibatch: int = 256
    inner_rate: float = 5e-4
    step: float = 0.5
    outer_rate: float = 2e-4


DEFAULT = MetaConfig()


class Outer(Protocol):
    """The outer loop of an actor.

    Args:
        actor: is trained in place.
        config: settings.
    """

    def __init__(self, actor: nn.Module, config: MetaConfig): ...

    def step(self, adapted: nn.Module, others: Tensors, done: float) -> None:
        """Change the actor's weights after an inner loop.

        Args:
            adapted: the actor as the inner loop left it.
            others: labelled states of the row that it was not adapted to.
            done: share of the iterations that are done.
        """

    def state(self) -> dict[str, Any]:
        """What it remembers, as nested dictionaries of arrays."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a state."""


class Reptile:
    """The weights move a share of the way to where the inner loop ended (Nichol et al., 2018)."""

    def __init__(self, actor: nn.Module, config: MetaConfig):
        self.actor = actor
        self.config = config

    def step(self, adapted: nn.Module, others: Tensors, done: float) -> None:
        """Move the weights."""
        share = self.config.step * (1 - done)
        with torch.no_grad():
            for mine, found in zip(self.actor.parameters(), adapted.parameters(), strict=True):
                mine.lerp_(found, share)

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


class Fomaml:
    """First-order MAML (Finn et al., 2017).

    The gradient after the inner loop, on other episodes of the row, is taken for the one before.
    """

    def __init__(self, actor: nn.Module, config: MetaConfig):
        self.actor = actor
        self.optimizer = torch.optim.Adam(actor.parameters(), config.outer_rate)

    def step(self, adapted: nn.Module, others: Tensors, done: float) -> None:
        """Make a gradient step."""
        loss = (adapted(*inputs_of(others)) - others["label"]).abs().mean()
        gradients = torch.autograd.grad(loss, list(adapted.parameters()), allow_unused=True)
        for mine, gradient in zip(self.actor.parameters(), gradients, strict=True):
            mine.grad = gradient
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Of the optimizer."""
        return checkpoints.optimizer_state(self.optimizer)

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a state."""
        checkpoints.load_optimizer(self.optimizer, state)


class Way(NamedTuple):
    """A row of WAYS.

    Attributes:
        make: makes the outer loop of an actor.
        words: one line.
    """

    make: Callable[[nn.Module, MetaConfig], Outer]
    words: str


WAYS = {
    "reptile": Way(Reptile, "towards where cloning leads"),
    "fomaml": Way(Fomaml, "by the gradient after cloning"),
}


def adapt(
    policy: Any, data: Tensors, updates: int, minibatch: int, rate: float, rng: np.random.Generator
) -> None:
    """Clone labelled states: the inner loop, as a transfer does on its target.

    Args:
        policy: its actor is trained in place.
        data: see `dagger.fit`.
        updates: minibatches.
        minibatch: labelled states in each.
        rate: learning rate.
        rng: draws minibatches.
    """
    optimizer = torch.optim.Adam(policy.actor.parameters(), rate)
    fit(policy, optimizer, data, updates, minibatch, rng)


class Training:
    """Trains a policy to adapt to a row from a few of its expert's episodes.

    Args:
        policy: its actor is trained in place.
        meta: of the source's checkpoint, see `policy.load_policy`.
        way: a row of WAYS.
        episodes: of a row's expert that the inner loop clones.
        seed: of rows, episodes and minibatches.
        config: settings.
        engine: what runs the experts' simulations, a row of `engines.ENGINES`.
        state: to go on from; the policy is as it was then.
    """

    def __init__(  # noqa: PLR0913 - the parts of meta-learning
        self,
        policy: Any,
        meta: Mapping[str, Any],
        way: str,
        episodes: int,
        seed: int,
        config: MetaConfig | None = None,
        engine: str = "cpu",
        state: Mapping[str, Any] | None = None,
    ):
        self.policy = policy
        self.meta = meta
        self.episodes = episodes
        self.config = config or DEFAULT
        self.engine = engine
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 4]))
        self.names = _rows(meta["tasks"], self.config.rows, self.rng)
        self.known: list[Tensors] = []  # of each row, as many again to look at the result
        self.outer = WAYS[way].make(policy.actor, self.config)
        self.inner = _Inner(copy.deepcopy(policy.actor))
        self.iterations = 0  # that are done
        if state:
            self._load(state)

    @property
    def share(self) -> float:
        """That is done, in [0, 1]: half of it are the episodes."""
        collected = len(self.known) / len(self.names)
        return 0.5 * (collected + self.iterations / self.config.iterations)

    def run(self, goes_on: Callable[[float], bool]) -> bool:
        """Train what is not trained yet.

        Args:
            goes_on: called with the share that is done, when the state can be saved; returns
                whether to go on.

        Returns:
            Whether it finished.
        """
        for name in self.names[len(self.known) :]:
            self.known.append(self._episodes(name))
            if not goes_on(self.share):
                return False
        while self.iterations < self.config.iterations:
            self._iterate()
            if not goes_on(self.share):
                return False
        return True

    def _episodes(self, name: str) -> Tensors:
        """Labelled states of a row: episodes to adapt to, and as many others."""
        return labelled(self.meta, name, 2 * self.episodes, SOURCE_SEED, engine=self.engine)

    def _iterate(self) -> None:
        """Adapt to a row, and change the weights that this began with."""
        config = self.config
        data = self.known[self.rng.integers(len(self.known))]
        support, others = _parted(data, 2 * self.episodes, self.rng)
        self.inner.actor.load_state_dict(self.policy.actor.state_dict())
        adapt(self.inner, support, config.updates, config.minibatch, config.inner_rate, self.rng)
        self.outer.step(self.inner.actor, others, self.iterations / config.iterations)
        self.iterations += 1

    def state(self) -> dict[str, Any]:
        """Everything but the policy, as nested dictionaries of arrays and JSON.

        Episodes with pictures are gigabytes: their number is kept, and they are collected again.
        """
        known = {
            str(number): {name: values.numpy() for name, values in data.items()}
            for number, data in enumerate(self.known)
            if "rgb" not in data
        }
        return {
            "collected": len(self.known),
            "known": known,
            "outer": self.outer.state(),
            "rng": self.rng.bit_generator.state,
            "iterations": self.iterations,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        for number, name in enumerate(self.names[: state["collected"]]):
            kept = state["known"].get(str(number))
            self.known.append(
                {name: torch.tensor(values) for name, values in kept.items()}
                if kept
                else self._episodes(name)
            )
        self.outer.load(state["outer"])
        self.rng = checkpoints.generator_in(state["rng"])
        self.iterations = state["iterations"]


class _Inner(NamedTuple):
    """What the inner loop trains."""

    actor: nn.Module


def _rows(tasks: Sequence[str], most: int, rng: np.random.Generator) -> list[str]:
    """Rows that are drawn, in their order."""
    chosen: list[int] = sorted(rng.permutation(len(tasks))[:most].tolist())
    return [tasks[number] for number in chosen]


def _parted(data: Tensors, episodes: int, rng: np.random.Generator) -> tuple[Tensors, Tensors]:
    """The labelled states of half of the episodes, drawn, and those of the others."""
    chosen = torch.zeros(episodes, dtype=torch.bool)
    chosen[rng.permutation(episodes)[: episodes // 2]] = True
    is_support = chosen[data["episode"]]
    support = {name: values[is_support] for name, values in data.items()}
    others = {name: values[~is_support] for name, values in data.items()}
    return support, others
