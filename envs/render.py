"""Pictures from recorded states, by a visual twin of the physics model."""

from __future__ import annotations

import os

import mujoco
import numpy as np

from envs.opengl import RenderingUnavailable
from envs.scene import build, seat_height
from envs.structure import Variant

FRONT = (145.0, -16.0, 0.62)  # azimuth and elevation (degrees), distance (m)


class Camera:
    """Draws one variant.

    Args:
        variant: what is drawn.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        smooth: smooth edges and fine shadows; without, a small picture takes two thirds of the time (drawn in software).

    Raises:
        RenderingUnavailable: no OpenGL back end works.
    """

    def __init__(self, variant: Variant, width: int = 640, height: int = 480, smooth: bool = True):
        self.variant = variant
        try:
            self._model = build(variant, visual=True).compile()
            if not smooth:
                self._model.vis.quality.offsamples, self._model.vis.quality.shadowsize = 0, 1024
            self._data = mujoco.MjData(self._model)
            self._renderer = mujoco.Renderer(self._model, height, width)
        except (ImportError, AttributeError, RuntimeError, FileNotFoundError, mujoco.FatalError) as error:
            backend = os.environ.get("MUJOCO_GL", "the default back end")
            raise RenderingUnavailable(f"videos need OpenGL; {backend} failed ({error}): apt install libegl1 libgl1-mesa-dri") from error
        self._camera = mujoco.MjvCamera()
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0

    def draw(self, qpos: np.ndarray, mocap_pos: np.ndarray, mocap_quat: np.ndarray, view=FRONT) -> np.ndarray:
        """A frame (height, width, 3) uint8 of a recorded state, framed on hand and lid.

        Args:
            qpos: (nq,) joint positions.
            mocap_pos: (1, 3) of the container (m).
            mocap_quat: (1, 4) of the container.
            view: azimuth and elevation (degrees), distance (m) of the camera.
        """
        data = self._data
        data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = qpos, mocap_pos, mocap_quat
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_camlight(self._model, data)
        self._camera.azimuth, self._camera.elevation, self._camera.distance = view
        self._camera.lookat[:] = mocap_pos[0] + [0, 0, 0.8 * seat_height(self.variant) + 0.03]
        self._renderer.update_scene(data, self._camera, self._options)
        return self._renderer.render()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
