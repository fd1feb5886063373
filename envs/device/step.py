"""The control step around the physics, on tensors: the counterpart of `ClosureBatch.step`.

An engine steps its worlds between `control` and `after_physics`:

    step = DeviceStep(batch, arrays)
    step.restart(chosen, starts, which)
    step.control(action)
    # the engine's physics steps
    step.after_physics()
    step.measure()
    step.count(running)
    step.observe(), step.told(vectors), step.paid(), step.expert()
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from uncap.envs import disturbances, measures, observations, rewards, robot
from uncap.envs.batch import (
    MEASURED_CONSTANTS,
    MEASURED_STAGE,
    STAGE_FIELDS,
    ClosureBatch,
    flange_of,
    leashed,
    within_walls,
)
from uncap.envs.device.arm import joint_steps
from uncap.envs.device.arrays import Array, TensorArray, tensor_of, wrapped
from uncap.envs.device.draws import Draws
from uncap.envs.device.lids import Lids
from uncap.envs.device.recovery import Recovery
from uncap.envs.device.starts import Starts
from uncap.envs.device.states import in_place, on_device, tensors_of
from uncap.envs.episodes import EpisodeTracker, Squeeze
from uncap.envs.experts import MOVES, Plan
from uncap.envs.measures import Containers, Hand, Sideways
from uncap.envs.models import MODELS
from uncap.envs.panda import FINGER_OPEN, STEP_POSITION, STEP_YAW
from uncap.envs.sensors import SENSORS
from uncap.envs.tables import brief, lookup
from uncap.envs.variation import Variation

Measured = dict[str, Array]
# of `Containers`: yaw, x axis, height of the seat, rotation
_CONTAINER_SHAPES = ((), (2,), (), (2, 2))


class DeviceStep:
    """n worlds of an engine, each of one variant of one closure.

    Args:
        batch: of the closures, of any number of simulations: it has the tables of its variants,
            and the places in MuJoCo's arrays, which are the engine's, too.
        arrays: the engine's arrays, (n, ...) by MuJoCo's names. The state and what follows of it:
            qpos, qvel, ctrl, eq_active, mocap_pos, mocap_quat, site_xpos, site_xmat, sensordata,
            xanchor, xaxis; xfrc_applied where hands are pushed; and the fields of its models that
            it has for every world. Their type is the one that formulas are computed in.
        sensors: a row of `sensors.SENSORS`; others than `full` need a batch with wrist=True.
        reward: a row of `rewards.REWARDS`.
        fields: (2 x variants, ...) by name, what the engine has of `models.Models.fields`, where
            it has another form than MuJoCo.

    Attributes:
        lids: what holds them.
        episodes: what is remembered of the present ones.
        measured: what `measure` found last.
        draws: what is drawn in every control step; `draws.renew` before it.

    Raises:
        ValueError: a disturbance of pictures, where the sensors have none.
    """

    def __init__(
        self,
        batch: ClosureBatch,
        arrays: Mapping[str, Tensor],
        sensors: str = observations.FULL,
        reward: str = "dense",
        fields: Mapping[str, np.ndarray] | None = None,
    ):
        floats = arrays["qpos"].dtype
        device = arrays["qpos"].device
        n = len(arrays["qpos"])
        self.sensors = sensors
        self._floats = floats
        self._variants_per_task = len(batch.pool) // len(batch.names)
        self._reward = lookup(rewards.REWARDS, reward, "reward")
        self._arrays = {name: wrapped(tensor, floats) for name, tensor in arrays.items()}
        if not lookup(SENSORS, sensors, "sensors").pictures:
            disturbances.refuse_unseen(batch.disturb, f"the sensors {sensors!r} on a device")
        drawn = batch.variation
        self.variation = on_device(Variation(drawn.level, n, drawn.disturbed), device, floats)
        if fields is None:
            fields = MODELS.fields(batch.pool, (*drawn.fields, *STAGE_FIELDS))
        self.lids = Lids(batch, self._arrays, self.variation, fields, floats)
        self.episodes = on_device(EpisodeTracker(n), device, floats)
        self._squeeze = None
        if sensors != observations.FULL:
            self._squeeze = on_device(Squeeze(n), device, floats)
        self._hand = Hand.of(batch.model, self._arrays)
        size = observations.layout(sensors).size
        self.draws = Draws(self.variation.varied, arrays["qpos"], size)
        self._push: Array | None = None  # (n, 3) N view, on the hands from outside
        if self.draws.uniform is not None:
            self._push = self._arrays["xfrc_applied"][:, batch.model.body("hand").id, :3]
        self._flange = flange_of(batch.model)
        self._recovery = Recovery(arrays)
        self._target_range = batch.model.actuator_ctrlrange[robot.ARM].T.copy()  # (2, 7) rad
        self._containers = Containers(*(self._zeros(n, *shape) for shape in _CONTAINER_SHAPES))
        self.measured: Measured = {}

    def _zeros(self, *shape: int) -> Array:
        qpos = tensor_of(self._arrays["qpos"])
        return wrapped(qpos.new_zeros(shape), self._floats)

    def memory(self) -> dict[str, Tensor]:
        """All that the next control step reads, live, by name."""
        owners: dict[str, Any] = {
            "lids": self.lids,
            "episodes": self.episodes,
            "variation": self.variation,
            "squeeze": self._squeeze,
        }
        own = {
            f"{owner}.{name}": tensor
            for owner, part in owners.items()
            if part is not None
            for name, tensor in tensors_of(part).items()
        }
        arrays = {f"engine.{name}": tensor_of(array) for name, array in self._arrays.items()}
        containers = self._containers._asdict()
        places = {f"container.{name}": tensor_of(array) for name, array in containers.items()}
        return {**arrays, **own, **places}

    def restart(self, chosen: Tensor, starts: Starts, which: Tensor) -> None:
        """Begin new episodes.

        Args:
            chosen: bool (n,), the worlds that do.
            starts: among which their starts are.
            which: (n,) int64, index of each world's start; of others, it is not read.
        """
        chosen_array = wrapped(chosen, self._floats)
        starts.write(chosen_array, which, self.variation)
        variant = wrapped(starts.variant[which], self._floats)
        self.lids.restart(chosen_array, variant)
        self.episodes.restart(chosen_array)
        if self._squeeze is not None:
            self._squeeze.restart(chosen_array)
        arrays = self._arrays
        containers = Containers.of(
            arrays["mocap_pos"][:, 0], arrays["mocap_quat"][:, 0], self.lids.constants["seat"]
        )
        for old, new in zip(self._containers, containers, strict=True):
            old[:] = new
        self.lids.measure_progress(self._hand.grip, self._hand.position)

    def control(self, action: Tensor) -> None:
        """Write the targets of an action (n, 5) in [-1, 1], see `ClosureBatch.step`."""
        sent = self.variation.delayed(wrapped(action, self._floats))
        self._push_hands()
        offsets = within_walls(STEP_POSITION * sent[:, :3], self._hand.position)
        turns = STEP_YAW * sent[:, 3]
        hand = self._hand
        ahead = joint_steps(
            tensor_of(hand.joint_anchors),
            tensor_of(hand.joint_axes),
            tensor_of(hand.position),
            tensor_of(hand.rotation),
            tensor_of(offsets),
            tensor_of(turns),
        )
        low, high = self._target_range
        target = hand.arm + leashed(wrapped(ahead, self._floats))
        ctrl = self._arrays["ctrl"]
        ctrl[:, robot.ARM] = np.minimum(np.maximum(target, low), high)
        ctrl[:, robot.FINGERS] = FINGER_OPEN / 2 * (sent[:, 4:5] + 1)
        self._recovery.keep()

    def _push_hands(self) -> None:
        """Push the hands as is drawn, where anything does."""
        if self._push is not None and self.draws.uniform is not None:
            uniform = wrapped(self.draws.uniform, self._floats)
            way = np.pi * (2 * uniform[:, 1] - 1)
            self._push[:] = self.variation.push_of(uniform[:, 0], way)

    def after_physics(self) -> None:
        """Find what the physics did to the lids, and write what holds them from now on."""
        diverged = wrapped(self._recovery.recover(), self._floats)
        self.episodes.divergences += diverged
        self.lids.rest_untouched()
        self.lids.advance_stages()
        self.lids.release_opened(self._hand.grip, self._hand.position)

    def measure(self) -> Measured:
        """What `ClosureBatch.measure` gives, and what the sensors ask for beside it."""
        lids, hand, containers = self.lids, self._hand, self._containers
        sideways = Sideways.of(lids.now, containers)
        measured = {
            **measures.measure_hand(hand, containers, lids.held.joints),
            **measures.measure_contact(hand, lids.constants),
            **measures.measure_lid(lids.measured(), lids.now, lids.constants, containers, sideways),
            **{name: lids.constants[name] for name in MEASURED_CONSTANTS if name != "pays"},
            **{name: lids.now[name] for name in MEASURED_STAGE},
            "pays": {term: lids.constants[f"pays.{term}"] for term in rewards.TERMS},
        }
        squeeze = self._squeeze
        if squeeze is not None:
            measured |= self._measure_arm()
            measured["moved"] = in_place(squeeze, lambda: squeeze.update(measured))
        self.measured = measured
        return measured

    def _measure_arm(self) -> Measured:
        arrays = self._arrays
        return measures.measure_arm(
            self._hand,
            self._flange,
            arrays["qvel"],
            arrays["ctrl"],
            self._containers,
            arrays["mocap_pos"][:, 0],
            self.lids.constants["seat"],
        )

    def count(self, running: Tensor) -> None:
        """Take what was measured into the episodes: see `EpisodeTracker.update`.

        Args:
            running: bool (n,), whether the last step belonged to the present episode.
        """
        episodes = self.episodes
        is_running = wrapped(running, self._floats)
        episodes.steps += is_running
        in_place(episodes, lambda: episodes.update(self.measured, is_running))

    def count_invalid(self, invalid: Tensor) -> None:
        """Count worlds, bool (n,), whose action was not finite."""
        self.episodes.invalid_actions += wrapped(invalid, self._floats)

    @property
    def steps(self) -> Tensor:
        """Control steps (n,) of the present episodes."""
        return tensor_of(self.episodes.steps)

    @property
    def success(self) -> Tensor:
        """Whether each closure has been open for the last 5 control steps, bool (n,)."""
        return tensor_of(self.episodes.success)

    def paid(self, tasks: Mapping[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """What the control step is paid, (n,); and the info of it, (n,) by name.

        Args:
            tasks: what the info says of tasks and trials, (n,) by name.

        Raises:
            ValueError: a reward of one's own gives no numbers (n,).
        """
        episodes = self.episodes
        progress = self.measured["progress"]
        info = {
            **{name: wrapped(tensor, self._floats) for name, tensor in (tasks or {}).items()},
            **rewards.reward_terms(self.measured, episodes.held_progress, episodes.success),
            "success": episodes.success,
            "success_any": episodes.succeeded,
            "progress": progress,
            "contact_fraction": episodes.held_progress / np.maximum(progress, 1e-9),
            "steps": episodes.steps,
            "invalid_action": episodes.invalid_actions,
            "diverged": episodes.divergences,
        }
        reward = self._reward.of(info)
        if not isinstance(reward, TensorArray) or reward.shape != progress.shape:
            raise ValueError(
                f"the reward must be numbers of shape {tuple(progress.shape)} that NumPy's "
                f"functions make of the info, not {brief(reward)}"
            )
        return tensor_of(reward).to(self._floats), {
            name: tensor_of(value) for name, value in info.items()
        }

    def observe(self, sensors: str | None = None) -> Tensor:
        """The state (n, size) without noise, see `observations.observe`."""
        held = self.episodes.held_progress
        sensors = sensors or self.sensors
        return tensor_of(observations.observe(self.measured, held, sensors=sensors))

    def sense(self) -> Tensor:
        """The state (n, size) with its noise, where there is any."""
        if self.draws.normal is None:
            return self.observe()
        noise = self.variation.noise_of(wrapped(self.draws.normal, self._floats))
        held = self.episodes.held_progress
        return tensor_of(observations.observe(self.measured, held, noise, self.sensors))

    def told(self, task_vectors: Tensor) -> Tensor:
        """What is told of the tasks at their present stages, (n, size).

        Args:
            task_vectors: (tasks, size), or (tasks, MOST_STAGES + 1, size), see
                `conditioning.vectors`.
        """
        task = tensor_of(self.lids.variant) // self._variants_per_task
        if task_vectors.ndim == 2:
            return task_vectors.index_select(0, task)
        stages = task_vectors.shape[1]
        row = task * stages + tensor_of(self.measured["stage"])
        return task_vectors.flatten(0, 1).index_select(0, row)

    def expert(self) -> Tensor:
        """The expert's actions (n, 5) in [-1, 1] for what was measured."""
        n = len(self.measured["joint"])
        plan = Plan(
            move=self._zeros(n, 3),
            turn=self._zeros(n),
            opening=self._zeros(n) + FINGER_OPEN,
            closing=np.zeros_like(self.measured["released"]),
            gripped=np.zeros_like(self.measured["released"]),
        )
        for move in MOVES.values():
            move.change(self.measured, move.made_by(self.measured), plan)
        return tensor_of(plan.action())
