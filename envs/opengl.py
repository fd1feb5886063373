"""Choice of the off-screen OpenGL back end; must run before mujoco is imported."""

from __future__ import annotations

import ctypes.util
import os
import sys


class RenderingUnavailable(RuntimeError):
    """No OpenGL back end works here; the message says what to install."""


_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}


def choose_backend() -> None:
    """Set MUJOCO_GL where there is no display: the user's choice, else egl, else osmesa, else none.

    A back end whose library is missing would stop mujoco from being imported; without
    one everything but pictures works, and `render.Camera` says what to install.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if (
        sys.platform != "linux"
        or (wanted and wanted not in _LIBRARIES)
        or (not wanted and os.environ.get("DISPLAY"))
    ):
        return
    for backend in (wanted,) if wanted else _LIBRARIES:
        if ctypes.util.find_library(_LIBRARIES[backend]):
            os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = backend
            return
    os.environ["MUJOCO_GL"] = "disable"
    os.environ.pop("PYOPENGL_PLATFORM", None)
