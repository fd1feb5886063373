"""Worlds on a device as a policy meets them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from uncap.agents.device.sums import TaskSums
from uncap.agents.networks import MultiTaskPolicy
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.states import copies_of
from uncap.envs.pool import VARIANT_STREAMS
from uncap.envs.tables import lookup

if TYPE_CHECKING:  # it imports everything that learns
    from uncap.agents.learner import Learner

Tensors = dict[str, Tensor]
_REMEMBERED = ("_restarting", "_counts", "_episodes", "_successes")  # of `Worlds`, between steps


class Outcome(NamedTuple):
    """What a control step came to.

    Attributes:
        reward: (n,), unscaled.
        running: bool (n,), whether the step belonged to an episode: in the one after an episode's
            last its world takes the next start, and the action is ignored.
        ended: bool (n,), whether the step was the last of an episode.
    """

    reward: Tensor
    running: Tensor
    ended: Tensor


class Worlds:
    """`DeviceClosures`, with observations for a `MultiTaskPolicy`, and successes counted.

    The worlds' first episodes are of random lengths, and are not counted: they would else begin
    and end together for ever, and no batch would have all parts of an episode.

    Args:
        closures: the worlds.
        num_tasks: rows that they open.
        generator: on their device, draws those lengths.
        known: the policy's index of each row, see `policy.Acting`; by default as they are opened.

    Attributes:
        closures: as given.
        sums: over the worlds of each task.
        observation: state (n, s), task (n, t) where something is told, and index (n, 1), of 32
            bits; rgb (n, pixels) uint8, where there are pictures; the next step overwrites it.
        label: (n, a), the expert's actions for it, where the closures compute them; likewise.
    """

    def __init__(
        self,
        closures: DeviceClosures,
        num_tasks: int,
        generator: torch.Generator,
        known: Sequence[int] | None = None,
    ):
        self.closures = closures
        self.sums = TaskSums(closures.task, num_tasks)
        self.label: Tensor | None = None
        indices = torch.as_tensor(
            list(range(num_tasks) if known is None else known), device=self.device
        )
        self._index = indices[closures.task][:, None].float()
        self._generator = generator
        self._episodes = torch.zeros(num_tasks, dtype=torch.float64, device=self.device)
        self._successes = torch.zeros_like(self._episodes)
        self.reset()
        self._stagger()

    def __len__(self) -> int:
        return len(self.closures.task)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.closures.task.device

    def reset(self) -> None:
        """Begin a whole episode in every world."""
        self._take(*self.closures.reset())
        self._restarting = torch.zeros(len(self), dtype=torch.bool, device=self.device)
        self._counts = torch.ones_like(self._restarting)

    def _stagger(self) -> None:
        share = torch.rand(len(self), generator=self._generator, device=self.device)
        steps = self.closures.step_of.steps
        steps.copy_((share * self.closures.episode_steps).to(steps.dtype))
        self._counts.zero_()

    def _take(self, observation: Tensors, info: Tensors) -> None:
        self.observation = {
            name: values.flatten(1) if name == "rgb" else values.float()
            for name, values in observation.items()
        }
        self.observation["index"] = self._index
        label = info.get("expert")
        self.label = None if label is None else label.float()

    def step(self, action: Tensor) -> Outcome:
        """Advance every world by one control step, see `DeviceClosures.step`."""
        observation, reward, _, truncated, info = self.closures.step(action)
        self._take(observation, info)
        outcome = Outcome(reward.float(), ~self._restarting, truncated.clone())
        counted = truncated & self._counts
        self._episodes += self.sums(counted)
        self._successes += self.sums(counted & info["success"])
        self._counts |= truncated
        self._restarting = outcome.ended
        return outcome

    def snapshot(self) -> dict[str, Any]:
        """Copies of all that the next step reads, see `DeviceClosures.snapshot`."""
        own = {name: getattr(self, name) for name in _REMEMBERED}
        label = {} if self.label is None else {"label": self.label}
        return {
            "closures": self.closures.snapshot(),
            "own": copies_of({**own, **label}),
            "observation": copies_of(self.observation),
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Return to a snapshot.

        Raises:
            ValueError: it is of other worlds.
        """
        self.closures.restore(snapshot["closures"])
        on_device = {
            name: torch.as_tensor(value, device=self.device)
            for name, value in snapshot["own"].items()
        }
        for name in _REMEMBERED:
            setattr(self, name, on_device[name])
        self.label = on_device.get("label")
        self.observation = {
            name: torch.as_tensor(value, device=self.device)
            for name, value in snapshot["observation"].items()
        }

    def take_successes(self) -> np.ndarray:
        """Success rate (tasks,) of the episodes finished since the last call; nan where none."""
        self.closures.check()
        rates = (self._successes / self._episodes).cpu().numpy()
        self._episodes.zero_()
        self._successes.zero_()
        return rates

    def measure(self, act: Callable[[Tensors], Tensor]) -> np.ndarray:
        """Success rate (tasks,) of a whole episode in every world; nan where no world has the task.

        The starts are the worlds' own; `on_warp` makes worlds of variants that were not trained.
        What is learned after this begins with episodes that are all as old.

        Args:
            act: gives actions (n, a) for observations, such as `policy.act`.
        """
        self.reset()
        self.take_successes()
        with torch.no_grad():
            for _ in range(int(self.closures.episode_steps.max())):
                self.step(act(self.observation))
        return self.take_successes()


def on_warp(  # noqa: PLR0913 - choices, by name
    learner: Learner,
    num_envs: int,
    starts: int,
    *,
    rows: Sequence[str] | None = None,
    seed: int | None = None,
    variants: str = "train",
    expert: bool = False,
    compiler: str | None = None,
    disturb: Mapping[str, int] | None = None,
) -> Worlds:
    """Worlds of a learner's rows, or of rows that its policy has not seen, on Warp's device.

    Args:
        learner: what its policy senses, is told and is paid is the worlds', too. Its own
            environment, on the CPU, draws the starts; it need not be large.
        num_envs: worlds.
        starts: see `DeviceClosures`.
        rows: that they open; by default the learner's.
        seed: of the starts, and of the worlds' first episodes; by default the learner's.
        variants: which of the rows, a row of `pool.VARIANT_STREAMS`.
        expert: see `DeviceClosures`.
        compiler: likewise.
        disturb: strengths by factor, see `disturbances.FACTORS`, which `DeviceClosures` has those
            of that it can: start, camera and colours among them.

    Raises:
        EngineUnavailable: MuJoCo Warp is not installed, or has no such device.
        ValueError: the learner samples its rows in a way that is on the CPU only, or its policy
            has a memory; fewer worlds than rows; its conditioning cannot act on a row.
    """
    from uncap.envs.device.warp_worlds import WarpWorlds

    _refuse_unknown(learner)
    batch = learner.closures.batch
    rows = tuple(rows or learner.tasks)
    if variants != "train" or disturb or rows != learner.tasks:
        batch = ClosureBatch(
            rows,
            batch.n,
            variants=learner.variants,
            variant_seed=lookup(VARIANT_STREAMS, variants, "stream of variants"),
            disturb=disturb,
            wrist=batch.wrist,
        )
    seed = learner.seed if seed is None else seed
    closures = DeviceClosures(
        batch,
        WarpWorlds(batch, num_envs),
        told=learner.vectors,
        known_tasks=learner.known_tasks,
        sensors=learner.sensors,
        reward=learner.config.reward,
        starts=starts,
        attempts=learner.config.attempts,
        episode_steps=learner.episode_steps,
        seed=seed,
        expert=expert,
        compiler=compiler,
    )
    generator = torch.Generator(closures.task.device).manual_seed(seed)
    index_of = {name: index for index, name in enumerate(learner.tasks)}
    return Worlds(closures, len(rows), generator, [index_of.get(name, 0) for name in rows])


def _refuse_unknown(learner: Learner) -> None:
    """Refuse what is on the CPU only.

    Raises:
        ValueError: what it is.
    """
    if learner.sampling != "uniform":
        raise ValueError(
            f"worlds on a device practise all rows alike: sampling uniform, not {learner.sampling}"
        )
    _refuse_memory(learner.policy)


def _refuse_memory(policy: MultiTaskPolicy) -> None:
    if policy.memory is not None:
        raise ValueError("a policy with a memory does not learn on a device: tell it of its task")


def tensors_in(arrays: dict[str, np.ndarray]) -> Tensors:
    """Tensors, on the CPU, of what `states.copies_of` gave."""
    return {name: torch.as_tensor(value) for name, value in arrays.items()}


@contextlib.contextmanager
def moved(policy: MultiTaskPolicy, device: torch.device) -> Iterator[None]:
    """Have a policy on a device, and bring it back to the CPU.

    Raises:
        ValueError: it has a memory, which is not taught there.
    """
    _refuse_memory(policy)
    policy.to(device)
    try:
        yield
    finally:
        policy.noise = None
        policy.to("cpu")
