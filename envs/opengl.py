"""Choice of the off-screen OpenGL back end; must run before mujoco is imported."""

from __future__ import annotations

import ctypes.util
import os
import sys


class RenderingUnavailable(RuntimeError):
    """No OpenGL back end works here; the message says what to install."""


def choose_backend() -> None:
    """Set MUJOCO_GL where there is no display and the user chose none: egl, then osmesa."""
    if sys.platform != "linux" or os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY"):
        return
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            os.environ["MUJOCO_GL"] = os.environ["PYOPENGL_PLATFORM"] = backend
            return
