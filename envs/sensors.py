"""What a policy senses: which parts of the state observation it is given.

A new set of sensors is one row of SENSORS. Its parts are rows of `observations.ROWS`, which the
names stand for, so that the command line can list the sets without loading the simulation.
"""

from __future__ import annotations

from typing import NamedTuple


class Sensors(NamedTuple):
    """One set of sensors.

    Attributes:
        parts: names of the parts of a state, in their order.
        words: one line.
        pictures: whether the pictures of two cameras join the state, as `rgb`.
    """

    parts: tuple[str, ...]
    words: str
    pictures: bool = False


PICTURE_SIZE = 84  # pixels, height and width of each of two pictures
PICTURE_SHAPE = (PICTURE_SIZE, PICTURE_SIZE, 6)  # red, green, blue of the first, then the second

# what an arm feels of itself
_FELT = (
    "joints",
    "joint_velocities",
    "fingers",
    "opening",
    "finger_speed",
    "finger_target",
    "effort",
    "stalled",
    "wrist_force",
    "wrist_torque",
    "moved",
    "turned",
    "lid_turned",
)
SENSORS = {
    "full": Sensors(
        (
            "grip_offset",
            "bar_yaw",
            "wrist",
            "opening",
            "touch",
            "height",
            "progress",
            "beyond",
            "held",
            "twist",
            "twist_velocity",
            "lift",
            "drift",
            "tilt",
            "released",
            "axis",
            "way",
            "lid_axis",
            "stage",
            "stage_done",
            "down",
            "dimensions",
            "bar",
        ),
        "all that the simulation tells, the lid's joints and progress included",
    ),
    "arm": Sensors(
        (
            *_FELT,
            "container",
            "height",
            "near",
            "axis",
            "container_yaw",
            "lid_yaw",
            "wrist_along",
            "seat",
        ),
        "what a real arm has: joints, fingers, force and torque at the wrist, and where the "
        "closed container stands",
    ),
    "pictures": Sensors(
        _FELT,
        "two cameras, and what an arm feels of itself: joints, fingers, force and torque at the "
        "wrist; nothing of where the closure is, or how large",
        pictures=True,
    ),
}
