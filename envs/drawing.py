"""Draws a closure, the bench and the light into a scene: no mass, no contact."""

# mujoco's compiled modules have no type stubs
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import mujoco
import numpy as np

from uncap.envs.looks import LOOKS, draw_container, draw_lid

if TYPE_CHECKING:
    from uncap.envs.structure import Closure, Color, Variant

_GEOM = mujoco.mjtGeom
SHAPES = {
    "cylinder": _GEOM.mjGEOM_CYLINDER,
    "sphere": _GEOM.mjGEOM_SPHERE,
    "box": _GEOM.mjGEOM_BOX,
    "capsule": _GEOM.mjGEOM_CAPSULE,
}
Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


class _Material(NamedTuple):
    """A colour, how opaque it is, and how much it shines, in [0, 1]."""

    name: str
    rgb: Color
    opacity: float
    shine: float


class Pen:
    """Adds drawn shapes to one body; positions in metres in the body's frame.

    Args:
        body: an MjsBody.
    """

    def __init__(self, body):
        self.body = body

    def shape(
        self,
        kind: str,
        pos: Vector,
        size: Vector,
        material: str,
        quat: Quaternion = (1.0, 0.0, 0.0, 0.0),
    ) -> None:
        """Add one shape.

        Args:
            kind: one of SHAPES.
            pos: its centre (m).
            size: MuJoCo's sizes of such a geom (m).
            material: a material's name, see `draw`.
            quat: its orientation.
        """
        self.body.add_geom(
            type=SHAPES[kind],
            pos=pos,
            quat=quat,
            size=size,
            material=material,
            contype=0,
            conaffinity=0,
            mass=0,
            group=1,
        )

    def cylinder(self, radius: float, bottom: float, top: float, material: str) -> None:
        """Add an upright cylinder around the body's axis, from one height to another (m)."""
        center = (0, 0, (bottom + top) / 2)
        self.shape("cylinder", center, (radius, (top - bottom) / 2, 0), material)

    def taper(
        self,
        bottom_radius: float,
        top_radius: float,
        bottom: float,
        top: float,
        material: str,
        steps: int = 24,
    ) -> None:
        """Add stacked cylinders whose radius goes from one to the other along a cosine (m)."""
        edges = np.linspace(bottom, top, steps + 1)
        for i in range(steps):
            blend = 0.5 - 0.5 * np.cos(np.pi * (i + 0.5) / steps)
            radius = bottom_radius + (top_radius - bottom_radius) * blend
            self.cylinder(radius, edges[i], edges[i + 1], material)

    def knurl(
        self, radius: float, bottom: float, top: float, material: str, count: int = 30
    ) -> None:
        """Add upright ribs around the body's axis, from one height to another (m)."""
        size = (0.0009, (top - bottom) / 2 - 0.001, 0)
        for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
            center = (radius * np.cos(angle), radius * np.sin(angle), (bottom + top) / 2)
            self.shape("capsule", center, size, material)


def draw(spec: mujoco.MjSpec, container, lid, variant: Variant, base: float) -> None:
    """Draw the closure, the bench and the studio light around it.

    Args:
        spec: the scene.
        container: its MjsBody of the container.
        lid: its MjsBody of the lid.
        variant: what is drawn.
        base: height of the held part's foot above the lid's seat (m).
    """
    _set_quality(spec)
    _add_bench(spec)
    _add_lights(spec)
    for material in _materials(variant.closure):
        spec.add_material(
            name=material.name,
            rgba=(*material.rgb, material.opacity),
            specular=material.shine,
            shininess=material.shine,
        )
    draw_container(Pen(container), variant)
    draw_lid(Pen(lid), variant, base)


def _materials(closure: Closure) -> tuple[_Material, ...]:
    """The materials of a closure's drawing, in the row's colours."""
    glass = LOOKS[closure.look].glass
    red, green, blue = closure.accent
    return (
        _Material("body", closure.color, 0.45 if glass else 1.0, 0.9 if glass else 0.4),
        _Material("accent", closure.accent, 1.0, 0.5),
        _Material("dark", (0.6 * red, 0.6 * green, 0.6 * blue), 1.0, 0.3),
        _Material("label", (0.96, 0.95, 0.90), 1.0, 0.1),
        _Material("steel", (0.72, 0.74, 0.76), 1.0, 0.9),
        _Material("ink", (0.12, 0.12, 0.14), 1.0, 0.1),
        _Material("mark", (0.98, 0.98, 0.98), 1.0, 0.1),
        _Material("goal", (0.20, 0.75, 0.40), 0.45, 0.1),
    )


def _set_quality(spec: mujoco.MjSpec) -> None:
    """Light from the camera, largest picture, and what is drawn how finely.

    Nothing reflects: every pass draws 134,000 faces, in software on most machines.
    """
    visual = spec.visual
    visual.headlight.ambient = (0.32, 0.32, 0.34)
    visual.headlight.diffuse = (0.28, 0.28, 0.28)
    visual.headlight.specular = (0.05, 0.05, 0.05)
    visual.global_.offwidth = 1280  # pixels
    visual.global_.offheight = 960
    visual.quality.shadowsize = 2048
    visual.map.znear = 0.02
    visual.map.zfar = 20.0


def _add_bench(spec: mujoco.MjSpec) -> None:
    """The sky, and a bench with a mat on it."""
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=(0.86, 0.90, 0.94),
        rgb2=(0.55, 0.62, 0.70),
        width=128,
        height=128,
    )
    spec.add_texture(
        name="bench",
        type=mujoco.mjtTexture.mjTEXTURE_2D,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        rgb1=(0.72, 0.62, 0.50),
        rgb2=(0.66, 0.56, 0.44),
        width=64,
        height=64,
    )
    spec.add_material(name="bench", rgba=(0.78, 0.70, 0.60, 1), specular=0.2, shininess=0.2)
    spec.add_material(name="mat", rgba=(0.24, 0.27, 0.30, 1), specular=0.1, shininess=0.1)
    _add_board(spec, "bench", pos=(0.45, 0, -0.021), size=(0.75, 0.65, 0.02))
    _add_board(spec, "mat", pos=(0.50, 0, -0.0005), size=(0.20, 0.26, 0.0004))


def _add_board(spec: mujoco.MjSpec, material: str, pos: Vector, size: Vector) -> None:
    spec.worldbody.add_geom(
        type=_GEOM.mjGEOM_BOX,
        pos=pos,
        size=size,
        material=material,
        contype=0,
        conaffinity=0,
        group=1,
    )


def _add_lights(spec: mujoco.MjSpec) -> None:
    """A main light that casts shadows, and a weaker one from the other side."""
    spec.worldbody.add_light(
        pos=(0.9, -0.8, 1.6),
        dir=(-0.3, 0.5, -1),
        diffuse=(0.62, 0.60, 0.56),
        castshadow=True,
    )
    spec.worldbody.add_light(
        pos=(0.2, 1.2, 1.3),
        dir=(0.25, -0.8, -0.8),
        diffuse=(0.25, 0.27, 0.30),
        castshadow=False,
    )
