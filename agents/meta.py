"""Starts that were trained to adapt: meta-learning over a source's rows.

An inner loop clones K expert episodes of a row, as a transfer will clone those of its target; an
outer loop changes the weights that the inner loop begins with. A way to do that is a function and
a row of WAYS.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

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


class Way(NamedTuple):
    """A row of WAYS.

    Attributes:
        make: (actor, settings) -> outer step (adapted actor, gradients at it, share that is done).
        words: one line.
    """

    make: Callable[[nn.Module, MetaConfig], Outer]
    words: str


# (actor that was adapted, labelled states that it was not adapted to, share of iterations done)
Outer = Callable[[nn.Module, Tensors, float], None]


def reptile(actor: nn.Module, config: MetaConfig) -> Outer:
    """The weights move a share of the way to where the inner loop ended (Nichol et al., 2018)."""

    def step(adapted: nn.Module, others: Tensors, done: float) -> None:
        share = config.step * (1 - done)
        with torch.no_grad():
            for mine, found in zip(actor.parameters(), adapted.parameters(), strict=True):
                mine.lerp_(found, share)

    return step


def fomaml(actor: nn.Module, config: MetaConfig) -> Outer:
    """First-order MAML (Finn et al., 2017).

    The gradient after the inner loop, on other episodes of the row, is taken for the one before.
    """
    optimizer = torch.optim.Adam(actor.parameters(), config.outer_rate)

    def step(adapted: nn.Module, others: Tensors, done: float) -> None:
        loss = (adapted(*inputs_of(others)) - others["label"]).abs().mean()
        gradients = torch.autograd.grad(loss, list(adapted.parameters()), allow_unused=True)
        for mine, gradient in zip(actor.parameters(), gradients, strict=True):
            mine.grad = gradient
        optimizer.step()

    return step


WAYS = {
    "reptile": Way(reptile, "towards where cloning leads"),
    "fomaml": Way(fomaml, "by the gradient after cloning"),
}


def adapt(
    policy: Any, data: Tensors, updates: int, minibatch: int, rate: float, rng: np.random.Generator
) -> None:
    """Clone labelled states: the inner loop, and what a transfer does on its target.

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


def train(  # noqa: PLR0913 - the parts of meta-learning
    policy: Any,
    meta: Mapping[str, Any],
    way: str,
    episodes: int,
    seed: int,
    goes_on: Callable[[float], bool],
    config: MetaConfig | None = None,
    engine: str = "cpu",
) -> bool:
    """Train a policy to adapt to a row from a few of its expert's episodes.

    Args:
        policy: its actor is trained in place.
        meta: of the source's checkpoint, see `policy.load_policy`.
        way: a row of WAYS.
        episodes: of a row's expert that the inner loop clones.
        seed: of rows, episodes and minibatches.
        goes_on: called with the share that is done; returns whether to go on.
        config: settings.
        engine: what runs the experts' simulations, a row of `engines.ENGINES`.

    Returns:
        Whether it finished.
    """
    config = config or MetaConfig()
    rng = np.random.default_rng(np.random.SeedSequence([seed, 4]))
    names = _rows(meta["tasks"], config.rows, rng)
    known: list[Tensors] = []
    for number, name in enumerate(names):  # of each, as many again to look at the result
        known.append(labelled(meta, name, 2 * episodes, SOURCE_SEED, engine=engine))
        if not goes_on(0.5 * (number + 1) / len(names)):
            return False
    outer = WAYS[way].make(policy.actor, config)
    inner = _Inner(copy.deepcopy(policy.actor))
    for iteration in range(config.iterations):
        data = known[rng.integers(len(known))]
        support, others = _parted(data, 2 * episodes, rng)
        inner.actor.load_state_dict(policy.actor.state_dict())
        adapt(inner, support, config.updates, config.minibatch, config.inner_rate, rng)
        outer(inner.actor, others, iteration / config.iterations)
        if not goes_on(0.5 + 0.5 * (iteration + 1) / config.iterations):
            return False
    return True


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
