"""Episodes of many closures on an engine, tensors in and out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from uncap.envs import checks, conditioning, observations
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.arrays import tensor_of
from uncap.envs.device.fusing import fused
from uncap.envs.device.starts import Starts, draw_starts
from uncap.envs.device.step import DeviceStep
from uncap.envs.sensors import SENSORS
from uncap.envs.structure import Variant
from uncap.envs.tables import lookup

Tensors = dict[str, Tensor]
Returned = tuple[Tensors, Tensor, Tensor, Tensor, Tensors]
Advance = Callable[[], None]


class Pictures(Protocol):
    """Draws all worlds, see `pictures.Pictures`."""

    def draw(self, variant: Tensor, pictured: Mapping[str, Tensor]) -> Tensor:
        """Pictures (n, cameras, height, width, 3) uint8."""
        ...


class Engine(Protocol):
    """Physics of n worlds on a device.

    Attributes:
        arrays: (n, ...) by MuJoCo's names, see `DeviceStep`; what is written into them is the
            worlds' state, or their own models, in the next step.
        fields: tables of model fields, see `DeviceStep`; None where they are MuJoCo's.
    """

    arrays: Mapping[str, Tensor]
    fields: Mapping[str, np.ndarray] | None

    def step(self) -> None:
        """Advance all worlds by `scene.SUBSTEPS` physics steps."""
        ...

    def captured(self, advance: Advance) -> Advance:
        """What does the same as `advance`, from one CUDA graph; or `advance` itself.

        It may call `advance` before. What that computes is in the same memory at every call.
        """
        ...

    def pictures(self, pool: list[Variant]) -> Pictures:
        """What draws the worlds, of variants in the pool."""
        ...


class DeviceClosures:
    """n worlds, of which world i opens row i % len(rows) in every episode.

    A step is that of `ClosureVectorEnv` in its mode NEXT_STEP: in the step after the last one of
    an episode its world takes its next start; its action is ignored, and its reward 0.
    What a step returns may be overwritten by the next one.

    Args:
        batch: of the closures, on the CPU: it draws the starts.
        engine: the physics of n worlds.
        told: a row of `conditioning.CONDITIONINGS`.
        sensors: a row of `sensors.SENSORS`; where it has pictures, each step draws all worlds. What
            the batch disturbs of them (`camera` and `colours` of `disturbances.FACTORS`) is drawn
            with the starts.
        reward: a row of `rewards.REWARDS`.
        starts: of each row; a world takes them in turn, beside the other worlds of its row.
        seed: of the starts.
        expert: compute the expert's action in every step, too: `info["expert"]`.
        compiler: a backend of `torch.compile`, such as `inductor`, that fuses what is done around
            the physics into fewer kernels, see `fusing.fused`; minutes, at the first step.

    Attributes:
        step_of: the control step of all worlds.
        task: (n,) index of the rows.
        episode_steps: (n,) control steps of each world's episodes.
    """

    def __init__(  # noqa: PLR0913 - choices, most of them by name
        self,
        batch: ClosureBatch,
        engine: Engine,
        *,
        told: str = "parameters",
        sensors: str = observations.FULL,
        reward: str = "dense",
        starts: int = 64,
        seed: int = 0,
        expert: bool = False,
        compiler: str | None = None,
    ):
        arrays = engine.arrays
        n, device = len(arrays["qpos"]), arrays["qpos"].device
        self._engine = engine
        self._expert = expert
        is_shown = lookup(SENSORS, sensors, "sensors").pictures
        self._pictures: Pictures | None = engine.pictures(batch.pool) if is_shown else None
        self.step_of = DeviceStep(batch, arrays, sensors, reward, engine.fields)
        self._each = checks.integer("the starts of each row", starts, 1)
        self._starts = Starts(draw_starts(batch, starts, checks.seed(seed) or 0), arrays)
        self._vectors = torch.as_tensor(conditioning.vectors(told, batch.names), device=device)
        self._vectors = self._vectors.to(arrays["qpos"].dtype)

        rows = len(batch.names)
        world = np.arange(n)
        self.task = torch.as_tensor(world % rows, device=device)
        # of the starts of its row, which a world takes next: it shares them with others
        self._next = torch.as_tensor(world // rows, device=device)
        self._sharing = torch.as_tensor((n - world % rows + rows - 1) // rows, device=device)
        self.episode_steps = torch.as_tensor(batch.episode_steps, device=device)[self.task]
        self._action = arrays["qpos"].new_zeros(n, 5)
        self._done = torch.zeros(n, dtype=torch.bool, device=device)
        self._returned: Returned | None = None
        self._before: Callable[[Tensor], None] = self._before_physics
        self._after: Callable[[Tensor], Returned] = self._after_physics
        self.reset()
        if compiler is not None:
            self._before = fused(self._before, self._action, compiler=compiler)
            self._after = fused(self._after, self._done, compiler=compiler)
        self._advance = engine.captured(self._advance_once)

    def reset(self) -> tuple[Tensors, Tensors]:
        """Begin an episode in every world; observations and info, see `step`."""
        self._restart(torch.ones_like(self._done))
        self._done.zero_()
        self.step_of.measure()
        _, info = self.step_of.paid()
        return {**self._observation(), **self._drawn()}, self._with_labels(info)

    def _restart(self, chosen: Tensor) -> None:
        """Begin new episodes in the chosen worlds, bool (n,)."""
        which = self.task * self._each + self._next % self._each
        self.step_of.restart(chosen, self._starts, which)
        self._next += self._sharing * chosen

    def step(self, action: Tensor) -> Returned:
        """Advance every world by one control step (50 ms).

        Args:
            action: (n, 5) in [-1, 1], see `ClosureBatch.step`; what is not finite is taken for 0.

        Returns:
            Observations, rewards (n,), terminated (n,), truncated (n,) and info, as those of
            `ClosureVectorEnv`.
        """
        self._action.copy_(action)
        self._advance()
        assert self._returned is not None  # by the first step
        return self._returned

    def _advance_once(self) -> None:
        self._before(self._action)
        self._engine.step()
        observation, reward, terminated, truncated, info = self._after(self._done)
        observation = {**observation, **self._drawn()}
        self._returned = observation, reward, terminated, truncated, info

    def _before_physics(self, action: Tensor) -> None:
        step = self.step_of
        finite = torch.isfinite(action)
        step.count_invalid(~finite.all(1) & ~self._done)
        step.control(torch.where(finite, action, 0.0).clamp(-1.0, 1.0))

    def _after_physics(self, done: Tensor) -> Returned:
        """What follows the physics.

        Args:
            done: bool (n,), whose episode the last step ended; it is overwritten.
        """
        step = self.step_of
        restarting = done.clone()
        running = ~restarting
        step.after_physics()
        self._restart(restarting)
        step.measure()
        step.count(running)
        reward, info = step.paid()
        reward = torch.where(restarting, 0.0, reward)
        truncated = step.steps >= self.episode_steps
        done.copy_(truncated)
        terminated = torch.zeros_like(truncated)
        observation, info = self._observation(), self._with_labels(info)
        return observation, reward, terminated, truncated, info

    def _drawn(self) -> Tensors:
        """The pictures, `rgb` (n, height, width, channels) as `pixels.Pixels` gives them, if any.

        Warp draws them: the compiler that fuses torch's operations has no part in it.
        """
        if self._pictures is None:
            return {}
        step = self.step_of
        values = step.variation.pictured()
        shown = {name: tensor_of(value) for name, value in (values or {}).items()}
        pictures = self._pictures.draw(tensor_of(step.lids.variant), shown)
        return {"rgb": pictures.permute(0, 2, 3, 1, 4).flatten(3)}

    def _observation(self) -> Tensors:
        """Observations (n, size): `state`, and `task`, what is told, unless that is empty."""
        told = {"task": self.step_of.told(self._vectors)} if self._vectors.shape[-1] else {}
        return {"state": self.step_of.observe(), **told}

    def _with_labels(self, info: Tensors) -> Tensors:
        """The info with the tasks, and the expert's action where that is asked for."""
        expert = {"expert": self.step_of.expert()} if self._expert else {}
        return {**info, "task_index": self.task, **expert}
