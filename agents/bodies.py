"""Shared bodies of task-conditioned networks: state and task in, latent features out.

Every body is made by `(state, task, num_tasks, width)`, sizes of the state and of the task's
vector (0 where there is none), tasks it can tell apart, and units per hidden layer; it maps state
(n, state), task (n, task) and index (n,) to features (n, width), which a head maps on. At first the
features of every body vary about as much as an MLP's do, and a step of Adam moves its outputs about
as far, so that PPO's settings fit all of them.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from envs.observations import PARTS, SIZE

EMBEDDING = 16  # learned numbers that stand for a task without a vector
ENCODER = 64  # hidden units of the task's encoder
FEATURE = 0.17  # root mean square of an MLP's features at first, with torch's initialisation


class TaskEncoder(nn.Module):
    """What a body is told of the task: a function of its vector or, where there is none, of a learned embedding of its index.

    Args:
        task: size of the task's vector; with one, the index is ignored, so that unseen tasks have a code, too.
        num_tasks: tasks that have an embedding.
        outputs: size of the code.
        mean: what the code is around at first.
    """

    def __init__(self, task: int, num_tasks: int, outputs: int, mean: float = 0.0):
        super().__init__()
        self.embedding = None if task else nn.Embedding(num_tasks, EMBEDDING)
        self.net = nn.Sequential(
            nn.Linear(task or EMBEDDING, ENCODER), nn.ELU(), nn.Linear(ENCODER, outputs)
        )
        nn.init.constant_(self.net[-1].bias, mean)

    def forward(self, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map task (n, task) and index (n,) to codes (n, outputs)."""
        return self.net(task if self.embedding is None else self.embedding(index))


class Bank(nn.Module):
    """`count` linear maps of the same sizes, used side by side or mixed into one; weights are `gain` times those torch starts from."""

    def __init__(self, count: int, inputs: int, outputs: int, gain: float = 1.0):
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(
            torch.empty(count, inputs, outputs).uniform_(-gain * bound, gain * bound)
        )
        self.bias = nn.Parameter(torch.empty(count, outputs).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, count, inputs) to (n, count, outputs), each slice by its own map."""
        return torch.einsum("nki,kio->nko", x, self.weight) + self.bias

    def mixed(self, x: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
        """Map x (n, inputs) to (n, outputs) by the sum of all maps weighted by mix (n, count).

        No sample's weights are ever built: (sum_k m_k W_k) x is one product of all W_k with the outer product of m and x.
        """
        outer = mix[:, :, None] * x[:, None]  # (n, count, inputs)
        return torch.addmm(mix @ self.bias, outer.flatten(1), self.weight.flatten(0, 1))


class MLP(nn.Module):
    """Two hidden layers on state and task side by side; blind to the index."""

    def __init__(self, state: int, task: int, num_tasks: int, width: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(state + task, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        )

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, width)."""
        return self.net(torch.cat([state, task], 1))


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al., 2018): the task scales and shifts every hidden unit; at first it does not."""

    def __init__(self, state: int, task: int, num_tasks: int, width: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(state, width), nn.Linear(width, width)])
        self.modulation = TaskEncoder(task, num_tasks, 2 * len(self.layers) * width)
        nn.init.zeros_(self.modulation.net[-1].weight)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, width)."""
        x, modulation = state, self.modulation(task, index).chunk(2 * len(self.layers), 1)
        for layer, scale, shift in zip(self.layers, modulation[::2], modulation[1::2], strict=True):
            x = F.elu((1 + scale) * layer(x) + shift)
        return x


class SoftModules(nn.Module):
    """Soft modularisation (Yang et al., 2020): layers of modules, between which task and state route softly.

    The last layer's modules stand side by side, so that a linear head weighs each of them, as the paper's output does.

    Raises:
        ValueError: width does not divide into the modules.
    """

    LAYERS, MODULES = 3, 4

    def __init__(self, state: int, task: int, num_tasks: int, width: int):
        super().__init__()
        if width % self.MODULES:
            raise ValueError(f"width must be a multiple of the {self.MODULES} modules, not {width}")
        own, routes = width // self.MODULES, self.MODULES**2
        self.state = nn.Linear(state, width)
        self.task = TaskEncoder(task, num_tasks, width, mean=1.0)
        self.first = nn.Linear(width, width)  # the first layer's modules: they share their input
        gain = math.sqrt(
            3 * self.MODULES
        )  # keeps the variance: torch's maps leave a third of it, a mean over modules a share of each
        self.banks = nn.ModuleList(
            Bank(self.MODULES, own, own, gain) for _ in range(self.LAYERS - 1)
        )
        self.route = nn.ModuleList(nn.Linear(width, routes) for _ in range(self.LAYERS - 1))
        self.widen = nn.ModuleList(nn.Linear(routes, width) for _ in range(self.LAYERS - 2))

    def routing(self, context: torch.Tensor) -> torch.Tensor:
        """Weights (layers - 1, n, to, from) that sum to 1 over `from`, given state times task (n, width)."""
        logits = [self.route[0](F.relu(context))]
        for widen, route in zip(self.widen, self.route[1:], strict=True):
            logits.append(route(F.relu(context * widen(logits[-1]))))
        return torch.stack(logits).unflatten(2, (self.MODULES, self.MODULES)).softmax(3)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, width)."""
        features = F.elu(self.state(state))
        routing = self.routing(features * self.task(task, index))
        x = F.elu(self.first(features)).unflatten(1, (self.MODULES, -1))  # (n, modules, own)
        for bank, weights in zip(self.banks, routing, strict=True):
            x = F.elu(bank(weights @ x))
        return x.flatten(1)


class Moore(nn.Module):
    """Mixture of orthogonal experts (Hendawy et al., 2024): experts see the state, and the task weighs their orthonormal features."""

    EXPERTS = 4

    def __init__(self, state: int, task: int, num_tasks: int, width: int):
        super().__init__()
        self.hidden = nn.Linear(
            state, self.EXPERTS * (width // 2)
        )  # every expert's hidden layer: they share their input
        self.out = Bank(self.EXPERTS, width // 2, width)
        self.mix = TaskEncoder(task, num_tasks, self.EXPERTS, mean=self.EXPERTS**-0.5)

    def experts(self, state: torch.Tensor) -> torch.Tensor:
        """Features (n, experts, width) of state (n, state), orthonormal in each sample by modified Gram-Schmidt."""
        rest, basis = self.out(F.elu(self.hidden(state)).unflatten(1, (self.EXPERTS, -1))), []
        for _ in range(self.EXPERTS):
            basis.append(F.normalize(rest[:, :1], dim=2, eps=1e-6))
            rest = rest[:, 1:] - (rest[:, 1:] @ basis[-1].mT) * basis[-1]
        return torch.cat(basis, 1)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, width)."""
        features = self.experts(state)
        scale = FEATURE * math.sqrt(
            features.shape[2]
        )  # a unit vector's components depend on the width
        return scale * (self.mix(task, index)[:, None] @ features)[:, 0]


class PaCo(nn.Module):
    """Parameter-compositional networks (Sun et al., 2022): a task's weights are its own sum of parameter sets all tasks share."""

    SETS = 4

    def __init__(self, state: int, task: int, num_tasks: int, width: int):
        super().__init__()
        gain = math.sqrt(
            self.SETS
        )  # the mean of the sets varies as torch's maps do, and one step of Adam moves it as it moves those
        self.layers = nn.ModuleList(
            [Bank(self.SETS, state, width, gain), Bank(self.SETS, width, width, gain)]
        )
        self.composition = TaskEncoder(task, num_tasks, self.SETS, mean=1 / self.SETS)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, width)."""
        x, mix = state, self.composition(task, index)
        for layer in self.layers:
            x = F.elu(layer.mixed(x, mix))
        return x


class Attention(nn.Module):
    """A transformer's layer (Vaswani et al., 2017) for one token that asks many, as in Perceiver (Jaegle et al., 2021).

    A head's keys and values are the tokens themselves: their maps fold into those of its query and its output. Attention and
    feed-forward stand side by side behind one normalisation, as in PaLM (Chowdhery et al., 2022): a tenth less time.
    """

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query, self.out = nn.Linear(size, heads * size), nn.Linear(heads * size, size)
        self.feed = nn.Sequential(nn.Linear(size, 4 * size), nn.ELU(), nn.Linear(4 * size, size))

    def forward(self, asker: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Map asker (n, size) and normalised tokens (n, t, size) to (n, size)."""
        size, asked = tokens.shape[2], self.norm(asker)
        scores = (
            self.query(asked).view(-1, self.heads, size) @ tokens.mT * size**-0.5
        )  # (n, heads, t)
        return asker + self.out((scores.softmax(2) @ tokens).flatten(1)) + self.feed(asked)


class Transformer(nn.Module):
    """Attention over the observation's named parts (after Vaswani et al., 2017): the task's token asks them, twice, and is read out.

    Each part is a token by a linear map of its own, of all its values in a stacked history. Parts do not ask one another,
    which would take three times as long.

    Raises:
        ValueError: the state is not a history of whole observations.
    """

    LAYERS, TOKEN, HEADS = 2, 48, 4

    def __init__(self, state: int, task: int, num_tasks: int, width: int):
        super().__init__()
        if state < SIZE or state % SIZE:
            raise ValueError(
                f"state must be a multiple of the {SIZE} numbers of observations.PARTS, not {state}"
            )
        sizes = torch.tensor([size for _, size, *_ in PARTS])
        part = (
            torch.arange(len(PARTS)).repeat_interleave(sizes).repeat(state // SIZE)
        )  # of every number of the state
        fan_in = sizes[part] * (state // SIZE)
        self.register_buffer(
            "member", F.one_hot(part, len(PARTS)).float(), persistent=False
        )  # (state, parts)
        self.weight = nn.Parameter(torch.randn(state, self.TOKEN) / fan_in.sqrt()[:, None])
        self.bias = nn.Parameter(torch.randn(len(PARTS), self.TOKEN))
        self.norm = nn.LayerNorm(self.TOKEN)
        self.task = TaskEncoder(task, num_tasks, self.TOKEN)
        self.layers = nn.ModuleList(Attention(self.TOKEN, self.HEADS) for _ in range(self.LAYERS))
        for module in (*self.task.modules(), *self.layers.modules()):
            if isinstance(module, nn.Linear):
                nn.init.normal_(
                    module.weight, std=module.in_features**-0.5
                )  # keeps the variance: a step is small beside what there is
        self.readout = nn.Sequential(
            nn.LayerNorm(self.TOKEN), nn.Linear(self.TOKEN, width), nn.ELU()
        )
        nn.init.normal_(
            self.readout[1].weight, std=FEATURE / math.sqrt(self.TOKEN)
        )  # what it maps is normalised

    def tokens(self, state: torch.Tensor) -> torch.Tensor:
        """Tokens (n, parts, token) of state (n, state)."""
        maps = (
            self.member[:, :, None] * self.weight[:, None]
        )  # (state, parts, token): zero but for a number's own part
        return self.norm((state @ maps.flatten(1)).unflatten(1, self.bias.shape) + self.bias)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state), task (n, task) and index (n,) to (n, width)."""
        tokens, asker = self.tokens(state), self.task(task, index)
        for layer in self.layers:
            asker = layer(asker, tokens)
        return self.readout(asker)
