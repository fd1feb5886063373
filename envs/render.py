"""Pictures from recorded states, by a visual twin of the physics model."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import mujoco
import numpy as np

from uncap.envs.opengl import RenderingUnavailable, advice, use_backend
from uncap.envs.robot import MESH_GROUP
from uncap.envs.scene import build, looked_at
from uncap.envs.structure import Variant


class View(NamedTuple):
    """Where the camera is, relative to what it looks at."""

    azimuth: float  # degrees
    elevation: float  # degrees
    distance: float  # m


class Look(NamedTuple):
    """How a picture differs from the plain one; by default not at all."""

    azimuth: float = 0.0  # degrees, added to the view's
    elevation: float = 0.0  # degrees, by which the camera is higher
    field: float = 1.0  # factor on the field of view
    light: float = 1.0  # factor on every light
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)  # on red, green, blue of all but the robot

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Look:
        """The look of quantities that act on pictures, see `variation.PICTURED`."""
        if not values:
            return cls()
        return cls(
            azimuth=values["camera_azimuth"],
            elevation=values["camera_elevation"],
            field=values["camera_fov"],
            light=values["light"],
            tint=(values["red"], values["green"], values["blue"]),
        )


FRONT = View(145.0, -16.0, 0.62)
_COARSE_SHADOWS = 1024  # pixels of the shadow map, where edges are not smoothed
_EVERYTHING = mujoco.mjtCatBit.mjCAT_ALL.value


class _Model(NamedTuple):
    """A visual model and the data that it is posed in."""

    model: mujoco.MjModel
    data: mujoco.MjData


class Camera:
    """Draws variants, all through one OpenGL context: the robot's meshes are loaded once.

    Args:
        variant: what is drawn unless another is named.
        width: of the pictures, in pixels.
        height: of the pictures, in pixels.
        smooth: smooth edges and fine shadows. Without, a small picture takes two thirds of the
            time in software rendering.
        shadows: any at all. Without, it takes a quarter of what is left.

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
        robot, self._renderer = _open_renderer(variant, width, height, smooth)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._robot = _Model(robot, mujoco.MjData(robot))
        self._surroundings: dict[Variant, _Model] = {}  # everything but the robot
        self._camera = mujoco.MjvCamera()
        self._robot_option = _option()  # draws the robot's meshes only
        self._robot_option.geomgroup[:] = np.arange(6) == MESH_GROUP
        self._surroundings_option = _option()

    def draw(
        self,
        qpos: np.ndarray,
        mocap_pos: np.ndarray,
        mocap_quat: np.ndarray,
        view: tuple[float, float, float] = FRONT,
        variant: Variant | None = None,
        look: Look | None = None,
    ) -> np.ndarray:
        """A frame (height, width, 3) uint8 of a recorded state, framed on hand and lid.

        Args:
            qpos: (nq,) joint positions.
            mocap_pos: (1, 3) of the container (m).
            mocap_quat: (1, 4) of the container.
            view: where the camera is: a `View`, or its numbers.
            variant: what the state is of; by default the camera's own.
            look: how the picture differs from the plain one; by default not at all.
        """
        look = look or Look()
        variant = variant or self.variant
        surroundings = self._surroundings_of(variant)
        for model, data in (self._robot, surroundings):
            data.qpos[:] = qpos
            data.mocap_pos[:] = mocap_pos
            data.mocap_quat[:] = mocap_quat
            mujoco.mj_kinematics(model, data)
            mujoco.mj_camlight(model, data)
        azimuth, elevation, distance = view
        seen_from = View(azimuth + look.azimuth, elevation - look.elevation, distance)
        self._aim(seen_from, mocap_pos[0] + [0, 0, looked_at(variant)])
        with _looking(self._robot.model, surroundings.model, look):
            self._fill_scene(surroundings)
            return self._renderer.render()

    def _surroundings_of(self, variant: Variant) -> _Model:
        """The scene of a variant without the robot's meshes, compiled once."""
        if variant not in self._surroundings:
            model = build(variant, visual=True, meshes=False).compile()
            self._surroundings[variant] = _Model(model, mujoco.MjData(model))
        return self._surroundings[variant]

    def _aim(self, view: tuple[float, float, float], target: np.ndarray) -> None:
        """Look at target (3,), world frame (m)."""
        azimuth, elevation, distance = view
        self._camera.azimuth = azimuth
        self._camera.elevation = elevation
        self._camera.distance = distance
        self._camera.lookat[:] = target

    def _fill_scene(self, surroundings: _Model) -> None:
        """Put the robot, and what is around it, into the renderer's scene."""
        scene = self._renderer.scene
        no_drag = mujoco.MjvPerturb()
        mujoco.mjv_updateScene(
            *self._robot, self._robot_option, no_drag, self._camera, _EVERYTHING, scene
        )
        mujoco.mjv_addGeoms(*surroundings, self._surroundings_option, no_drag, _EVERYTHING, scene)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()


@contextlib.contextmanager
def _looking(robot: mujoco.MjModel, surroundings: mujoco.MjModel, look: Look) -> Iterator[None]:
    """Change lights, lens and colours while a picture is drawn.

    Args:
        robot: the model whose lights and lens are used.
        surroundings: the model of all other things.
        look: see `Camera.draw`.
    """
    head, lens = robot.vis.headlight, robot.vis.global_
    factors = [
        (robot.light_diffuse, look.light),
        (head.ambient, look.light),
        (head.diffuse, look.light),
        (surroundings.mat_rgba[:, :3], look.tint),
    ]
    plain = [array.copy() for array, _ in factors]
    fovy = lens.fovy
    try:
        for array, factor in factors:
            array *= factor
        lens.fovy = fovy * look.field
        yield
    finally:
        for (array, _), before in zip(factors, plain, strict=True):
            array[:] = before
        lens.fovy = fovy


def _open_renderer(
    variant: Variant, width: int, height: int, smooth: bool
) -> tuple[mujoco.MjModel, mujoco.Renderer]:
    """The visual model with the robot's meshes, and a renderer of it.

    Raises:
        RenderingUnavailable: no OpenGL back end works.
    """
    try:
        use_backend()
        model = build(variant, visual=True).compile()
        if not smooth:
            model.vis.quality.offsamples = 0
            model.vis.quality.shadowsize = _COARSE_SHADOWS
        return model, mujoco.Renderer(model, height, width)
    except (
        ImportError,
        AttributeError,
        RuntimeError,
        FileNotFoundError,
        mujoco.FatalError,
    ) as error:
        raise RenderingUnavailable(f"pictures need OpenGL; {advice(error)}") from error


def _option() -> mujoco.MjvOption:
    """Drawing options without sites."""
    option = mujoco.MjvOption()
    option.sitegroup[:] = 0
    return option
