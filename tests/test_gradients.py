"""Laws of gradient rules: what they keep, what they never do, and what they leave alone."""

import builtins

import numpy as np
import pytest
import torch
from torch import nn

from agents.gradients import GradientRule, cosines
from agents.tables import RULES

OPTIONAL = {
    "cagrad": "cvxpy",
    "nash_mtl": "ecos",
    "fairgrad": "scipy",
    "dualproj": "quadprog",
    "upgrad": "quadprog",
}
DRAWN = ("pcgrad", "gradvac", "graddrop", "random")
CONFLICT = torch.tensor(
    [[1.0, 0.2, 0.0], [-2.0, 0.2, 0.1]]
)  # two tasks' gradients; their mean harms the first


@pytest.fixture(params=[r for r in RULES if r != "sum"])
def name(request):
    pytest.importorskip("torchjd")
    pytest.importorskip(OPTIONAL.get(request.param, "torchjd"))
    torch.manual_seed(0)
    return request.param


def combine(rule: GradientRule, gradients: torch.Tensor) -> torch.Tensor:
    """What the rule makes of given gradients (k, p), of losses that are linear in one parameter."""
    p = nn.Parameter(torch.zeros(gradients.shape[1]))
    rule.backward(gradients @ p, [p])
    return p.grad


def network(num_tasks: int, seed: int = 0):
    """A shared body and a head per task: parameters, and the losses (k,) of 40 samples."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    body, head = nn.Parameter(draw(6, 5)), nn.Parameter(draw(num_tasks, 5))
    x, y, index = draw(40, 6), draw(40), torch.arange(40) % num_tasks

    def losses():
        errors = (((x @ body).tanh() * head[index]).sum(1) - y) ** 2
        return torch.stack([errors[index == t].mean() for t in range(num_tasks)])

    return body, head, losses


def test_the_mean_of_two_conflicting_quadratics_harms_one_and_surgery_none():
    pytest.importorskip("quadprog")
    centres = torch.tensor([[1.0, 0.0], [-3.0, 0.5]])
    harmed = {}
    for rule in ("sum", "pcgrad", "upgrad", "dualproj"):
        p = nn.Parameter(torch.zeros(2))
        GradientRule(rule, 2).backward(((p - centres) ** 2).sum(1) / 2, [p])
        harmed[rule] = (
            ((-centres) @ p.grad).min().item()
        )  # the gradient of a quadratic at 0 is minus its centre
    assert harmed["sum"] < -0.1
    assert min(harmed["pcgrad"], harmed["upgrad"], harmed["dualproj"]) > -1e-6


@pytest.mark.parametrize("rule", ["upgrad", "dualproj"])
def test_cone_projections_never_conflict_however_short_a_gradient(rule):
    pytest.importorskip("quadprog")
    rng = torch.Generator().manual_seed(1)
    for _ in range(20):
        gradients = (
            torch.randn(5, 30, generator=rng)
            - torch.randn(30, generator=rng) * torch.tensor([1.0, -1, 1, -1, 1])[:, None]
        )
        gradients *= torch.tensor([1.0, 0.03, 3.0, 0.3, 1.0])[:, None]
        combined = combine(GradientRule(rule, 5), gradients)
        cosine = (gradients @ combined) / gradients.norm(dim=1) / combined.norm()
        assert cosine.min() > -1e-3
        assert (gradients @ gradients.mean(0)).min() < 0


def test_sum_is_ordinary_backpropagation_of_the_mean():
    body, head, losses = network(4)
    GradientRule("sum", 4).backward(losses(), [body, head])
    ours = [body.grad.clone(), head.grad.clone()]
    body.grad = head.grad = None
    losses().mean().backward()
    assert torch.equal(ours[0], body.grad) and torch.equal(ours[1], head.grad)


def test_tasks_that_agree_get_the_mean_of_their_gradients(name):
    gradient = torch.randn(50)
    assert torch.allclose(
        combine(GradientRule(name, 6), gradient.expand(6, 50)), gradient, rtol=1e-3, atol=1e-5
    )


def test_losses_times_c_give_the_gradient_times_c(name):
    small, large = GradientRule(name, 2), GradientRule(name, 2)
    for factor in (
        1.0,
        1e-4,
    ):  # as small as a policy's gradients are, where absolute tolerances would bite
        torch.manual_seed(3)
        one = combine(small, CONFLICT)
        torch.manual_seed(3)
        assert torch.allclose(
            combine(large, CONFLICT * factor), one * factor, rtol=1e-3, atol=factor * 1e-5
        )


def test_a_head_gets_its_own_gradient_and_the_body_the_rule(name):
    body, head, losses = network(4)
    own = torch.stack(
        [torch.autograd.grad(loss, head, retain_graph=True)[0] for loss in losses()]
    )  # (k, k, 5)
    rows = torch.stack(
        [torch.autograd.grad(loss, body, retain_graph=True)[0].flatten() for loss in losses()]
    )
    torch.manual_seed(1)
    GradientRule(name, 4).backward(losses(), [body, head])
    torch.manual_seed(1)
    alone = combine(GradientRule(name, 4), rows)
    assert torch.allclose(head.grad, own.diagonal().T / 4, atol=1e-6)
    assert torch.allclose(body.grad.flatten(), alone, rtol=1e-3, atol=1e-5)
    assert (
        not torch.allclose(body.grad.flatten(), rows.mean(0), rtol=1e-2) or name == "dualproj"
    )  # there is no conflict


def test_absent_and_silent_tasks_have_no_say_and_frozen_parameters_no_gradient(name):
    rule, alone = GradientRule(name, 3), combine(GradientRule(name, 2), CONFLICT)
    absent, silent = (
        combine(rule, CONFLICT),
        combine(rule, torch.cat([CONFLICT, torch.zeros(1, 3)])) * 3 / 2,
    )
    if name not in DRAWN:
        assert torch.allclose(absent, alone, rtol=1e-3, atol=1e-5) and torch.allclose(
            silent, alone, rtol=1e-3, atol=1e-5
        )
    short = combine(
        GradientRule(name, 2), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1e-5, 1e-5]]).roll(1, 0) + 1e-9
    )
    assert absent.any() and silent.any() and short.any()
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    rule.backward(torch.zeros(2), [frozen])
    assert frozen.grad is None


def test_rules_that_draw_repeat_under_a_seed_and_memory_is_forgotten_on_reset(name):
    gradients = torch.randn(4, 9)
    rule, runs = GradientRule(name, 4), []
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
