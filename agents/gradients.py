"""Gradient rules for multi-task learning: the gradients of several tasks' losses become one.

The library torchjd implements them. A rule here is a function of the number of tasks that returns
torchjd's aggregator, or None for ordinary backpropagation; to add one, give the function a row in
`RULES` of `agents/tables.py`. Its docstring names the paper.

A rule acts on the parameters that tasks share. What one task alone reaches (its head) gets its own
gradient. All rules are scaled: tasks that agree get the mean of their gradients, and losses c times
as large get a gradient c times as large. Random numbers come from torch's global generator.
`gradvac` and `nash_mtl` remember past gradients; they are `reset` at each update, so that a resumed
run goes on exactly as it would have.
"""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import numpy as np
import torch

from uncap.agents.tables import RULES
from uncap.envs.tables import lookup

Aggregator = Callable[[torch.Tensor], torch.Tensor]  # gradients (tasks, p) to one gradient (p,)
Losses = torch.Tensor | Sequence[torch.Tensor]  # (k,), one per task that is present

# With torchjd's own value, 1e-4, cagrad, dualproj and upgrad fail for short gradients.
_EPSILON = 1e-8


def _torchjd() -> types.ModuleType:
    """The library, imported when a rule is made: it takes a second, and it may be missing."""
    import torchjd.aggregation

    # The solver of `nash_mtl` warns of this.
    warnings.filterwarnings(
        "ignore", "You are solving a parameterized problem that is not DPP", UserWarning
    )
    return torchjd


def plain_sum(num_tasks: int) -> None:
    """The mean of the gradients: ordinary backpropagation of the mean loss, no aggregator."""
    return None


def pcgrad(num_tasks: int) -> Aggregator:
    """Project each gradient off those it conflicts with, in random order (Yu et al., 2020)."""
    return _torchjd().aggregation.PCGrad()


def gradvac(num_tasks: int) -> Aggregator:
    """Turn each gradient towards the cosines seen so far, in random order (Wang et al., 2021)."""
    return _torchjd().aggregation.GradVac()


def graddrop(num_tasks: int) -> Aggregator:
    """Keep one sign per parameter, drawn at random (Chen et al., 2020)."""
    return _torchjd().aggregation.GradDrop()


def cagrad(num_tasks: int) -> Aggregator:
    """The best for the worst-off task in a ball around the mean (B. Liu et al., 2021).

    `c`, the ball's radius relative to the mean, is that of the authors' code for Meta-World's
    MT10.
    """
    return _torchjd().aggregation.CAGrad(c=0.9, norm_eps=_EPSILON)


def mgda(num_tasks: int) -> Aggregator:
    """The shortest convex combination (Désidéri, 2012; Sener and Koltun, 2018)."""
    return _torchjd().aggregation.MGDA()


def imtl_g(num_tasks: int) -> Aggregator:
    """Equal projections on every task's direction (L. Liu et al., 2021)."""
    return _torchjd().aggregation.IMTLG()


def nash_mtl(num_tasks: int) -> Aggregator:
    """Nash's bargaining solution (Navon et al., 2022)."""
    return _torchjd().aggregation.NashMTL(n_tasks=num_tasks)


def fairgrad(num_tasks: int) -> Aggregator:
    """Alpha-fair shares of the step (Ban and Ji, 2024).

    `alpha` is that of the authors' code for Meta-World's MT10.
    """
    return _torchjd().aggregation.FairGrad(alpha=2.0)


def aligned_mtl(num_tasks: int) -> Aggregator:
    """Make the gradients orthogonal and equally long (Senushkin et al., 2023)."""
    return _torchjd().aggregation.AlignedMTL(scale_mode="rmse")


def config(num_tasks: int) -> Aggregator:
    """Equal cosines with every task (ConFIG; Q. Liu et al., 2024)."""
    return _torchjd().aggregation.ConFIG()


def dualproj(num_tasks: int) -> Aggregator:
    """Project the mean on the cone that conflicts with no task (Lopez-Paz and Ranzato, 2017)."""
    torchjd = _torchjd()
    projector = torchjd.linalg.QuadprogProjector(reg_eps=_EPSILON)
    return torchjd.aggregation.DualProj(projector=projector)


def upgrad(num_tasks: int) -> Aggregator:
    """Project each gradient on that cone, then take the mean (Quinton and Rey, 2024)."""
    torchjd = _torchjd()
    projector = torchjd.linalg.QuadprogProjector(reg_eps=_EPSILON)
    return torchjd.aggregation.UPGrad(projector=projector)


def random(num_tasks: int) -> Aggregator:
    """Random weights: the control that a rule should beat (Lin et al., 2022)."""
    return _torchjd().aggregation.Random()


class ScaledAggregator:
    """An aggregator, scaled as the module says.

    Args:
        aggregator: it may remember what it was given.
        factor: on its results, so that tasks that agree get the mean of their gradients.
    """

    def __init__(self, aggregator: Aggregator, factor: torch.Tensor):
        self.aggregator = aggregator
        self.factor = factor

    def __call__(self, gradients: torch.Tensor) -> torch.Tensor:
        """Combine gradients (tasks, p), not all 0, to one (p,)."""
        norm = gradients.norm()
        return self.aggregator(gradients / norm) * norm * self.factor


def _make(name: str, num_tasks: int) -> Aggregator | None:
    """The rule as a scaled function of gradients; None: ordinary backpropagation.

    Raises:
        KeyError: no such rule.
        ImportError: packages it needs are missing.
    """
    rule = lookup(RULES, name, "gradient rule")
    fresh = rule(num_tasks)  # tells the factor; one that has remembered nothing is needed then
    if fresh is None:
        return None
    component = num_tasks**-0.5
    agreeing = torch.full((num_tasks, 1), component, dtype=torch.float64)  # of norm 1
    return ScaledAggregator(rule(num_tasks), component / fresh(agreeing))


def _working_rules() -> list[str]:
    """The rules whose packages are installed."""
    names = []
    for name in RULES:
        with contextlib.suppress(ImportError):
            _make(name, 2)
            names.append(name)
    return names


class GradientRule:
    """A rule for one set of parameters, the actor's or the critic's, and what it remembers.

    Args:
        name: a row of `tables.RULES`.
        num_tasks: number of tasks.

    Raises:
        ValueError: packages it needs are missing (KeyError: there is no such rule).
    """

    def __init__(self, name: str, num_tasks: int):
        self.name = name
        self.num_tasks = num_tasks
        try:
            self.reset()
        except ImportError:
            raise ValueError(
                f"{name!r} needs pip install 'torchjd[full]'; without, these rules work: "
                f"{', '.join(_working_rules())}"
            ) from None

    def reset(self) -> None:
        """Forget past gradients."""
        self._rule = _make(self.name, self.num_tasks)

    def backward(self, losses: Losses, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Set the gradients of all parameters that are not frozen.

        Args:
            losses: (k,), one per task that is present in the batch.
            parameters: those that the losses depend on.
        """
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            return
        if self._rule is None:
            mean = torch.stack(tuple(losses)).mean()
            parts = torch.autograd.grad(mean, trained, materialize_grads=True)
        else:
            gradient = self._combined(self._rule, losses, trained)
            parts = gradient.split([p.numel() for p in trained])
        for parameter, part in zip(trained, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def _combined(
        self, rule: Aggregator, losses: Losses, parameters: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """One gradient (p,) for all numbers of the parameters, float64."""
        gradients, shared = _gradients(losses, parameters)
        combined = gradients.mean(0)  # (p,), right for what one task alone reaches
        common = gradients[:, shared]  # (k, shared p)
        # A task without gradient has no say: `mgda` and `cagrad` would stand still for it.
        live = common[common.any(1)]  # (live tasks, shared p)
        if len(live):
            if len(live) != self.num_tasks:
                rule = cast(Aggregator, _make(self.name, len(live)))
            combined[shared] = rule(live) * (len(live) / len(gradients))
        return combined


def _gradients(
    losses: Losses, parameters: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tasks' gradients; the graph is kept.

    Args:
        losses: (k,).
        parameters: with p numbers in all.

    Returns:
        Gradients (k, p), float64, and which of the p numbers belong to parameters that tasks
        share, bool (p,).
    """
    by_task = [
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for loss in losses
    ]
    jacobians = [torch.stack(parts) for parts in zip(*by_task, strict=True)]  # each (k, *shape)
    flat = [jacobian.reshape(len(jacobian), -1) for jacobian in jacobians]  # each (k, numel)
    shared = [_is_shared(jacobian).expand(jacobian[0].numel()) for jacobian in jacobians]
    return torch.cat(flat, 1).double(), torch.cat(shared)


def _is_shared(jacobian: torch.Tensor) -> torch.Tensor:
    """Whether tasks share a parameter, bool (), by its gradients (k, *shape).

    Per-task heads are stacked along a parameter's first axis. A parameter is shared if several
    tasks reach the same slice along it.
    """
    slices = jacobian.reshape(*jacobian.shape[:2], -1)  # (k, slices, rest)
    reached = slices.any(-1)  # (k, slices)
    return (reached.sum(0) > 1).any()


def cosines(losses: Losses, parameters: Iterable[torch.nn.Parameter]) -> np.ndarray:
    """Cosines between the tasks' gradients of the parameters that they share; the graph is kept.

    Args:
        losses: (k,), one per task.
        parameters: those that the losses depend on.

    Returns:
        (k, k); 0 with a task that has no gradient, 1 on the diagonal.
    """
    gradients, shared = _gradients(losses, list(parameters))
    unit = torch.nn.functional.normalize(gradients[:, shared], dim=1, eps=1e-30)
    return (unit @ unit.T).fill_diagonal_(1).clamp(-1, 1).numpy()
