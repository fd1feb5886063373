"""Pictures from recorded states, by a visual twin of the physics model."""

from __future__ import annotations

import os

import mujoco
import numpy as np

from envs.opengl import RenderingUnavailable
from envs.robot import MESH_GROUP
from envs.scene import build, seat_height
from envs.structure import Variant

FRONT = (145.0, -16.0, 0.62)  # azimuth and elevation (degrees), distance (m)


class Camera:
    """Draws variants, all through one OpenGL context: the robot's meshes are loaded once, and shared.

    Args:
        variant: what is drawn unless another is named.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        smooth: smooth edges and fine shadows; without, a small picture takes two thirds of the time (drawn in software).
        shadows: any at all; without, a quarter of that.

    Raises:
        RenderingUnavailable: no OpenGL back end works.
    """

    def __init__(
        self,
        variant: Variant,
        width: int = 640,
        height: int = 480,
        smooth: bool = True,
        shadows: bool = True,
    ):
        self.variant = variant
        try:
            self._robot = build(variant, visual=True).compile()
            if not smooth:
                self._robot.vis.quality.offsamples, self._robot.vis.quality.shadowsize = 0, 1024
            self._renderer = mujoco.Renderer(self._robot, height, width)
        except (
            ImportError,
            AttributeError,
            RuntimeError,
            FileNotFoundError,
            mujoco.FatalError,
        ) as error:
            backend = os.environ.get("MUJOCO_GL", "the default back end")
            cause = (
                "no library of it was found"
                if backend == "disable"
                else f"{backend} failed ({error})"
            )
            raise RenderingUnavailable(
                f"pictures need OpenGL; {cause}: apt install libegl1 libgl1-mesa-dri"
            ) from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._robot_data = mujoco.MjData(self._robot)
        self._scenes: dict[
            Variant, tuple[mujoco.MjModel, mujoco.MjData]
        ] = {}  # everything but the robot
        self._camera = mujoco.MjvCamera()
        self._mesh, self._rest = mujoco.MjvOption(), mujoco.MjvOption()
        for option in (self._mesh, self._rest):
            option.sitegroup[:] = 0
        self._mesh.geomgroup[:] = np.arange(6) == MESH_GROUP

    def draw(
        self,
        qpos: np.ndarray,
        mocap_pos: np.ndarray,
        mocap_quat: np.ndarray,
        view=FRONT,
        variant: Variant | None = None,
    ) -> np.ndarray:
        """A frame (height, width, 3) uint8 of a recorded state, framed on hand and lid.

        Args:
            qpos: (nq,) joint positions.
            mocap_pos: (1, 3) of the container (m).
            mocap_quat: (1, 4) of the container.
            view: azimuth and elevation (degrees), distance (m) of the camera.
            variant: what the state is of; by default the camera's own.
        """
        variant = variant or self.variant
        if variant not in self._scenes:
            model = build(variant, visual=True, meshes=False).compile()
            self._scenes[variant] = model, mujoco.MjData(model)
        self._camera.azimuth, self._camera.elevation, self._camera.distance = view
        self._camera.lookat[:] = mocap_pos[0] + [0, 0, 0.8 * seat_height(variant) + 0.03]
        scene, kinds, nothing = (
            self._renderer.scene,
            mujoco.mjtCatBit.mjCAT_ALL.value,
            mujoco.MjvPerturb(),
        )
        for model, data in (
            robot := (self._robot, self._robot_data),
            rest := self._scenes[variant],
        ):
            data.qpos[:], data.mocap_pos[:], data.mocap_quat[:] = qpos, mocap_pos, mocap_quat
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
        mujoco.mjv_updateScene(*robot, self._mesh, nothing, self._camera, kinds, scene)
        mujoco.mjv_addGeoms(*rest, self._rest, nothing, kinds, scene)
        return self._renderer.render()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()
