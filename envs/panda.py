"""The robot in numbers: its links and limits, and what an action means. Imports no simulation.

Link frames, joint limits and force limits are the manufacturer's (Franka Control Interface
documentation). Masses and inertias are those identified by Gaz et al., "Dynamic Identification
of the Franka Emika Panda Robot with Retrieval of Feasible Parameters" (RA-L 2019).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Vector = tuple[float, ...]


class Link(NamedTuple):
    """One arm link with the joint that turns it about its z axis."""

    name: str
    position: Vector  # (3,) m, in the parent's frame
    quaternion: Vector  # (4,) w x y z, in the parent's frame
    mass: float  # kg
    centre_of_mass: Vector  # (3,) m
    inertia: Vector  # (6,) xx yy zz xy xz yz, kg m^2
    joint_range: tuple[float, float]  # rad
    torque_limit: int  # N m
    stiffness: float  # N m/rad of the position servo


STRAIGHT = (1, 0, 0, 0)
_H = 0.70710678
LINKS = (
    Link(
        name="link1",
        position=(0, 0, 0.333),
        quaternion=STRAIGHT,
        mass=4.970684,
        centre_of_mass=(0.003875, 0.002081, -0.04762),
        inertia=(0.70337, 0.70661, 0.0091170, -0.000139, 0.006772, 0.019169),
        joint_range=(-2.8973, 2.8973),
        torque_limit=87,
        stiffness=4500,
    ),
    Link(
        name="link2",
        position=(0, 0, 0),
        quaternion=(_H, -_H, 0, 0),
        mass=0.646926,
        centre_of_mass=(-0.003141, -0.02872, 0.003495),
        inertia=(0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
        joint_range=(-1.7628, 1.7628),
        torque_limit=87,
        stiffness=4500,
    ),
    Link(
        name="link3",
        position=(0, -0.316, 0),
        quaternion=(_H, _H, 0, 0),
        mass=3.228604,
        centre_of_mass=(0.027518, 0.039252, -0.066502),
        inertia=(0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
        joint_range=(-2.8973, 2.8973),
        torque_limit=87,
        stiffness=3500,
    ),
    Link(
        name="link4",
        position=(0.0825, 0, 0),
        quaternion=(_H, _H, 0, 0),
        mass=3.587895,
        centre_of_mass=(-0.05317, 0.104419, 0.027454),
        inertia=(0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
        joint_range=(-3.0718, -0.0698),
        torque_limit=87,
        stiffness=3500,
    ),
    Link(
        name="link5",
        position=(-0.0825, 0.384, 0),
        quaternion=(_H, -_H, 0, 0),
        mass=1.225946,
        centre_of_mass=(-0.011953, 0.041065, -0.038437),
        inertia=(0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
        joint_range=(-2.8973, 2.8973),
        torque_limit=12,
        stiffness=2000,
    ),
    Link(
        name="link6",
        position=(0, 0, 0),
        quaternion=(_H, _H, 0, 0),
        mass=1.666555,
        centre_of_mass=(0.060149, -0.014117, -0.010517),
        inertia=(0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
        joint_range=(-0.0175, 3.7525),
        torque_limit=12,
        stiffness=2000,
    ),
    Link(
        name="link7",
        position=(0.088, 0, 0),
        quaternion=(_H, _H, 0, 0),
        mass=0.735522,
        centre_of_mass=(0.010517, -0.004252, 0.061597),
        inertia=(0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
        joint_range=(-2.8973, 2.8973),
        torque_limit=12,
        stiffness=2000,
    ),
)

ARM_RANGE = np.array([link.joint_range for link in LINKS])  # (7, 2) rad
FINGER_OPEN = 0.04  # m per finger
WRIST_LIMIT = 2.8  # usable range of joint 7 each way (rad); the stop is at 2.8973
STEP_POSITION = 0.03  # m that the hand is sent ahead at full action
STEP_YAW = 0.4  # rad that it is turned ahead


class Action(NamedTuple):
    """One number of an action, in [-1, 1].

    Attributes:
        name: of the number.
        scale: what 1 stands for, in its unit.
        offset: what 0 stands for.
        unit: of both.
        words: one line.
    """

    name: str
    scale: float
    offset: float
    unit: str
    words: str


ACTIONS = (  # see `ClosureBatch.step`
    Action("dx", STEP_POSITION, 0.0, "m", "of the hand from its present pose, world frame"),
    Action("dy", STEP_POSITION, 0.0, "m", "likewise"),
    Action("dz", STEP_POSITION, 0.0, "m", "likewise"),
    Action("dyaw", STEP_YAW, 0.0, "rad", "likewise, about the vertical"),
    Action("opening", FINGER_OPEN / 2, FINGER_OPEN / 2, "m", "of each finger from closed"),
)
