"""Closures as Gymnasium environments: importing this package registers them.

The environments' classes need mujoco and numba, so they are imported when they are asked
for (PEP 562). The tables are there at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if __name__ == "envs":  # a second copy of the tables and ids would come of it
    raise ImportError("import uncap instead: envs is a folder of its checkout")

from uncap.envs.opengl import choose_backend

choose_backend()

# ruff: noqa: E402 (the back end is chosen before anything can import mujoco)
from uncap.envs.closures import CLOSURES, TASK_SETS, Closure, TaskSet, distance, named_set, register
from uncap.envs.generator import sample_closure

if TYPE_CHECKING:
    from uncap.envs.env import ClosureEnv
    from uncap.envs.vector_env import ClosureVectorEnv

__all__ = [
    "CLOSURES",
    "TASK_SETS",
    "Closure",
    "ClosureEnv",
    "ClosureVectorEnv",
    "TaskSet",
    "distance",
    "named_set",
    "register",
    "sample_closure",
]

_ENVIRONMENTS = {"ClosureEnv": "uncap.envs.env", "ClosureVectorEnv": "uncap.envs.vector_env"}


def __getattr__(name: str) -> Any:
    """Import an environment's class when it is asked for."""
    if name not in _ENVIRONMENTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ENVIRONMENTS[name]), name)


def __dir__() -> list[str]:
    """List the environments' classes also before they are imported."""
    return sorted({*globals(), *__all__})
