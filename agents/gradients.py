"""Gradient rules for multi-task learning: how the gradients of several tasks' losses become one, by the library torchjd.

| rule | combines the tasks' gradients by | paper |
|---|---|---|
| `sum` | their mean: ordinary backpropagation | - |
| `pcgrad` | projecting each off those it conflicts with, in random order | Yu et al., 2020 |
| `gradvac` | turning each towards the cosines seen so far, in random order | Wang et al., 2021 |
| `graddrop` | keeping one sign per parameter, drawn at random | Chen et al., 2020 |
| `cagrad` | the best for the worst-off task in a ball around the mean | B. Liu et al., 2021 |
| `mgda` | the shortest convex combination | Désidéri, 2012; Sener and Koltun, 2018 |
| `imtl_g` | equal projections on every task's direction | L. Liu et al., 2021 |
| `nash_mtl` | Nash's bargaining solution | Navon et al., 2022 |
| `fairgrad` | alpha-fair shares of the step | Ban and Ji, 2024 |
| `aligned_mtl` | making them orthogonal and equally long | Senushkin et al., 2023 |
| `config` | equal cosines with every task | Q. Liu et al., 2024 |
| `dualproj` | projecting their mean on the cone that conflicts with none | Lopez-Paz and Ranzato, 2017 |
| `upgrad` | projecting each on that cone, then the mean | Quinton and Rey, 2024 |
| `random` | random weights: the control that a rule should beat | Lin et al., 2022 |

A rule acts on the parameters that tasks share; what one task alone reaches (its head) gets its own gradient. Rules are
scaled: tasks that agree get the mean of their gradients, and losses c times as large get a gradient c times as large. What
is drawn comes from torch's global generator. `gradvac` and `nash_mtl` remember; `reset` at each update keeps resuming exact.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable

import numpy as np
import torch

from agents.tables import RULES
from envs.tables import lookup

# Aggregators of torchjd for a number of tasks. `c` and `alpha` are those of the authors' code for
# Meta-World's MT10; torchjd's own eps, 1e-4, makes cagrad, dualproj and upgrad fail short gradients.


def plain_sum(jd, tasks: int) -> None:
    """Ordinary backpropagation of the mean loss: no aggregator."""
    return None


def pcgrad(jd, tasks: int) -> Callable:
    """Yu et al., 2020."""
    return jd.aggregation.PCGrad()


def gradvac(jd, tasks: int) -> Callable:
    """Wang et al., 2021."""
    return jd.aggregation.GradVac()


def graddrop(jd, tasks: int) -> Callable:
    """Chen et al., 2020."""
    return jd.aggregation.GradDrop()


def cagrad(jd, tasks: int) -> Callable:
    """B. Liu et al., 2021."""
    return jd.aggregation.CAGrad(c=0.9, norm_eps=1e-8)


def mgda(jd, tasks: int) -> Callable:
    """Désidéri, 2012; Sener and Koltun, 2018."""
    return jd.aggregation.MGDA()


def imtl_g(jd, tasks: int) -> Callable:
    """L. Liu et al., 2021."""
    return jd.aggregation.IMTLG()


def nash_mtl(jd, tasks: int) -> Callable:
    """Navon et al., 2022."""
    return jd.aggregation.NashMTL(n_tasks=tasks)


def fairgrad(jd, tasks: int) -> Callable:
    """Ban and Ji, 2024."""
    return jd.aggregation.FairGrad(alpha=2.0)


def aligned_mtl(jd, tasks: int) -> Callable:
    """Senushkin et al., 2023."""
    return jd.aggregation.AlignedMTL(scale_mode="rmse")


def config(jd, tasks: int) -> Callable:
    """Q. Liu et al., 2024."""
    return jd.aggregation.ConFIG()


def dualproj(jd, tasks: int) -> Callable:
    """Lopez-Paz and Ranzato, 2017."""
    return jd.aggregation.DualProj(projector=jd.linalg.QuadprogProjector(reg_eps=1e-8))


def upgrad(jd, tasks: int) -> Callable:
    """Quinton and Rey, 2024."""
    return jd.aggregation.UPGrad(projector=jd.linalg.QuadprogProjector(reg_eps=1e-8))


def random(jd, tasks: int) -> Callable:
    """Lin et al., 2022."""
    return jd.aggregation.Random()


def _make(name: str, tasks: int) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The rule as a function of gradients (tasks, p), scaled as the module says."""
    make = lookup(RULES, name, "gradient rule")
    if make is plain_sum:
        return None
    import torchjd.aggregation  # not above: its solvers take a second, and it may be missing

    warnings.filterwarnings(
        "ignore", "You are solving a parameterized problem that is not DPP", UserWarning
    )  # Nash-MTL's
    fresh, rule = (make(torchjd, tasks) for _ in range(2))
    scale = tasks**-0.5 / fresh(torch.full((tasks, 1), tasks**-0.5, dtype=torch.float64))
    return lambda matrix: rule(matrix / matrix.norm()) * matrix.norm() * scale


class GradientRule:
    """A rule for one set of parameters, the actor's or the critic's, and what it remembers.

    Raises:
        ValueError: packages it needs are missing (KeyError: there is no such rule).
    """

    def __init__(self, name: str, num_tasks: int):
        self.name, self.num_tasks, works = name, num_tasks, []
        try:
            self.reset()
        except ImportError:
            for other in RULES:
                with contextlib.suppress(ImportError):
                    _make(other, 2)
                    works.append(other)
            raise ValueError(
                f"{name!r} needs pip install 'torchjd[full]'; without, these rules work: {', '.join(works)}"
            ) from None

    def reset(self) -> None:
        """Forget all it has seen."""
        self._rule = _make(self.name, self.num_tasks)

    def backward(
        self, losses: torch.Tensor | list[torch.Tensor], parameters: Iterable[torch.nn.Parameter]
    ) -> None:
        """Set the gradients of all parameters that are not frozen, from a loss (k,) per task that is present."""
        parameters = [p for p in parameters if p.requires_grad]
        if not parameters:
            return
        if self._rule is None:
            parts = torch.autograd.grad(
                torch.stack(tuple(losses)).mean(), parameters, materialize_grads=True
            )
        else:
            matrix, shared = _gradients(losses, parameters)
            gradient, common = matrix.mean(0), matrix[:, shared]
            live = common[
                common.any(1)
            ]  # a task without gradient has no say: `mgda` and `cagrad` would stand still for it
            if len(live):
                rule = self._rule if len(live) == self.num_tasks else _make(self.name, len(live))
                gradient[shared] = rule(live) * (len(live) / len(matrix))
            parts = gradient.split([p.numel() for p in parameters])
        for p, part in zip(parameters, parts, strict=True):
            p.grad = part.view_as(p).to(p.dtype)


def _gradients(losses, parameters: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The tasks' gradients (k, p), and which of these p numbers belong to parameters they share (p,). Keeps the graph."""
    rows = (
        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for loss in losses
    )
    jacobians = [torch.stack(column) for column in zip(*rows, strict=True)]  # each (k, *shape)
    # Several tasks reach some slice along a shared parameter's first axis; heads are stacked along it, a task's each.
    shared = [
        (j.reshape(*j.shape[:2], -1).any(-1).sum(0) > 1).any().expand(j[0].numel())
        for j in jacobians
    ]
    return torch.cat([j.reshape(len(j), -1) for j in jacobians], 1).double(), torch.cat(shared)


def cosines(
    losses: torch.Tensor | list[torch.Tensor], parameters: Iterable[torch.nn.Parameter]
) -> np.ndarray:
    """Cosines (k, k) between the tasks' gradients of what they share; 0 with a task that has none. Keeps the graph."""
    matrix, shared = _gradients(losses, list(parameters))
    unit = torch.nn.functional.normalize(matrix[:, shared], dim=1, eps=1e-30)
    return (unit @ unit.T).fill_diagonal_(1).clamp(-1, 1).numpy()
