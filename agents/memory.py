"""Memories: recurrent networks that find out what a policy is not told.

A memory reads what the policy observes and does, over the attempts of a trial, and puts out its
estimate of the task: a task vector in place of the one that `parameters` would tell. The policy is
a task-conditioned one, as ever. That a policy which is not told has to infer its task from a
recurrent state: RL^2 (Duan et al., 2016; Wang et al., 2016); that the inference is better learned
as what it is, with the true task as its label: Humplik et al. (2019).

To add one, write a subclass of `Memory` and give it a row in `MEMORIES` of `agents/tables.py`, and
one of the same name in `uncap.envs.conditioning.CONDITIONINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from uncap.agents.config import NetworkConfig
from uncap.envs import telling
from uncap.envs.mechanisms import MOST_STAGES
from uncap.envs.panda import ACTIONS

if TYPE_CHECKING:  # so that loading a policy loads no simulation
    from uncap.envs import ClosureVectorEnv

_ACTIONS = len(ACTIONS)


class Memory(nn.Module):
    """A recurrent network on (state, last action, whether an attempt begins, last reward?).

    Args:
        state_size: numbers of a state.
        num_tasks: trained rows.
        network: its cell, its size, and whether it reads the reward.

    Attributes:
        vectors: (rows, told_size) what `parameters` tells of the trained rows.
        state_size: numbers of a state.
        recurrent: numbers of the network that are kept from one control step to the next.
        size: the same, with those of the last action.
    """

    told_size: ClassVar[int] = telling.SIZE  # numbers that the policy gets
    is_belief: ClassVar[bool] = True  # is itself taught, with the row as its label
    names_rows: ClassVar[bool] = False  # what it says is one of the trained rows
    searched: ClassVar[bool] = False  # labels come from the scripted search, not told the row
    vectors: torch.Tensor

    def __init__(self, state_size: int, num_tasks: int, network: NetworkConfig):
        super().__init__()
        units = network.memory_size
        self.units = units
        self.state_size = state_size
        self.reads_reward = network.memory_reward
        inputs = state_size + _ACTIONS + 1 + self.reads_reward
        self.encoder = nn.Sequential(
            nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, units), nn.ReLU()
        )
        self.is_lstm = network.cell == "lstm"
        self.cell: nn.GRU | nn.LSTM = (nn.LSTM if self.is_lstm else nn.GRU)(units, units)
        self.head = nn.Linear(units, self.outputs(num_tasks))
        self.register_buffer("vectors", torch.zeros(num_tasks, telling.SIZE))
        self.recurrent = units * (1 + self.is_lstm)
        self.size = self.recurrent + _ACTIONS

    @classmethod
    def outputs(cls, num_tasks: int) -> int:
        """Numbers that it puts out."""
        raise NotImplementedError

    def told(self, outputs: torch.Tensor) -> torch.Tensor:
        """What the policy gets, (..., told_size), of outputs (..., o)."""
        raise NotImplementedError

    def loss(self, outputs: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """How far outputs (..., o) are from what is so, of rows (...); mean."""
        raise NotImplementedError

    def known(self, outputs: torch.Tensor) -> torch.Tensor:
        """The belief (..., rows) in each trained row, or a likeness to it; sums to 1."""
        raise NotImplementedError

    def rows(self, outputs: torch.Tensor) -> torch.Tensor:
        """The trained rows (...) that closures are taken for, or that are most like it."""
        return self.known(outputs).argmax(-1)

    def told_as(self, row: torch.Tensor, taken_for: torch.Tensor) -> torch.Tensor:
        """The task vector (n, told_size) when row i is hypothesised to be row j.

        Args:
            row: (n,) i.
            taken_for: (n,) j.
        """
        return self.vectors[taken_for]

    def inputs(
        self,
        state: torch.Tensor,
        numbers: torch.Tensor,
        begins: torch.Tensor,
        reward: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What the network reads, (n, inputs).

        Args:
            state: (n, s).
            numbers: (n, size) that were kept.
            begins: (n, 1) 1 where an attempt begins, else 0.
            reward: (n, 1) of the last control step, where it is read.
        """
        goes_on = 1.0 - begins
        last = numbers[:, self.recurrent :] * goes_on
        parts = [state, last, begins]
        if self.reads_reward:
            parts.append((state.new_zeros(len(state), 1) if reward is None else reward) * goes_on)
        return torch.cat(parts, 1)

    def forward(
        self, inputs: torch.Tensor, hidden: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (t, n, o) of inputs (t, n, i), and what is kept of them, (n, recurrent).

        Args:
            inputs: of t control steps.
            hidden: (n, recurrent) that was kept before; None at the beginning of trials.
        """
        if hidden is None:
            hidden = inputs.new_zeros(inputs.shape[1], self.recurrent)
        encoded = self.encoder(inputs)
        if self.is_lstm:
            before = (hidden[None, :, : self.units], hidden[None, :, self.units :])
            # contiguous, which both need to be
            found, kept = self.cell(encoded, tuple(part.contiguous() for part in before))
            hidden = torch.cat([kept[0][0], kept[1][0]], 1)
        else:
            found, kept = self.cell(encoded, hidden[None])
            hidden = kept[0]
        assert hidden is not None
        return self.head(found), hidden

    def step(
        self, inputs: torch.Tensor, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (n, o) of inputs (n, i) of one control step, and what is kept, (n, recurrent)."""
        outputs, hidden = self.forward(inputs[None], numbers[:, : self.recurrent])
        return outputs[0], hidden


class RowBelief(Memory):
    """A probability for each trained row; the policy is told of the likeliest one."""

    names_rows = True

    @classmethod
    def outputs(cls, num_tasks: int) -> int:
        """A logit for each row."""
        return num_tasks

    def told(self, outputs: torch.Tensor) -> torch.Tensor:
        """The vector of the likeliest row."""
        return self.vectors[outputs.argmax(-1)]

    def loss(self, outputs: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs.flatten(0, -2), row.flatten())

    def known(self, outputs: torch.Tensor) -> torch.Tensor:
        """The probabilities."""
        return outputs.softmax(-1)


class SearchBelief(RowBelief):
    """The same, but labels are the scripted search's present hypotheses."""

    searched = True


_JOINTS = telling.JOINTS  # joints that a stage may move, and none
_STAGE_OUTPUTS = _JOINTS + 1 + 4  # their logits and that of none; sign, way, pressed, threaded
_RATHER_LIKE = 0.25  # of a vector's distance that halves the likeness to a row, about


class PartBelief(Memory):
    """The parts of the vector that `parameters` tells, one by one.

    Choices (which joint moves in each stage, which way, pressed, threaded) are logits, and the
    likeliest are told; amounts are numbers. It can so name a mechanism that no row has.
    """

    @classmethod
    def outputs(cls, num_tasks: int) -> int:
        """Of each stage, and what is told beside the stages."""
        return MOST_STAGES * _STAGE_OUTPUTS + telling.SIZE - telling.OF_ORDER

    @staticmethod
    def _split(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs of the stages (..., MOST_STAGES, o), and of the rest (..., r)."""
        of_stages = outputs[..., : MOST_STAGES * _STAGE_OUTPUTS]
        shape = (*outputs.shape[:-1], MOST_STAGES, _STAGE_OUTPUTS)
        return of_stages.reshape(shape), outputs[..., MOST_STAGES * _STAGE_OUTPUTS :]

    def told(self, outputs: torch.Tensor) -> torch.Tensor:
        """The vector of the likeliest choices, with the amounts."""
        stages, rest = self._split(outputs)
        choice = stages[..., : _JOINTS + 1].argmax(-1)
        joint = F.one_hot(choice, _JOINTS + 1)[..., :_JOINTS].to(outputs)
        # a mechanism has no stage behind one that is none
        missing = (1.0 - joint.sum(-1, keepdim=True)).cumsum(-2)  # (..., stages, 1), so far
        there = (missing == 0).to(outputs)
        sign = torch.where(stages[..., _JOINTS + 1 : _JOINTS + 2] > 0, 1.0, -1.0)
        way = sign * stages[..., _JOINTS + 2 : _JOINTS + 3].abs()
        said = (stages[..., _JOINTS + 3 :] > 0).to(outputs)
        told = torch.cat([joint, way, said], -1) * there
        twist = (told[..., telling.TWISTS] * told[..., _JOINTS]).cumsum(-1)  # (..., stages)
        to_come = [twist.amin(-1).clamp(max=0), twist.amax(-1).clamp(min=0)]
        return torch.cat([told.flatten(-2), torch.stack(to_come, -1), rest], -1)

    def loss(self, outputs: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """Cross-entropies of the choices, and the mean distance of the amounts."""
        truth = self.vectors[row]
        stages, rest = self._split(outputs)
        shape = (*truth.shape[:-1], MOST_STAGES, telling.STAGE_SIZE)
        of_stages = truth[..., : telling.STAGES_SIZE].reshape(shape)
        joint, way, said = of_stages.split([_JOINTS, 1, telling.STAGE_SIZE - _JOINTS - 1], -1)
        there = joint.sum(-1)  # (..., stages)
        choice = torch.where(there > 0, joint.argmax(-1), _JOINTS)
        logits = stages[..., : _JOINTS + 1]
        chosen = F.cross_entropy(logits.flatten(0, -2), choice.flatten())
        sign_and_said = torch.cat([stages[..., _JOINTS + 1, None], stages[..., _JOINTS + 3 :]], -1)
        true_or_not = torch.cat([(way > 0).to(outputs), said], -1)
        decided = F.binary_cross_entropy_with_logits(sign_and_said, true_or_not, reduction="none")
        amount = (stages[..., _JOINTS + 2].abs() - way[..., 0].abs()).abs()
        count = there.sum().clamp(min=1)
        of_stage = ((decided.sum(-1) + amount) * there).sum() / count
        return chosen + of_stage + (rest - truth[..., telling.OF_ORDER :]).abs().mean()

    def known(self, outputs: torch.Tensor) -> torch.Tensor:
        """A likeness to each row, which falls with the distance of the vectors."""
        told = self.told(outputs)
        distance = torch.cdist(told.flatten(0, -2), self.vectors)  # (n, rows)
        likeness = (-distance / _RATHER_LIKE).softmax(-1)
        return likeness.reshape(*told.shape[:-1], -1)

    def told_as(self, row: torch.Tensor, taken_for: torch.Tensor) -> torch.Tensor:
        """Mechanism and ways of the hypothesised row, sizes and masses of the true one."""
        of_mechanism = self.vectors[taken_for][:, : telling.OF_MECHANISM]
        return torch.cat([of_mechanism, self.vectors[row][:, telling.OF_MECHANISM :]], 1)


class Code(Memory):
    """A latent task code, trained only through the action loss: the control."""

    told_size = 32
    is_belief = False
    searched = True

    @classmethod
    def outputs(cls, num_tasks: int) -> int:
        """As many as are told."""
        return cls.told_size

    def told(self, outputs: torch.Tensor) -> torch.Tensor:
        """The numbers, in [-1, 1]."""
        return outputs.tanh()


class Recall:
    """What the policy remembers in each sub-environment of an environment.

    Args:
        memory: the network.
        closures: the environment, whose attempts and trials are followed.

    Attributes:
        memory: the network; another one with the same layers may take its place.
        numbers: (n, size) that are kept, the last action behind them.
        inputs: (n, i) that the memory has read last.
        outputs: (n, o) that it has put out last.
        told: (n, t) that the policy was told last.
    """

    def __init__(self, memory: Any, closures: ClosureVectorEnv):
        self.memory = memory
        self.closures = closures
        self.numbers = torch.zeros(closures.num_envs, memory.size)
        self.inputs = torch.zeros(0)
        self.outputs = torch.zeros(0)
        self.told = np.zeros((closures.num_envs, memory.told_size), np.float32)

    def observe(self, state: np.ndarray) -> np.ndarray:
        """Take in states (n, s) of the present control step; what the policy is told, (n, t)."""
        closures = self.closures
        begins = closures.steps == 0
        self.numbers[torch.as_tensor(begins & (closures.attempt == 0))] = 0.0
        with torch.no_grad():
            self.inputs = self.memory.inputs(
                torch.as_tensor(state, dtype=torch.float32),
                self.numbers,
                torch.as_tensor(begins[:, None], dtype=torch.float32),
                torch.as_tensor(closures.last_reward[:, None], dtype=torch.float32),
            )
            self.outputs, hidden = self.memory.step(self.inputs, self.numbers)
            self.numbers[:, : self.memory.recurrent] = hidden
            self.told = self.memory.told(self.outputs).numpy()
        return self.told

    def acted(self, actions: np.ndarray) -> None:
        """Take in the actions (n, a) of the present control step."""
        self.numbers[:, self.memory.recurrent :] = torch.as_tensor(
            np.clip(actions, -1.0, 1.0), dtype=torch.float32
        )

    def known(self) -> np.ndarray:
        """The belief (n, rows) in each trained row, after the last control step."""
        with torch.no_grad():
            return self.memory.known(self.outputs).numpy()

    def rows(self) -> np.ndarray:
        """The trained row (n,) that each closure is taken for, of a memory that believes."""
        with torch.no_grad():
            return self.memory.rows(self.outputs).numpy()

    def snapshot(self) -> dict[str, np.ndarray]:
        """What is kept, (n, size), and what was told, (n, t)."""
        return {"numbers": self.numbers.numpy().copy(), "told": self.told.copy()}

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Return to a snapshot."""
        self.numbers = torch.tensor(snapshot["numbers"])
        self.told = np.array(snapshot["told"])


def has_memory(policy: Any) -> bool:
    """Whether a policy has a memory."""
    return getattr(policy, "memory", None) is not None


def has_belief(policy: Any) -> bool:
    """Whether a policy has a memory that says what it takes the closure for."""
    return has_memory(policy) and policy.memory.is_belief


def told_size(network: NetworkConfig) -> int:
    """Numbers that a policy gets from its memory; 0 without one."""
    from uncap.agents.tables import MEMORIES

    return MEMORIES[network.memory].told_size if network.memory else 0
