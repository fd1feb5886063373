"""Episodes of many closures on an engine, tensors in and out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from uncap.envs import checks, conditioning, observations, snapshots
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.arrays import tensor_of, wrapped
from uncap.envs.device.fusing import check_compiler, fused
from uncap.envs.device.starts import Starts, draw_starts
from uncap.envs.device.states import copies_of, on_device, refuse_unlike, tensors_of, write_back
from uncap.envs.device.step import DeviceStep
from uncap.envs.device.turns import Turns
from uncap.envs.episodes import StateHistory
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

    def check(self) -> None:
        """Warn where worlds lacked room for their contacts; it waits for the device."""
        ...

    def pictures(self, pool: list[Variant]) -> Pictures:
        """What draws the worlds, of variants in the pool."""
        ...


class DeviceClosures:
    """n worlds, of which world i opens row i % len(rows) in every episode.

    A step is that of `ClosureVectorEnv` in its mode NEXT_STEP: in the step after the last one of
    an episode its world takes its next start; its action is ignored, and its reward 0.
    What a step returns may be overwritten by the next one.

    What varies is what varies in the batch: its level and its disturbances. Formulas are the
    CPU's; what is drawn in every control step is drawn by a generator on the device.

    Args:
        batch: of the closures, on the CPU: it draws the starts.
        engine: the physics of n worlds.
        told: a row of `conditioning.CONDITIONINGS`, or the rows' vectors by name.
        known_tasks: see `ClosureVectorEnv`.
        sensors: a row of `sensors.SENSORS`; where it has pictures, each step draws all worlds. What
            the batch disturbs of them (`camera` and `colours` of `disturbances.FACTORS`) is drawn
            with the starts.
        privileged: see `ClosureVectorEnv`.
        history: likewise.
        reward: a row of `rewards.REWARDS`.
        starts: of each row; a world takes them in turn, beside the other worlds of its row. Where
            there are several attempts: trials.
        attempts: see `ClosureVectorEnv`.
        episode_steps: control steps of every episode; by default the row's `steps`.
        seed: of the starts, and of what is drawn in every control step.
        expert: compute the expert's action in every step, too: `info["expert"]`.
        compiler: a backend of `torch.compile`, such as `inductor`, that fuses what is done around
            the physics into fewer kernels, see `fusing.fused`; minutes, at the first step.

    Attributes:
        step_of: the control step of all worlds.
        task: (n,) index of the rows.
        attempts: as given.
        sizes: numbers of a world's observations, by name, but for pictures.
        is_pictured: whether they have pictures: `rgb`, see `sensors.PICTURE_SHAPE`.
        episode_steps: (n,) control steps of each world's episodes.

    Raises:
        KeyError: unknown conditioning, sensors, reward or compiler; close matches are named.
        ValueError: a number out of range; fewer worlds than rows; a conditioning that cannot act
            on a row; a disturbance of pictures, where the sensors have none.
    """

    def __init__(  # noqa: PLR0913 - choices, most of them by name
        self,
        batch: ClosureBatch,
        engine: Engine,
        *,
        told: str | Mapping[str, np.ndarray] = "parameters",
        known_tasks: Sequence[str] | None = None,
        sensors: str = observations.FULL,
        privileged: bool = False,
        history: int | None = None,
        reward: str = "dense",
        starts: int = 64,
        attempts: int = 1,
        episode_steps: int | None = None,
        seed: int = 0,
        expert: bool = False,
        compiler: str | None = None,
    ):
        arrays = engine.arrays
        n, device = len(arrays["qpos"]), arrays["qpos"].device
        check_compiler(compiler)
        self._engine = engine
        self._expert = expert
        self._privileged = checks.flag("privileged", privileged)
        self.is_pictured = lookup(SENSORS, sensors, "sensors").pictures
        self._pictures: Pictures | None = engine.pictures(batch.pool) if self.is_pictured else None
        self.step_of = DeviceStep(batch, arrays, sensors, reward, engine.fields)
        self._vectors = torch.as_tensor(
            conditioning.vectors(told, batch.names, known_tasks), device=device
        ).to(arrays["qpos"].dtype)
        if history is None:
            history = conditioning.states(told)
        history = checks.integer("history", history, 1, checks.MOST_STATES)
        self._history = self._history_of(history, arrays["qpos"])
        self.sizes = self._sizes_with(history)

        self._batch = batch
        self._each = checks.integer("the starts of each row", starts, 1)
        self.attempts = checks.integer("attempts", attempts, 1, checks.MOST_ATTEMPTS)
        self._shows = {
            "sensors": self.step_of.sensors,
            "conditioning": told if isinstance(told, str) else "vectors",
            "digest of the conditioning": _digest(self._vectors),
            "history": history,
            "privileged": self._privileged,
            "reward": reward,
        }
        self._seed = checks.seed(seed) or 0
        self._starts = Starts(self._drawn(), arrays)
        self._generator = torch.Generator(device).manual_seed(self._seed)
        self._turns = Turns(n, len(batch.names), starts, self.attempts, device)
        self.task = self._turns.task
        self.episode_steps = torch.as_tensor(batch.episode_steps, device=device)[self.task]
        if episode_steps is not None:
            steps = checks.integer("episode_steps", episode_steps, 1, checks.MOST_STEPS)
            self.episode_steps.fill_(steps)
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
        self.reset(self._seed)  # to trace and to capture is to step

    def _history_of(self, length: int, like: Tensor) -> StateHistory | None:
        """The last states of every world, where an observation holds more than the present one."""
        if length == 1:
            return None
        size = observations.layout(self.step_of.sensors).size
        return on_device(StateHistory(len(like), length, size), like.device, like.dtype)

    def _sizes_with(self, history: int) -> dict[str, int]:
        sizes = {"state": history * observations.layout(self.step_of.sensors).size}
        if self._privileged:
            sizes["privileged"] = observations.SIZE
        if self._vectors.shape[-1]:
            sizes["task"] = self._vectors.shape[-1]
        return sizes

    def _drawn(self) -> dict[str, np.ndarray]:
        """Numbers of the seed's starts."""
        return draw_starts(self._batch, self._each, self._seed, self.attempts)

    def reset(self, seed: int | None = None) -> tuple[Tensors, Tensors]:
        """Begin an episode, and a trial, in every world.

        Args:
            seed: the same seed gives the same starts, and draws, from the first on: the CPU draws
                another seed's starts for it, which takes its time. None: what comes next.

        Returns:
            Observations and info, see `step`.
        """
        if seed is not None:
            self._rewind(checks.seed(seed) or 0)
        everyone = torch.ones_like(self._done)
        self._done.zero_()
        self.step_of.draws.renew(self._generator)
        self._restart(everyone, self._done)
        self.step_of.measure()
        _, info = self.step_of.paid(self._told_of_tasks())
        return {**self._observation(), **self._pictured()}, self._completed(info)

    def _rewind(self, seed: int) -> None:
        """Go to the beginning of a seed."""
        self._have_starts_of(seed)
        self._turns.rewind()
        self._generator.manual_seed(seed)

    def _have_starts_of(self, seed: int) -> None:
        """Have the starts of a seed in the table, which the CPU draws where they are others."""
        if seed != self._seed:
            self._seed = seed
            self._starts.replace(self._drawn())

    def _restart(self, chosen: Tensor, going_on: Tensor) -> None:
        """Begin new episodes in the chosen worlds; some go on with their trial: see `Turns`."""
        which = self._turns.take(chosen, going_on)
        self.step_of.restart(chosen, self._starts, which)
        if self._history is not None:
            self._history.restart(wrapped(chosen, self._vectors.dtype))

    def step(self, action: Tensor) -> Returned:
        """Advance every world by one control step (50 ms).

        Args:
            action: (n, 5) in [-1, 1], see `ClosureBatch.step`; what is not finite is taken for 0.

        Returns:
            Observations, rewards (n,), terminated (n,), truncated (n,) and info, as those of
            `ClosureVectorEnv`.
        """
        self._action.copy_(action)
        self.step_of.draws.renew(self._generator)
        self._advance()
        assert self._returned is not None  # by the first step
        return self._returned

    def check(self) -> None:
        """Warn where worlds lacked room for their contacts; it waits for the device."""
        self._engine.check()

    def _memory(self) -> Tensors:
        history = tensors_of(self._history) if self._history is not None else {}
        return {
            **self.step_of.memory(),
            **{f"turns.{name}": value for name, value in self._turns.memory().items()},
            **{f"history.{name}": value for name, value in history.items()},
            "done": self._done,
            "episode_steps": self.episode_steps,
        }

    @property
    def _identity(self) -> snapshots.Identity:
        """What a snapshot of it is of."""
        own = {"starts of each row": self._each, "attempts": self.attempts}
        return {**self._batch.identity, **self._shows, **own}

    def snapshot(self) -> dict[str, np.ndarray]:
        """Copies, by name, of all that the next step reads; of the table of starts, its seed."""
        state = self._generator.get_state()
        return {
            **copies_of(self._memory()),
            "generator": state.numpy().copy(),
            "seed": np.array([self._seed], np.uint64),
            "of": snapshots.encoded(self._identity),
        }

    def restore(self, snapshot: Mapping[str, np.ndarray]) -> None:
        """Return to a snapshot of worlds that were made alike; the seed may be another.

        Starts of another seed are drawn on the CPU, see `reset`.

        Raises:
            ValueError: it is of others; nothing is changed.
        """
        for name in ("of", "seed", "generator"):
            snapshots.part(snapshot, name)
        snapshots.refuse_other(snapshot, self._identity)
        refuse_unlike(self._memory(), snapshot)
        self._have_starts_of(int(snapshot["seed"][0]))  # by the batch, whose memory it may be
        write_back(self._memory(), snapshot)
        self._generator.set_state(torch.as_tensor(snapshot["generator"]))

    def _advance_once(self) -> None:
        self._before(self._action)
        self._engine.step()
        observation, reward, terminated, truncated, info = self._after(self._done)
        observation = {**observation, **self._pictured()}
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
        self._restart(restarting, restarting)
        step.measure()
        step.count(running)
        reward, info = step.paid(self._told_of_tasks())
        reward = torch.where(restarting, 0.0, reward)
        truncated = step.steps >= self.episode_steps
        done.copy_(truncated)
        terminated = torch.zeros_like(truncated)
        observation, info = self._observation(), self._completed(info)
        return observation, reward, terminated, truncated, info

    def _pictured(self) -> Tensors:
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
        """Observations (n, size) by name: those of `ClosureVectorEnv`."""
        observation = {"state": self._remembered(self.step_of.sense())}
        if self._privileged:
            observation["privileged"] = self.step_of.observe(observations.FULL)
        if self._vectors.shape[-1]:
            observation["task"] = self.step_of.told(self._vectors)
        return observation

    def _remembered(self, state: Tensor) -> Tensor:
        """The last states (n, size x history), to which a state (n, size) is added."""
        if self._history is None:
            return state
        self._history.append(wrapped(state, state.dtype))
        return tensor_of(self._history.stacked())

    def _told_of_tasks(self) -> Tensors:
        """What info says of the worlds' tasks and trials, (n,) by name."""
        attempt = {"attempt": self._turns.attempt.clone()} if self.attempts > 1 else {}
        return {"task_index": self.task, **attempt}

    def _completed(self, info: Tensors) -> Tensors:
        """The info with the expert's action, if asked for."""
        return {**info, "expert": self.step_of.expert()} if self._expert else info


def _digest(values: Tensor) -> str:
    """Of a tensor's numbers, as hexadecimal text."""
    return hashlib.sha256(values.cpu().numpy().tobytes()).hexdigest()
