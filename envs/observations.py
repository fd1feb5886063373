"""The state observation: named parts in a fixed order, scaled to about [-1, 1]."""

from __future__ import annotations

import numpy as np

from envs.robot import FINGER_OPEN

# name, size, meaning: the layout of the vector, in order
PARTS = (
    ("grip_offset", 3, "from the fingertips to where the lid is held, world frame (x 10 / m)"),
    ("target_offset", 3, "from the fingertips to the controller's target, world frame (x 25 / m)"),
    ("target_yaw", 1, "from the hand's yaw to the controller's target (x 2.5 / rad)"),
    ("bar_yaw", 2, "cos and sin of twice the angle from hand to bar"),
    ("wrist", 1, "joint 7 (/ 2.9 rad)"),
    ("opening", 1, "of each finger (/ 0.04 m)"),
    ("touch", 2, "force of each finger on the lid (tanh of N / 20)"),
    ("height", 1, "of the fingertips above the lid's seat (x 5 / m)"),
    ("progress", 1, "fraction of the way to open"),
    ("twist", 1, "of the lid (/ 3 rad)"),
    ("twist_velocity", 1, "of the lid (/ 4 rad/s)"),
    ("lift", 1, "of the lid (x 10 / m)"),
    ("drift", 2, "of a free lid across its axis (x 20 / m)"),
    ("tilt", 2, "of a free or hinged lid (rad)"),
    ("released", 1, "whether the lid is free"),
    ("axis", 2, "x axis of the container, world frame"),
    ("way", 2, "that a lid which moves sideways still has to go, world frame (x 10 / m)"),
    ("dimensions", 4, "grip radius, grip height, disc radius (x 25 / m), whether it is a bar"),
)
SIZE = sum(size for _, size, _ in PARTS)
LIMIT = 5.0  # observations are clipped to +-LIMIT


def observe(m: dict[str, np.ndarray]) -> np.ndarray:
    """State observation (n, SIZE), float32, from measurements."""
    lid = m["lid"]
    columns = {
        "grip_offset": 10 * m["grip_offset"],
        "target_offset": 25 * m["target_offset"],
        "target_yaw": 2.5 * m["target_yaw_offset"],
        "bar_yaw": np.stack([np.cos(2 * m["bar_yaw_offset"]), np.sin(2 * m["bar_yaw_offset"])], 1),
        "wrist": m["wrist"] / 2.9,
        "opening": m["opening"] / FINGER_OPEN,
        "touch": np.tanh(m["touch"] / 20),
        "height": 5 * m["height"],
        "progress": m["progress"],
        "twist": lid[:, 3] / 3,
        "twist_velocity": m["lid_velocity"][:, 3] / 4,
        "lift": 10 * lid[:, 2],
        "drift": 20 * lid[:, :2],
        "tilt": lid[:, 4:6],
        "released": m["released"],
        "axis": m["axis"],
        "way": 10 * m["way"],
        "dimensions": np.stack([25 * m["grip_radius"], 25 * m["grip_height"], 25 * m["cap_radius"], m["bar"]], 1),
    }
    out, low = np.empty((len(lid), SIZE), np.float32), 0
    for name, size, _ in PARTS:
        out[:, low : low + size] = columns[name].reshape(len(lid), size)
        low += size
    return np.minimum(np.maximum(out, -LIMIT, out=out), LIMIT, out=out)
