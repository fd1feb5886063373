"""Choice of the off-screen OpenGL back end; must run before mujoco is imported."""

from __future__ import annotations

import ctypes.util
import os
import sys

_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # library of each back end, the preferred first


class RenderingUnavailable(RuntimeError):
    """No OpenGL back end works here; the message says what to install."""


def choose_backend() -> None:
    """Set MUJOCO_GL where there is no display: the user's choice, else egl, else osmesa, else none.

    A back end whose library is missing would stop mujoco from being imported. Without
    one everything but pictures works, and `render.Camera` says what to install.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if _is_settled(wanted):
        return
    for backend in (wanted,) if wanted else _LIBRARIES:
        if ctypes.util.find_library(_LIBRARIES[backend]):
            os.environ["MUJOCO_GL"] = backend
            os.environ["PYOPENGL_PLATFORM"] = backend
            return
    os.environ["MUJOCO_GL"] = "disable"
    os.environ.pop("PYOPENGL_PLATFORM", None)


def _is_settled(wanted: str) -> bool:
    """Whether MuJoCo's own choice is right: another system, another back end, or a display."""
    if sys.platform != "linux":
        return True
    if wanted:
        return wanted not in _LIBRARIES
    return bool(os.environ.get("DISPLAY"))
