"""A multi-task gym for robot manipulation: a Franka Panda opens closures.

Importing it registers the environments' ids with Gymnasium. What is listed in `__all__` is the
public API. Classes that need mujoco or torch are imported when they are asked for (PEP 562).
"""

from __future__ import annotations

import importlib
import pathlib
from typing import TYPE_CHECKING, Any

_HERE = pathlib.Path(__file__).parent
if not (_HERE / "envs").is_dir():  # a checkout whose symbolic links were not made, as on Windows
    __path__.append(str(_HERE.parent))

# ruff: noqa: E402 (the folders must be found first)
from uncap.envs import (
    CLOSURES,
    TASK_SETS,
    Closure,
    TaskSet,
    distance,
    named_set,
    register,
    sample_closure,
)
from uncap.envs.rewards import register_reward

if TYPE_CHECKING:
    from uncap.agents.policy import LoadedPolicy, load
    from uncap.agents.vec_env import TaskVecEnv
    from uncap.envs import ClosureEnv, ClosureVectorEnv

__version__ = "0.1.0"
__all__ = [
    "CLOSURES",
    "TASK_SETS",
    "Closure",
    "ClosureEnv",
    "ClosureVectorEnv",
    "LoadedPolicy",
    "TaskSet",
    "TaskVecEnv",
    "distance",
    "load",
    "named_set",
    "register",
    "register_reward",
    "sample_closure",
]

_LATER = {
    "ClosureEnv": "uncap.envs.env",
    "ClosureVectorEnv": "uncap.envs.vector_env",
    "LoadedPolicy": "uncap.agents.policy",
    "TaskVecEnv": "uncap.agents.vec_env",
    "load": "uncap.agents.policy",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    """List also what is not imported yet."""
    return sorted({*globals(), *__all__})
