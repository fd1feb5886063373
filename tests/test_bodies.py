"""Shared bodies: the same laws for every row, and one law of its own for each."""

import pytest
import torch
from torch import nn
from torch.nn.functional import elu

from uncap.agents.bodies import (
    EMBEDDING,
    ENCODER,
    FEATURE,
    MLP,
    FiLM,
    Moore,
    PaCo,
    SoftModules,
    StageAttention,
    TaskEncoder,
    Transformer,
)
from uncap.agents.tables import BODIES
from uncap.envs import telling
from uncap.envs.mechanisms import MOST_STAGES
from uncap.envs.observations import PARTS, SIZE

torch.set_num_threads(1)  # as learners do
TASKS = 3
WIDTH = 32
VECTOR = 5  # size of the task vector
N = 12  # samples
every_body = pytest.mark.parametrize("name", BODIES)
with_and_without_vector = pytest.mark.parametrize("task", [0, VECTOR])


def body(make, task_size, state_size=SIZE, shaken=True):
    """A body; shaken: away from its special start, where a task may not matter yet."""
    torch.manual_seed(0)
    net = make(state_size, task_size, TASKS, WIDTH)
    if shaken:
        with torch.no_grad():
            for p in net.parameters():
                p += 0.1 * torch.randn_like(p)
    return net


def batch(task_size, state_size=SIZE, n=N):
    """State (n, state_size), task (n, task_size) and index (n,) of n samples."""
    generator = torch.Generator().manual_seed(1)
    state = torch.randn(n, state_size, generator=generator)
    task = torch.randn(n, task_size, generator=generator)
    index = torch.arange(n) % TASKS
    return state, task, index


def count(module):
    return sum(p.numel() for p in module.parameters())


@every_body
@with_and_without_vector
@pytest.mark.parametrize("history", [1, 3])
def test_output_has_one_row_of_features_per_sample(name, task, history):
    net = body(BODIES[name], task, history * SIZE)
    out = net(*batch(task, history * SIZE))
    assert out.shape == (N, WIDTH)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert (out.std(0) > 0).all()  # every feature tells samples apart


def first(make):
    """A body and a linear head as learning finds them."""
    torch.manual_seed(0)
    return make(SIZE, VECTOR, TASKS, 256), torch.nn.Linear(256, 5)


def rollout():
    """State, task and index of 640 samples, with states as large as those of rollouts."""
    state, task, index = batch(VECTOR, n=640)
    return 0.6 * state, task, index


def spread(make):
    """Root mean square of how features differ between samples."""
    net, _ = first(make)
    features = net(*rollout())
    return (features - features.mean(0)).square().mean().sqrt()


def moved(make):
    """Root mean square of how far one step of Adam moves the outputs, in whatever direction."""
    net, head = first(make)
    inputs = rollout()
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=3e-4)
    before = head(net(*inputs))
    (before * torch.randn_like(before)).sum().backward()
    optimizer.step()
    return (head(net(*inputs)) - before).square().mean().sqrt()


@every_body
@pytest.mark.parametrize("scale", [spread, moved])
def test_one_learning_rate_serves_every_body(name, scale):
    assert 0.5 < scale(BODIES[name]) / scale(MLP) < 2.0


@every_body
@with_and_without_vector
def test_batched_equals_looped(name, task):
    net = body(BODIES[name], task)
    state, vector, index = batch(task)
    looped = torch.cat(
        [net(state[i : i + 1], vector[i : i + 1], index[i : i + 1]) for i in range(N)]
    )
    assert torch.allclose(net(state, vector, index), looped, atol=1e-5)


@every_body
@with_and_without_vector
def test_same_seed_gives_same_bytes_in_training_and_evaluation(name, task):
    inputs = batch(task)
    training = body(BODIES[name], task).train()
    evaluation = body(BODIES[name], task).eval()
    assert torch.equal(training(*inputs), evaluation(*inputs))


@every_body
def test_an_embedding_is_its_own_tasks_alone(name):
    net = body(BODIES[name], 0)
    state, vector, index = batch(0)
    before = net(state, vector, index).detach()
    encoders = [module for module in net.modules() if isinstance(module, TaskEncoder)]
    assert len(encoders) <= 1
    assert (name == "mlp") <= (not encoders)  # it sees the task vector, or nothing of the task
    for encoder in encoders:
        with torch.no_grad():
            encoder.embedding.weight[1] += 1.0
        changed = (net(state, vector, index) != before).any(1)
        assert torch.equal(changed, index == 1)


@every_body
def test_the_vector_alone_says_which_task(name):
    net = body(BODIES[name], VECTOR)
    state, vector, index = batch(VECTOR)
    before = net(state, vector, index)
    assert torch.equal(net(state, vector, index.flip(0)), before)  # so unseen tasks need no index
    moved = vector.clone()
    moved[::2] += 1.0
    changed = (net(state, moved, index) != before).any(1)
    assert torch.equal(changed, torch.arange(N) % 2 == 0)


@every_body
@with_and_without_vector
def test_gradient_reaches_every_parameter(name, task):
    net = body(BODIES[name], task)
    out = net(*batch(task, n=64))
    (out * torch.randn(WIDTH)).sum().backward()
    for key, p in net.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, key


@every_body
def test_a_body_has_at_most_four_times_the_parameters_of_two_layers(name):
    mlp = count(BODIES["mlp"](SIZE, 23, TASKS, 256))
    assert count(BODIES[name](SIZE, 23, TASKS, 256)) < 4 * mlp


def test_parameters_are_as_many_as_stated():
    state_size = SIZE
    task_size = 23
    w = 256
    expected = {
        "mlp": linear(state_size + task_size, w) + linear(w, w),
        "film": linear(state_size, w) + linear(w, w) + encoder(task_size, 4 * w),
        "soft_modules": soft_modules(state_size, w) + encoder(task_size, w),
        "moore": 4 * (linear(state_size, w // 2) + linear(w // 2, w)) + encoder(task_size, 4),
        "paco": 4 * (linear(state_size, w) + linear(w, w)) + encoder(task_size, 4),
        "transformer": transformer(state_size, 48, 4, w) + encoder(task_size, 48),
    }
    for name, parameters in expected.items():
        assert count(BODIES[name](state_size, task_size, TASKS, w)) == parameters, name
    more = (EMBEDDING - task_size) * ENCODER + TASKS * EMBEDDING  # instead of the vector
    for name in expected.keys() - {"mlp"}:
        assert count(BODIES[name](state_size, 0, TASKS, w)) == expected[name] + more, name


def linear(inputs, outputs):
    return (inputs + 1) * outputs


def encoder(inputs, outputs):
    return linear(inputs, ENCODER) + linear(ENCODER, outputs)


def soft_modules(state_size, w):
    modules = linear(w, w) + 2 * 4 * linear(w // 4, w // 4)
    routing = 2 * linear(w, 16) + linear(16, w)
    return linear(state_size, w) + modules + routing


def transformer(state_size, token, heads, w):
    norm = 2 * token
    attention = linear(token, heads * token) + linear(heads * token, token)
    feed_forward = linear(token, 4 * token) + linear(4 * token, token)
    layer = norm + attention + feed_forward
    tokens = (state_size + len(PARTS)) * token + norm
    readout = norm + linear(token, w)
    return tokens + 2 * layer + readout


def test_mlp_sees_state_and_task_side_by_side():
    net = body(MLP, VECTOR)
    state, vector, index = batch(VECTOR)
    assert torch.equal(net(state, vector, index), net.net(torch.cat([state, vector], 1)))


@with_and_without_vector
def test_film_starts_as_the_identity(task):
    net = body(FiLM, task, shaken=False)
    inputs = batch(task)
    first, second = net.layers
    state = inputs[0]
    plain = elu(second(elu(first(state))))
    assert torch.equal(net(*inputs), plain)


def test_film_scales_and_shifts_each_hidden_unit():
    net = body(FiLM, VECTOR)
    state, vector, index = batch(VECTOR)
    scale1, shift1, scale2, shift2 = net.modulation(vector, index).split(WIDTH, 1)
    hidden = elu(net.layers[0](state) * (1 + scale1) + shift1)
    expected = elu(net.layers[1](hidden) * (1 + scale2) + shift2)
    assert torch.allclose(net(state, vector, index), expected, atol=1e-6)


def test_soft_modules_routing_sums_to_one_and_depends_on_state_and_task():
    net = body(SoftModules, VECTOR)
    state, vector, index = batch(VECTOR)
    features = elu(net.state(state))
    routing = net.routing(features * net.task(vector, index))
    assert routing.shape == (SoftModules.LAYERS - 1, N, SoftModules.MODULES, SoftModules.MODULES)
    ones = torch.ones(routing.shape[:3])
    assert (routing > 0).all()
    assert torch.allclose(routing.sum(3), ones)  # over `from`
    assert not torch.allclose(routing.sum(2), ones)  # not over `to`
    by_task = net.routing(features[:1] * net.task(vector, index))
    by_state = net.routing(features * net.task(vector, index)[:1])
    assert (by_task.std(1) > 1e-4).all()
    assert (by_state.std(1) > 1e-4).all()


def test_soft_modules_pass_on_what_the_routing_picks():
    """Routed to one module, every module of the next layer sees that one alone."""
    net = body(SoftModules, VECTOR)
    state, vector, index = batch(VECTOR)
    picked = torch.zeros(SoftModules.LAYERS - 1, N, SoftModules.MODULES, SoftModules.MODULES)
    picked[..., 2] = 1.0
    net.routing = lambda context: picked
    size = WIDTH // SoftModules.MODULES
    first = elu(net.first(elu(net.state(state))))[:, 2 * size : 3 * size]  # of module 2
    second = elu(first @ net.banks[0].weight[2] + net.banks[0].bias[2])  # of module 2
    last = net.banks[1]
    third = [elu(second @ w + b) for w, b in zip(last.weight, last.bias, strict=True)]
    assert torch.allclose(net(state, vector, index), torch.cat(third, 1), atol=1e-5)


def test_soft_modules_refuse_a_width_that_does_not_divide():
    with pytest.raises(ValueError, match="multiple of the 4 modules"):
        SoftModules(SIZE, VECTOR, TASKS, 30)


def test_moore_features_are_orthonormal_and_span_the_experts():
    net = body(Moore, VECTOR)
    state, _, _ = batch(VECTOR)
    basis = net.experts(state)  # (n, experts, width)
    identity = torch.eye(Moore.EXPERTS).expand(N, -1, -1)
    assert torch.allclose(basis @ basis.mT, identity, atol=1e-5)
    hidden = elu(net.hidden(state)).unflatten(1, (Moore.EXPERTS, -1))
    raw = net.out(hidden)  # (n, experts, width)
    components = raw @ basis.mT  # (n, experts, experts)
    assert torch.allclose(components @ basis, raw, atol=1e-4)  # no raw feature is lost
    # in Gram-Schmidt's order: expert k only needs the first k
    assert components.triu(1).abs().max() < 1e-4


def test_moore_combines_features_by_the_tasks_weights():
    net = body(Moore, VECTOR)
    state, vector, index = batch(VECTOR)
    # Pythagoras, on orthonormal features
    squared = FEATURE**2 * WIDTH * net.mix(vector, index).square().sum(1)
    assert torch.allclose(net(state, vector, index).square().sum(1), squared, rtol=1e-4)


@with_and_without_vector
def test_paco_equals_networks_composed_one_by_one(task):
    net = body(PaCo, task)
    state, vector, index = batch(task)
    for i, out in enumerate(net(state, vector, index)):
        mix = net.composition(vector[i : i + 1], index[i : i + 1])[0]  # (sets,)
        x = state[i]
        for layer in net.layers:
            weight = sum(m * w for m, w in zip(mix, layer.weight, strict=True))
            bias = sum(m * b for m, b in zip(mix, layer.bias, strict=True))
            x = elu(x @ weight + bias)
        assert torch.allclose(out, x, atol=1e-5)


@pytest.mark.parametrize("history", [1, 2])
def test_transformer_turns_each_named_part_into_its_own_token(history):
    net = body(Transformer, VECTOR, history * SIZE)
    state, vector, index = batch(VECTOR, history * SIZE)
    tokens = net.tokens(state)
    out = net(state, vector, index)
    low = 0  # where the part begins in an observation
    for k, (_, size, *_) in enumerate(PARTS):
        for j in range(history):
            begin = j * SIZE + low
            moved = state.clone()
            moved[:, begin : begin + size] += 1.0
            changed = (net.tokens(moved) != tokens).any(2)  # (n, parts)
            assert torch.equal(changed, (torch.arange(len(PARTS)) == k).expand(N, -1))
            assert ((net(moved, vector, index) - out).abs().amax(1) > 1e-5).all()
        low += size


@pytest.mark.parametrize("state", [0, 7, SIZE + 1])
def test_transformer_refuses_a_state_without_names(state):
    with pytest.raises(ValueError, match=f"multiple of the {SIZE} numbers"):
        Transformer(state, VECTOR, TASKS, WIDTH)


def test_attention_knows_a_stage_wherever_it_stands_in_the_order():
    """Turned round with the weights that the state gives them, the stages say the same."""
    torch.manual_seed(0)
    network = StageAttention(SIZE, telling.SIZE, 3, 32)
    nn.init.normal_(network.modulation.net[-1].weight, std=0.3)
    state, index = torch.randn(N, SIZE), torch.zeros(N, dtype=torch.long)
    task = torch.randn(N, telling.SIZE)
    stages = task[:, : telling.STAGES_SIZE].unflatten(1, (MOST_STAGES, -1))
    order = torch.tensor([2, 0, 1])
    moved = torch.cat([stages[:, order].flatten(1), task[:, telling.STAGES_SIZE :]], 1)
    before = network(state, task, index)
    assert not torch.allclose(network(state, moved, index), before, atol=1e-3)
    weights = network.query[-1]
    with torch.no_grad():
        places = torch.cat([order, torch.tensor([MOST_STAGES])])
        rows = torch.cat([head * (MOST_STAGES + 1) + places for head in range(network.HEADS)])
        weights.weight.copy_(weights.weight[rows])
        weights.bias.copy_(weights.bias[rows])
    assert torch.allclose(network(state, moved, index), before, atol=1e-5)


@pytest.mark.parametrize("task", [VECTOR, 0])
def test_samples_of_one_task_are_modulated_once(task):
    net = body(FiLM, task)
    asked = []
    net.modulation.register_forward_hook(lambda _, given, code: asked.append(len(code)))
    state, vector, index = batch(task)
    vector, index = vector[:1].expand_as(vector), index[:1].expand_as(index)
    gradients = []
    for more in (0, 1):  # a sample of another task
        net.zero_grad()
        others = index[:more] + 1
        told = torch.cat([vector, vector[:more] + 1])
        features = net(torch.cat([state, state[:more]]), told, torch.cat([index, others]))[:N]
        features.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
        assert len(features) == N
    assert asked == [1, N + 1]
    for alone, beside in zip(*gradients, strict=True):
        torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-5)
