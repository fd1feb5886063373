"""What is measured of n simulations: functions of where hand, container and lid are.

They take NumPy's arrays, or what NumPy's functions take for one. World frame, SI units.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import mujoco
import numpy as np

from uncap.envs import robot
from uncap.envs.angles import wrap
from uncap.envs.constants import MARK
from uncap.envs.mechanisms import LIFT, MOST_STAGES, TWIST

Numbers = Mapping[str, np.ndarray]  # (n, ...) by name

# N on a finger, towards the other one, that counts as contact; on both, as holding
HOLD_FORCE = 0.5
# of a finger's vertical force that the inward one must reach, or it only leans on the lid
HOLD_SHARE = 0.25
# sign of the force on left and right finger along the hand's y axis when they squeeze
_INWARDS = np.array([-1.0, 1.0])
_TOUCH = slice(0, 6)  # of sensordata: the forces of two fingers on the lid
CONTACTS = 6  # how many contacts container and lid have with the robot
_WRIST_FORCE = slice(7, 10)
_WRIST_TORQUE = slice(10, 13)


class Hand(NamedTuple):
    """Arm, hand, and where the hand holds the lid. World frame."""

    joint_anchors: np.ndarray  # (n, 7, 3) m, points on the arm joints' axes
    joint_axes: np.ndarray  # (n, 7, 3)
    position: np.ndarray  # (n, 3) m, point between the fingertips
    rotation: np.ndarray  # (n, 3, 3) of the hand
    grip: np.ndarray  # (n, 3) m, where the lid is held
    touch: np.ndarray  # (n, 2, 3) N, of each finger on the lid
    # of the arm on the hand, about the flange and in its frame; empty where that is not sensed
    wrist_force: np.ndarray  # (n, 3) N
    wrist_torque: np.ndarray  # (n, 3) N m
    arm: np.ndarray  # (n, 7) rad, joints
    fingers: np.ndarray  # (n, 2) m, joints

    @classmethod
    def of(cls, model: mujoco.MjModel, arrays: Numbers) -> Hand:
        """Views of MuJoCo's arrays, which follow the simulations.

        Args:
            model: has the places of hand and lid in them.
            arrays: qpos, site_xpos, site_xmat, sensordata, xanchor and xaxis, (n, ...) by name.
        """
        n = len(arrays["qpos"])
        tcp = model.site("tcp").id
        site_position = arrays["site_xpos"]  # (n, sites, 3)
        site_rotation = arrays["site_xmat"].reshape(n, -1, 3, 3)
        sensed = arrays["sensordata"]  # (n, 13); (n, 7) without those at the wrist
        return cls(
            joint_anchors=arrays["xanchor"][:, robot.ARM],
            joint_axes=arrays["xaxis"][:, robot.ARM],
            position=site_position[:, tcp],
            rotation=site_rotation[:, tcp],
            grip=site_position[:, model.site("grip").id],
            touch=sensed[:, _TOUCH].reshape(n, 2, 3),
            wrist_force=sensed[:, _WRIST_FORCE],
            wrist_torque=sensed[:, _WRIST_TORQUE],
            arm=arrays["qpos"][:, robot.ARM],
            fingers=arrays["qpos"][:, robot.FINGERS],
        )


class Containers(NamedTuple):
    """What follows from the containers' poses, which stay until an episode ends."""

    yaw: np.ndarray  # (n,) rad
    x_axis: np.ndarray  # (n, 2) horizontal, world frame
    seat_height: np.ndarray  # (n,) m, world z of the lid's seat
    rotation: np.ndarray  # (n, 2, 2) from the container's to the world frame

    @classmethod
    def of(cls, position: np.ndarray, quaternion: np.ndarray, seat: np.ndarray) -> Containers:
        """What follows from poses.

        Args:
            position: (n, 3) of the containers (m).
            quaternion: (n, 4) w x y z.
            seat: (n,) heights of the lids' seats above the containers' feet (m).
        """
        yaw = 2 * np.arctan2(quaternion[:, 3], quaternion[:, 0])
        cos = np.cos(yaw)
        sin = np.sin(yaw)
        return cls(
            yaw=yaw,
            x_axis=np.stack([cos, sin], -1),
            seat_height=seat + position[:, 2],
            rotation=np.stack([cos, -sin, sin, cos], -1).reshape(-1, 2, 2),
        )


class Sideways(NamedTuple):
    """Of lids that move sideways in the present stage; zero for others. World frame."""

    goal: np.ndarray  # (n, 2) m, from the closed lid to where it shall be
    rotation: np.ndarray  # (n, 2, 2) from the container's frame

    @classmethod
    def of(cls, now: Numbers, containers: Containers) -> Sideways:
        """What follows from the numbers of the present stages, see `stage_constants`."""
        moves = now["sideways"]  # (n,) 1 for a lid that moves sideways, else 0
        return cls(
            goal=(moves * now["sideways_to"])[:, None] * containers.x_axis,
            rotation=moves[:, None, None] * containers.rotation,
        )


def progress_to_marks(
    from_mark: np.ndarray,
    start: np.ndarray,
) -> np.ndarray:
    """Progress (n,) of what is moved to a mark.

    Args:
        from_mark: (n, 3) from the mark to the lid, or to the hand (m).
        start: (n,) m from the mark at which progress begins.
    """
    distance = np.sqrt(np.einsum("ij,ij->i", from_mark, from_mark))
    return np.minimum(np.maximum((start - distance) / (start - MARK), 0.0), 1.0)


def measure_hand(hand: Hand, containers: Containers, lid: np.ndarray) -> dict[str, np.ndarray]:
    """Where the hand is, of the container and of the lid (n, 6)."""
    tcp = hand.position.copy()
    lid_yaw = containers.yaw + lid[:, TWIST]
    bar_yaw_offset = wrap(2 * (lid_yaw - robot.yaw_of(hand.rotation))) / 2
    return {
        "tcp": tcp,  # (n, 3) point between the fingertips
        "grip_offset": hand.grip - tcp,  # (n, 3) from there to where the lid is held
        "bar_yaw_offset": bar_yaw_offset,  # (n,) from hand to bar, modulo a half turn
        "wrist": hand.arm[:, 6].copy(),  # (n,) joint 7
        "opening": 0.5 * (hand.fingers[:, 0] + hand.fingers[:, 1]),  # (n,) of each finger
        "height": tcp[:, 2] - containers.seat_height,  # (n,) of the tips above the seat
    }


def measure_contact(hand: Hand, constants: Numbers) -> dict[str, np.ndarray]:
    """How the fingers touch the lid; constants: of the variants, see `constants.constants`."""
    force = hand.touch  # (n, 2, 3)
    touch = np.sqrt(np.einsum("ijk,ijk->ij", force, force))
    # a finger holds by pressing inwards; two that rest on top of a lid, a fist, press downwards
    across = hand.rotation[:, :, 1]  # (n, 3) the hand's y axis
    inward = np.einsum("ijk,ik->ij", force, across) * _INWARDS  # (n, 2)
    downward = np.abs(force[:, :, 2])
    pressing = (inward > HOLD_FORCE) & (inward > HOLD_SHARE * downward)
    touching = touch > HOLD_FORCE
    contact = np.where(
        constants["hold_rule"],
        pressing[:, 0] | pressing[:, 1],
        constants["free_rule"] | touching[:, 0] | touching[:, 1],
    )
    return {
        "touch": touch,  # (n, 2) force of each finger on the lid
        "holds": pressing[:, 0] & pressing[:, 1],  # (n,) the lid between the fingers
        "contact": contact,  # (n,) the hand at work
    }


class Lid(NamedTuple):
    """The state of lids, and how far they are open."""

    joints: np.ndarray  # (n, 6) m, rad
    velocity: np.ndarray  # (n, 6) m/s, rad/s
    progress: np.ndarray  # (n,)
    released: np.ndarray  # bool (n,)
    # (n,) index of the present stage; MOST_STAGES once the lid is free, or has latched open
    stage: np.ndarray
    travelled: np.ndarray  # (n,) share of the present stage's way


def measure_lid(
    lid: Lid, now: Numbers, constants: Numbers, containers: Containers, sideways: Sideways
) -> dict[str, np.ndarray]:
    """Where the lid is, and how far it is open.

    Args:
        lid: its state.
        now: numbers of the present stages, see `constants.stage_constants`.
        constants: of the variants, see `constants.constants`.
        containers: their poses.
        sideways: what follows of them for lids that move sideways.
    """
    joints = lid.joints.copy()
    moved = np.einsum("ijk,ik->ij", sideways.rotation, joints[:, :2])
    turned = np.einsum("ij,ij->i", joints - now["start"], now["swing"])
    separation = np.sqrt(np.einsum("ij,ij->i", joints[:, :3], joints[:, :3]))
    lid_yaw = containers.yaw + joints[:, TWIST]
    down = np.minimum(np.maximum(-joints[:, LIFT] * constants["per_down"], 0.0), 1.0)
    stage_done = np.minimum(np.maximum(lid.travelled, 0.0), 1.0)
    return {
        "axis": containers.x_axis,  # (n, 2) x axis of the container, horizontal
        # (n, 2) the same of the lid, but for its tilt
        "lid_axis": np.stack([np.cos(lid_yaw), np.sin(lid_yaw)], -1),
        "way": sideways.goal - moved,  # (n, 2) left for a lid that moves sideways
        "lid": joints,  # (n, 6)
        "lid_velocity": lid.velocity.copy(),  # (n, 6)
        "progress": lid.progress.copy(),  # (n,)
        "stage": lid.stage,  # (n,)
        "stage_done": np.where(lid.stage == MOST_STAGES, 1.0, stage_done),  # (n,) of its way
        "down": down,  # (n,) share of the way down, of a lid that is lowered or pressed
        # (n,) that a lid which stays has turned past open
        "beyond": np.maximum(turned - now["swing_end"], 0.0),
        "released": lid.released.copy(),  # (n,)
        "separation": separation,  # (n,) of the lid from its seat
    }


class Flange(NamedTuple):
    """What the sensor at the wrist carries."""

    weight: float  # N, of hand and fingers
    centre: np.ndarray  # (3,) m, of them, in the hand's frame


def measure_arm(
    hand: Hand,
    flange: Flange,
    qvel: np.ndarray,
    ctrl: np.ndarray,
    containers: Containers,
    position: np.ndarray,
    seat: np.ndarray,
) -> dict[str, np.ndarray]:
    """What an arm's sensors ask for, see `ClosureBatch.measure_arm`.

    Args:
        hand: with the force and torque that are sensed at the wrist.
        flange: what hangs on that sensor.
        qvel: (n, nv) velocities.
        ctrl: (n, nu) commands.
        containers: their poses.
        position: (n, 3) of them (m).
        seat: (n,) m, of the lids' seats above the containers' feet.
    """
    up = hand.rotation[:, 2]  # (n, 3) world z in the hand's frame
    support = flange.weight * up  # (n, 3) N, that carries hand and fingers
    turning = np.cross(flange.centre, support)  # (n, 3) N m, about the flange
    yaw = robot.yaw_of(hand.rotation)  # (n,) rad
    return {
        "joints": hand.arm.copy(),  # (n, 7) rad
        "joint_velocities": qvel[:, robot.ARM].copy(),  # (n, 7) rad/s
        "fingers": hand.fingers.copy(),  # (n, 2) m
        "finger_target": ctrl[:, robot.FINGERS.start].copy(),  # (n,) m, last commanded
        "finger_speed": qvel[:, robot.FINGERS].mean(1),  # (n,) m/s, of each; opening: +
        "wrist_force": support - hand.wrist_force,  # (n, 3) N, hand's frame
        "wrist_torque": turning - hand.wrist_torque,  # (n, 3) N m, hand's frame
        # (n, 2) m, from the point between the fingertips to the container, world frame
        "container": position[:, :2] - hand.position[:, :2],
        # (n,) rad, from hand to container
        "container_yaw": containers.yaw - yaw,
        "hand_yaw": yaw,  # (n,) rad
        "seat": seat.copy(),  # (n,) m, above the container's foot
    }


def present_stage(released: np.ndarray, done_before: np.ndarray, stage: np.ndarray) -> np.ndarray:
    """Index (n,) of the present stages; MOST_STAGES once a lid is free, or has latched open.

    Args:
        released: bool (n,), whether the lid is free.
        done_before: (n,) share of the way to open that the stages before it have made.
        stage: (n,) index of the stage that is not done yet.
    """
    return np.where(released | (done_before >= 1.0), MOST_STAGES, stage)
