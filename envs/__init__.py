"""Closures as Gymnasium environments: importing this package registers them."""

from envs.opengl import choose_backend

choose_backend()  # before anything imports mujoco

# ruff: noqa: E402
from envs.closures import CLOSURES, TASK_SETS, Closure, TaskSet, distance, register
from envs.env import ClosureEnv
from envs.generator import sample_closure
from envs.vector_env import ClosureVectorEnv

__all__ = [
    "CLOSURES",
    "TASK_SETS",
    "Closure",
    "ClosureEnv",
    "ClosureVectorEnv",
    "TaskSet",
    "distance",
    "register",
    "sample_closure",
]
