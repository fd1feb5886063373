"""The state observation: named parts in a fixed order, scaled to about [-1, 1].

A new part is one row of ROWS; which of them a policy is given, a row of `sensors.SENSORS` says.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from uncap.envs.episodes import stalled
from uncap.envs.mechanisms import LIFT, MOST_STAGES, TILT_X, TWIST, X
from uncap.envs.panda import ARM_RANGE, FINGER_OPEN
from uncap.envs.sensors import SENSORS
from uncap.envs.tables import lookup

Measured = dict[str, np.ndarray]  # see `ClosureBatch.measure`
Compute = Callable[[Measured, np.ndarray], np.ndarray]
LIMIT = 5.0  # observations are clipped to +-LIMIT
_TOUCH_SCALE = 20  # N
_FORCE_SCALE = 1  # N at the wrist, below which force is linear and above logarithmic
_LAG_SCALE = 0.01  # m of the gripper's servo: 20 N at its stiffness
_TORQUE_SCALE = 0.1  # N m, likewise
_ARM_MIDDLE = ARM_RANGE.mean(1)  # (7,) rad
_ARM_HALF = (ARM_RANGE[:, 1] - ARM_RANGE[:, 0]) / 2  # (7,) rad
_STAGES = np.arange(MOST_STAGES)


class Part(NamedTuple):
    """One part of the state observation.

    Attributes:
        name: of the part.
        size: numbers in it.
        factor: that scales them to about [-1, 1].
        source: key of what is measured; or a function that gives the (n, size) numbers before
            scaling, from the measurements and the progress (n,) made under the hand's contact.
        index: takes the (n, size) numbers from what is measured.
        words: one line, with the unit before scaling.
    """

    name: str
    size: int
    factor: float
    source: str | Compute
    index: Any
    words: str


_ALL = slice(None)
_COLUMN = (slice(None), None)  # of an array (n,)


def _joints(first: int, size: int) -> tuple[slice, slice]:
    """Index of joints first, first + 1, ... in an array (n, 6) of the lid's joints."""
    return (slice(None), slice(first, first + size))


def _bar_yaw(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Cosine and sine of twice the angle: a bar looks the same after half a turn."""
    twice = 2 * measured["bar_yaw_offset"][:, None]  # (n, 1) rad
    return np.concatenate((np.cos(twice), np.sin(twice)), 1)


def _touch(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Saturating, since a squeeze is many times the force of a touch."""
    return np.tanh(measured["touch"] / _TOUCH_SCALE)


def _held(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Progress under contact, as a column."""
    return held_progress[:, None]


def _stage(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """One for the present stage; zeros once the lid is free."""
    return measured["stage"][:, None] == _STAGES


def _joints_in_range(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Where the joints are in their ranges, -1 to 1."""
    return (measured["joints"] - _ARM_MIDDLE) / _ARM_HALF


def _wrist_force(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Logarithmic: a lid weighs less than 1 N, and pressing takes 50 N."""
    return np.arcsinh(measured["wrist_force"] / _FORCE_SCALE)


def _wrist_torque(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Logarithmic, as the force."""
    return np.arcsinh(measured["wrist_torque"] / _TORQUE_SCALE)


def _effort(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Saturating: whether the fingers are stalled on something, or follow what they were told."""
    lag = measured["opening"] - measured["finger_target"]  # (n,) m, of the gripper's servo
    return np.tanh(lag / _LAG_SCALE)[:, None]


def _stalled(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Whether the fingers have something between them, as a column."""
    return stalled(measured)[:, None]


def _near(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """On a scale on which millimetres show; it ends far away."""
    return np.concatenate((measured["container"], measured["height"][:, None]), 1)


def _to_lid(measured: Measured) -> np.ndarray:
    """Angle (n,) rad from hand to lid, if the lid turned with the fingers that held it."""
    return measured["container_yaw"] + measured["moved"][:, 4]


def _lid_yaw(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Cosine and sine of twice the angle: a bar looks the same after half a turn."""
    return _cos_sin(2 * _to_lid(measured))


def _wrist_along(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Cosine and sine of twice the angle of joint 7, once the hand lies along the lid.

    It falls as the yaw rises. Which of a bar's two half turns leaves more room follows from it.
    """
    return _cos_sin(2 * (measured["wrist"] - _to_lid(measured)))


def _cos_sin(angle: np.ndarray) -> np.ndarray:
    """Cosine and sine, (n, 2), of angles (n,) rad."""
    return np.stack((np.cos(angle), np.sin(angle)), 1)


def _container_yaw(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Cosine and sine: the hand may turn by more than half a turn."""
    return _cos_sin(measured["container_yaw"])


_PARTS = (
    Part("grip_offset", 3, 10, "grip_offset", _ALL, "fingertips to held point, world frame (m)"),
    Part("bar_yaw", 2, 1, _bar_yaw, _ALL, "cos and sin of twice the angle from hand to bar"),
    Part("wrist", 1, 1 / 2.9, "wrist", _COLUMN, "joint 7 (rad)"),
    Part("opening", 1, 1 / FINGER_OPEN, "opening", _COLUMN, "of each finger (m)"),
    Part("touch", 2, 1, _touch, _ALL, "tanh of each finger's force on the lid (20 N)"),
    Part("height", 1, 5, "height", _COLUMN, "of the fingertips above the lid's seat (m)"),
    Part("progress", 1, 1, "progress", _COLUMN, "fraction of the way to open"),
    Part("beyond", 1, 10, "beyond", _COLUMN, "of a lid that stays, turned past open (rad)"),
    Part("held", 1, 1, _held, _ALL, "progress gained under contact: success asks for it"),
    Part("twist", 1, 1 / 3, "lid", _joints(TWIST, 1), "of the lid (rad)"),
    Part("twist_velocity", 1, 1 / 4, "lid_velocity", _joints(TWIST, 1), "of the lid (rad/s)"),
    Part("lift", 1, 10, "lid", _joints(LIFT, 1), "of the lid (m)"),
    Part("drift", 2, 20, "lid", _joints(X, 2), "of a free lid across its axis (m)"),
    Part("tilt", 2, 1, "lid", _joints(TILT_X, 2), "of a free or hinged lid (rad)"),
    Part("released", 1, 1, "released", _COLUMN, "whether the lid is free"),
    Part("axis", 2, 1, "axis", _ALL, "x axis of the container, world frame"),
    Part(
        "way", 2, 10, "way", _ALL, "what a lid that moves sideways still has to go, world frame (m)"
    ),
    Part("lid_axis", 2, 1, "lid_axis", _ALL, "x axis of the lid, world frame"),
    Part("stage", MOST_STAGES, 1, _stage, _ALL, "one component for each stage: the present one"),
    Part("stage_done", 1, 1, "stage_done", _COLUMN, "fraction of the present stage's way"),
    Part(
        "down",
        1,
        1,
        "down",
        _COLUMN,
        "how far down a lid is, as a fraction of how far it has to be pressed",
    ),
    Part("dimensions", 3, 25, "dimensions", _ALL, "grip radius, grip height, disc radius (m)"),
    Part("bar", 1, 1, "bar", _COLUMN, "whether the grip is a bar"),
    # of an arm's sensors
    Part("joints", 7, 1, _joints_in_range, _ALL, "of the arm: where in its range each is"),
    Part("joint_velocities", 7, 1 / 2, "joint_velocities", _ALL, "of the arm (rad/s)"),
    Part("fingers", 2, 1 / FINGER_OPEN, "fingers", _ALL, "left and right, from closed (m)"),
    Part("finger_speed", 1, 10, "finger_speed", _COLUMN, "of each finger, opening (m/s)"),
    Part("finger_target", 1, 2 / FINGER_OPEN, "finger_target", _COLUMN, "last told opening (m)"),
    Part("stalled", 1, 1, _stalled, _ALL, "whether something is between the fingers"),
    Part("effort", 1, 1, _effort, _ALL, "tanh of the force of the fingers' motor (20 N)"),
    Part("wrist_force", 3, 1 / 4, _wrist_force, _ALL, "arcsinh of what pushes the hand (1 N)"),
    Part("wrist_torque", 3, 1 / 4, _wrist_torque, _ALL, "arcsinh of what turns it (0.1 N m)"),
    Part("moved", 3, 10, "moved", _joints(0, 3), "hand since it squeezes, world frame (m)"),
    Part("turned", 1, 1 / 3, "moved", _joints(3, 1), "the same about the vertical (rad)"),
    Part("lid_turned", 1, 1 / 3, "moved", _joints(4, 1), "by fingers that hold something (rad)"),
    Part("container", 2, 10, "container", _ALL, "fingertips to the container, world frame (m)"),
    Part("near", 3, 40, _near, _ALL, "container and height again, to 125 mm (m)"),
    Part("container_yaw", 2, 1, _container_yaw, _ALL, "cos and sin of the angle from hand to it"),
    Part("lid_yaw", 2, 2, _lid_yaw, _ALL, "cos and sin of twice the angle from hand to lid"),
    Part("wrist_along", 2, 2, _wrist_along, _ALL, "the same of joint 7 of a hand along the lid"),
    Part("seat", 1, 5, "seat", _COLUMN, "of the lid, above the container's foot (m)"),
)
ROWS = {part.name: part for part in _PARTS}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The parts of a state, for one row of `sensors.SENSORS`.

    Attributes:
        parts: in their order.
        size: numbers in a state.
        factors: (size,) that scale them to about [-1, 1].
    """

    parts: tuple[Part, ...]
    size: int
    factors: np.ndarray

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Layout:
        """The layout of the parts of these names."""
        parts = tuple(ROWS[name] for name in names)
        sizes = [part.size for part in parts]
        return cls(parts, sum(sizes), np.repeat([part.factor for part in parts], sizes))


LAYOUTS = {name: Layout.of(row.parts) for name, row in SENSORS.items()}
FULL = "full"  # the sensors of experts, critics and, unless others are asked for, policies
PARTS = LAYOUTS[FULL].parts
SIZE = LAYOUTS[FULL].size
_HALF = 0.5  # between the 0 and the 1 of a component, whatever the noise
_STAGE_FROM = sum(part.size for part in itertools.takewhile(lambda p: p.name != "stage", PARTS))
_STAGE_COLUMNS = slice(_STAGE_FROM, _STAGE_FROM + MOST_STAGES)  # of a full state


def layout(sensors: str) -> Layout:
    """The layout of a state.

    Raises:
        UnknownName: no such row of `sensors.SENSORS`.
    """
    lookup(SENSORS, sensors, "sensors")
    return LAYOUTS[sensors]


def stage_in(state: np.ndarray) -> np.ndarray:
    """Index (n,) of the present stage in `full` states (n, SIZE); MOST_STAGES where none is."""
    one_hot = state[:, _STAGE_COLUMNS]
    return np.where(one_hot.max(1) > _HALF, one_hot.argmax(1), MOST_STAGES)


def observe(
    measured: Measured,
    held_progress: np.ndarray,
    noise: np.ndarray | None = None,
    sensors: str = FULL,
) -> np.ndarray:
    """The state observation.

    Args:
        measured: measurements, see `ClosureBatch.measure`; those of `measure_arm`, too, where the
            sensors ask for them.
        held_progress: (n,) progress made under the hand's contact.
        noise: (n, size) that is added to the scaled numbers, before they are clipped.
        sensors: a row of `sensors.SENSORS`.

    Returns:
        (n, size) float32 in [-LIMIT, LIMIT].
    """
    chosen = LAYOUTS[sensors]
    columns = [
        measured[source][index] if isinstance(source, str) else source(measured, held_progress)
        for _, _, _, source, index, _ in chosen.parts
    ]
    state = np.concatenate(columns, 1)  # (n, size)
    state *= chosen.factors
    state = state.astype(np.float32)
    if noise is not None:
        state = (state + noise).astype(np.float32)
    np.maximum(state, -LIMIT, out=state)
    np.minimum(state, LIMIT, out=state)
    return state
