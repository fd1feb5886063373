"""The arm's Cartesian controller on tensors: `robot.joint_steps` for all hands at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uncap.envs.device.arrays import constant
from uncap.envs.robot import DAMPING


def joint_steps(
    anchors: Tensor,
    axes: Tensor,
    positions: Tensor,
    rotations: Tensor,
    offsets: Tensor,
    turns: Tensor,
) -> Tensor:
    """Changes of the arms' joint angles that move and turn their hands.

    One step of damped least squares, see `robot.joint_steps`, which has the formula's source.

    Args:
        anchors: (n, 7, 3) points on the joints' axes, world frame (m).
        axes: (n, 7, 3) the joints' axes, world frame.
        positions: (n, 3) of the tools, world frame (m).
        rotations: (n, 3, 3) of the tools, to the world frame.
        offsets: (n, 3) from the tools to where they are wanted, world frame (m).
        turns: (n,) of the tools' x axes about world z (rad).

    Returns:
        (n, 7) changes (rad).
    """
    lever_arms = positions[:, None] - anchors  # (n, 7, 3) m
    velocities = torch.linalg.cross(axes, lever_arms)  # (n, 7, 3) of the tools, per joint velocity
    transposed = torch.cat((velocities, axes), -1)  # (n, 7, 6) J^T
    error = torch.cat((offsets, _rotation_errors(rotations, turns)), 1)  # (n, 6)
    products = transposed[:, :, :, None] * transposed[:, :, None]  # (n, 7, 6, 6)
    weights = _solve_damped(products.sum(1), error)  # (n, 6)
    return (transposed * weights[:, None]).sum(-1)


def _rotation_errors(rotations: Tensor, turns: Tensor) -> Tensor:
    """Small-angle rotation vectors (n, 3) rad to hands that point down, turned by `turns`.

    The target's axes are (c, s, 0), (s, -c, 0) and (0, 0, -1). Half the sum of the cross products
    of the present axes with the target's is the skew part of target x rotation^T.
    """
    yaw = torch.atan2(rotations[:, 1, 0], rotations[:, 0, 0]) + turns  # (n,) rad
    cos = torch.cos(yaw)
    sin = torch.sin(yaw)
    zero = torch.zeros_like(yaw)
    x_axis = torch.stack((cos, sin, zero), -1)  # (n, 3)
    y_axis = torch.stack((sin, -cos, zero), -1)
    z_axis = torch.stack((zero, zero, zero - 1), -1)
    targets = torch.stack((x_axis, y_axis, z_axis), 1)  # (n, 3, 3), an axis in each row
    present = rotations.transpose(1, 2)  # likewise
    return torch.linalg.cross(present, targets).sum(1) / 2


def _solve_damped(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Solutions x (n, 6) of (M + DAMPING I) x = v, by elimination without pivots.

    M is positive semi-definite, so that the pivots are DAMPING or more.

    Args:
        matrices: (n, 6, 6) M.
        vectors: (n, 6) v.
    """
    size = vectors.shape[1]
    identity = constant(np.eye(size), vectors.device, vectors.dtype)
    rows = torch.cat((matrices + DAMPING * identity, vectors[:, :, None]), -1)  # (n, 6, 7)
    for k in range(size):
        column = rows[:, :, k : k + 1] - identity[:, k : k + 1]  # (n, 6, 1): row k becomes 1
        pivot_row = rows[:, k : k + 1] / rows[:, k : k + 1, k : k + 1]  # (n, 1, 7)
        rows = torch.addcmul(rows, column, pivot_row, value=-1)
    return rows[:, :, size]
