"""What holds the lids: touch, stages, release and gates, of all worlds at once.

`ClosureBatch` does the same with lists of the simulations that something happens to, and writes
what has changed. Here what is written follows from the state of every lid: its variant, whether it
was touched or came off, its stage, and where its thread took it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from uncap.envs import measures, mechanisms
from uncap.envs.batch import LOCKED, ClosureBatch
from uncap.envs.device.arrays import Array, tensor_of, wrapped
from uncap.envs.device.fields import Fields
from uncap.envs.device.tables import Table
from uncap.envs.mechanisms import LID_JOINTS, LIFT, MOST_STAGES, TWIST
from uncap.envs.variation import Variation
from uncap.envs.warp_scene import FAR

_JOINTS = np.arange(len(LID_JOINTS))
_LOCKS = LOCKED[:-1].copy()  # of the joints; the thread is the last constraint


class Held(NamedTuple):
    """Where the engine's arrays hold a lid; all are views, (n, ...)."""

    joints: Array  # (n, 6) m, rad
    velocity: Array  # (n, 6)
    contacts: Array  # (n,) how many contacts container and lid have
    active: Array  # (n, 7) of the constraints, whether each acts
    friction: Array | None  # (n, 6) N, N m; None where the engine's models have none of their own
    stops: Array | None  # (n, 6, 2) m, rad
    stiffness: Array | None  # (n,) N/m, of the lift's spring
    thread: Array | None  # (n, 12) of the thread's constraint: its polynomial

    @classmethod
    def of(cls, arrays: Mapping[str, Array], batch: ClosureBatch) -> Held:
        """The views.

        Args:
            arrays: the engine's by MuJoCo's names.
            batch: has the places of the lid's joints and constraints.
        """
        joint = batch.model.joint(f"lid_{LID_JOINTS[0]}").id
        dofs = batch.lid_dof_columns
        joints = slice(joint, joint + len(LID_JOINTS))
        first, *_, thread = batch.lid_constraint_ids.tolist()
        view = _Views(arrays)
        return cls(
            joints=arrays["qpos"][:, batch.lid_qpos_columns],
            velocity=arrays["qvel"][:, dofs],
            contacts=arrays["sensordata"][:, measures.CONTACTS],
            active=arrays["eq_active"][:, first : thread + 1],
            friction=view.of("dof_frictionloss", (slice(None), dofs)),
            stops=view.of("jnt_range", (slice(None), joints)),
            stiffness=view.of("jnt_stiffness", (slice(None), joint + LIFT)),
            thread=view.of("eq_data", (slice(None), thread)),
        )


class _Views(NamedTuple):
    """Views of arrays that an engine may not have for every world."""

    arrays: Mapping[str, Array]

    def of(self, name: str, key: tuple[slice | int, ...]) -> Array | None:
        return self.arrays[name][key] if name in self.arrays else None


class Lids:
    """The lids of n worlds, and what holds them.

    Args:
        batch: of the closures: it has their tables and the places in MuJoCo's arrays.
        arrays: the engine's, (n, ...) by MuJoCo's names. Model fields among them are written.
        variation: of the worlds; its values are Arrays (n,).
        fields: tables of model fields, see `fields.Fields`.
        floats: type of the numbers that are not whole.

    Attributes:
        variant: (n,) index of each world's variant in `batch.pool`.
        stage: (n,) index of the present stage of the lid's mechanism.
        touched: bool (n,), see `ClosureBatch`.
        released: bool (n,), whether the lid has come off.
        thread_offset: (n,) m, lift without a twist, where a thread acts.
        progress: (n,) fraction of the way to open.
        constants: numbers of the worlds' variants, (n, ...) by name, see `constants.constants`.
        now: numbers of their present stages, see `constants.stage_constants`.
        held: the engine's arrays of the lid.
    """

    def __init__(
        self,
        batch: ClosureBatch,
        arrays: Mapping[str, Array],
        variation: Variation,
        fields: Mapping[str, np.ndarray],
        floats: torch.dtype,
    ):
        tensors = {name: tensor_of(array) for name, array in arrays.items()}
        n, device = len(tensors["qpos"]), tensors["qpos"].device
        stages = batch.variant_stages
        if "jnt_limited" not in tensors:  # joints have stops in all worlds, or in none
            stages = _with_far_stops(stages)
        self.held = Held.of(arrays, batch)
        self._fields = Fields(fields, tensors, variation, batch.lid_entries, floats)
        self._variation = variation
        self._constants = Table(batch.variant_constants, n, device, floats)
        self._now = Table(stages, n, device, floats)
        self.constants = self._constants.columns
        self.now = self._now.columns

        def zeros(dtype: torch.dtype) -> Array:
            return wrapped(torch.zeros(n, dtype=dtype, device=device), floats)

        self.variant, self.stage = zeros(torch.int64), zeros(torch.int64)
        self.touched, self.released = zeros(torch.bool), zeros(torch.bool)
        self.thread_offset, self.progress = zeros(floats), zeros(floats)

    def restart(self, chosen: Array, variant: Array) -> None:
        """Close the lids of the chosen worlds, bool (n,), and give them other variants (n,)."""
        np.copyto(self.variant, variant, where=chosen)
        for state in (self.stage, self.touched, self.released, self.thread_offset):
            np.copyto(state, 0, where=chosen)
        self._constants.take(tensor_of(self.variant))
        self._take_stages()
        self._write(all_=True)

    def _take_stages(self) -> None:
        self._now.take(tensor_of(self.variant * (MOST_STAGES + 1) + self.stage))

    def rest_untouched(self) -> None:
        """Keep lids at rest that nothing touched; give those that were to their mechanisms."""
        untouched = ~self.touched
        np.copyto(self.held.joints, 0.0, where=untouched[:, None])
        np.copyto(self.held.velocity, 0.0, where=untouched[:, None])
        self.touched |= self.held.contacts > 0

    def travelled(self) -> Array:
        """Shares (n, 6) of the present stages' ways that the lid's joints have made."""
        return (self.held.joints - self.now["start"]) * self.now["inverse_full"]

    def travelled_now(self) -> Array:
        """Shares (n,) of the present stages' ways."""
        return _of_joint(self.travelled(), self.now["joint"] % len(LID_JOINTS))

    def advance_stages(self) -> None:
        """Make the next stage the present one where a stage is done.

        A stage that keeps the one before in its place falls back to it, if that is left.
        """
        is_last = self.stage >= self.constants["last_stage"]
        is_done = (self.travelled_now() >= 1.0) & ~is_last
        is_left = self.now["keeps_twist"] & (self.travelled()[:, TWIST] < 1.0)
        change = np.where(is_left, -1, is_done.astype(int)) * ~self.released  # (n,)
        self.stage += change
        self._take_stages()
        # a thread takes up the lid where it is, but not below what its container leaves it
        lift = np.maximum(self.held.joints[:, LIFT], self.constants["lowest"])
        taken_up = lift - self.now["ratio"] * self.held.joints[:, TWIST]
        np.copyto(self.thread_offset, taken_up, where=change != 0)

    def release_opened(self, grip: Array, hand: Array) -> None:
        """Free the lids that have just been opened, and write what holds all of them.

        Args:
            grip: (n, 3) where the lids are held (m, world frame).
            hand: (n, 3) of the points between the fingertips (m, world frame).
        """
        self.measure_progress(grip, hand)
        released = mechanisms.released(self.progress, self.constants["separates"], self.released)
        self.released[:] = released
        self._write(all_=False)

    def measure_progress(self, grip: Array, hand: Array) -> None:
        """Set the progress, see `release_opened`."""
        now, constants = self.now, self.constants
        progress = mechanisms.progress(
            self.held.joints, now["start"], now["inverse_full"], now["shares"], now["done_before"]
        )
        by_hand = constants["reached"][:, None]
        left = np.where(by_hand, grip - hand, self.held.joints[:, :3] - constants["goal"])
        to_mark = measures.progress_to_marks(left, constants["range"])
        progress = np.where(constants["marked"], to_mark, progress)
        self.progress[:] = np.where(self.released, 1.0, progress)

    def measured(self) -> measures.Lid:
        """The state of the lids, as measurements are made of it."""
        return measures.Lid(
            joints=self.held.joints,
            velocity=self.held.velocity,
            progress=self.progress,
            released=self.released,
            stage=measures.present_stage(self.released, self.now["done_before"], self.stage),
            travelled=self.travelled_now(),
        )

    def _write(self, *, all_: bool) -> None:
        """Write constraints and model fields that follow from the lids' states."""
        held, now = self.held, self.now
        in_mechanism = self.touched & ~self.released
        locks = np.where(self.touched[:, None], self.constants["engaged"][:, :-1], _LOCKS)
        held.active[:, :-1] = locks & ~self.released[:, None]
        held.active[:, -1] = in_mechanism & now["threaded"]
        self._fields.write(self.variant, self.touched, self.released, all_=all_)
        chosen = in_mechanism[:, None]
        if held.friction is not None:
            np.copyto(held.friction, self._friction(), where=chosen)
        if held.stops is not None:
            np.copyto(held.stops, now["limits"], where=chosen[:, None])
        if held.stiffness is not None:
            np.copyto(held.stiffness, now["stiffness"], where=in_mechanism)
        if held.thread is not None:
            np.copyto(held.thread[:, 0], self.thread_offset * now["threaded"], where=in_mechanism)
            np.copyto(held.thread[:, 1], now["ratio"], where=in_mechanism)

    def _friction(self) -> Array:
        """Breakaway friction (n, 6) of lids that are held: a gate jams its joint, or frees it."""
        now = self.now
        key = now["gate_key"]
        gone = _of_joint(self.held.joints - now["start"], key) / _of_joint(now["full"], key)
        is_open = gone >= now["gate_threshold"]
        of_gate = np.where(is_open, now["gate_open"], now["gate_shut"])  # (n,) N, N m
        gated = now["gated"][:, None] & (now["gate_jammed"][:, None] == _JOINTS)  # (n, 6)
        friction = np.where(gated, of_gate[:, None], now["friction"])
        return friction * self._variation.values["breakaway"][:, None]


def _of_joint(values: Array, joint: Array) -> Array:
    """Of values (n, 6) that of a joint (n,) of each world."""
    return np.take_along_axis(values, joint[:, None], 1)[:, 0]


def _with_far_stops(stages: np.ndarray) -> np.ndarray:
    """Numbers of stages in which a joint without stops has some that it never reaches."""
    found = stages.copy()
    without = (found["limits"] == 0.0).all(-1)  # (variants, stages, 6)
    found["limits"][without] = (-FAR, FAR)
    return found
