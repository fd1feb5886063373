"""Where things press on each other in one simulation, and how hard: for pictures."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

from typing import NamedTuple

import mujoco
import numpy as np

from uncap.envs import checks
from uncap.envs.batch import ClosureBatch

LEAST = 0.05  # N; weaker contacts are left out


class Contacts(NamedTuple):
    """Contacts of one simulation, world frame."""

    points: np.ndarray  # (k, 3) m
    forces: np.ndarray  # (k, 3) N, on the body that comes later: of finger and lid, on the lid


def contacts(batch: ClosureBatch, simulation: int = 0) -> Contacts:
    """The contacts of a simulation as it is now; it is copied, and not changed.

    The forces are MuJoCo's (`mj_contactForce`), of a copy of the simulation's own model and state.

    Args:
        batch: the simulations.
        simulation: which.

    Raises:
        ValueError: there is no such simulation.
    """
    simulation = checks.integer("the simulation", simulation, 0, batch.n - 1)
    model = batch.sim.get_model(simulation)
    data = batch.sim.get_data(simulation)
    mujoco.mj_forward(model, data)
    points = []
    forces = []
    for number in range(data.ncon):
        contact = data.contact[number]
        wrench = np.zeros(6)  # force (3,) N and torque (3,) N m, contact frame
        mujoco.mj_contactForce(model, data, number, wrench)
        if np.linalg.norm(wrench[:3]) < LEAST:
            continue
        first, second = model.geom_bodyid[contact.geom]
        force = contact.frame.reshape(3, 3).T @ wrench[:3]  # (3,) N, on the second
        points.append(contact.pos.copy())
        forces.append(force if second > first else -force)
    return Contacts(np.reshape(points, (-1, 3)), np.reshape(forces, (-1, 3)))
