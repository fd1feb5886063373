"""What a browser shows of a simulation: a visual twin of its model, by mjviser."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from uncap.envs.batch import ClosureBatch
from uncap.envs.contacts import contacts
from uncap.envs.render import FRONT
from uncap.envs.robot import MESH_GROUP
from uncap.envs.scene import WORKSPACE, build
from uncap.envs.structure import Variant

_DISTANCE = 1.1  # m of the camera: hand and forearm are seen
_FIELD = 45.0  # degrees, vertical
_METRES_PER_NEWTON = 0.006  # of an arrow
_LONGEST = 0.15  # m of an arrow
_ARROW_COLOR = (235, 60, 40)
_HIDDEN_GROUP = 5  # of sites: it is not drawn


class Scene:
    """Draws the batch's first simulation on a viser server.

    The robot's meshes are sent once, what is around it when the variant changes.

    Args:
        server: viser's.
        batch: the simulations.

    Attributes:
        forces: whether contact forces are drawn.
    """

    def __init__(self, server: Any, batch: ClosureBatch):
        self.forces = True
        self._server = server
        self._batch = batch
        self._variant: Variant | None = None
        self._shown = 0  # number of the variant's nodes: a browser loses those of a used name
        self._links = _draw_links(server, build(batch.pool[0], visual=True).compile())
        _aim(server, batch)

    def show(self) -> None:
        """Draw the simulation as it is now."""
        batch = self._batch
        variant = batch.pool[batch.variant[0]]
        if variant is not self._variant:
            self._draw_surroundings(variant)
        data = self._data
        data.qpos[:] = batch.qpos[0]
        data.mocap_pos[:] = batch.mocap_pos[0]
        data.mocap_quat[:] = batch.mocap_quat[0]
        mujoco.mj_kinematics(self._model, data)
        with self._server.atomic():
            for body, handle in self._links.items():
                handle.position = data.xpos[body]
                handle.wxyz = data.xquat[body]
            self._surroundings.update_from_mjdata(data)
            self._show_forces()

    def _draw_surroundings(self, variant: Variant) -> None:
        """Send all but the robot, in place of that of another variant."""
        from mjviser import ViserMujocoScene  # pyright: ignore[reportMissingImports] - optional

        scene = self._server.scene
        scene.remove_by_name(f"/{self._shown}")  # and all below
        self._shown += 1
        scene.add_frame(f"/{self._shown}", show_axes=False)
        self._model = build(variant, visual=True, meshes=False).compile()
        self._model.site_group[:] = _HIDDEN_GROUP
        self._data = mujoco.MjData(self._model)
        below = _Below(self._server, f"/{self._shown}")
        self._surroundings = ViserMujocoScene(below, self._model, num_envs=1)  # pyright: ignore
        self._surroundings.camera_tracking_enabled = False
        for plane in np.flatnonzero(self._model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
            grid = f"/{self._shown}/fixed_bodies/world/{self._model.geom(plane).name}"
            scene.remove_by_name(grid)
        self._variant = variant

    def _show_forces(self) -> None:
        """Draw an arrow for each contact force."""
        scene = self._server.scene
        found = contacts(self._batch)
        if not self.forces or not len(found.points):
            scene.remove_by_name("/forces")
            return
        size = np.linalg.norm(found.forces, axis=1, keepdims=True)  # (k, 1) N
        length = np.minimum(_METRES_PER_NEWTON * size, _LONGEST)  # (k, 1) m
        ends = found.points + length * found.forces / size  # (k, 3) m
        scene.add_arrows(
            "/forces",
            points=np.stack([found.points, ends], 1),
            colors=_ARROW_COLOR,
            shaft_radius=0.0015,
            head_radius=0.004,
            head_length=0.01,
        )


class _Below:
    """A viser server whose new nodes are below another one; all else is the server's own."""

    def __init__(self, server: Any, node: str):
        self._server = server
        self.scene = _NodesBelow(server.scene, node)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class _NodesBelow:
    """The `scene` of a `_Below`."""

    def __init__(self, scene: Any, node: str):
        self._scene = scene
        self._node = node

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._scene, name)
        if not name.startswith("add_"):
            return method
        return lambda child, *args, **kwargs: method(f"{self._node}{child}", *args, **kwargs)


def _draw_links(server: Any, model: mujoco.MjModel) -> dict[int, Any]:
    """Send the robot's meshes; viser's handles by number of the body."""
    from mjviser.conversions import merge_geoms  # pyright: ignore[reportMissingImports] - optional

    handles = {}
    for body in range(model.nbody):
        meshes = (model.geom_bodyid == body) & (model.geom_group == MESH_GROUP)
        geoms = np.flatnonzero(meshes).tolist()
        if geoms:
            merged = merge_geoms(model, geoms)
            name = f"/robot/{model.body(body).name}"
            handles[body] = server.scene.add_mesh_trimesh(name, merged)
    return handles


def _aim(server: Any, batch: ClosureBatch) -> None:
    """Look at hand and lid, as films do."""
    azimuth, elevation = np.radians([FRONT.azimuth, FRONT.elevation])
    ahead = [
        np.cos(elevation) * np.cos(azimuth),
        np.cos(elevation) * np.sin(azimuth),
        np.sin(elevation),
    ]
    target = np.array([*WORKSPACE, batch.pool[0].closure.seat_height + 0.08])
    server.initial_camera.position = target - _DISTANCE * np.array(ahead)
    server.initial_camera.look_at = target
    server.initial_camera.fov = np.radians(_FIELD)
