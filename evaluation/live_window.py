"""A live look in MuJoCo's own viewer, on a machine with a display: the policy acts."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import mujoco

from envs.batch import CONTROL_DT
from envs.scene import build
from evaluation.live import Live
from evaluation.live_page import STILL

NEW_START = ord("N")  # key; capitals stand for themselves in GLFW
PAUSE = ord(" ")


def check_display() -> None:
    """Refuse to go on without a display.

    Raises:
        ValueError: there is none.
    """
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    named = sys.platform != "linux" or any(os.environ.get(name) for name in names)
    if not named or not _opens():
        raise ValueError("--native needs a display: look in the browser, without --native")


def _opens() -> bool:
    """Whether the display that is named can be opened: MuJoCo would end the process."""
    import glfw

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of GLFW, which also says it by what it returns
        if not glfw.init():
            return False
        glfw.terminate()
        return True


class Keys:
    """What was asked for by the keyboard; the viewer calls in a thread of its own."""

    def __init__(self) -> None:
        self.paused = False
        self.new_start = False

    def __call__(self, key: int) -> None:
        """Note a key."""
        if key == PAUSE:
            self.paused = not self.paused
        elif key == NEW_START:
            self.new_start = True


def look(live: Live, say: Callable[[str], object]) -> None:
    """Show a window until it is closed.

    Args:
        live: what is looked at.
        say: prints a line.

    Raises:
        RuntimeError: no window can be opened; the message says why.
    """
    say("N: new start; space: pause; close the window, or Ctrl-C, to end")
    keys = Keys()
    while _shown(live, keys):
        live.start()


def _shown(live: Live, keys: Keys) -> bool:
    """Show a variant in a window; whether it is to go on with another variant."""
    import mujoco.viewer

    batch = live.env.batch
    variant = batch.pool[batch.variant[0]]
    model = build(variant, visual=True).compile()
    data = mujoco.MjData(model)
    with mujoco.viewer.launch_passive(
        model, data, key_callback=keys, show_left_ui=False, show_right_ui=False
    ) as window:
        return _played(live, keys, window, data)


def _played(live: Live, keys: Keys, window: Any, data: mujoco.MjData) -> bool:
    """Play the episode of a window's variant; False once the window is closed."""
    batch = live.env.batch
    ended = 0.0  # s since the episode ended
    while window.is_running():
        with window.lock():
            data.qpos[:] = batch.qpos[0]
            data.mocap_pos[:] = batch.mocap_pos[0]
            data.mocap_quat[:] = batch.mocap_quat[0]
            mujoco.mj_forward(window.m, data)
        window.sync()
        ended += CONTROL_DT * live.ended
        if keys.new_start or ended >= STILL:
            keys.new_start = False
            return True
        if not keys.paused:
            live.step()
        time.sleep(CONTROL_DT)
    return False
