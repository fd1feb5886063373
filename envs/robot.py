"""The Franka Panda: its MjSpec, home pose and Cartesian controller.

Link frames, joint limits and force limits are the manufacturer's; masses and
inertias are those identified by Gaz et al., "Dynamic Identification of the Franka
Emika Panda Robot with Retrieval of Feasible Parameters" (RA-L 2019).
"""

from __future__ import annotations

import importlib.util
import math
import pathlib

import mujoco
import numba
import numpy as np

# name, parent offset (m), quaternion, mass (kg), centre of mass (m),
# inertia (xx yy zz xy xz yz, kg m^2), joint range (rad), force limit (N m), kp
_H = 0.70710678
_LINKS = (
    (
        "link1",
        (0, 0, 0.333),
        (1, 0, 0, 0),
        4.970684,
        (0.003875, 0.002081, -0.04762),
        (0.70337, 0.70661, 0.0091170, -0.000139, 0.006772, 0.019169),
        (-2.8973, 2.8973),
        87,
        4500,
    ),
    (
        "link2",
        (0, 0, 0),
        (_H, -_H, 0, 0),
        0.646926,
        (-0.003141, -0.02872, 0.003495),
        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
        (-1.7628, 1.7628),
        87,
        4500,
    ),
    (
        "link3",
        (0, -0.316, 0),
        (_H, _H, 0, 0),
        3.228604,
        (0.027518, 0.039252, -0.066502),
        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
        (-2.8973, 2.8973),
        87,
        3500,
    ),
    (
        "link4",
        (0.0825, 0, 0),
        (_H, _H, 0, 0),
        3.587895,
        (-0.05317, 0.104419, 0.027454),
        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
        (-3.0718, -0.0698),
        87,
        3500,
    ),
    (
        "link5",
        (-0.0825, 0.384, 0),
        (_H, -_H, 0, 0),
        1.225946,
        (-0.011953, 0.041065, -0.038437),
        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
        (-2.8973, 2.8973),
        12,
        2000,
    ),
    (
        "link6",
        (0, 0, 0),
        (_H, _H, 0, 0),
        1.666555,
        (0.060149, -0.014117, -0.010517),
        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
        (-0.0175, 3.7525),
        12,
        2000,
    ),
    (
        "link7",
        (0.088, 0, 0),
        (_H, _H, 0, 0),
        0.735522,
        (0.010517, -0.004252, 0.061597),
        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
        (-2.8973, 2.8973),
        12,
        2000,
    ),
)

ARM = slice(0, 7)  # arm joints in qpos, qvel and ctrl
FINGERS = slice(7, 9)  # finger joints
HOME = np.array([0.0, 0.10, 0.0, -2.25, 0.0, 2.35, np.pi / 4])  # hand down, in front (rad)
FINGER_OPEN = 0.04  # m per finger
WRIST_LIMIT = 2.8  # usable range of joint 7 each way (rad); the stop is at 2.8973

# Gripper: the widely used gain of 100 N/m slips on a small cap; 2000 N/m with the
# real hand's continuous force (70 N) holds. Inertia (kg) and friction (N s/m) of the
# drive cap the speed at about 0.2 m/s, as the real hand's: a massless finger would
# reach 3 m/s within one substep and enter a wide lid.
_GRIP_KP, _GRIP_KV, _GRIP_FORCE, _GRIP_ARMATURE, _GRIP_DAMPING = 2000.0, 60.0, 70.0, 1.0, 250.0
_PAD_FRICTION = (1.5, 0.02, 0.0001)  # rubber pads; torsional 20 mm
_PAD_SOLIMP = (
    0.998,
    0.9998,
    0.0005,
    0.5,
    2,
)  # hard: a soft contact with a 3 g cap lets the fingers sink in
_STIFF = (
    0.999,
    0.9999,
    0.001,
    0.5,
    2,
)  # finger stops and coupling: by default 70 N move them by centimetres
_PAD_SPHERES = (
    (-0.007, 0.0395),
    (0.007, 0.0395),
    (-0.007, 0.0495),
    (0.007, 0.0495),
)  # (x, z) in the finger frame

# Rotor inertia seen through the gears (kg m^2) and viscous friction (N m s) by the
# joint's force limit. Without them a servo whose damping term saturates flips the
# light elbow's velocity at every substep, for seconds.
_MOTOR = {87: {"armature": 0.6, "damping": 5.0}, 12: {"armature": 0.2, "damping": 1.0}}

# collision bits: who can touch whom
HAND_BIT, LID_BIT, CONTAINER_BIT, TABLE_BIT = 1, 2, 4, 8
HAND_TOUCHES = LID_BIT | CONTAINER_BIT | TABLE_BIT


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


MESH_GROUP = 2  # of geoms


def add_panda(spec: mujoco.MjSpec, visual: bool, meshes: bool = True) -> None:
    """Add the Panda at the world origin to spec, with primitive collision shapes.

    With `visual`, the full meshes are drawn instead of the primitives; or nothing, without `meshes`.
    """
    if visual and meshes:
        for name in ("link0", *(link[0] for link in _LINKS), "hand", "finger"):
            spec.add_mesh(
                name=name,
                file=str(mesh_folder() / f"{name}.stl"),
                inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
            )
    if visual:
        spec.add_material(name="panda", rgba=(0.93, 0.93, 0.95, 1), specular=0.4, shininess=0.5)
        spec.add_material(
            name="panda_dark", rgba=(0.16, 0.17, 0.19, 1), specular=0.4, shininess=0.5
        )

    def draw(body, mesh: str, material: str = "panda", **kwargs) -> None:
        if visual and meshes:
            body.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH,
                meshname=mesh,
                material=material,
                group=MESH_GROUP,
                contype=0,
                conaffinity=0,
                mass=0,
                **kwargs,
            )

    base = spec.worldbody.add_body(name="link0")
    draw(base, "link0")
    parent = base
    for i, (name, pos, quat, mass, com, inertia, limits, force, kp) in enumerate(_LINKS):
        parent = parent.add_body(name=name, pos=pos, quat=quat, gravcomp=1)
        parent.explicitinertial = True
        parent.mass, parent.ipos, parent.fullinertia = mass, com, inertia
        joint = f"joint{i + 1}"
        parent.add_joint(name=joint, axis=(0, 0, 1), range=limits, **_MOTOR[force])
        draw(parent, name)
        _servo(spec, joint, kp, kp / 25, force, limits)
    _capsule(parent, (0, 0, 0.03), 0.045, 0.03)  # wrist

    hand = parent.add_body(
        name="hand", pos=(0, 0, 0.107), quat=(0.9238795, 0, 0, -0.3826834), gravcomp=1
    )
    hand.explicitinertial = True
    hand.mass, hand.ipos, hand.inertia = 0.73, (-0.01, 0, 0.03), (0.001, 0.0025, 0.0017)
    hand.add_geom(
        name="palm",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=(0, 0, 0.033),
        size=(0.018, 0.10, 0.033),
        contype=HAND_BIT,
        conaffinity=HAND_TOUCHES,
        group=3,
        mass=0,
    )
    hand.add_site(name="tcp", pos=(0, 0, 0.0584 + 0.0445))
    draw(hand, "hand")
    for side, turn in (("left", (1, 0, 0, 0)), ("right", (0, 0, 0, 1))):
        _finger(spec, hand, side, turn, draw)
    spec.add_equality(
        name="fingers",
        type=mujoco.mjtEq.mjEQ_JOINT,
        objtype=mujoco.mjtObj.mjOBJ_JOINT,
        name1="finger_left",
        name2="finger_right",
        data=[0, 1] + [0] * 10,
        solref=(0.005, 1),
        solimp=_STIFF,
    )


def _finger(spec, hand, side: str, turn, draw) -> None:
    finger = hand.add_body(name=f"finger_{side}", pos=(0, 0, 0.0584), quat=turn, gravcomp=1)
    finger.explicitinertial = True
    finger.mass, finger.ipos, finger.inertia = 0.015, (0, 0.01, 0.025), (2.375e-6, 2.375e-6, 7.5e-7)
    finger.add_joint(
        name=f"finger_{side}",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=(0, 1, 0),
        range=(0, FINGER_OPEN),
        armature=_GRIP_ARMATURE,
        damping=_GRIP_DAMPING,
        solimp_limit=_STIFF,
    )
    for x, z in _PAD_SPHERES:
        finger.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            pos=(x, 0.006, z),
            size=(0.006, 0, 0),
            friction=_PAD_FRICTION,
            solimp=_PAD_SOLIMP,
            condim=4,
            priority=1,
            contype=HAND_BIT,
            conaffinity=HAND_TOUCHES,
            group=3,
            mass=0,
        )
    finger.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=(0, 0.015, 0.026),
        size=(0.009, 0.008, 0.026),
        contype=HAND_BIT,
        conaffinity=HAND_TOUCHES,
        group=3,
        mass=0,
    )
    draw(finger, "finger", "panda_dark")
    _servo(spec, f"finger_{side}", _GRIP_KP, _GRIP_KV, _GRIP_FORCE, (0, FINGER_OPEN))


def _capsule(body, pos, radius: float, half: float) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        pos=pos,
        size=(radius, half, 0),
        contype=HAND_BIT,
        conaffinity=HAND_TOUCHES,
        group=3,
        mass=0,
    )


def _servo(spec, joint: str, kp: float, kv: float, force: float, limits) -> None:
    spec.add_actuator(
        name=joint,
        target=joint,
        trntype=mujoco.mjtTrn.mjTRN_JOINT,
        gaintype=mujoco.mjtGain.mjGAIN_FIXED,
        gainprm=[kp] + [0] * 9,
        biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        biasprm=[0, -kp, -kv] + [0] * 7,
        forcelimited=True,
        forcerange=(-force, force),
        ctrllimited=True,
        ctrlrange=limits,
    )


DAMPING = 1e-4  # of the least squares (m^2): steady near singular poses, exact elsewhere


@numba.njit(cache=True)
def joint_steps(ids, anchor, axis, pos, mat, offset, turn):
    """Changes of the arms' joint angles, (k, 7) rad, that move and turn their hands: one step of damped least squares.

    The hand is to end with its tool axis straight down. The rotation part of the error
    is the small-angle rotation vector: the skew part of the rotation from tool to target.
    Compiled: in NumPy it made what a control step spends outside MuJoCo a sixth longer
    (measured: 0.62 instead of 0.53 ms).

    Args:
        ids: (k,) rows of the next four that are meant.
        anchor: (n, 7, 3) of the joints, world frame (m).
        axis: (n, 7, 3) of the joints, world frame.
        pos: (n, 3) tool position, world frame (m).
        mat: (n, 3, 3) tool rotation matrix.
        offset: (k, 3) from there to where the tool is wanted, world frame (m).
        turn: (k,) of its x axis about world z (rad).
    """
    joints = axis.shape[1]
    jac, low, error = np.empty((6, joints)), np.empty((6, 6)), np.empty(6)
    out = np.zeros((len(ids), joints))
    for row, i in enumerate(ids):
        for j in range(joints):  # translation (axis x arm) over rotation (axis)
            ax, ay, az = axis[i, j, 0], axis[i, j, 1], axis[i, j, 2]
            x, y, z = (
                pos[i, 0] - anchor[i, j, 0],
                pos[i, 1] - anchor[i, j, 1],
                pos[i, 2] - anchor[i, j, 2],
            )
            jac[0, j], jac[1, j], jac[2, j] = ay * z - az * y, az * x - ax * z, ax * y - ay * x
            jac[3, j], jac[4, j], jac[5, j] = ax, ay, az
        # the target's axes are (c, s, 0), (s, -c, 0), (0, 0, -1)
        yaw = math.atan2(mat[i, 1, 0], mat[i, 0, 0]) + turn[row]
        c, s = math.cos(yaw), math.sin(yaw)
        error[0], error[1], error[2] = offset[row, 0], offset[row, 1], offset[row, 2]
        error[3] = (c * mat[i, 2, 1] - s * mat[i, 2, 0] - mat[i, 1, 2]) / 2
        error[4] = (c * mat[i, 2, 0] + s * mat[i, 2, 1] + mat[i, 0, 2]) / 2
        error[5] = (s * mat[i, 0, 0] - c * mat[i, 0, 1] - c * mat[i, 1, 0] - s * mat[i, 1, 1]) / 2
        for a in range(
            6
        ):  # Cholesky factor of jac x jac^T + damping; the error is solved for on the way down and up
            for b in range(a + 1):
                value = DAMPING if a == b else 0.0
                for j in range(joints):
                    value += jac[a, j] * jac[b, j]
                for k in range(b):
                    value -= low[a, k] * low[b, k]
                low[a, b] = math.sqrt(value) if a == b else value / low[b, b]
            for k in range(a):
                error[a] -= low[a, k] * error[k]
            error[a] /= low[a, a]
        for a in range(5, -1, -1):
            for k in range(a + 1, 6):
                error[a] -= low[k, a] * error[k]
            error[a] /= low[a, a]
            for j in range(joints):
                out[row, j] += jac[a, j] * error[a]
    return out


def yaw_of(mat: np.ndarray) -> np.ndarray:
    """Yaw (n,) of a tool that points down: the angle of its x axis about world z (rad)."""
    return np.arctan2(mat[:, 1, 0], mat[:, 0, 0])
