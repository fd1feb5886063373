"""n closures simulated together: variants, partial resets, Cartesian control, measurements."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import mujoco
import numpy as np

from uncap.envs import checks, disturbances, measures, mechanisms, robot, snapshots
from uncap.envs.constants import GEOMETRY, constants, stage_constants
from uncap.envs.cores import default_threads
from uncap.envs.engines import Scene, engine_row, open_engine
from uncap.envs.measures import CONTACTS, Containers, Hand, Sideways
from uncap.envs.mechanisms import LID_JOINTS, LIFT, MOST_STAGES, TWIST
from uncap.envs.models import MODELS
from uncap.envs.panda import STEP_POSITION, STEP_YAW
from uncap.envs.pool import VARIANTS, draw_pool
from uncap.envs.scene import SUBSTEPS, TIMESTEP, WORKSPACE, build
from uncap.envs.structure import digest
from uncap.envs.tables import lookup
from uncap.envs.variation import LEVELS, Variation, with_halves

CONTROL_DT = TIMESTEP * SUBSTEPS  # s
# rad that joints' targets may be ahead of the joints: about the arm's limits of speed (2.2 rad/s).
# The wrist's may lead further, for the hand to be turned
JOINT_LEASH = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.5])
# m, lowest and highest x, y, z that the point between the fingertips is sent to, world frame: the
# tips stay above the table, and the arm bent
WALLS = np.array([[0.30, -0.25, 0.013], [0.65, 0.25, 0.55]])
_PLACING_STEPS = 3  # Gauss-Newton from the home pose: the hand is then within 3 um and 1e-6 rad
# Model fields that hold what a mechanism does to the lid's joints; empty in the free lid's model
MECHANISM_FIELDS = (
    "dof_frictionloss",
    "dof_damping",
    "jnt_limited",
    "jnt_range",
    "jnt_stiffness",
    "qpos_spring",
)
# Model fields that a stage after the first writes
STAGE_FIELDS = ("dof_frictionloss", "jnt_range", "jnt_stiffness", "eq_data")
# Constraints (7,) that act until the hand touches the closure: all locks, no thread
LOCKED = np.array([name.startswith("lock") for name in mechanisms.CONSTRAINTS])

# Ranges of a start, uniform: container pose (m, rad) and hand pose relative to the grip (m, rad)
START = {
    "container_xy": 0.04,
    "container_yaw": 0.5,
    "hand_xy": 0.06,
    "hand_z": (0.07, 0.13),
    "hand_yaw": 0.4,
}
# A start's draws from [-1, 1], by column. The last one is not used: fewer would change all starts.
_DRAWS = 8
_CONTAINER_XY = slice(0, 2)
_CONTAINER_YAW = 2
_HAND_XY = slice(3, 5)
_HAND_Z = 5
_HAND_YAW = 6

_COPIED = (  # attributes of a batch that stay as long as it lives
    "names",
    "n",
    "_threads",
    "_variants_per_task",
    "level",
    "disturb",
    "wrist",
    "engine",
    "pool",
    "model",
    "_fields",
    "variant_constants",
    "variant_stages",
)
# Constants of the variants that are among the measurements
MEASURED_CONSTANTS = (
    "pays",
    "hold_rule",
    "beside",
    "on_top",
    "at_mark",
    "marked",
    "grip_radius",
    "grip_height",
    "dimensions",
    "bar",
    "offset",
    "lever",
    "direction",
    "angle",
    "depth",
    "separates",
)
# The same of the present stages
MEASURED_STAGE = (
    "joint",
    "sense",
    "end",
    "pressed",
    "pressed_to",
    "keeps_twist",
    "twist_end",
    "comes_off",
    "latches",
    "overdone",
    "will_twist",
    "lowest_twist",
    "highest_twist",
)


class _Marks(NamedTuple):
    """Simulations whose progress is the way to a mark."""

    ids: np.ndarray  # (k,)
    by_hand: np.ndarray  # (k, 1) bool: the hand shall reach the grip; else the lid its goal
    goal: np.ndarray  # (k, 3) m, of the lid's slides
    start: np.ndarray  # (k,) m from the mark at which progress begins


class _Gates(NamedTuple):
    """Simulations with a joint that is jammed until another, the key, has gone its way."""

    ids: np.ndarray  # (k,)
    key_column: np.ndarray  # (k,) of the key joint in qpos
    key_start: np.ndarray  # (k,) m or rad, where its way begins
    key_full: np.ndarray  # (k,) m or rad, its full way, signed
    threshold: np.ndarray  # (k,) of it, from which on the gate is open
    jammed_dof: np.ndarray  # (k,)
    open_friction: np.ndarray  # (k,) N or N m, of the jammed joint when the gate is open
    shut_friction: np.ndarray  # (k,) when it is shut


class ClosureBatch:
    """A batch of simulations, each of one variant of one closure.

    It can be copied and pickled: a copy has the same future. In a child process that was forked,
    its simulations are made anew before they are used, where they did not survive the fork.

    Args:
        names: rows of the table of closures.
        n: number of simulations.
        threads: of the physics; 0: as many as `cores.set_threads` says.
        variants: drawn of each row.
        variant_seed: which variants these are.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.
        disturb: what is disturbed beside that: strengths by factor, see `disturbances.FACTORS`.
        wrist: sense force and torque at the wrist, which `measure_arm` needs.
        engine: what runs the simulations, a row of `engines.ENGINES`.

    Attributes:
        names: rows of the table, by task index.
        n: number of simulations.
        pool: every variant, `variants` per row, in task order.
        task: (n,) task index of each simulation.
        variant: (n,) index of each simulation's variant in `pool`.
        touched: (n,) whether the robot has touched the container or its lid; until then, the lid
            is locked at rest, whatever its mechanism.
        released: (n,) whether the lid has come off.
        stage: (n,) index of the present stage of the lid's mechanism.
        diverged: (n,) how often each simulation was put back, see `_recover`.
        constants: numbers of the simulations' variants, (n, ...) by name, see `constants`.
        now: numbers of the simulations' present stages, (n, ...) by name, see `stage_constants`.
        variant_constants: the same of the whole pool, a structured array.
        variant_stages: numbers of the pool's stages, a structured array
            (variants, MOST_STAGES + 1), see `stage_constants`.
        physics_seconds: spent in the engine's steps.
        sim: the simulations, see `engines.Engine`.
        model: the first variant's model; all have the same layout.
        qpos, qvel, ctrl, eq_active, mocap_pos, mocap_quat: views of their state, (n, ...).
        lid_qpos_columns: columns of the lid's six joints in qpos.
        lid_dof_columns: their columns in qvel.
        lid_constraint_ids: (7,) ids of their locks and thread, in the order of `CONSTRAINTS`.
        lid_entries: which entries of a model field by body or joint are the lid's, by field.

    Raises:
        KeyError: unknown closure, level, factor or engine; close matches are named.
        ValueError: a number of another type or out of range.
        EngineUnavailable: what the engine needs is not installed, or not there.
    """

    def __init__(  # noqa: PLR0913 - the choices of a batch, most of them by name
        self,
        names: tuple[str, ...],
        n: int,
        threads: int = 0,
        variants: int = VARIANTS,
        variant_seed: int = 0,
        level: str = "default",
        disturb: Mapping[str, int] | None = None,
        wrist: bool = False,
        engine: str = "cpu",
    ):
        engine_row(engine)
        self.names = checks.names("tasks", names)
        self.n = checks.integer("the number of simulations", n, 1, checks.MOST_ENVS)
        self._threads = checks.integer("threads", threads, 0, checks.MOST_THREADS)
        self._variants_per_task = checks.integer("variants", variants, 1)
        variant_seed = checks.integer("variant_seed", variant_seed)
        self.level = level
        self.wrist = wrist
        self.engine = engine
        self.disturb = disturbances.checked(disturb)
        ranges = disturbances.ranges(self.disturb)
        self.variation = Variation(lookup(LEVELS, level, "level"), self.n, ranges)
        self.pool = draw_pool(self.names, variants, variant_seed)
        self.model = self._spec().compile()
        # (models, ...) by name: of the pool with the lids held, then with the lids free
        self.variant_constants = constants(self.pool)
        self.variant_stages = stage_constants(self.pool)
        several = bool((self.variant_constants["last_stage"] > 0).any())
        further = STAGE_FIELDS if several else ()
        self._fields = MODELS.fields(self.pool, (*self.variation.fields, *further))
        self._begin()

    def _begin(self) -> None:
        """Make the simulations, none of which has been reset, of what is known of the variants."""
        self.task = np.zeros(self.n, np.int64)
        self.variant = np.zeros(self.n, np.int64)
        self._constant_rows = self.variant_constants[self.variant]  # (n,)
        self.constants: dict[str, np.ndarray] = {
            name: self._constant_rows[name] for name in self.variant_constants.dtype.names or ()
        }
        self._measured_constants = {name: self.constants[name] for name in MEASURED_CONSTANTS}

        self.physics_seconds = 0.0
        self.touched = np.zeros(self.n, bool)
        self.released = np.zeros(self.n, bool)
        self.stage = np.zeros(self.n, np.int64)
        self._thread_offset = np.zeros(self.n)  # m: lift without a twist, where a thread acts
        self._stage_rows = self.variant_stages[self.variant, self.stage]  # (n,)
        self.now: dict[str, np.ndarray] = {  # of the present stages, by name
            name: self._stage_rows[name] for name in self.variant_stages.dtype.names or ()
        }
        self._measured_stage = {name: self.now[name] for name in MEASURED_STAGE}
        self._has_stages = False  # whether a simulation's mechanism has several stages
        self.diverged = np.zeros(self.n, np.int64)
        self._all_ids = np.arange(self.n)
        self._progress = np.zeros(self.n)
        self._open_simulations()
        self._update_episode_constants()

    def _open_simulations(self) -> None:
        """Make the simulations, and the views of their arrays."""
        threads = self._threads or default_threads()
        self.sim = open_engine(self.engine, self.scene, self.n, threads)
        self._expanded = {name: self.sim.expand(name) for name in self._fields}  # (n, ...) by name
        self._bind_state()
        self._find_lid()
        self._hand = Hand.of(self.model, {"qpos": self.qpos, **self._derived})
        hand = self.model.body("hand").id
        self._push = self.sim.bind("xfrc_applied")[:, hand, :3]  # (n, 3) N view, from outside
        self._closure_contacts = self._derived["sensordata"][:, CONTACTS]  # (n,) view
        self._flange = flange_of(self.model)
        self._state_before = self.sim.state.copy()  # the last control step

    @property
    def scene(self) -> Scene:
        """What engines make simulations of."""
        return Scene(self._spec, self.model, self._fields)

    def _spec(self) -> mujoco.MjSpec:
        """The scene of the first variant, which `model` is compiled from."""
        return build(self.pool[0], wrist=self.wrist)

    def __getstate__(self) -> dict[str, Any]:
        """What `__setstate__` makes an independent copy of, with the same future."""
        return {
            **{name: getattr(self, name) for name in _COPIED},
            "level_ranges": dict(self.variation.level),
            "disturbed_ranges": self.variation.disturbed,
            "snapshot": self.snapshot(),
            "diverged": self.diverged,
            "physics_seconds": self.physics_seconds,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in _COPIED:
            setattr(self, name, state[name])
        self.variation = Variation(state["level_ranges"], self.n, state["disturbed_ranges"])
        self._begin()
        self.diverged[:] = state["diverged"]
        self.physics_seconds = state["physics_seconds"]
        self.write_fitted(state["snapshot"])

    def _renew(self) -> None:
        """Make the simulations anew, in the same state, in a child process that lost them."""
        snapshot = self.snapshot()
        self._open_simulations()
        self.write_fitted(snapshot)

    @property
    def episode_steps(self) -> np.ndarray:
        """Control steps (tasks,) of an episode of each row."""
        firsts = self.pool[:: self._variants_per_task]
        return np.array([variant.closure.steps for variant in firsts])

    @property
    def identity(self) -> snapshots.Identity:
        """What a snapshot of it is of."""
        return {
            "tasks": list(self.names),
            "num_envs": self.n,
            "level": " ".join([self.level, *disturbances.labels(self.disturb)]),
            "digest of variants": digest(self.pool),
            "engine": self.engine,
        }

    def _bind_state(self) -> None:
        """Views of the engine's arrays, which follow the simulations."""
        self.qpos = self.sim.bind("qpos")
        self.qvel = self.sim.bind("qvel")
        self.ctrl = self.sim.bind("ctrl")
        self.eq_active = self.sim.bind("eq_active")
        self.mocap_pos = self.sim.bind("mocap_pos")
        self.mocap_quat = self.sim.bind("mocap_quat")
        # derived arrays lag one physics step: they are part of what the next control step reads
        self._derived = {
            name: self.sim.bind(name)
            for name in ("site_xpos", "site_xmat", "sensordata", "xanchor", "xaxis")
        }
        self._target_range = self.model.actuator_ctrlrange[robot.ARM].T.copy()  # (2, 7) rad

    def _find_lid(self) -> None:
        """Where the lid is in the engine's arrays."""
        first = self.model.joint(f"lid_{LID_JOINTS[0]}")
        qpos = first.qposadr[0]
        dof = first.dofadr[0]
        body = self.model.body("lid").id
        self._lid_joints = slice(first.id, first.id + len(LID_JOINTS))
        self.lid_qpos_columns = slice(qpos, qpos + len(LID_JOINTS))
        self.lid_dof_columns = slice(dof, dof + len(LID_JOINTS))
        self.lid_constraint_ids = np.array(
            [self.model.equality(name).id for name in mechanisms.CONSTRAINTS]
        )
        self._lid = self.qpos[:, self.lid_qpos_columns]  # (n, 6) view
        self.lid_entries = {  # of model fields
            "dof_frictionloss": self.lid_dof_columns,
            "body_mass": slice(body, body + 1),
            "body_inertia": slice(body, body + 1),
        }

    def reset(
        self,
        ids: np.ndarray,
        task: np.ndarray,
        rngs: list[np.random.Generator],
        same: np.ndarray | None = None,
    ) -> None:
        """Start new episodes: draw variant, container pose and hand pose.

        Args:
            ids: (k,) simulations.
            task: (k,) task index of each.
            rngs: k generators, one per simulation, so that a simulation's starts
                do not depend on the others'.
            same: bool (k,), which keep the variant that they have; none by default.
        """
        if self.sim.lost:
            self._renew()
        draws = np.stack([rng.uniform(-1, 1, _DRAWS) for rng in rngs])  # (k, 8)
        variants = np.array([rng.integers(self._variants_per_task) for rng in rngs])  # of the task
        drawn = task * self._variants_per_task + variants  # (k,)
        self.variant[ids] = drawn if same is None else np.where(same, self.variant[ids], drawn)
        self.task[ids] = task
        self._constant_rows[ids] = self.variant_constants[self.variant[ids]]
        self.variation.draw(ids, rngs)
        draws *= self.variation.values["spread"][ids, None]
        self.touched[ids] = False
        self.released[ids] = False
        self._set_stage(ids, 0)
        self._write_fields(ids)
        self.sim.reset(ids)
        self.eq_active[np.ix_(ids, self.lid_constraint_ids)] = LOCKED
        self._place_containers(ids, draws)
        self._update_episode_constants()
        self._place_hands(ids, draws)
        self._progress = self._measure_progress()

    def _write_fields(self, ids: np.ndarray) -> None:
        """Write the model fields of simulations ids (k,), with their variation."""
        for name, expanded in self._expanded.items():
            without = self.released[ids]  # (k,) whether they are those of the free lid
            if name in MECHANISM_FIELDS:
                without = without | ~self.touched[ids]
            models = self.variant[ids] + len(self.pool) * without  # (k,) held lids, then free ones
            values = self._fields[name][models]  # (k, ...)
            expanded[ids] = self.variation.scale(name, ids, values, self.lid_entries)
        self._write_stage(ids[(self.stage[ids] > 0) & self.touched[ids] & ~self.released[ids]])

    def _set_stage(self, ids: np.ndarray, stage: np.ndarray | int) -> None:
        """Make a stage, of each or of all, the present one of simulations ids (k,)."""
        self.stage[ids] = stage
        self._stage_rows[ids] = self.variant_stages[self.variant[ids], self.stage[ids]]

    def _write_stage(self, ids: np.ndarray) -> None:
        """Write what holds the lids of simulations ids (k,) in their present stages."""
        if not len(ids):
            return
        now = self._stage_rows[ids]
        breakaway = self.variation.values["breakaway"][ids, None]
        thread = self.lid_constraint_ids[-1]
        lift = self._lid_joints.start + LIFT
        self._expanded["dof_frictionloss"][ids, self.lid_dof_columns] = now["friction"] * breakaway
        self._expanded["jnt_range"][ids, self._lid_joints] = now["limits"]
        self._expanded["jnt_stiffness"][ids, lift] = now["stiffness"]
        self.eq_active[ids, thread] = now["threaded"]
        self._expanded["eq_data"][ids, thread, 0] = self._thread_offset[ids] * now["threaded"]
        self._expanded["eq_data"][ids, thread, 1] = now["ratio"]

    def _place_containers(self, ids: np.ndarray, draws: np.ndarray) -> None:
        """Set the containers' poses from a start's draws (k, 8)."""
        varied = {name: self.variation.values[name][ids] for name in ("tilt", "tilt_way", "raise")}
        # a container leans over the rim of its foot, so that it does not enter the table
        rim = self.constants["foot"][ids] * np.sin(varied["tilt"])  # (k,) m
        self.mocap_pos[ids, 0, :2] = (
            np.array(WORKSPACE) + START["container_xy"] * draws[:, _CONTAINER_XY]
        )
        self.mocap_pos[ids, 0, 2] = varied["raise"] + rim
        yaw = START["container_yaw"] * draws[:, _CONTAINER_YAW]
        self.mocap_quat[ids, 0] = _container_quaternion(yaw, varied["tilt"], varied["tilt_way"])

    def _place_hands(self, ids: np.ndarray, draws: np.ndarray) -> None:
        """Put the open hands above the grips, by a start's draws (k, 8)."""
        low, high = START["hand_z"]
        offset = np.empty((len(ids), 3))  # m, from the grip
        offset[:, :2] = START["hand_xy"] * draws[:, _HAND_XY]
        offset[:, 2] = low + (high - low) * (draws[:, _HAND_Z] + 1) / 2
        yaw = START["hand_yaw"] * draws[:, _HAND_YAW]

        self.qpos[ids, robot.ARM] = robot.HOME
        self.qpos[ids, robot.FINGERS] = robot.FINGER_OPEN
        self.sim.place(ids)
        target = self._hand.grip[ids] + offset  # (k, 3) m, world frame
        for step in range(_PLACING_STEPS):
            if step:
                self.sim.place(ids)
            missing = target - self._hand.position[ids]
            turn = yaw - robot.yaw_of(self._hand.rotation[ids])
            self.qpos[ids, robot.ARM] += self._joint_steps(ids, missing, turn)
        self.ctrl[ids, robot.ARM] = self.qpos[ids, robot.ARM]
        self.ctrl[ids, robot.FINGERS] = robot.FINGER_OPEN
        self.sim.forward(ids)

    def _joint_steps(self, ids: np.ndarray, offsets: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """Changes of the arm joints, (k, 7) rad, that move the hands: see `robot.joint_steps`."""
        hand = self._hand
        return robot.joint_steps(
            ids, hand.joint_anchors, hand.joint_axes, hand.position, hand.rotation, offsets, turns
        )

    def _update_episode_constants(self) -> None:
        """Set what stays until episodes end: of variants, variation and the containers' poses."""
        self._containers = Containers.of(
            self.mocap_pos[:, 0], self.mocap_quat[:, 0], self.constants["seat"]
        )
        self._marks = self._find_marks()
        self._has_stages = bool((self.constants["last_stage"] > 0).any())
        self._update_stage_constants()

    def _update_stage_constants(self) -> None:
        """Set what stays until stages end."""
        self._sideways = Sideways.of(self.now, self._containers)
        self._gates = self._find_gates()

    def _find_marks(self) -> _Marks:
        ids = np.flatnonzero(self.constants["marked"])
        marked = self._constant_rows[ids]
        return _Marks(
            ids=ids,
            by_hand=marked["reached"][:, None],
            goal=marked["goal"],
            start=marked["range"],
        )

    def _find_gates(self) -> _Gates:
        ids = np.flatnonzero(self.now["gated"])
        gated = self._stage_rows[ids]
        key = gated["gate_key"]  # (k,) of the lid's joints
        breakaway = self.variation.values["breakaway"][ids]
        return _Gates(
            ids=ids,
            key_column=self.lid_qpos_columns.start + key,
            key_start=gated["start"][np.arange(len(ids)), key],
            key_full=gated["full"][np.arange(len(ids)), key],
            threshold=gated["gate_threshold"],
            jammed_dof=self.lid_dof_columns.start + gated["gate_jammed"],
            open_friction=gated["gate_open"] * breakaway,
            shut_friction=gated["gate_shut"] * breakaway,
        )

    def step(self, action: np.ndarray) -> None:
        """Advance one control step (50 ms).

        Args:
            action: (n, 5) in [-1, 1]: where the hand is sent from where it is, dx, dy, dz (3 cm
                each, world frame; not beyond the WALLS) and yaw (0.4 rad), and the fingers'
                opening (absolute, -1 closed, 1 open). With a zero action the hand is compliant:
                the arm's target follows where the hand is.
        """
        if self.sim.lost:
            self._renew()
        action = self.variation.delayed(action)
        push = self.variation.pushes()
        if push is not None:
            self._push[:] = push
        self._send_arm(STEP_POSITION * action[:, :3], STEP_YAW * action[:, 3])
        self.ctrl[:, robot.FINGERS] = robot.FINGER_OPEN / 2 * (action[:, 4:5] + 1)
        self._state_before[:] = self.sim.state
        began = time.perf_counter()
        self.sim.step(SUBSTEPS)
        self.physics_seconds += time.perf_counter() - began
        self._recover(self.sim.diverged())
        self._rest_untouched()
        self._advance_stages()
        self._release_opened()
        self._apply_gates()

    def _send_arm(self, offsets: np.ndarray, turns: np.ndarray) -> None:
        """Set the arms' targets.

        Args:
            offsets: (n, 3) from where the hands are, world frame (m).
            turns: (n,) about world z (rad).
        """
        low, high = self._target_range
        offsets = within_walls(offsets, self._hand.position)
        ahead = self._joint_steps(self._all_ids, offsets, turns)  # (n, 7) rad
        target = self._hand.arm + leashed(ahead)
        np.minimum(np.maximum(target, low), high, out=self.ctrl[:, robot.ARM])

    def _recover(self, ids: np.ndarray) -> None:
        """Put simulations ids (k,), which diverged, back to before the control step, at rest."""
        if not len(ids):
            return
        self.sim.state[ids] = self._state_before[ids]
        self.qvel[ids] = 0.0
        self.diverged[ids] += 1
        self.sim.forward(ids)

    def _rest_untouched(self) -> None:
        """Keep lids at rest that nothing touched; give those that were to their mechanisms."""
        ids = np.flatnonzero(~self.touched)
        if not len(ids):
            return
        self.qpos[ids, self.lid_qpos_columns] = 0.0
        self.qvel[ids, self.lid_dof_columns] = 0.0
        self.hand_over(ids[self._closure_contacts[ids] > 0])

    def hand_over(self, ids: np.ndarray) -> None:
        """Give the lids of simulations ids (k,) to their mechanisms, as the first touch does."""
        if len(ids):
            self.touched[ids] = True
            self._write_fields(ids)
            self.eq_active[np.ix_(ids, self.lid_constraint_ids)] = self.constants["engaged"][ids]

    def _advance_stages(self) -> None:
        """Make the next stage the present one where a stage is done, and write what it changes.

        A stage that keeps the one before in its place falls back to it, if that is left.
        """
        if not self._has_stages:
            return
        last = self.stage >= self.constants["last_stage"]  # (n,)
        is_done = (self._travelled(self.now["joint"]) >= 1.0) & ~last
        is_left = self.now["keeps_twist"] & (self._travelled(TWIST) < 1.0)
        change = np.where(is_left, -1, is_done.astype(np.int64)) * ~self.released  # (n,)
        changed = np.flatnonzero(change)
        if not len(changed):
            return
        self._set_stage(changed, self.stage[changed] + change[changed])
        lid = self._lid[changed]
        # a thread takes up the lid where it is, but not below what its container leaves it
        lift = np.maximum(lid[:, LIFT], self.constants["lowest"][changed])
        self._thread_offset[changed] = lift - self.now["ratio"][changed] * lid[:, TWIST]
        self._write_stage(changed)
        self._update_stage_constants()

    def _travelled(self, joint: np.ndarray | int) -> np.ndarray:
        """Shares (n,) of the present stages' ways that a joint of the lid has made.

        Args:
            joint: its number, or one for each simulation (n,).
        """
        rows, now = self._all_ids, self.now
        return (self._lid[rows, joint] - now["start"][rows, joint]) * now["inverse_full"][
            rows, joint
        ]

    def _release_opened(self) -> None:
        """Free the lids that have just been opened: constraints, spring and friction go."""
        self._progress = self._measure_progress()
        released = mechanisms.released(self._progress, self.constants["separates"], self.released)
        ids = np.flatnonzero(released & ~self.released)
        self.released = released
        if len(ids):
            self.eq_active[np.ix_(ids, self.lid_constraint_ids)] = 0
            self._write_fields(ids)

    def _apply_gates(self) -> None:
        """Jam or free the gates' joints, by their friction; a free lid's have none."""
        gates = self._gates
        if not len(gates.ids):
            return
        gone = self.qpos[gates.ids, gates.key_column] - gates.key_start  # (k,) m or rad
        key = gone / gates.key_full  # (k,) of its full way
        friction = np.where(key >= gates.threshold, gates.open_friction, gates.shut_friction)
        held = self.touched[gates.ids] & ~self.released[gates.ids]
        self._expanded["dof_frictionloss"][gates.ids, gates.jammed_dof] = friction * held

    def progress(self) -> np.ndarray:
        """Fraction of the way to open, (n,) in [0, 1], after the last control step."""
        return self._progress.copy()

    def _measure_progress(self) -> np.ndarray:
        now = self.now
        progress = mechanisms.progress(
            self._lid, now["start"], now["inverse_full"], now["shares"], now["done_before"]
        )
        if len(self._marks.ids):
            progress[self._marks.ids] = self._progress_to_marks()
        progress[self.released] = 1.0
        return progress

    def _progress_to_marks(self) -> np.ndarray:
        """Progress (k,) of the simulations with marks: how near the lid, or the hand, is to it."""
        ids, by_hand, goal, start = self._marks
        to_grip = self._hand.grip[ids] - self._hand.position[ids]
        from_goal = self._lid[ids, :3] - goal
        left = np.where(by_hand, to_grip, from_goal)  # (k, 3) m
        return measures.progress_to_marks(left, start)

    def measure(self) -> dict[str, np.ndarray]:
        """Everything that observations, rewards, success and experts are made of.

        World frame, SI units. Poses are of the last physics step, as MuJoCo leaves them.

        Returns:
            (n, ...) arrays by name: those below, the variants' `MEASURED_CONSTANTS`, and the
            present stages' `MEASURED_STAGE`.
        """
        return {
            **measures.measure_hand(self._hand, self._containers, self._lid),
            **measures.measure_contact(self._hand, self.constants),
            **self._measure_lid(),
            **self._measured_constants,
            **self._measured_stage,
        }

    def measure_as(self, task: np.ndarray) -> dict[str, np.ndarray]:
        """What `measure` would give if the lids were those of other rows: a hypothesis.

        Hand, fingers, joints, contacts, sizes and places are as they are. What else the rows say
        of the closure is that of their variants with the same number; the present stage is the
        first that is not done by the lid's joints, and a lid that is off is off in every
        hypothesis.

        Args:
            task: (n,) index of the row that each lid is taken for.
        """
        variant = task * self._variants_per_task + self.variant % self._variants_per_task  # (n,)
        names = ("_constant_rows", "_stage_rows", "stage", "released", "_progress")
        kept = {name: getattr(self, name).copy() for name in names}
        self._constant_rows[:] = self.variant_constants[variant]
        for column in GEOMETRY:
            self._constant_rows[column] = kept["_constant_rows"][column]
        self._set_first_stage_to_do(variant)
        self._update_episode_constants()
        self._progress = self._measure_progress()
        separates = self.constants["separates"]
        self.released = mechanisms.released(self._progress, separates, self.released)
        measured = {name: np.array(values) for name, values in self.measure().items()}
        for name, values in kept.items():
            getattr(self, name)[:] = values
        self._update_episode_constants()
        return measured

    def _set_first_stage_to_do(self, variant: np.ndarray) -> None:
        """Make the first stage of variants (n,) that the lids' joints have not done the present."""
        self.stage[:] = 0
        self._stage_rows[:] = self.variant_stages[variant, 0]
        for _ in range(MOST_STAGES):
            done = self._travelled(self.now["joint"]) >= 1.0
            done &= self.stage < self.constants["last_stage"]
            self.stage += done
            self._stage_rows[:] = self.variant_stages[variant, self.stage]

    def measure_arm(self) -> dict[str, np.ndarray]:
        """What only the sensors of an arm ask for: see `sensors.SENSORS`.

        Force and torque are those on the hand from outside, as a sensor at the flange shows them
        once the weight of hand and fingers is subtracted; the hand's own inertia is in them.

        Returns:
            (n, ...) arrays by name.

        Raises:
            ValueError: the batch was made without wrist=True.
        """
        if not self.wrist:
            raise ValueError(
                "force and torque at the wrist are not sensed: ClosureBatch(wrist=True)"
            )
        return measures.measure_arm(
            self._hand,
            self._flange,
            self.qvel,
            self.ctrl,
            self._containers,
            self.mocap_pos[:, 0],
            self.constants["seat"],
        )

    def present_stage(self) -> np.ndarray:
        """Index (n,) of the present stages; MOST_STAGES once a lid is free, or has latched open."""
        return measures.present_stage(self.released, self.now["done_before"], self.stage)

    def _measure_lid(self) -> dict[str, np.ndarray]:
        lid = measures.Lid(
            joints=self._lid,
            velocity=self.qvel[:, self.lid_dof_columns],
            progress=self._progress,
            released=self.released,
            stage=self.present_stage(),
            travelled=self._travelled(self.now["joint"]),
        )
        return measures.measure_lid(lid, self.now, self.constants, self._containers, self._sideways)

    def snapshot(self) -> dict[str, Any]:
        """The exact state, as arrays that `restore` takes; checkpoints hold them by these names."""
        return {
            "of": snapshots.encoded(self.identity),
            "state": self.sim.state.copy(),
            "task": self.task.copy(),
            "variant": self.variant.copy(),
            "touched": self.touched.copy(),
            "released": self.released.copy(),
            "stage": self.stage.copy(),
            "thread_offset": self._thread_offset.copy(),
            **{name: view.copy() for name, view in self._derived.items()},
            "variation": self.variation.snapshot(),
        }

    def restore(self, snapshot: dict[str, Any], *, copies: bool = False) -> None:
        """Return to a snapshot; what follows is bit for bit what followed it.

        Args:
            snapshot: see `snapshot`.
            copies: give every simulation the state of a snapshot of one.

        Raises:
            ValueError: the snapshot is of something else, or damaged; nothing is changed.
        """
        self.write_fitted(self.fitted(snapshot, copies=copies))

    def fitted(self, snapshot: dict[str, Any], *, copies: bool = False) -> dict[str, Any]:
        """The arrays of a snapshot that can be restored here.

        Raises:
            ValueError: see `restore`.
        """
        snapshots.refuse_other(snapshot, self.identity, copies=copies)
        own = self.snapshot()
        del own["of"]
        variation = with_halves(snapshots.part(snapshot, "variation"))
        found = snapshots.fitted({**snapshot, "variation": variation}, own, self.n)
        variant = found["variant"]
        in_pool = (variant >= 0) & (variant < len(self.pool))
        if not (in_pool & (variant // self._variants_per_task == found["task"])).all():
            raise ValueError("the snapshot is damaged: task and variant do not fit each other")
        last = self.variant_constants["last_stage"][variant]
        if not ((found["stage"] >= 0) & (found["stage"] <= last)).all():
            raise ValueError("the snapshot is damaged: a stage that the mechanism does not have")
        return found

    def write_fitted(self, snapshot: dict[str, Any]) -> None:
        """Return to a snapshot that is known to fit, see `fitted`."""
        if self.sim.lost:
            self._open_simulations()
        self.task[:] = snapshot["task"]
        self.variant[:] = snapshot["variant"]
        self.touched[:] = snapshot["touched"]
        self.released[:] = snapshot["released"]
        self._constant_rows[:] = self.variant_constants[self.variant]
        self._set_stage(self._all_ids, snapshot["stage"])
        self._thread_offset[:] = snapshot["thread_offset"]
        self.variation.restore(snapshot["variation"])
        self._write_fields(self._all_ids)
        self.sim.state[:] = snapshot["state"]
        self._update_episode_constants()
        for name, view in self._derived.items():
            view.flags.writeable = True
            view[:] = snapshot[name]
            view.flags.writeable = False
        self._progress = self._measure_progress()
        self._apply_gates()


def flange_of(model: mujoco.MjModel) -> measures.Flange:
    """What the sensor at the wrist carries: hand and fingers."""
    hand = model.body("hand").id
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    rotation = data.xmat[hand].reshape(3, 3)
    centre = rotation.T @ (data.subtree_com[hand] - data.xpos[hand])
    weight = model.body_subtreemass[hand] * -model.opt.gravity[2]
    return measures.Flange(float(weight), centre)


def within_walls(offsets: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Offsets (n, 3) that do not lead hands at positions (n, 3) out of the WALLS, or lead back."""
    low, high = WALLS
    inside = np.minimum(np.maximum(offsets, low - positions), high - positions)
    return np.minimum(np.maximum(inside, -STEP_POSITION), STEP_POSITION)


def leashed(ahead: np.ndarray) -> np.ndarray:
    """Changes of joints' targets (n, 7) rad that lead no joint further ahead than its leash.

    A joint that would lead too far slows all of them down: the hand keeps its way.
    """
    excess = np.max(np.abs(ahead) / JOINT_LEASH, axis=1, keepdims=True)  # (n, 1)
    return ahead / np.maximum(excess, 1.0)


def _container_quaternion(yaw: np.ndarray, tilt: np.ndarray, tilt_way: np.ndarray) -> np.ndarray:
    """Orientation (k, 4), w x y z: a tilt about a horizontal axis, and then the yaw.

    Args:
        yaw: (k,) about world z (rad).
        tilt: (k,) of the container's axis from the vertical (rad).
        tilt_way: (k,) direction of the tilt's axis in the container's frame (rad).
    """
    cos = np.cos(yaw / 2)
    sin = np.sin(yaw / 2)
    upright = np.cos(tilt / 2)
    lean = np.sin(tilt / 2)
    lean_x = lean * np.cos(tilt_way)
    lean_y = lean * np.sin(tilt_way)
    return np.stack(
        [
            cos * upright,
            cos * lean_x - sin * lean_y,
            cos * lean_y + sin * lean_x,
            sin * upright,
        ],
        -1,
    )
