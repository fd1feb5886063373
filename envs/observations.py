"""The state observation: named parts in a fixed order, scaled to about [-1, 1]."""

from __future__ import annotations

import numpy as np

from envs.robot import FINGER_OPEN

# name, size, factor, meaning: the layout of the vector, in order
PARTS = (
    ("grip_offset", 3, 10, "from the fingertips to where the lid is held, world frame (m)"),
    ("bar_yaw", 2, 1, "cos and sin of twice the angle from hand to bar"),
    ("wrist", 1, 1 / 2.9, "joint 7 (rad)"),
    ("opening", 1, 1 / FINGER_OPEN, "of each finger (m)"),
    ("touch", 2, 1, "tanh of each finger's force on the lid (20 N)"),
    ("height", 1, 5, "of the fingertips above the lid's seat (m)"),
    ("progress", 1, 1, "fraction of the way to open"),
    ("beyond", 1, 10, "that a lid which stays has turned past open (rad)"),
    ("held", 1, 1, "of it, what was gained under the hand's contact: success asks for it"),
    ("twist", 1, 1 / 3, "of the lid (rad)"),
    ("twist_velocity", 1, 1 / 4, "of the lid (rad/s)"),
    ("lift", 1, 10, "of the lid (m)"),
    ("drift", 2, 20, "of a free lid across its axis (m)"),
    ("tilt", 2, 1, "of a free or hinged lid (rad)"),
    ("released", 1, 1, "whether the lid is free"),
    ("axis", 2, 1, "x axis of the container, world frame"),
    ("way", 2, 10, "that a lid which moves sideways still has to go, world frame (m)"),
    ("dimensions", 3, 25, "grip radius, grip height, disc radius (m)"),
    ("bar", 1, 1, "whether the grip is a bar"),
)
SIZE = sum(size for _, size, *_ in PARTS)
LIMIT = 5.0  # observations are clipped to +-LIMIT
_FACTORS = np.repeat(
    [factor for _, _, factor, _ in PARTS], [size for _, size, *_ in PARTS]
)  # (SIZE,)


def observe(m: dict[str, np.ndarray], held_progress: np.ndarray) -> np.ndarray:
    """State observation (n, SIZE), float32, from measurements and the progress (n,) made under contact."""
    lid, twice = m["lid"], 2 * m["bar_yaw_offset"][:, None]
    column = {
        k: m[k][:, None]
        for k in ("wrist", "opening", "height", "progress", "beyond", "released", "bar")
    }
    columns = (
        m["grip_offset"],
        np.cos(twice),
        np.sin(twice),
        column["wrist"],
        column["opening"],
        np.tanh(m["touch"] / 20),
        column["height"],
        column["progress"],
        column["beyond"],
        held_progress[:, None],
        lid[:, 3:4],
        m["lid_velocity"][:, 3:4],
        lid[:, 2:3],
        lid[:, :2],
        lid[:, 4:6],
        column["released"],
        m["axis"],
        m["way"],
        m["dimensions"],
        column["bar"],
    )
    out = np.concatenate(columns, 1)
    out *= _FACTORS
    return np.minimum(np.maximum(out, -LIMIT, out=out), LIMIT, out=out).astype(np.float32)
