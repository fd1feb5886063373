"""What environments need of the machine: no writable disk, and OpenGL for pictures only."""

import os
import pathlib
import subprocess
import sys

import numba
import pytest
from numba.core import caching

from uncap.envs import opengl, robot

ROOT = pathlib.Path(__file__).parent.parent


def run(program, *unset, **changed):
    """Run a program in a new process, without some variables, and with others."""
    variables = {k: v for k, v in os.environ.items() if k not in unset}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=ROOT,
        env={**variables, **changed},
        capture_output=True,
        text=True,
    )


def doubled(x):
    return 2 * x


def test_where_no_folder_can_be_written_functions_are_compiled_anew(monkeypatch):
    def refuse(self):
        raise OSError("read-only file system")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refuse)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(doubled)
    assert robot._compiled(doubled)(2) == 4


def test_where_the_disk_is_full_when_they_are_first_called_too(monkeypatch):
    def refuse(self, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.Cache, "save_overload", refuse)
    monkeypatch.setattr(caching.Cache, "load_overload", lambda self, *args: None)
    with pytest.raises(OSError, match="No space left"):
        numba.njit(cache=True)(doubled)(2)
    compiled = robot._compiled(doubled)
    assert compiled(2) == compiled(2) == 4


PICTURE = """
import mujoco
import uncap, numpy
from uncap.envs.render import Camera
from uncap.envs.opengl import RenderingUnavailable
variant = uncap.CLOSURES["jar"].draw(numpy.random.default_rng(0))
try:
    Camera(variant, 32, 32, smooth=False, shadows=False)
    print("drawn")
except RenderingUnavailable as error:
    print(error)
"""


def test_a_picture_is_drawn_though_mujoco_was_imported_first():
    done = run(PICTURE, "DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    if "no library" in done.stdout or "drivers" in done.stdout:
        pytest.skip(done.stdout)
    assert done.stdout.split() == ["drawn"], done.stderr


@pytest.mark.parametrize(
    ("backend", "display", "words"),
    [
        ("disable", "", "no library of egl was found: apt install libegl1"),
        ("egl", "", "egl failed (no device): its drivers may be missing"),
        ("", ":9", "the display gives none (no device): MUJOCO_GL=egl draws without"),
        ("glfw", "", "glfw failed (no device): MUJOCO_GL names another"),
    ],
)
def test_the_advice_fits_the_cause(monkeypatch, backend, display, words):
    monkeypatch.setenv("MUJOCO_GL", backend)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.setattr(opengl, "_missing", "egl")
    assert words in opengl.advice(RuntimeError("no\n device"))
