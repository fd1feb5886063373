"""Bodies of task-conditioned networks: state and task in, features out; a linear head follows.

To add a body, write an `nn.Module` here and give it a row in `BODIES` of `agents/tables.py`:

- Its constructor takes `(state_size, task_size, num_tasks, width)`: the size of the state, the
  size of the task vector (0 where there is none), the number of tasks, and the units per hidden
  layer.
- `forward(state, task, index)` maps state (n, state_size), task vector (n, task_size) and task
  index (n,) to features (n, width).
- Its initial weights are scaled so that features differ between samples about as much as those of
  `MLP`, and one step of Adam moves the outputs about as far. One learning rate then serves every
  body; tests/test_bodies.py checks both within a factor of two.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.onnx import is_in_onnx_export

from uncap.envs import telling
from uncap.envs.mechanisms import MOST_STAGES
from uncap.envs.observations import FULL, layout

EMBEDDING = 16  # size of the learned vector of a task that has no task vector
ENCODER = 64  # hidden units of the task encoder
FEATURE = 0.17  # root mean square of the MLP's features at the start, with torch's initialisation


def is_one_task(task: torch.Tensor, index: torch.Tensor) -> bool:
    """Whether all samples are known to be told the same.

    That is not asked on a GPU, which would have to be waited for, nor of a graph that is exported,
    which is for any samples.

    Args:
        task: task vectors, (n, t).
        index: of the tasks, (n,), which is what is told where t is 0.
    """
    if task.device.type != "cpu" or torch.compiler.is_compiling() or is_in_onnx_export():
        return False
    told = task if task.shape[1] else index
    return torch.equal(told, told[:1].expand_as(told))


class TaskEncoder(nn.Module):
    """Two layers on the task vector or, where there is none, on a learned embedding of the index.

    With a task vector the index is ignored, so that tasks not seen in training have a code, too.

    Args:
        task_size: size of the task vector, 0 where there is none.
        num_tasks: number of embeddings, where there is no task vector.
        outputs: size of the code.
        mean: initial bias of the code.
    """

    def __init__(self, task_size: int, num_tasks: int, outputs: int, mean: float = 0.0):
        super().__init__()
        self.embedding = None if task_size else nn.Embedding(num_tasks, EMBEDDING)
        hidden = nn.Linear(task_size or EMBEDDING, ENCODER)
        output = nn.Linear(ENCODER, outputs)
        nn.init.constant_(output.bias, mean)
        self.net = nn.Sequential(hidden, nn.ELU(), output)

    def forward(self, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map task (n, task_size) and index (n,) to codes (n, outputs)."""
        if self.embedding is not None:
            task = self.embedding(index)  # (n, EMBEDDING)
        return self.net(task)


class Bank(nn.Module):
    """`count` linear maps of the same sizes, used side by side or mixed into one.

    Args:
        count: number of maps.
        inputs: size of a map's input.
        outputs: size of a map's output.
        gain: factor on the initial weights of `nn.Linear`.
    """

    def __init__(self, count: int, inputs: int, outputs: int, gain: float = 1.0):
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # nn.Linear draws weights and biases from [-bound, bound]
        weight = torch.empty(count, inputs, outputs).uniform_(-gain * bound, gain * bound)
        bias = torch.empty(count, outputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, count, inputs) to (n, count, outputs), each slice by its own map."""
        return torch.einsum("nki,kio->nko", x, self.weight) + self.bias

    def mixed(self, x: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
        """Map x (n, inputs) to (n, outputs) by the sum of all maps, weighted by mix (n, count).

        (sum_k m_k W_k) x is one product of all W_k with the outer product of m and x, so that no
        sample's own weights have to be built.
        """
        outer = mix[:, :, None] * x[:, None]  # (n, count, inputs)
        outer = outer.flatten(1)  # (n, count * inputs)
        weight = self.weight.flatten(0, 1)  # (count * inputs, outputs)
        bias = mix @ self.bias  # (n, outputs)
        return torch.addmm(bias, outer, weight)


class MLP(nn.Module):
    """Two hidden layers on state and task vector side by side; the index is not used."""

    def __init__(self, state_size: int, task_size: int, num_tasks: int, width: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(state_size + task_size, width), nn.ELU(), nn.Linear(width, width), nn.ELU()
        )

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        return self.net(torch.cat([state, task], 1))


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al., 2018): the task scales and shifts each unit.

    Scales start at 1 and shifts at 0.
    """

    def __init__(self, state_size: int, task_size: int, num_tasks: int, width: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(state_size, width), nn.Linear(width, width)])
        self.modulation = TaskEncoder(task_size, num_tasks, 2 * len(self.layers) * width)
        output = cast(nn.Linear, self.modulation.net[-1])
        nn.init.zeros_(output.weight)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        if is_one_task(task, index):
            task, index = task[:1], index[:1]  # modulations for one are those for all
        code = self.modulation(task, index)  # (n or 1, 2 * layers * width)
        parts = code.chunk(2 * len(self.layers), 1)  # each (n or 1, width): scale, shift, ...
        x = state
        for layer, scale, shift in zip(self.layers, parts[::2], parts[1::2], strict=True):
            x = F.elu((1 + scale) * layer(x) + shift)  # (n, width)
        return x


class StageAttention(FiLM):
    """FiLM by the stages of a mechanism that the state attends to, and what else is told.

    Where the task vector is that of `telling.vector`, each head gives the stages in it weights
    that depend on the state, and a weight to none of them; their mean takes the place of all
    stages. So what was learned of a stage is the same wherever it stands in the order. Another
    vector is taken as it is.
    """

    HEADS = 2

    def __init__(self, state_size: int, task_size: int, num_tasks: int, width: int):
        tells_stages = task_size == telling.SIZE
        self.stages = MOST_STAGES if tells_stages else 0
        self.of_stages = telling.STAGES_SIZE if tells_stages else 0
        attended = self.HEADS * telling.STAGES_SIZE // MOST_STAGES if tells_stages else 0
        super().__init__(state_size, task_size - self.of_stages + attended, num_tasks, width)
        self.query = None
        if tells_stages:
            weights = nn.Linear(ENCODER, self.HEADS * (MOST_STAGES + 1))
            self.query = nn.Sequential(nn.Linear(state_size, ENCODER), nn.ELU(), weights)

    def attended(self, state: torch.Tensor, task: torch.Tensor) -> torch.Tensor:
        """Replace the stages in task (n, SIZE) by those that state (n, s) attends to: (n, t)."""
        if self.query is None:
            return task
        stages = task[:, : self.of_stages].unflatten(1, (self.stages, -1))  # (n, stages, 7)
        weights = self.query(state).unflatten(1, (self.HEADS, -1)).softmax(2)
        chosen = weights[:, :, : self.stages] @ stages  # (n, heads, 7); the last weight is none's
        return torch.cat([chosen.flatten(1), task[:, self.of_stages :]], 1)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        return super().forward(state, self.attended(state, task), index)


class SoftModules(nn.Module):
    """Soft modularisation (Yang et al., 2020): layers of modules with soft routing between them.

    State and task give the weights of the routes. The modules of the last layer stand side by
    side in the features, so that a linear head weighs each of them, as the paper's output does.

    Raises:
        ValueError: width is not a multiple of the number of modules.
    """

    LAYERS = 3
    MODULES = 4  # per layer

    def __init__(self, state_size: int, task_size: int, num_tasks: int, width: int):
        super().__init__()
        if width % self.MODULES:
            raise ValueError(f"width must be a multiple of the {self.MODULES} modules, not {width}")
        module_width = width // self.MODULES
        routes = self.MODULES**2  # from each module of a layer to each of the next
        # The gain keeps the variance: a linear map with torch's weights leaves a third of it, and
        # a mean over the modules leaves 1 / MODULES.
        gain = math.sqrt(3 * self.MODULES)
        self.state = nn.Linear(state_size, width)
        self.task = TaskEncoder(task_size, num_tasks, width, mean=1.0)
        self.first = nn.Linear(width, width)  # all modules of the first layer: they share an input
        self.banks = nn.ModuleList(
            Bank(self.MODULES, module_width, module_width, gain) for _ in range(self.LAYERS - 1)
        )
        self.route = nn.ModuleList(nn.Linear(width, routes) for _ in range(self.LAYERS - 1))
        self.widen = nn.ModuleList(nn.Linear(routes, width) for _ in range(self.LAYERS - 2))

    def routing(self, context: torch.Tensor) -> torch.Tensor:
        """Weights of the routes between each layer of modules and the next.

        Args:
            context: features of the state times code of the task (n, width).

        Returns:
            (layers - 1, n, to, from); they sum to 1 over `from`.
        """
        logits = [self.route[0](F.relu(context))]  # each (n, routes)
        for widen, route in zip(self.widen, self.route[1:], strict=True):
            gated = context * widen(logits[-1])  # (n, width)
            logits.append(route(F.relu(gated)))
        by_module = torch.stack(logits).unflatten(2, (self.MODULES, self.MODULES))
        return by_module.softmax(3)  # (layers - 1, n, to, from)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        features = F.elu(self.state(state))  # (n, width)
        routing = self.routing(features * self.task(task, index))  # (layers - 1, n, to, from)
        x = F.elu(self.first(features))  # (n, width)
        x = x.unflatten(1, (self.MODULES, -1))  # (n, modules, module width)
        for bank, weights in zip(self.banks, routing, strict=True):
            x = F.elu(bank(weights @ x))  # (n, modules, module width)
        return x.flatten(1)  # (n, width)


class Moore(nn.Module):
    """Mixture of orthogonal experts (Hendawy et al., 2024).

    The experts see the state alone. Their features are made orthonormal, and the task weighs them.
    """

    EXPERTS = 4

    def __init__(self, state_size: int, task_size: int, num_tasks: int, width: int):
        super().__init__()
        hidden = width // 2  # units per expert
        # The hidden layers of all experts are one linear map, as they share their input.
        self.hidden = nn.Linear(state_size, self.EXPERTS * hidden)
        self.out = Bank(self.EXPERTS, hidden, width)
        self.mix = TaskEncoder(task_size, num_tasks, self.EXPERTS, mean=self.EXPERTS**-0.5)

    def experts(self, state: torch.Tensor) -> torch.Tensor:
        """The experts' features of state (n, state_size), by modified Gram-Schmidt.

        Returns:
            (n, experts, width), orthonormal in each sample.
        """
        hidden = F.elu(self.hidden(state)).unflatten(1, (self.EXPERTS, -1))  # (n, experts, hidden)
        rest = self.out(hidden)  # (n, experts, width)
        basis = []
        for _ in range(self.EXPERTS):
            unit = F.normalize(rest[:, :1], dim=2, eps=1e-6)  # (n, 1, width)
            along = rest[:, 1:] @ unit.transpose(1, 2)  # (n, experts left, 1)
            rest = rest[:, 1:] - along * unit  # (n, experts left, width)
            basis.append(unit)
        return torch.cat(basis, 1)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        features = self.experts(state)  # (n, experts, width)
        mix = self.mix(task, index)[:, None]  # (n, 1, experts)
        mixed = (mix @ features)[:, 0]  # (n, width)
        # The components of a unit vector have a root mean square of 1 / sqrt(width).
        scale = FEATURE * math.sqrt(features.shape[2])
        return scale * mixed


class PaCo(nn.Module):
    """Parameter-compositional networks (Sun et al., 2022).

    A task's weights are a weighted sum of parameter sets that all tasks share.
    """

    SETS = 4

    def __init__(self, state_size: int, task_size: int, num_tasks: int, width: int):
        super().__init__()
        # With this gain the mean of the sets varies as much as the weights of nn.Linear. One step
        # of Adam moves the mean as far as it moves those.
        gain = math.sqrt(self.SETS)
        self.layers = nn.ModuleList(
            [Bank(self.SETS, state_size, width, gain), Bank(self.SETS, width, width, gain)]
        )
        self.composition = TaskEncoder(task_size, num_tasks, self.SETS, mean=1 / self.SETS)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        mix = self.composition(task, index)  # (n, sets)
        x = state
        for layer in self.layers:
            x = F.elu(cast(Bank, layer).mixed(x, mix))  # (n, width)
        return x


class Attention(nn.Module):
    """A transformer layer (Vaswani et al., 2017) in which one latent token attends to many others.

    A latent that queries the inputs is as in Perceiver (Jaegle et al., 2021). The tokens themselves
    are the keys and values of every head: maps of their own would fold into those of query and
    output.
    Attention and feed-forward run side by side behind one normalisation, as in PaLM (Chowdhery et
    al., 2022), which takes a tenth less time.

    Args:
        size: of a token.
        heads: number of attention heads.
    """

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, heads * size)
        self.out = nn.Linear(heads * size, size)
        self.feed = nn.Sequential(nn.Linear(size, 4 * size), nn.ELU(), nn.Linear(4 * size, size))

    def forward(self, latent: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Update the latent token.

        Args:
            latent: the token that attends (n, size).
            tokens: those that it attends to (n, t, size), normalised.

        Returns:
            (n, size).
        """
        size = tokens.shape[2]
        normalised = self.norm(latent)  # (n, size)
        query = self.query(normalised).view(-1, self.heads, size)  # (n, heads, size)
        scores = query @ tokens.transpose(1, 2) * size**-0.5  # (n, heads, t)
        attended = (scores.softmax(2) @ tokens).flatten(1)  # (n, heads * size)
        return latent + self.out(attended) + self.feed(normalised)


class Transformer(nn.Module):
    """Attention over the observation's named parts (after Vaswani et al., 2017).

    Each part is a token: a linear map of all its values in the stacked history. The token of the
    task attends to them in two layers and is then read out. The parts do not attend to one
    another, which would take three times as long.

    Args:
        state_size: numbers in the state.
        task_size: numbers in the task vector.
        num_tasks: tasks.
        width: features.
        sensors: what the state is made of, a row of `uncap.envs.sensors.SENSORS`.

    Raises:
        ValueError: the state is not a history of whole observations.
    """

    READS_PARTS = True  # it is given `sensors`
    LAYERS = 2
    TOKEN = 48  # size of a token
    HEADS = 4

    member: torch.Tensor  # (state_size, parts), 1 where a number of the state belongs to a part

    def __init__(
        self, state_size: int, task_size: int, num_tasks: int, width: int, sensors: str = FULL
    ):
        super().__init__()
        parts = layout(sensors).parts
        size = layout(sensors).size
        if state_size < size or state_size % size:
            raise ValueError(
                f"state must be a multiple of the {size} numbers that the sensors {sensors} give, "
                f"not {state_size}"
            )
        history = state_size // size
        part_sizes = torch.tensor([part.size for part in parts])  # (parts,)
        part_indices = torch.arange(len(parts)).repeat_interleave(part_sizes)  # (size,)
        part = part_indices.repeat(history)  # (state_size,)
        fan_in = part_sizes[part] * history  # (state_size,)
        member = F.one_hot(part, len(parts)).float()
        self.register_buffer("member", member, persistent=False)
        self.weight = nn.Parameter(torch.randn(state_size, self.TOKEN) / fan_in.sqrt()[:, None])
        self.bias = nn.Parameter(torch.randn(len(parts), self.TOKEN))
        self.norm = nn.LayerNorm(self.TOKEN)
        self.task = TaskEncoder(task_size, num_tasks, self.TOKEN)
        self.layers = nn.ModuleList(Attention(self.TOKEN, self.HEADS) for _ in range(self.LAYERS))
        # With these weights a map keeps the variance, so that one step of Adam changes little of
        # what it gives.
        for module in (*self.task.modules(), *self.layers.modules()):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
        output = nn.Linear(self.TOKEN, width)
        nn.init.normal_(output.weight, std=FEATURE / math.sqrt(self.TOKEN))  # its input has RMS 1
        self.readout = nn.Sequential(nn.LayerNorm(self.TOKEN), output, nn.ELU())

    def tokens(self, state: torch.Tensor) -> torch.Tensor:
        """Tokens (n, parts, token) of state (n, state_size)."""
        # The map of every part (state_size, parts, token): 0 for numbers of other parts.
        maps = self.member[:, :, None] * self.weight[:, None]
        mapped = (state @ maps.flatten(1)).unflatten(1, self.bias.shape)  # (n, parts, token)
        return self.norm(mapped + self.bias)

    def forward(self, state: torch.Tensor, task: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Map state (n, state_size), task (n, task_size) and index (n,) to (n, width)."""
        tokens = self.tokens(state)  # (n, parts, token)
        latent = self.task(task, index)  # (n, token)
        for layer in self.layers:
            latent = layer(latent, tokens)  # (n, token)
        return self.readout(latent)
