"""Pictures of all worlds by MuJoCo Warp's batch renderer, as tensors on their device.

They are those of `pixels.Pixels`: the same two cameras, shapes, colours and lights, without
shadows. Every world has its own closure, and its own cameras, colours and light where these vary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from uncap.envs.device.shapes import GROUPS, Drawings
from uncap.envs.device.streams import on_torchs_stream
from uncap.envs.engine_warp import mujoco_warp, warp
from uncap.envs.pixels import VIEWS
from uncap.envs.sensors import PICTURE_SIZE
from uncap.envs.structure import Variant

Tensors = Mapping[str, Tensor]
# Where bodies are follows from these: the renderer's model has them from the one that is simulated
_KINEMATIC = ("qpos0", "body_pos", "body_quat", "jnt_pos", "jnt_axis")
_STATE = ("qpos", "mocap_pos", "mocap_quat")


class Pictures:
    """Draws all worlds of a simulation.

    What is translucent is drawn twice, with it and without it, and the two are mixed: Warp's
    renderer knows only what is there and what is not.

    Args:
        pool: every variant of the worlds.
        model: MuJoCo Warp's model of the worlds.
        data: likewise.
        size: height and width of a picture (pixels).

    Raises:
        FileNotFoundError: the robot's meshes are not installed.
    """

    def __init__(self, pool: list[Variant], model: Any, data: Any, size: int = PICTURE_SIZE):
        self.size = size
        self.n = data.nworld
        self._device = warp.to_torch(data.qpos).device
        drawings = Drawings.of(pool)
        drawn = drawings.model
        self._places = self._tensor(drawings.places)
        self._tables = {
            name: self._tensor(getattr(drawings, name))
            for name in ("pos", "quat", "size", "material", "rgba", "looked_at")
        }
        self._tinted = self._tensor(drawings.tinted)[:, None]
        self._opacity = _opacity_of(drawings)
        self._fovy = float(drawn.vis.global_.fovy)  # degrees
        with warp.ScopedDevice(data.qpos.device):
            self._open(drawn, model, data)
        # (n, pixels) of four bytes each: blue, green, red, 255
        packed = warp.to_torch(self._context.rgb_data.view(warp.int32))
        self._packed = packed.view(torch.uint8).reshape(self.n, len(VIEWS), size, size, 4)
        self._pictures = self._packed.new_zeros(self.n, len(VIEWS), size, size, 3)

    def _tensor(self, values: np.ndarray) -> Tensor:
        dtype = torch.float32 if values.dtype.kind == "f" else None
        return torch.as_tensor(values, dtype=dtype, device=self._device)

    def _open(self, drawn: Any, model: Any, data: Any) -> None:
        """Make the renderer, with models of its own for all worlds."""
        posed = mujoco.MjData(drawn)  # pyright: ignore[reportAttributeAccessIssue]
        mujoco.mj_forward(drawn, posed)  # pyright: ignore[reportAttributeAccessIssue]
        self._model = mujoco_warp.put_model(drawn)
        self._data = mujoco_warp.make_data(drawn, nworld=self.n, nconmax=1, njmax=1)
        warp.synchronize_device(data.qpos.device)  # torch reads what Warp has copied
        for name in _KINEMATIC:
            setattr(self._model, name, getattr(model, name))
        for name in _STATE:
            setattr(self._data, name, getattr(data, name))
        self._mocap_pos = warp.to_torch(self._data.mocap_pos)  # (n, 1, 3) m
        self._fields = {
            name: self._own(name)
            for name in ("geom_pos", "geom_quat", "geom_size", "geom_matid", "mat_rgba", "cam_fovy")
        }
        self._cameras = {
            name: warp.to_torch(getattr(self._data, name)) for name in ("cam_xpos", "cam_xmat")
        }
        for name in ("light_xpos", "light_xdir"):
            lights = warp.to_torch(getattr(self._data, name))
            lights.copy_(self._tensor(getattr(posed, name)).expand_as(lights))
        self._context = mujoco_warp.create_render_context(
            drawn,
            nworld=self.n,
            cam_res=(self.size, self.size),
            render_rgb=True,
            render_depth=False,
            render_seg=False,
            use_textures=False,
            render_skybox=True,
            enabled_geom_groups=list(GROUPS),
            use_precomputed_rays=False,  # the field of view varies
        )
        warp.synchronize_device(data.qpos.device)

    def _own(self, name: str) -> Tensor:
        """Give each world values of its own in a field of the renderer's model."""
        common = getattr(self._model, name)
        own = warp.empty((self.n, *common.shape[1:]), dtype=common.dtype, device=common.device)
        setattr(self._model, name, own)
        values = warp.to_torch(own)
        values.copy_(warp.to_torch(common)[:1].expand_as(values))
        return values

    def draw(self, variant: Tensor, pictured: Tensors) -> Tensor:
        """Pictures of the worlds as they are.

        Args:
            variant: (n,) int64, index of each world's variant in the pool.
            pictured: (n,) values of the quantities that act on pictures, see
                `Variation.pictured`; empty: none does.

        Returns:
            (n, cameras, size, size, 3) uint8: red, green, blue. The next call overwrites it.
        """
        self._take_shapes(variant)
        rgba = self._colours(variant, pictured)
        self._aim(variant, pictured)
        with on_torchs_stream(self._device):
            mujoco_warp.kinematics(self._model, self._data)
            mujoco_warp.refit_bvh(self._model, self._data, self._context)
        whole = self._shot(rgba)
        if self._opacity == 1.0:
            return self._pictures.copy_(whole)
        with_it = whole.float() * self._opacity
        rgba[..., 3] = torch.where(rgba[..., 3] < 1.0, 0.0, 1.0)  # what is translucent is not there
        without = self._shot(rgba).float() * (1 - self._opacity)
        return self._pictures.copy_((with_it + without).round_())

    def _shot(self, rgba: Tensor) -> Tensor:
        """Red, green, blue (n, cameras, size, size, 3), with colours (n, materials, 4)."""
        self._fields["mat_rgba"].copy_(rgba)
        with on_torchs_stream(self._device):
            mujoco_warp.render(self._model, self._data, self._context)
        return self._packed[..., :3].flip(-1)

    def _take_shapes(self, variant: Tensor) -> None:
        """Give each world the shapes of its variant (n,)."""
        for name in ("pos", "quat", "size"):
            own = self._tables[name].index_select(0, variant)
            self._fields[f"geom_{name}"].index_copy_(1, self._places, own)
        own = self._tables["material"].index_select(0, variant)
        target = self._fields["geom_matid"]
        target.index_copy_(1, self._places, own.to(target.dtype))

    def _colours(self, variant: Tensor, pictured: Tensors) -> Tensor:
        """Colours (n, materials, 4): light acts on all of them, a tint not on the robot's."""
        rgba = self._tables["rgba"].index_select(0, variant)
        if not pictured:
            return rgba
        tint = torch.stack([pictured[name] for name in ("red", "green", "blue")], 1)  # (n, 3)
        factor = torch.where(self._tinted, tint[:, None], 1.0)  # (n, materials, 3)
        factor = factor * pictured["light"][:, None, None]
        return torch.cat([rgba[..., :3] * factor.to(rgba.dtype), rgba[..., 3:]], -1)

    def _aim(self, variant: Tensor, pictured: Tensors) -> None:
        """Have the cameras of each world look at its closure, see `render.Camera`."""
        target = self._mocap_pos[:, 0].clone()  # (n, 3) m
        target[:, 2] += self._tables["looked_at"].index_select(0, variant)
        nothing = torch.zeros_like(target[:, 0])
        turn = pictured.get("camera_azimuth", nothing)
        rise = pictured.get("camera_elevation", nothing)
        for number, view in enumerate(VIEWS):
            azimuth = torch.deg2rad(view.azimuth + turn)  # (n,)
            elevation = torch.deg2rad(view.elevation - rise)
            rotation = _looking(azimuth, elevation)  # (n, 3, 3)
            self._cameras["cam_xmat"][:, number] = rotation
            self._cameras["cam_xpos"][:, number] = target + view.distance * rotation[..., 2]
        field = pictured.get("camera_fov", nothing + 1.0)
        self._fields["cam_fovy"].copy_((self._fovy * field)[:, None].expand(-1, len(VIEWS)))


def _opacity_of(drawings: Drawings) -> float:
    """How opaque what is translucent looks; 1 where nothing is. A ray meets two walls of a glass.

    Raises:
        ValueError: some of it is more opaque than the rest.
    """
    used = np.take_along_axis(drawings.rgba[..., 3], drawings.material, 1)  # (variants, shapes)
    found = np.unique(used[used < 1])
    if len(found) > 1:
        raise ValueError(f"all that is translucent must be equally so, not {found}")
    return 1 - (1 - float(found[0])) ** 2 if len(found) else 1.0


def _looking(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Rotations (n, 3, 3) of cameras: right, up, and backwards in their columns.

    Args:
        azimuth: (n,) rad, of the way that they look.
        elevation: (n,) rad, likewise; above the horizon is positive.
    """
    along, across = azimuth.cos(), azimuth.sin()
    level, up = elevation.cos(), elevation.sin()
    nothing = torch.zeros_like(along)
    right = torch.stack([across, -along, nothing], -1)
    above = torch.stack([-up * along, -up * across, level], -1)
    back = torch.stack([-level * along, -level * across, -up], -1)
    return torch.stack([right, above, back], -1)
