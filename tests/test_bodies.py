"""Shared bodies: the same laws for every row, and one law of its own for each."""

import pytest
import torch

from agents.bodies import (
    EMBEDDING,
    ENCODER,
    FEATURE,
    MLP,
    FiLM,
    Moore,
    PaCo,
    SoftModules,
    TaskEncoder,
    Transformer,
)
from agents.tables import BODIES
from envs.observations import PARTS, SIZE

torch.set_num_threads(1)  # as learners do
TASKS, WIDTH, VECTOR, N = 3, 32, 5, 12
every_body = pytest.mark.parametrize("name", BODIES)
with_and_without_vector = pytest.mark.parametrize("task", [0, VECTOR])


def body(make, task, state=SIZE, shaken=True):
    """A body away from its special start, where a task may not matter yet."""
    torch.manual_seed(0)
    net = make(state, task, TASKS, WIDTH)
    with torch.no_grad():
        for p in net.parameters() if shaken else ():
            p += 0.1 * torch.randn_like(p)
    return net


def batch(task, state=SIZE, n=N):
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, state, generator=generator),
        torch.randn(n, task, generator=generator),
        torch.arange(n) % TASKS,
    )


def count(module):
    return sum(p.numel() for p in module.parameters())


@every_body
@with_and_without_vector
@pytest.mark.parametrize("history", [1, 3])
def test_output_has_one_row_of_features_per_sample(name, task, history):
    out = body(BODIES[name], task, history * SIZE)(*batch(task, history * SIZE))
    assert out.shape == (N, WIDTH) and out.dtype == torch.float32
    assert out.isfinite().all() and (out.std(0) > 0).all()  # every feature tells samples apart


def first(make):
    """A body and a linear head as learning finds them, on states as large as those of rollouts."""
    torch.manual_seed(0)
    return make(SIZE, VECTOR, TASKS, 256), torch.nn.Linear(256, 5)


STATE, *TASK = batch(VECTOR, n=640)
STATE = 0.6 * STATE


def spread(make):
    """Root mean square of how features differ between samples."""
    features = first(make)[0](STATE, *TASK)
    return (features - features.mean(0)).square().mean().sqrt()


def moved(make):
    """Root mean square of how far one step of Adam moves the outputs, in whatever direction."""
    body, head = first(make)
    steps = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=3e-4)
    before = head(body(STATE, *TASK))
    (before * torch.randn_like(before)).sum().backward()
    steps.step()
    return (head(body(STATE, *TASK)) - before).square().mean().sqrt()


@every_body
@pytest.mark.parametrize("scale", [spread, moved])
def test_one_learning_rate_serves_every_body(name, scale):
    assert 0.5 < scale(BODIES[name]) / scale(MLP) < 2.0


@every_body
@with_and_without_vector
def test_batched_equals_looped(name, task):
    net, (state, vector, index) = body(BODIES[name], task), batch(task)
    looped = torch.cat(
        [net(state[i : i + 1], vector[i : i + 1], index[i : i + 1]) for i in range(N)]
    )
    assert torch.allclose(net(state, vector, index), looped, atol=1e-5)


@every_body
@with_and_without_vector
def test_same_seed_gives_same_bytes_in_training_and_evaluation(name, task):
    inputs = batch(task)
    assert torch.equal(
        body(BODIES[name], task).train()(*inputs), body(BODIES[name], task).eval()(*inputs)
    )


@every_body
def test_an_embedding_is_its_own_tasks_alone(name):
    net, (state, vector, index) = body(BODIES[name], 0), batch(0)
    before = net(state, vector, index).detach()
    encoders = [m for m in net.modules() if isinstance(m, TaskEncoder)]
    assert len(encoders) == (name != "mlp")  # mlp is told the vector or nothing
    for encoder in encoders:
        with torch.no_grad():
            encoder.embedding.weight[1] += 1.0
        changed = (net(state, vector, index) != before).any(1)
        assert torch.equal(changed, index == 1)


@every_body
def test_the_vector_alone_says_which_task(name):
    net, (state, vector, index) = body(BODIES[name], VECTOR), batch(VECTOR)
    before = net(state, vector, index)
    assert torch.equal(net(state, vector, index.flip(0)), before)  # so unseen tasks need no index
    moved = vector.clone()
    moved[::2] += 1.0
    assert torch.equal((net(state, moved, index) != before).any(1), torch.arange(N) % 2 == 0)


@every_body
@with_and_without_vector
def test_gradient_reaches_every_parameter(name, task):
    net = body(BODIES[name], task)
    (net(*batch(task, n=64)) * torch.randn(WIDTH)).sum().backward()
    assert [
        k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ] == []


@every_body
def test_parameters_are_as_many_as_stated(name):
    state, task, w = SIZE, 23, 256
    sizes = {
        "mlp": (state + task + 1) * w + (w + 1) * w,
        "film": (state + 1) * w + (w + 1) * w + encoder(task, 4 * w),
        "soft_modules": (state + 1) * w
        + (w + 1) * w
        + 2 * (w // 4 + 1) * w
        + encoder(task, w)
        + 2 * (w + 1) * 16
        + 17 * w,
        "moore": (state + 1) * 2 * w + 4 * (w // 2 + 1) * w + encoder(task, 4),
        "paco": 4 * ((state + 1) * w + (w + 1) * w) + encoder(task, 4),
        "transformer": transformer(state, 48, 4, w) + encoder(task, 48),
    }
    net = BODIES[name](state, task, TASKS, w)
    assert count(net) == sizes[name] < 4 * sizes["mlp"]
    if name != "mlp":  # an embedding stands in for the vector
        assert (
            count(BODIES[name](state, 0, TASKS, w))
            == sizes[name] + (EMBEDDING - task) * ENCODER + TASKS * EMBEDDING
        )


def encoder(inputs, outputs):
    return (inputs + 1) * ENCODER + (ENCODER + 1) * outputs


def transformer(state, d, heads, w):
    layer = 2 * d + (d + 1) * heads * d + (heads * d + 1) * d + (d + 1) * 4 * d + (4 * d + 1) * d
    return (state + len(PARTS)) * d + 2 * 2 * d + 2 * layer + (d + 1) * w


def test_mlp_sees_state_and_task_side_by_side():
    net, (state, vector, index) = body(MLP, VECTOR), batch(VECTOR)
    assert torch.equal(net(state, vector, index), net.net(torch.cat([state, vector], 1)))


@with_and_without_vector
def test_film_starts_as_the_identity(task):
    net, inputs = body(FiLM, task, shaken=False), batch(task)
    first, second = net.layers
    plain = torch.nn.functional.elu(second(torch.nn.functional.elu(first(inputs[0]))))
    assert torch.equal(net(*inputs), plain)


def test_film_scales_and_shifts_each_hidden_unit():
    net, (state, vector, index) = body(FiLM, VECTOR), batch(VECTOR)
    scale1, shift1, scale2, shift2 = net.modulation(vector, index).split(WIDTH, 1)
    hidden = torch.nn.functional.elu(net.layers[0](state) * (1 + scale1) + shift1)
    assert torch.allclose(
        net(state, vector, index),
        torch.nn.functional.elu(net.layers[1](hidden) * (1 + scale2) + shift2),
        atol=1e-6,
    )


def test_soft_modules_routing_sums_to_one_and_depends_on_state_and_task():
    net, (state, vector, index) = body(SoftModules, VECTOR), batch(VECTOR)
    features = torch.nn.functional.elu(net.state(state))
    routing = net.routing(features * net.task(vector, index))
    assert routing.shape == (SoftModules.LAYERS - 1, N, SoftModules.MODULES, SoftModules.MODULES)
    assert (routing > 0).all() and torch.allclose(routing.sum(3), torch.ones(routing.shape[:3]))
    assert not torch.allclose(
        routing.sum(2), torch.ones(routing.shape[:3])
    )  # over `from`, not over `to`
    by_task = net.routing(features[:1] * net.task(vector, index))
    by_state = net.routing(features * net.task(vector, index)[:1])
    assert (by_task.std(1) > 1e-4).all() and (by_state.std(1) > 1e-4).all()


def test_soft_modules_pass_on_what_the_routing_picks():
    """Routed to one module, every module of the next layer sees that one alone."""
    net, (state, vector, index) = body(SoftModules, VECTOR), batch(VECTOR)
    picked = torch.zeros(SoftModules.LAYERS - 1, N, SoftModules.MODULES, SoftModules.MODULES)
    picked[..., 2] = 1.0
    net.routing = lambda context: picked
    own = WIDTH // SoftModules.MODULES
    x = torch.nn.functional.elu(net.first(torch.nn.functional.elu(net.state(state))))[
        :, 2 * own : 3 * own
    ]
    x = torch.nn.functional.elu(x @ net.banks[0].weight[2] + net.banks[0].bias[2])
    x = torch.cat(
        [
            torch.nn.functional.elu(x @ w + b)
            for w, b in zip(net.banks[1].weight, net.banks[1].bias, strict=True)
        ],
        1,
    )
    assert torch.allclose(net(state, vector, index), x, atol=1e-5)


def test_soft_modules_refuse_a_width_that_does_not_divide():
    with pytest.raises(ValueError, match="multiple of the 4 modules"):
        SoftModules(SIZE, VECTOR, TASKS, 30)


def test_moore_features_are_orthonormal_and_span_the_experts():
    net, (state, _, _) = body(Moore, VECTOR), batch(VECTOR)
    basis = net.experts(state)  # (n, experts, width)
    assert torch.allclose(basis @ basis.mT, torch.eye(Moore.EXPERTS).expand(N, -1, -1), atol=1e-5)
    raw = net.out(torch.nn.functional.elu(net.hidden(state)).unflatten(1, (Moore.EXPERTS, -1)))
    assert torch.allclose(
        (raw @ basis.mT) @ basis, raw, atol=1e-4
    )  # nothing of the raw features is lost
    assert (raw @ basis.mT).triu(
        1
    ).abs().max() < 1e-4  # in Gram-Schmidt's order: expert k only needs the first k


def test_moore_combines_features_by_the_tasks_weights():
    net, (state, vector, index) = body(Moore, VECTOR), batch(VECTOR)
    squared = (
        FEATURE**2 * WIDTH * net.mix(vector, index).square().sum(1)
    )  # Pythagoras, on orthonormal features
    assert torch.allclose(net(state, vector, index).square().sum(1), squared, rtol=1e-4)


@with_and_without_vector
def test_paco_equals_networks_composed_one_by_one(task):
    net, (state, vector, index) = body(PaCo, task), batch(task)
    for i, out in enumerate(net(state, vector, index)):
        mix, x = net.composition(vector[i : i + 1], index[i : i + 1])[0], state[i]
        for layer in net.layers:
            weight = sum(m * w for m, w in zip(mix, layer.weight, strict=True))
            bias = sum(m * b for m, b in zip(mix, layer.bias, strict=True))
            x = torch.nn.functional.elu(x @ weight + bias)
        assert torch.allclose(out, x, atol=1e-5)


@pytest.mark.parametrize("history", [1, 2])
def test_transformer_turns_each_named_part_into_its_own_token(history):
    net, (state, vector, index) = (
        body(Transformer, VECTOR, history * SIZE),
        batch(VECTOR, history * SIZE),
    )
    tokens, out, low = net.tokens(state), net(state, vector, index), 0
    for k, (_, size, *_) in enumerate(PARTS):
        for j in range(history):
            moved = state.clone()
            moved[:, j * SIZE + low : j * SIZE + low + size] += 1.0
            changed = (net.tokens(moved) != tokens).any(2)  # (n, parts)
            assert torch.equal(changed, (torch.arange(len(PARTS)) == k).expand(N, -1))
            assert ((net(moved, vector, index) - out).abs().amax(1) > 1e-5).all()
        low += size


@pytest.mark.parametrize("state", [0, 7, SIZE + 1])
def test_transformer_refuses_a_state_without_names(state):
    with pytest.raises(ValueError, match=f"multiple of the {SIZE} numbers"):
        Transformer(state, VECTOR, TASKS, WIDTH)
