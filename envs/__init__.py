"""Closures as Gymnasium environments: importing this package registers them."""

import gymnasium as gym

from envs.opengl import choose_backend

choose_backend()  # before anything imports mujoco

# ruff: noqa: E402
from envs.closures import CLOSURES, TASK_SETS, Closure, TaskSet, distance
from envs.env import ClosureEnv
from envs.vector_env import ClosureVectorEnv

__all__ = ["CLOSURES", "TASK_SETS", "Closure", "ClosureEnv", "ClosureVectorEnv", "TaskSet", "distance"]


def _register() -> None:
    vector = "envs.vector_env:ClosureVectorEnv"
    for row in CLOSURES.values():
        if row.gym_id not in gym.registry:
            kwargs = {"task": row.name}
            gym.register(row.gym_id, entry_point="envs.env:ClosureEnv", kwargs=kwargs)
    for task_set in TASK_SETS.values():
        set_id = f"Uncap/{task_set.name.capitalize()}-v0"
        if set_id not in gym.registry:
            gym.register(set_id, vector_entry_point=vector, kwargs={"tasks": task_set.train})


_register()
