"""n closures simulated together: variants, partial resets, Cartesian control, measurements."""

from __future__ import annotations

import os
import time

import mujoco
import mujoco.batch
import numpy as np

from envs import mechanisms, robot
from envs.closures import CLOSURES
from envs.constants import MARK, constants
from envs.mechanisms import LID_JOINTS, TWIST
from envs.scene import SUBSTEPS, TIMESTEP, WORKSPACE, build
from envs.structure import Variant
from envs.tables import lookup
from envs.variation import LEVELS, Variation

CONTROL_DT = TIMESTEP * SUBSTEPS  # s
STEP_POSITION, STEP_YAW = 0.03, 0.4  # m and rad that the hand is sent ahead at full action
JOINT_LEASH = (
    0.5  # rad: how far a joint's target may run ahead of it; a stretched arm would swing through
)
HOLD_FORCE = (
    0.5  # N on a finger, towards the other one, that counts as contact; on both, as holding
)
HOLD_SHARE = (
    0.25  # of a finger's vertical force that the inward one must reach, or it only leans on the lid
)
_INWARDS = np.array(
    [-1.0, 1.0]
)  # sign of the force on left and right along the hand's y axis when they squeeze
_DIVERGED = [
    w.value
    for w in (
        mujoco.mjtWarning.mjWARN_BADQPOS,
        mujoco.mjtWarning.mjWARN_BADQVEL,
        mujoco.mjtWarning.mjWARN_BADQACC,
    )
]
_VARIANT_ENTROPY = 0xCA9  # separates the variants' randomness from the episodes'

# Ranges of a start, uniform: container pose (m, rad) and hand pose relative to the grip (m, rad)
START = {
    "container_xy": 0.04,
    "container_yaw": 0.5,
    "hand_xy": 0.06,
    "hand_z": (0.07, 0.13),
    "hand_yaw": 0.4,
}


class ClosureBatch:
    """A batch of simulations, each of one variant of one closure.

    Attributes:
        names: rows of the table, by task index.
        task: (n,) task index of each simulation.
        variant: (n,) index of each simulation's variant in `pool`.
        pool: every variant, `variants` per row, in task order.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        n: int,
        threads: int = 0,
        variants: int = 8,
        variant_seed: int = 0,
        level: str = "default",
    ):
        self.names, self.n, self.per_task = tuple(names), n, variants
        rows = [lookup(CLOSURES, name, "closure") for name in self.names]
        self.pool: list[Variant] = []
        for row in rows:
            rng = np.random.default_rng([_VARIANT_ENTROPY, variant_seed, *row.name.encode()])
            self.pool += [row.draw(rng) for _ in range(variants)]
        models = [build(v, free=free).compile() for free in (False, True) for v in self.pool]
        self.model = models[0]
        self.sim = mujoco.batch.Batch(self.model, n, threads or cores())
        self.variation = Variation(lookup(LEVELS, level, "level"), n)
        names = dict.fromkeys((*_differing(models), *self.variation.fields))
        self._fields = {name: np.stack([getattr(m, name) for m in models]) for name in names}
        self._expanded = {name: self.sim.expand(name) for name in self._fields}
        self._bind()
        self.const = constants(self.pool)
        self.task = np.zeros(n, np.int64)
        self.variant = np.zeros(n, np.int64)
        self._rows = self.const[self.variant]  # (n,), a row for each simulation
        self.own = {
            k: self._rows[k] for k in self.const.dtype.names
        }  # (n, ...) views of its columns
        self._measured = {k: self.own[k] for k in _MEASURED}
        self._everyone = np.arange(n)
        self.physics_seconds = 0.0  # spent in MuJoCo's steps
        self._before = self.sim.state.copy()  # of the last step
        self.released = np.zeros(n, bool)
        self._progress = np.zeros(n)
        self.diverged = np.zeros(
            n, np.int64
        )  # how often each simulation was put back, see `_recover`

    def _bind(self) -> None:
        sim, model = self.sim, self.model
        self.qpos, self.qvel, self.ctrl = sim.bind("qpos"), sim.bind("qvel"), sim.bind("ctrl")
        self.eq_active, self.mocap_pos, self.mocap_quat = (
            sim.bind(k) for k in ("eq_active", "mocap_pos", "mocap_quat")
        )
        # derived arrays lag one substep: they are part of what the next step reads
        self._derived = {
            k: sim.bind(k) for k in ("site_xpos", "site_xmat", "sensordata", "xanchor", "xaxis")
        }
        self._site_pos, self._site_mat, touch, anchor, axis = self._derived.values()
        self._touch, self._anchor, self._axis = (
            touch.reshape(self.n, 2, 3),
            anchor[:, robot.ARM],
            axis[:, robot.ARM],
        )
        lid = model.joint(f"lid_{LID_JOINTS[0]}")
        self.lid_q = slice(lid.qposadr[0], lid.qposadr[0] + 6)
        self.lid_v = slice(lid.dofadr[0], lid.dofadr[0] + 6)
        self.lid_eq = np.array([model.equality(name).id for name in mechanisms.CONSTRAINTS])
        lid_body = slice(model.body("lid").id, model.body("lid").id + 1)
        self._lid_part = {
            "dof_frictionloss": self.lid_v,
            "body_mass": lid_body,
            "body_inertia": lid_body,
        }
        self._reach = model.actuator_ctrlrange[robot.ARM].T.copy()  # (2, 7) rad
        self._force = sim.bind("xfrc_applied")
        tcp, grip, self._hand = model.site("tcp").id, model.site("grip").id, model.body("hand").id
        self._tcp, self._tool, self._grip = (
            self._site_pos[:, tcp],
            self._site_mat[:, tcp].reshape(-1, 3, 3),
            self._site_pos[:, grip],
        )
        self._arm, self._fingers, self._lid = (
            self.qpos[:, robot.ARM],
            self.qpos[:, robot.FINGERS],
            self.qpos[:, self.lid_q],
        )

    def reset(self, ids: np.ndarray, task: np.ndarray, rngs: list[np.random.Generator]) -> None:
        """Start new episodes: draw variant, container pose and hand pose.

        Args:
            ids: (k,) simulations.
            task: (k,) task index of each.
            rngs: k generators, one per simulation, so that a simulation's starts
                do not depend on the others'.
        """
        u = np.stack([rng.uniform(-1, 1, 8) for rng in rngs])  # (k, 8)
        self.task[ids] = task
        self.variant[ids] = task * self.per_task + np.array(
            [rng.integers(self.per_task) for rng in rngs]
        )
        self._rows[ids] = self.const[self.variant[ids]]
        self.variation.draw(ids, rngs)
        self.released[ids] = False
        self._write_fields(ids, self.variant[ids])
        self.sim.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.eq_active[np.ix_(ids, self.lid_eq)] = self.own["engaged"][ids]
        yaw = START["container_yaw"] * u[:, 2]
        self.mocap_pos[ids, 0, :2] = np.array(WORKSPACE) + START["container_xy"] * u[:, :2]
        tilt, way = self.variation.values["tilt"][ids] / 2, self.variation.values["tilt_way"][ids]
        self.mocap_pos[ids, 0, 2] = self.variation.values["raise"][ids] + self.own["foot"][
            ids
        ] * np.sin(2 * tilt)
        c, s, lean = np.cos(yaw / 2), np.sin(yaw / 2), np.sin(tilt)
        # the yaw, after a tilt about a horizontal axis in the container's frame
        ux, uy = lean * np.cos(way), lean * np.sin(way)
        quat = np.stack([c * np.cos(tilt), c * ux - s * uy, c * uy + s * ux, s * np.cos(tilt)], -1)
        self.mocap_quat[ids, 0] = quat
        self._settle()
        low, high = START["hand_z"]
        offset = np.stack(
            [
                START["hand_xy"] * u[:, 3],
                START["hand_xy"] * u[:, 4],
                low + (high - low) * (u[:, 5] + 1) / 2,
            ],
            -1,
        )
        self.qpos[ids, robot.ARM], self.qpos[ids, robot.FINGERS] = robot.HOME, robot.FINGER_OPEN
        self.sim.forward(ids, stage=mujoco.mjtStage.mjSTAGE_POS.value)
        self._place_hand(ids, self._grip[ids] + offset, START["hand_yaw"] * u[:, 6])

    def _settle(self) -> None:
        """What follows from the rows, their variation and the containers' poses, until episodes end."""
        self._marked, self._gated = (
            np.flatnonzero(self.own["marked"]),
            np.flatnonzero(self.own["gated"]),
        )
        marked, gated = self._rows[self._marked], self._rows[self._gated]
        self._marks = marked["reached"][:, None], marked["goal"], marked["range"]
        breakaway = self.variation.values["breakaway"][self._gated]
        self._thresholds = gated["gate_threshold"]
        self._frictions = gated["gate_open"] * breakaway, gated["gate_shut"] * breakaway
        self._keys = (
            gated["full"][np.arange(len(gated)), gated["gate_key"]],
            self.lid_q.start + gated["gate_key"],
        )
        self._jammed = self._gated, self.lid_v.start + gated["gate_jammed"]
        quat, moves = self.mocap_quat[:, 0], self.own["sideways"]
        self._yaw = 2 * np.arctan2(quat[:, 3], quat[:, 0])
        self._floor = self.own["seat"] + self.mocap_pos[:, 0, 2]  # world z of the lid's seat (m)
        c, s = np.cos(self._yaw), np.sin(self._yaw)
        self._along = np.stack([c, s], -1)  # (n, 2) the container's x axis
        self._goal = (moves * self.own["depth"])[
            :, None
        ] * self._along  # (n, 2) of a lid that moves sideways (m)
        self._turned = moves[:, None, None] * np.stack([c, -s, s, c], -1).reshape(-1, 2, 2)

    def _place_hand(self, ids: np.ndarray, pos: np.ndarray, yaw: np.ndarray) -> None:
        for k in range(3):  # Gauss-Newton from the home pose: within 3 um and 1e-6 rad (measured)
            if k:
                self.sim.forward(ids, stage=mujoco.mjtStage.mjSTAGE_POS.value)
            self.qpos[ids, robot.ARM] += self._joint_steps(
                ids, pos - self._tcp[ids], yaw - robot.yaw_of(self._tool[ids])
            )
        self.ctrl[ids, robot.ARM], self.ctrl[ids, robot.FINGERS] = (
            self.qpos[ids, robot.ARM],
            robot.FINGER_OPEN,
        )
        self.sim.forward(ids)
        self._progress = self._measure_progress()

    def _write_fields(self, ids: np.ndarray, models: np.ndarray) -> None:
        for name, expanded in self._expanded.items():
            expanded[ids] = self.variation.scale(
                name, ids, self._fields[name][models], self._lid_part
            )

    def _joint_steps(self, ids: np.ndarray, offset: np.ndarray, turn: np.ndarray) -> np.ndarray:
        return robot.joint_steps(ids, self._anchor, self._axis, self._tcp, self._tool, offset, turn)

    def step(self, action: np.ndarray) -> None:
        """Advance one control step (50 ms).

        Args:
            action: (n, 5) in [-1, 1]: where the arm is sent from where it is, dx, dy, dz (3 cm each,
                world frame) and yaw (0.4 rad), and finger opening (absolute, -1 closed, 1 open).
                A hand that is sent nowhere yields to what pushes it.
        """
        action = self.variation.delayed(action)
        if (push := self.variation.pushes()) is not None:
            self._force[:, self._hand, :3] = push
        ahead = self._joint_steps(
            self._everyone, STEP_POSITION * action[:, :3], STEP_YAW * action[:, 3]
        )
        goal = self._arm + np.minimum(np.maximum(ahead, -JOINT_LEASH), JOINT_LEASH)
        np.minimum(np.maximum(goal, self._reach[0]), self._reach[1], out=self.ctrl[:, robot.ARM])
        self.ctrl[:, robot.FINGERS] = robot.FINGER_OPEN / 2 * (action[:, 4:5] + 1)
        self._before[:] = self.sim.state
        began = time.perf_counter()
        self.sim.step(nstep=SUBSTEPS)
        self.physics_seconds += time.perf_counter() - began
        if self.sim.warning[:, _DIVERGED, 1].any():
            self._recover()
        self._let_go()
        self._gate()

    def _recover(self) -> None:
        """Put simulations that diverged back to before the step, at rest (measured: none in a million random steps)."""
        ids = np.flatnonzero(self.sim.warning[:, _DIVERGED, 1].any(1))
        self.sim.state[ids] = self._before[ids]
        self.qvel[ids] = 0.0
        self.sim.warning[ids] = 0
        self.diverged[ids] += 1
        self.sim.forward(ids)

    def _let_go(self) -> None:
        self._progress = self._measure_progress()
        now = mechanisms.released(self._progress, self.own["separates"], self.released)
        ids = np.flatnonzero(now & ~self.released)
        self.released = now
        if len(ids):
            self.eq_active[np.ix_(ids, self.lid_eq)] = 0
            self._write_fields(ids, self.variant[ids] + len(self.pool))

    def _gate(self) -> None:
        if len(ids := self._gated):
            full, column = self._keys
            friction = np.where(self.qpos[ids, column] / full >= self._thresholds, *self._frictions)
            self._expanded["dof_frictionloss"][self._jammed] = friction * ~self.released[ids]

    def progress(self) -> np.ndarray:
        """Fraction of the way to open, (n,) in [0, 1], of the last step."""
        return self._progress.copy()

    def _measure_progress(self) -> np.ndarray:
        own, lid = self.own, self._lid
        found = mechanisms.progress(lid, own["inverse_full"], own["shares"])
        if len(ids := self._marked):  # how near the lid, or the hand, is to its mark
            reach, goal, start = self._marks
            left = np.where(reach, self._grip[ids] - self._tcp[ids], lid[ids, :3] - goal)
            left = np.sqrt(np.einsum("ij,ij->i", left, left))
            found[ids] = np.minimum(np.maximum((start - left) / (start - MARK), 0.0), 1.0)
        found[self.released] = 1.0
        return found

    def measure(self) -> dict[str, np.ndarray]:
        """Everything that observations, rewards, success and experts are made of.

        World frame, SI units. Poses are of the last substep, as MuJoCo leaves them.

        Returns:
            (n, ...) arrays by name.
        """
        own, lid, fingers, mat = self.own, self._lid.copy(), self._fingers, self._tool
        yaw = robot.yaw_of(mat)
        lid_yaw = self._yaw + lid[:, TWIST]
        force = self._touch
        touch = np.sqrt(np.einsum("ijk,ijk->ij", force, force))
        tcp = self._tcp.copy()
        # a finger holds by pressing inwards; two that rest on top of a lid, a fist, press downwards
        closing = np.einsum("ijk,ik->ij", force, mat[:, :, 1]) * _INWARDS  # (n, 2)
        pressing = (closing > HOLD_FORCE) & (closing > HOLD_SHARE * np.abs(force[:, :, 2]))
        holds, touched = (
            pressing[:, 0] & pressing[:, 1],
            (touch[:, 0] > HOLD_FORCE) | (touch[:, 1] > HOLD_FORCE),
        )
        way = self._goal - np.einsum("ijk,ik->ij", self._turned, lid[:, :2])
        turned = np.einsum("ij,ij->i", lid, own["swing"])
        return {
            "tcp": tcp,  # (n, 3) point between the fingertips
            "grip_offset": self._grip - tcp,  # (n, 3) from there to where the lid is held
            "bar_yaw_offset": wrap(2 * (lid_yaw - yaw))
            / 2,  # (n,) from hand to bar, modulo a half turn
            "wrist": self._arm[:, 6].copy(),  # (n,) joint 7
            "opening": 0.5 * (fingers[:, 0] + fingers[:, 1]),  # (n,) of each finger
            "touch": touch,  # (n, 2) force of each finger on the lid
            "holds": holds,  # (n,) the lid between the fingers
            "contact": np.where(
                own["hold_rule"], pressing[:, 0] | pressing[:, 1], own["free_rule"] | touched
            ),  # (n,) the hand at work
            "axis": self._along,  # (n, 2) x axis of the container, horizontal
            "way": way,  # (n, 2) that a lid which moves sideways still has to go, world frame
            "lid": lid,  # (n, 6) joints
            "lid_velocity": self.qvel[:, self.lid_v].copy(),  # (n, 6)
            "progress": self.progress(),
            "beyond": np.maximum(
                turned - own["angle"], 0.0
            ),  # (n,) that a lid which stays has turned past open
            "released": self.released.copy(),
            "separation": np.sqrt(
                np.einsum("ij,ij->i", lid[:, :3], lid[:, :3])
            ),  # (n,) of the lid from its seat
            "height": tcp[:, 2] - self._floor,  # (n,) of the fingertips above the seat
            **self._measured,
        }

    def snapshot(self) -> dict[str, np.ndarray]:
        """The exact state, as arrays that `restore` takes."""
        arrays = ("task", "variant", "released")
        return {
            "state": self.sim.state.copy(),
            **{k: getattr(self, k).copy() for k in arrays},
            **{k: view.copy() for k, view in self._derived.items()},
            "variation": self.variation.snapshot(),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Return to a snapshot; what follows is bit for bit what followed it."""
        for k in ("task", "variant", "released"):
            getattr(self, k)[:] = snapshot[k]
        self._rows[:] = self.const[self.variant]
        self.variation.restore(snapshot["variation"])
        self._write_fields(np.arange(self.n), self.variant + len(self.pool) * self.released)
        self.sim.state[:] = snapshot["state"]
        self._settle()
        for key, view in self._derived.items():
            view.flags.writeable = True
            view[:] = snapshot[key]
            view.flags.writeable = False
        self._progress = self._measure_progress()
        self._gate()


def cores() -> int:
    """Cores that this process may use: those of its affinity, where the system has one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angle in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _differing(models: list[mujoco.MjModel]) -> list[str]:
    """Names of the model fields in which compiled variants differ."""
    names = []
    for name in sorted(mujoco.batch.MODEL_FIELDS):
        values = [getattr(m, name, None) for m in models]
        if (
            name not in _NOT_PHYSICS
            and isinstance(values[0], np.ndarray)
            and any(not np.array_equal(values[0], x) for x in values[1:])
        ):
            names.append(name)
    return names


_NOT_PHYSICS = ("eq_active0", "names_map", "geom_rgba")  # states or labels, not read while stepping


_MEASURED = (
    "moves",
    "pays",
    "hold_rule",
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
    "full",
)
