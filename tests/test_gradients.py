"""Laws of gradient rules: what they keep, what they never do, and what they leave alone."""

import builtins

import numpy as np
import pytest
import torch
from torch import nn

from uncap.agents.gradients import GradientRule, cosines
from uncap.agents.tables import RULES

OPTIONAL = {
    "cagrad": "cvxpy",
    "nash_mtl": "ecos",
    "fairgrad": "scipy",
    "dualproj": "quadprog",
    "upgrad": "quadprog",
}
DRAWN = ("pcgrad", "gradvac", "graddrop", "random")
# Two tasks' gradients; their mean harms the first.
CONFLICT = torch.tensor([[1.0, 0.2, 0.0], [-2.0, 0.2, 0.1]])


@pytest.fixture(params=[rule for rule in RULES if rule != "sum"])
def name(request):
    pytest.importorskip("torchjd")
    pytest.importorskip(OPTIONAL.get(request.param, "torchjd"))
    torch.manual_seed(0)
    return request.param


def combine(rule: GradientRule, gradients: torch.Tensor) -> torch.Tensor:
    """What the rule makes of given gradients (k, p), of losses that are linear in one parameter."""
    parameter = nn.Parameter(torch.zeros(gradients.shape[1]))
    losses = gradients @ parameter  # (k,)
    rule.backward(losses, [parameter])
    return parameter.grad


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two gradients agree to the precision of the rules' solvers."""
    return torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def network(num_tasks: int, seed: int = 0):
    """A shared body and a head per task: parameters, and the losses (k,) of 40 samples."""
    generator = torch.Generator().manual_seed(seed)
    body = nn.Parameter(torch.randn(6, 5, generator=generator))
    head = nn.Parameter(torch.randn(num_tasks, 5, generator=generator))
    x = torch.randn(40, 6, generator=generator)
    y = torch.randn(40, generator=generator)
    index = torch.arange(40) % num_tasks

    def losses():
        features = (x @ body).tanh()  # (40, 5)
        errors = ((features * head[index]).sum(1) - y) ** 2  # (40,)
        return torch.stack([errors[index == task].mean() for task in range(num_tasks)])

    return body, head, losses


def gradients_of(losses: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    """The losses' gradients (k, *shape) by ordinary backpropagation."""
    return torch.stack(
        [torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in losses]
    )


def test_the_mean_of_two_conflicting_quadratics_harms_one_and_surgery_none():
    pytest.importorskip("quadprog")
    centres = torch.tensor([[1.0, 0.0], [-3.0, 0.5]])
    gradients = -centres  # of the quadratics, at 0
    harmed = {}
    for rule in ("sum", "pcgrad", "upgrad", "dualproj"):
        p = nn.Parameter(torch.zeros(2))
        losses = ((p - centres) ** 2).sum(1) / 2
        GradientRule(rule, 2).backward(losses, [p])
        harmed[rule] = (gradients @ p.grad).min().item()
    assert harmed["sum"] < -0.1
    assert min(harmed["pcgrad"], harmed["upgrad"], harmed["dualproj"]) > -1e-6


@pytest.mark.parametrize("rule", ["upgrad", "dualproj"])
def test_cone_projections_never_conflict_however_short_a_gradient(rule):
    pytest.importorskip("quadprog")
    generator = torch.Generator().manual_seed(1)
    signs = torch.tensor([1.0, -1, 1, -1, 1])[:, None]
    lengths = torch.tensor([1.0, 0.03, 3.0, 0.3, 1.0])[:, None]
    for _ in range(20):
        own = torch.randn(5, 30, generator=generator)
        disputed = torch.randn(30, generator=generator)
        gradients = (own - disputed * signs) * lengths  # (5, 30)
        combined = combine(GradientRule(rule, 5), gradients)
        cosine = (gradients @ combined) / gradients.norm(dim=1) / combined.norm()
        assert cosine.min() > -1e-3
        assert (gradients @ gradients.mean(0)).min() < 0


def test_sum_is_ordinary_backpropagation_of_the_mean():
    body, head, losses = network(4)
    GradientRule("sum", 4).backward(losses(), [body, head])
    ours = [body.grad.clone(), head.grad.clone()]
    body.grad = None
    head.grad = None
    losses().mean().backward()
    assert torch.equal(ours[0], body.grad)
    assert torch.equal(ours[1], head.grad)


def test_tasks_that_agree_get_the_mean_of_their_gradients(name):
    gradient = torch.randn(50)
    assert close(combine(GradientRule(name, 6), gradient.expand(6, 50)), gradient)


def test_losses_times_c_give_the_gradient_times_c(name):
    small = GradientRule(name, 2)
    large = GradientRule(name, 2)
    # 1e-4: as small as a policy's gradients are, where absolute tolerances would bite
    for factor in (1.0, 1e-4):
        torch.manual_seed(3)
        one = combine(small, CONFLICT)
        torch.manual_seed(3)
        scaled = combine(large, CONFLICT * factor)
        assert torch.allclose(scaled, one * factor, rtol=1e-3, atol=factor * 1e-5)


def test_a_head_gets_its_own_gradient_and_the_body_the_rule(name):
    body, head, losses = network(4)
    of_head = gradients_of(losses(), head)  # (k, k, 5)
    of_body = gradients_of(losses(), body).flatten(1)  # (k, 30)
    torch.manual_seed(1)
    GradientRule(name, 4).backward(losses(), [body, head])
    torch.manual_seed(1)
    alone = combine(GradientRule(name, 4), of_body)
    assert torch.allclose(head.grad, of_head.diagonal().T / 4, atol=1e-6)
    assert close(body.grad.flatten(), alone)
    is_mean = torch.allclose(body.grad.flatten(), of_body.mean(0), rtol=1e-2)
    assert not is_mean or name == "dualproj"  # there is no conflict


def test_absent_and_silent_tasks_have_no_say_and_frozen_parameters_no_gradient(name):
    rule = GradientRule(name, 3)
    alone = combine(GradientRule(name, 2), CONFLICT)
    absent = combine(rule, CONFLICT)
    silent = combine(rule, torch.cat([CONFLICT, torch.zeros(1, 3)])) * 3 / 2
    if name not in DRAWN:
        assert close(absent, alone)
        assert close(silent, alone)
    nearly_silent = torch.tensor([[0.0, 1e-5, 1e-5], [1.0, 0.0, 0.0]]) + 1e-9
    short = combine(GradientRule(name, 2), nearly_silent)
    assert absent.any() and silent.any() and short.any()
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    rule.backward(torch.zeros(2), [frozen])
    assert frozen.grad is None


def test_rules_that_draw_repeat_under_a_seed_and_memory_is_forgotten_on_reset(name):
    gradients = torch.randn(4, 9)
    rule = GradientRule(name, 4)
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        rule.reset()
        runs.append([combine(rule, gradients.roll(i, 0)) for i in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_cosines_of_known_vectors():
    p = nn.Parameter(torch.zeros(2))
    vectors = torch.tensor([[1.0, 0.0], [3.0, 3.0], [-2.0, 0.0], [0.0, 0.0]])
    half = np.sqrt(0.5)
    expected = [[1, half, -1, 0], [half, 1, -half, 0], [-1, -half, 1, 0], [0, 0, 0, 1]]
    assert np.allclose(cosines(vectors @ p, [p]), expected)


def test_unknown_rule_and_missing_package_are_refused_with_the_alternatives(monkeypatch):
    with pytest.raises(KeyError, match="did you mean 'pcgrad'"):
        GradientRule("pcgard", 2)
    real = builtins.__import__

    def without_torchjd(module, *args, **kwargs):
        if module.startswith("torchjd"):
            raise ModuleNotFoundError(module)
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torchjd)
    with pytest.raises(ValueError, match=r"pip install 'torchjd\[full\]'.*: sum$"):
        GradientRule("upgrad", 2)
