"""Which of a policy's weights a transfer changes, and what it adds to them: a row each in TRAINS.

A new way is one function and one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

RANK = 4  # of an adapter's matrices


class LowRank(nn.Module):
    """Adds the product of two thin matrices to a weight (Hu et al., 2022: LoRA).

    Args:
        outputs: rows of the weight.
        inputs: its columns.
        rank: of the product.
    """

    def __init__(self, outputs: int, inputs: int, rank: int = RANK):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.down = nn.Parameter(torch.empty(rank, inputs).uniform_(-bound, bound))
        self.up = nn.Parameter(torch.zeros(outputs, rank))  # the policy begins as it was

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with what is added."""
        return weight + self.up @ self.down


def everything(actor: Any, vector: torch.Tensor) -> list[nn.Parameter]:
    """All weights."""
    return list(actor.parameters())


def head(actor: Any, vector: torch.Tensor) -> list[nn.Parameter]:
    """The output layer; the features stay (a linear probe)."""
    return list(actor.head.parameters())


def adapter(actor: Any, vector: torch.Tensor) -> list[nn.Parameter]:
    """What is added to the weights of the body's linear layers: two thin matrices each."""
    added = []
    for layer in list(actor.body.modules()):
        if type(layer) is nn.Linear:
            low_rank = LowRank(layer.out_features, layer.in_features)
            parametrize.register_parametrization(layer, "weight", low_rank)
            added += list(low_rank.parameters())
    if not added:
        raise ValueError("an adapter needs a body with linear layers")
    return added


def conditioning(actor: Any, vector: torch.Tensor) -> list[nn.Parameter]:
    """The task vector alone, from the target's own (cf. Lester et al., 2021: prompt tuning)."""
    if not len(vector):
        raise ValueError(
            "conditioning_only needs a policy that is told of its task by a vector that stays"
        )
    actor.given = nn.Parameter(vector.clone())
    return [actor.given]


def nothing(actor: Any, vector: torch.Tensor) -> list[nn.Parameter]:
    """No weight."""
    return []


class Way(NamedTuple):
    """A row of TRAINS."""

    choose: Callable[[Any, torch.Tensor], list[nn.Parameter]]
    words: str


TRAINS = {
    "all": Way(everything, "all weights"),
    "head": Way(head, "the output layer"),
    "adapter": Way(adapter, "low-rank matrices that are added to the body's layers"),
    "conditioning": Way(conditioning, "the task vector"),
    "none": Way(nothing, "nothing"),
}


def train_only(policy: Any, way: str, vector: torch.Tensor) -> None:
    """Let only some of a policy's actor learn; its critic and exploration do as ever.

    Args:
        policy: is changed in place; new parameters join its optimizer.
        way: a row of TRAINS.
        vector: (t,) what the actor is told of the target; empty where that is nothing, or changes.

    Raises:
        ValueError: the policy has not got what is to be trained.
    """
    if way == "all":
        return
    for parameter in policy.actor.parameters():
        parameter.requires_grad_(False)
    trained = TRAINS[way].choose(policy.actor, vector)
    of_actor = policy.optimizer.param_groups[0]["params"]
    known = {id(parameter) for parameter in of_actor}
    for parameter in trained:
        parameter.requires_grad_(True)
        if id(parameter) not in known:
            of_actor.append(parameter)


class Leash:
    """Pulls the weights of a policy's actor back to where they began, after each gradient step.

    The distance shrinks by `share` at each step: L2-SP (Li et al., 2018), decoupled from the
    gradient as weight decay is by Loshchilov and Hutter (2019). They begin where they are when it
    is made, or where `begin` finds them.

    Args:
        policy: its optimizer is told to do so.
        share: of the distance, in [0, 1); 0: nothing is done.
    """

    def __init__(self, policy: Any, share: float):
        self.share = share
        self._learning = {
            name: parameter
            for name, parameter in policy.actor.named_parameters()
            if share and parameter.requires_grad
        }
        self._began: dict[str, torch.Tensor] = {}
        self.begin()
        if share:
            policy.optimizer.register_step_post_hook(self._pull)

    def begin(self) -> None:
        """Note the weights to which they are pulled from now on: those that there are."""
        self._began = {name: value.detach().clone() for name, value in self._learning.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Where they began, by the weights' names; empty where nothing is done."""
        return {name: value.numpy().copy() for name, value in self._began.items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Return to a state; an empty one changes nothing."""
        self._began |= {name: torch.tensor(value) for name, value in state.items()}

    def _pull(self, *_: Any) -> None:
        with torch.no_grad():
            for name, parameter in self._learning.items():
                if parameter.grad is not None:
                    parameter.lerp_(self._began[name], self.share)
