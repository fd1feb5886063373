"""Choice of the off-screen OpenGL back end.

MuJoCo chooses one when it is imported, by MUJOCO_GL. Where this package comes first, it sets
that; where MuJoCo comes first, `use_backend` puts things right when the first picture is asked for.
"""

from __future__ import annotations

import ctypes.util
import importlib
import os
import sys

_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # library of each back end, the preferred first
_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}
_missing = "egl"  # the back end whose library was not found, where none is used


class RenderingUnavailable(RuntimeError):
    """No OpenGL back end works here; the message says what to install."""


def choose_backend() -> None:
    """Set MUJOCO_GL where there is no display: the user's choice, else egl, else osmesa, else none.

    A back end whose library is missing would stop mujoco from being imported. Without
    one everything but pictures works, and `render.Camera` says what to install.
    """
    global _missing
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if _is_settled(wanted):
        return
    _missing = wanted or "egl"
    for backend in (wanted,) if wanted else _LIBRARIES:
        if ctypes.util.find_library(_LIBRARIES[backend]):
            os.environ["MUJOCO_GL"] = backend
            os.environ["PYOPENGL_PLATFORM"] = backend
            return
    os.environ["MUJOCO_GL"] = "disable"
    os.environ.pop("PYOPENGL_PLATFORM", None)


def use_backend() -> None:
    """Have MuJoCo draw by the back end of now: called before a picture's context is made.

    Raises:
        ImportError: the back end cannot be loaded.
    """
    choose_backend()
    backend = os.environ.get("MUJOCO_GL", "").lower()
    if sys.platform != "linux" or backend not in _LIBRARIES:
        return
    if "OpenGL" not in sys.modules:
        os.environ["PYOPENGL_PLATFORM"] = backend
    from mujoco.rendering.classic import gl_context  # what MuJoCo's renderer asks for a context

    gl_context.GLContext = importlib.import_module(f"mujoco.{backend}").GLContext


def advice(error: Exception) -> str:
    """Why no picture could be drawn, and what helps."""
    backend = os.environ.get("MUJOCO_GL", "").lower()
    if backend == "disable":
        return f"no library of {_missing} was found: apt install {_PACKAGES[_missing]}"
    reason = " ".join(str(error).split()) or type(error).__name__
    if backend in _LIBRARIES:
        return (
            f"{backend} failed ({reason}): its drivers may be missing: apt install libgl1-mesa-dri"
        )
    if os.environ.get("DISPLAY"):
        return f"the display gives none ({reason}): MUJOCO_GL=egl draws without a display"
    return f"{backend or 'the default back end'} failed ({reason}): MUJOCO_GL names another"


def _is_settled(wanted: str) -> bool:
    """Whether MuJoCo's own choice is right: another system, another back end, or a display."""
    if sys.platform != "linux":
        return True
    if wanted:
        return wanted not in _LIBRARIES
    return bool(os.environ.get("DISPLAY"))
