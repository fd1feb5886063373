"""A live look in MuJoCo's own viewer, on a machine with a display: the policy acts."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import mujoco

from uncap.envs.batch import CONTROL_DT
from uncap.envs.render import FRONT
from uncap.envs.scene import WORKSPACE, build
from uncap.evaluation.live import Live
from uncap.evaluation.live_page import STILL

NEW_START = ord("N")  # key; capitals stand for themselves in GLFW
PAUSE = ord(" ")
_CLOSING = 5.0  # s that a window may take to close


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
    """Show a window until it is closed; all its starts are of the variant that it begins with.

    Args:
        live: what is looked at.
        say: prints a line.

    Raises:
        RuntimeError: no window can be opened; the message says why.
    """
    import mujoco.viewer

    say("N: new start; space: pause; close the window, or Ctrl-C, to end")
    keys = Keys()
    batch = live.env.batch
    variant = batch.pool[batch.variant[0]]
    model = build(variant, visual=True).compile()
    data = mujoco.MjData(model)
    others = set(threading.enumerate())
    try:
        with mujoco.viewer.launch_passive(
            model, data, key_callback=keys, show_left_ui=False, show_right_ui=False
        ) as window:
            _aim(window, variant.closure.seat_height)
            _play(live, keys, window, data)
    finally:  # the window's own thread draws until it has seen that it shall close
        for thread in set(threading.enumerate()) - others:
            thread.join(_CLOSING)


def _aim(window: Any, seat: float) -> None:
    """Look at hand and lid from where films do, but farther away."""
    with window.lock():
        window.cam.azimuth = FRONT.azimuth
        window.cam.elevation = FRONT.elevation
        window.cam.distance = 2 * FRONT.distance
        window.cam.lookat[:] = (*WORKSPACE, seat + 0.08)


def _play(live: Live, keys: Keys, window: Any, data: mujoco.MjData) -> None:
    """Play episodes of one variant until the window is closed."""
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
            ended = 0.0
            _start_same_variant(live)
        elif not keys.paused:
            live.step()
        time.sleep(CONTROL_DT)


def _start_same_variant(live: Live) -> None:
    """Take new starts until one has the same variant: the window shows its shape."""
    variant = live.env.batch.variant[0]
    live.start()
    while live.env.batch.variant[0] != variant:
        live.start()
