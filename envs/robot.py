"""The Franka Panda: its MjSpec, home pose and Cartesian controller; its numbers: `panda.py`."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

import functools
import importlib.util
import math
import pathlib
from collections.abc import Callable

import mujoco
import numba
import numpy as np

from uncap.envs.panda import FINGER_OPEN, LINKS, STRAIGHT, Link, Vector

# Rotor inertia seen through the gears (kg m^2) and viscous friction (N m s/rad), by the
# joint's torque limit. Without them a servo whose damping term saturates flips the
# light elbow's velocity at every physics step, for seconds.
_MOTOR = {
    87: {"armature": 0.6, "damping": 5.0},
    12: {"armature": 0.2, "damping": 1.0},
}
_STIFFNESS_PER_DAMPING = 25  # 1/s, of the position servos

_JOINTS = len(LINKS)
ARM = slice(0, _JOINTS)  # arm joints in qpos, qvel and ctrl
FINGERS = slice(7, 9)  # finger joints in qpos, qvel and ctrl
HOME = np.array([0.0, 0.10, 0.0, -2.25, 0.0, 2.35, np.pi / 4])  # hand down, in front (rad)

# Gripper servo. A stiffness of 100 N/m, which is widely used, slips on a small cap; 2000 N/m
# with the real hand's continuous force holds. Inertia and friction of the drive cap the speed
# at about 0.2 m/s, as the real hand's: a massless finger would reach 3 m/s within one physics
# step and enter a wide lid.
_GRIPPER_STIFFNESS = 2000.0  # N/m
_GRIPPER_DAMPING = 60.0  # N s/m, of the servo
_GRIPPER_FORCE = 70.0  # N
_DRIVE_INERTIA = 1.0  # kg
_DRIVE_FRICTION = 250.0  # N s/m

_PAD_FRICTION = (1.5, 0.02, 0.0001)  # rubber pads; torsional 20 mm
# hard: with a soft contact the fingers sink into a 3 g cap
_PAD_SOLIMP = (0.998, 0.9998, 0.0005, 0.5, 2)
# of the fingers' stops and coupling: with MuJoCo's defaults 70 N move them by centimetres
_STIFF_SOLIMP = (0.999, 0.9999, 0.001, 0.5, 2)
_PAD_RADIUS = 0.006  # m
_PAD_SPHERES = (  # (x, y, z) in the finger's frame (m)
    (-0.007, 0.006, 0.0395),
    (0.007, 0.006, 0.0395),
    (-0.007, 0.006, 0.0495),
    (0.007, 0.006, 0.0495),
)
_FINGER_HEIGHT = 0.0584  # m, of the fingers' frames in the hand's
_TCP_HEIGHT = 0.0584 + 0.0445  # m, of the point between the fingertips in the hand's frame

# Collision bits: a pair collides where one's `contype` shares a bit with the other's `conaffinity`.
HAND_BIT = 1
LID_BIT = 2
CONTAINER_BIT = 4
TABLE_BIT = 8
HAND_TOUCHES = LID_BIT | CONTAINER_BIT | TABLE_BIT

# Every contact is hard, not those of lids alone: where two geoms meet, MuJoCo takes the mean of
# theirs, and with its defaults a fist presses a light lid through the table. The time constant is
# the shortest that MuJoCo allows, two physics steps: it leaves no more than one step's travel.
CONTACT_SOLREF = (0.010, 1.0)
CONTACT_SOLIMP = (0.999, 0.9999, 0.0005, 0.5, 2)

MESH_GROUP = 2  # of the robot's visual geoms
_COLLISION_GROUP = 3  # of its collision geoms, not drawn
_COLLISION = {
    "contype": HAND_BIT,
    "conaffinity": HAND_TOUCHES,
    "group": _COLLISION_GROUP,
    "mass": 0,
    "solref": CONTACT_SOLREF,
}
# collision geoms beside the pads: arguments of `add_geom`
_WRIST_CAPSULE = {
    "type": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "pos": (0, 0, 0.03),
    "size": (0.045, 0.03, 0),
}
_PALM_BOX = {
    "name": "palm",
    "type": mujoco.mjtGeom.mjGEOM_BOX,
    "pos": (0, 0, 0.033),
    "size": (0.018, 0.10, 0.033),
}
_FINGER_BOX = {
    "type": mujoco.mjtGeom.mjGEOM_BOX,
    "pos": (0, 0.015, 0.026),
    "size": (0.009, 0.008, 0.026),
}
_MATERIALS = {
    "panda": (0.93, 0.93, 0.95, 1),
    "panda_dark": (0.16, 0.17, 0.19, 1),
}


def mesh_folder() -> pathlib.Path:
    """Folder of the Franka's visual STL files, without importing the package that ships them.

    Raises:
        FileNotFoundError: gymnasium-robotics is not installed.
    """
    spec = importlib.util.find_spec("gymnasium_robotics")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("videos need the Franka meshes: pip install gymnasium-robotics")
    root = pathlib.Path(spec.submodule_search_locations[0])
    return root / "envs/assets/kitchen_franka/franka_assets/meshes/visual"


def add_panda(spec: mujoco.MjSpec, visual: bool, meshes: bool = True) -> None:
    """Add the Panda at the world origin, with primitive collision shapes.

    Args:
        spec: the scene it is added to.
        visual: add materials, for a scene that is drawn.
        meshes: if `visual`, add the robot's meshes too.
    """
    meshes = visual and meshes
    if meshes:
        _load_meshes(spec)
    if visual:
        for name, rgba in _MATERIALS.items():
            spec.add_material(name=name, rgba=rgba, specular=0.4, shininess=0.5)

    wrist = _add_arm(spec, meshes)
    hand = _add_hand(wrist, meshes)
    _add_finger(spec, hand, "left", STRAIGHT, meshes)
    _add_finger(spec, hand, "right", (0, 0, 0, 1), meshes)  # half a turn about z
    _couple_fingers(spec)


def _load_meshes(spec: mujoco.MjSpec) -> None:
    """Add the mesh assets of all bodies."""
    links = [link.name for link in LINKS]
    for name in ("link0", *links, "hand", "finger"):
        spec.add_mesh(
            name=name,
            file=str(mesh_folder() / f"{name}.stl"),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )


def _add_arm(spec: mujoco.MjSpec, meshes: bool) -> mujoco.MjsBody:
    """Add base, links, joints and their servos; returns the last link."""
    body = spec.worldbody.add_body(name="link0")
    if meshes:
        _add_mesh_geom(body, "link0")
    for number, link in enumerate(LINKS, start=1):
        body = _add_link(spec, body, f"joint{number}", link)
        if meshes:
            _add_mesh_geom(body, link.name)
    body.add_geom(**_WRIST_CAPSULE, **_COLLISION, solimp=CONTACT_SOLIMP)
    return body


def _add_link(
    spec: mujoco.MjSpec, parent: mujoco.MjsBody, joint: str, link: Link
) -> mujoco.MjsBody:
    """Add one link with its joint and servo."""
    body = parent.add_body(name=link.name, pos=link.position, quat=link.quaternion, gravcomp=1)
    body.explicitinertial = True
    body.mass = link.mass
    body.ipos = link.centre_of_mass
    body.fullinertia = link.inertia
    body.add_joint(name=joint, axis=(0, 0, 1), range=link.joint_range, **_MOTOR[link.torque_limit])
    _add_servo(
        spec,
        joint,
        stiffness=link.stiffness,
        damping=link.stiffness / _STIFFNESS_PER_DAMPING,
        limit=link.torque_limit,
        joint_range=link.joint_range,
    )
    return body


def _add_hand(wrist: mujoco.MjsBody, meshes: bool) -> mujoco.MjsBody:
    """Add the hand with its palm and the site between the fingertips."""
    hand = wrist.add_body(
        name="hand", pos=(0, 0, 0.107), quat=(0.9238795, 0, 0, -0.3826834), gravcomp=1
    )
    hand.explicitinertial = True
    hand.mass = 0.73
    hand.ipos = (-0.01, 0, 0.03)
    hand.inertia = (0.001, 0.0025, 0.0017)
    hand.add_geom(**_PALM_BOX, **_COLLISION, solimp=CONTACT_SOLIMP)
    hand.add_site(name="wrist")  # at the flange; what is sensed there is a choice of the scene's
    hand.add_site(name="tcp", pos=(0, 0, _TCP_HEIGHT))
    if meshes:
        _add_mesh_geom(hand, "hand")
    return hand


def _add_finger(
    spec: mujoco.MjSpec, hand: mujoco.MjsBody, side: str, quaternion: Vector, meshes: bool
) -> None:
    """Add one finger with its slide, pads and servo."""
    name = f"finger_{side}"
    finger = hand.add_body(name=name, pos=(0, 0, _FINGER_HEIGHT), quat=quaternion, gravcomp=1)
    finger.explicitinertial = True
    finger.mass = 0.015
    finger.ipos = (0, 0.01, 0.025)
    finger.inertia = (2.375e-6, 2.375e-6, 7.5e-7)
    finger.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=(0, 1, 0),
        range=(0, FINGER_OPEN),
        armature=_DRIVE_INERTIA,
        damping=_DRIVE_FRICTION,
        solimp_limit=_STIFF_SOLIMP,
    )
    for position in _PAD_SPHERES:
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            pos=position,
            size=(_PAD_RADIUS, 0, 0),
            friction=_PAD_FRICTION,
            solimp=_PAD_SOLIMP,
            condim=4,
            priority=1,
            **_COLLISION,
        )
    finger.add_geom(**_FINGER_BOX, **_COLLISION, solimp=CONTACT_SOLIMP)
    if meshes:
        _add_mesh_geom(finger, "finger", "panda_dark")
    _add_servo(
        spec,
        name,
        stiffness=_GRIPPER_STIFFNESS,
        damping=_GRIPPER_DAMPING,
        limit=_GRIPPER_FORCE,
        joint_range=(0, FINGER_OPEN),
    )


def _couple_fingers(spec: mujoco.MjSpec) -> None:
    """Make both fingers open by the same way."""
    spec.add_equality(
        name="fingers",
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1="finger_left",
        name2="finger_right",
        data=[0, 1] + [0] * 10,
        solref=(0.005, 1),
        solimp=_STIFF_SOLIMP,
    )


def _add_mesh_geom(body: mujoco.MjsBody, mesh: str, material: str = "panda") -> None:
    """Add a mesh to a body that is drawn and collides with nothing."""
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_MESH,
        meshname=mesh,
        material=material,
        group=MESH_GROUP,
        contype=0,
        conaffinity=0,
        mass=0,
    )


def _add_servo(
    spec: mujoco.MjSpec,
    joint: str,
    *,
    stiffness: float,
    damping: float,
    limit: float,
    joint_range: tuple[float, float],
) -> None:
    """Add a position servo: force = stiffness (target - position) - damping velocity, limited."""
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        gainprm=[stiffness] + [0] * 9,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        biasprm=[0, -stiffness, -damping] + [0] * 7,
        forcelimited=True,
        forcerange=(-limit, limit),
        ctrllimited=True,
        ctrlrange=joint_range,
    )


DAMPING = 1e-4  # m^2, of the least squares: steady near singular poses, exact elsewhere


def _compiled(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The function, compiled; numba's cache on disk is used where it can be written."""
    plain = numba.njit(function)
    try:
        cached = numba.njit(cache=True)(function)
    except RuntimeError:  # numba found no folder that it can write to
        return plain

    @functools.wraps(function)
    def call(*args: np.ndarray) -> np.ndarray:
        nonlocal cached
        try:
            return cached(*args)
        except OSError:  # the cache cannot be read or written any more, as on a full disk
            cached = plain
            return plain(*args)

    return call


@_compiled
def joint_steps(ids, anchors, axes, positions, rotations, offsets, turns):
    """Changes of the arms' joint angles that move and turn their hands.

    One step of damped least squares (Wampler, IEEE Trans. SMC 16:93, 1986):
    J^T (J J^T + DAMPING I)^-1 error. The hand is to end with its tool axis straight down.

    Compiled: with NumPy, a control step would take a sixth longer outside of MuJoCo.

    Args:
        ids: (k,) simulations that are moved: rows of the next four.
        anchors: (n, 7, 3) points on the joints' axes, world frame (m).
        axes: (n, 7, 3) the joints' axes, world frame.
        positions: (n, 3) of the tools, world frame (m).
        rotations: (n, 3, 3) of the tools, to the world frame.
        offsets: (k, 3) from the tools to where they are wanted, world frame (m).
        turns: (k,) of the tools' x axes about world z (rad).

    Returns:
        (k, 7) changes (rad).
    """
    jacobian = np.empty((6, _JOINTS))
    factor = np.empty((6, 6))
    error = np.empty(6)
    steps = np.empty((len(ids), _JOINTS))
    for row, i in enumerate(ids):
        _fill_jacobian(jacobian, anchors, axes, positions, i)
        _fill_pose_error(error, rotations, i, offsets, turns, row)
        _factor_damped(factor, jacobian)
        _solve_factored(factor, error)
        _fill_transposed_product(steps, row, jacobian, error)
    return steps


@numba.njit
def _fill_jacobian(jacobian, anchors, axes, positions, i):
    """Velocity of tool i (rows 0 to 2) and its rotation (rows 3 to 5), per joint velocity.

    Args:
        jacobian: (6, 7), written.
        anchors: (n, 7, 3) points on the joints' axes (m).
        axes: (n, 7, 3) of the joints.
        positions: (n, 3) of the tools (m).
        i: simulation.
    """
    for j in range(_JOINTS):
        ax = axes[i, j, 0]
        ay = axes[i, j, 1]
        az = axes[i, j, 2]
        x = positions[i, 0] - anchors[i, j, 0]  # lever arm from axis to tool
        y = positions[i, 1] - anchors[i, j, 1]
        z = positions[i, 2] - anchors[i, j, 2]
        jacobian[0, j] = ay * z - az * y  # axis x lever arm
        jacobian[1, j] = az * x - ax * z
        jacobian[2, j] = ax * y - ay * x
        jacobian[3, j] = ax
        jacobian[4, j] = ay
        jacobian[5, j] = az


@numba.njit
def _fill_pose_error(error, rotations, i, offsets, turns, row):
    """Translation (m) and small-angle rotation vector (rad) from tool i to its target.

    The target's axes are (c, s, 0), (s, -c, 0) and (0, 0, -1): straight down, turned by the
    present yaw and the turn. The rotation vector is the skew part of target x rotation^T.

    Args:
        error: (6,), written.
        rotations: (n, 3, 3) of the tools.
        i: simulation.
        offsets: (k, 3) to the targets (m).
        turns: (k,) about world z (rad).
        row: of offsets and turns.
    """
    yaw = math.atan2(rotations[i, 1, 0], rotations[i, 0, 0]) + turns[row]
    c = math.cos(yaw)
    s = math.sin(yaw)
    error[0] = offsets[row, 0]
    error[1] = offsets[row, 1]
    error[2] = offsets[row, 2]
    error[3] = (c * rotations[i, 2, 1] - s * rotations[i, 2, 0] - rotations[i, 1, 2]) / 2
    error[4] = (c * rotations[i, 2, 0] + s * rotations[i, 2, 1] + rotations[i, 0, 2]) / 2
    error[5] = (
        s * rotations[i, 0, 0]
        - c * rotations[i, 0, 1]
        - c * rotations[i, 1, 0]
        - s * rotations[i, 1, 1]
    ) / 2


@numba.njit
def _factor_damped(factor, jacobian):
    """Cholesky factor L of J J^T + DAMPING I.

    Args:
        factor: (6, 6), its lower triangle is written.
        jacobian: (6, 7) J.
    """
    for a in range(6):
        for b in range(a + 1):
            value = DAMPING if a == b else 0.0
            for j in range(_JOINTS):
                value += jacobian[a, j] * jacobian[b, j]
            for k in range(b):
                value -= factor[a, k] * factor[b, k]
            factor[a, b] = math.sqrt(value) if a == b else value / factor[b, b]


@numba.njit
def _solve_factored(factor, vector):
    """Solve L L^T x = vector; x is written over vector (6,)."""
    for a in range(6):
        value = vector[a]
        for k in range(a):
            value -= factor[a, k] * vector[k]
        vector[a] = value / factor[a, a]
    for a in range(5, -1, -1):
        value = vector[a]
        for k in range(a + 1, 6):
            value -= factor[k, a] * vector[k]
        vector[a] = value / factor[a, a]


@numba.njit
def _fill_transposed_product(out, row, jacobian, vector):
    """Write J^T vector to row `row` of out (k, 7), summed from the last row of J to the first."""
    for j in range(_JOINTS):
        value = 0.0
        for a in range(5, -1, -1):
            value += jacobian[a, j] * vector[a]
        out[row, j] = value


def yaw_of(rotation: np.ndarray) -> np.ndarray:
    """Yaw of tools that point down: the angle of their x axis about world z.

    Args:
        rotation: (n, 3, 3) of the tools, to the world frame.

    Returns:
        (n,) yaw (rad).
    """
    return np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
