"""What containers, lids, table and light look like. Drawing only: no mass, no contact."""

from __future__ import annotations

import mujoco
import numpy as np

_GEOM = mujoco.mjtGeom
SHAPES = {
    "cylinder": _GEOM.mjGEOM_CYLINDER,
    "sphere": _GEOM.mjGEOM_SPHERE,
    "box": _GEOM.mjGEOM_BOX,
    "ellipsoid": _GEOM.mjGEOM_ELLIPSOID,
    "capsule": _GEOM.mjGEOM_CAPSULE,
}


class _Pen:
    """Adds decoration to one body; heights in metres from the body's frame."""

    def __init__(self, body, materials: dict[str, str]):
        self.body, self.materials = body, materials

    def shape(self, kind: str, pos, size, material: str, **kwargs) -> None:
        self.body.add_geom(
            type=SHAPES[kind],
            pos=pos,
            size=size,
            material=self.materials[material],
            contype=0,
            conaffinity=0,
            mass=0,
            group=1,
            **kwargs,
        )

    def ring(self, radius: float, bottom: float, top: float, material: str) -> None:
        self.shape(
            "cylinder", (0, 0, (bottom + top) / 2), (radius, (top - bottom) / 2, 0), material
        )

    def cone(
        self, r0: float, r1: float, bottom: float, top: float, material: str, steps: int = 24
    ) -> None:
        """Stacked rings from radius r0 to r1 along a smooth (cosine) profile."""
        edges = np.linspace(bottom, top, steps + 1)
        for i in range(steps):
            blend = 0.5 - 0.5 * np.cos(np.pi * (i + 0.5) / steps)
            self.ring(r0 + (r1 - r0) * blend, edges[i], edges[i + 1], material)

    def knurl(
        self, radius: float, bottom: float, top: float, material: str, count: int = 30
    ) -> None:
        for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
            pos = (radius * np.cos(angle), radius * np.sin(angle), (bottom + top) / 2)
            self.shape("capsule", pos, (0.0009, (top - bottom) / 2 - 0.001, 0), material)


def draw(spec: mujoco.MjSpec, container, lid, variant, base: float) -> None:
    """Draw the closure, the bench and the studio light around it."""
    _studio(spec)
    closure = variant.closure
    glass = closure.look in ("bottle", "jar", "wine", "decanter", "vial")
    for name, rgb, alpha, shine in (
        ("body", closure.color, 0.45 if glass else 1.0, 0.9 if glass else 0.4),
        ("accent", closure.accent, 1.0, 0.5),
        ("dark", tuple(0.6 * c for c in closure.accent), 1.0, 0.3),
        ("label", (0.96, 0.95, 0.90), 1.0, 0.1),
        ("steel", (0.72, 0.74, 0.76), 1.0, 0.9),
        ("mark", (0.98, 0.98, 0.98), 1.0, 0.1),
        ("goal", (0.20, 0.75, 0.40), 0.45, 0.1),
    ):
        spec.add_material(name=name, rgba=(*rgb, alpha), specular=shine, shininess=shine)
    pens = [
        _Pen(b, {m: m for m in ("body", "accent", "dark", "label", "steel", "mark", "goal")})
        for b in (container, lid)
    ]
    _container(pens[0], closure)
    _goal(pens[0], variant)
    _lid(pens[1], variant, base)


def _container(pen: _Pen, closure) -> None:
    pen.ring(
        0.8 * closure.body[0], -0.15, -0.001, "steel"
    )  # a pedestal: inside the table unless the container is raised
    (radius, height), (neck, neck_height) = closure.body, closure.neck
    seat, look = height + neck_height, closure.look
    if look == "mug":
        pen.ring(radius, 0, seat, "body")
        for angle in np.linspace(-1.2, 1.2, 13):
            pen.shape(
                "sphere",
                (0, -radius - 0.024 * np.cos(angle), 0.05 + 0.03 * np.sin(angle)),
                (0.006, 0, 0),
                "body",
            )
    elif look == "valve":
        pen.shape("capsule", (0, 0, 0.045), (0.022, 0.07, 0), "body", quat=(0.7071, 0, 0.7071, 0))
        pen.shape("sphere", (0, 0, 0.045), (0.034, 0, 0), "body")
        pen.ring(0.012, 0.06, seat, "steel")
        pen.ring(0.04, 0, 0.012, "steel")
    elif look == "grinder":
        pen.cone(radius, radius * 0.68, 0, height * 0.45, "body")
        pen.cone(radius * 0.68, neck, height * 0.45, seat, "body")
    elif look == "gas-cap":
        pen.ring(radius, 0, height, "body")
        pen.ring(neck + 0.006, height, height + 0.008, "steel")
        pen.ring(neck, height, seat, "steel")
    elif look == "box":
        pen.shape("box", (0, 0, height / 2), (radius * 0.92, radius * 0.72, height / 2), "body")
        pen.shape(
            "box", (0, -radius * 0.72, height * 0.5), (radius * 0.6, 0.0006, height * 0.28), "label"
        )
        pen.ring(neck, height, seat, "steel")
    elif look == "plate":
        pen.ring(radius, 0, height - 0.004, "steel")
        pen.ring(radius, height - 0.004, seat, "body")
    elif look == "post":
        pen.ring(radius, 0, 0.008, "steel")
        pen.ring(neck, 0.008, seat, "body")
    elif look == "vial":
        pen.ring(radius, 0, height, "body")
        pen.ring(radius + 0.0006, height * 0.18, height * 0.80, "label")
        pen.ring(neck, height, seat, "body")
    elif look == "tumbler":
        pen.cone(radius * 0.82, radius, 0, height, "body")
        pen.ring(neck, height, seat + 0.002, "steel")
    else:  # bottles and jars: wall, shoulder, neck, label
        shoulder = (
            height if look == "jar" else height * (0.60 if look in ("wine", "decanter") else 0.72)
        )
        pen.ring(radius, 0, shoulder, "body")
        pen.cone(radius, neck, shoulder, height + (0.002 if look == "jar" else 0), "body")
        pen.ring(neck, height, seat, "body")
        low, high = (0.15, 0.75) if look != "decanter" else (0.05, 0.12)
        pen.ring(radius + 0.0006, shoulder * low, shoulder * high, "label")
        pen.ring(radius + 0.0009, shoulder * (low + 0.05), shoulder * (low + 0.12), "accent")
    if closure.mechanism in (
        "screw",
        "push_twist",
    ):  # the threaded finish that shows once the lid is off
        for k in range(3):
            pen.ring(
                neck * 0.9,
                seat + 0.004 * k,
                seat + 0.004 * k + 0.0015,
                "steel" if look != "bottle" else "body",
            )
        pen.ring(neck * 0.86, seat, seat + 0.0125, "steel" if look != "bottle" else "body")


def _goal(pen: _Pen, variant) -> None:
    """Where a lid that moves sideways should go, and the mark to reach, on the container."""
    closure, (x, z) = (
        variant.closure,
        (variant.depth, sum((variant.closure.body[1], variant.closure.neck[1]))),
    )
    if closure.mechanism == "push":
        pen.shape("cylinder", (x, 0, z + 0.0004), (variant.grip_radius, 0.0005, 0), "goal")
    elif closure.mechanism == "slide":
        half = closure.cap_radius or closure.bar_half
        pen.shape(
            "box", (x / 2, 0, z + 0.0003), (x / 2 + half, max(0.35 * half, 0.006), 0.0004), "dark"
        )
        pen.shape(
            "box", (x + half, 0, z + 0.0006), (0.0015, max(0.5 * half, 0.010), 0.0006), "goal"
        )
    elif closure.mechanism == "reach":
        pen.shape("sphere", (0, 0, z + variant.grip_height + variant.depth), (0.012, 0, 0), "goal")


def _lid(pen: _Pen, variant, base: float) -> None:
    closure, radius, height = variant.closure, variant.grip_radius, variant.grip_height
    top = base + height
    if closure.cap_radius:
        pen.ring(closure.cap_radius, 0, base, "accent")
    if closure.grip == "bar":
        half, x = closure.bar_half, closure.offset
        pen.shape(
            "box",
            (x, 0, base + height / 2),
            (half, radius, height / 2),
            "dark" if closure.cap_radius else "accent",
        )
        if closure.mechanism == "flip":  # the hinge at the rim
            rim = closure.cap_radius
            pen.shape(
                "capsule",
                (-rim, 0, 0.003),
                (0.004, 0.4 * rim, 0),
                "steel",
                quat=(0.7071, 0.7071, 0, 0),
            )
        if closure.look == "valve":  # the lever's long arm, above the fingers' reach
            pen.shape("box", (half + 0.022, 0, top - 0.004), (0.024, radius * 0.9, 0.003), "accent")
            pen.ring(0.006, top, top + 0.004, "steel")
    elif closure.look == "decanter":
        pen.cone(radius * 0.6, radius, base, base + height * 0.5, "accent")
        pen.cone(radius, radius * 0.55, base + height * 0.5, top, "accent")
    else:
        pen.ring(radius - 0.0006, base, top - 0.002, "accent")
        pen.ring(radius - 0.0016, top - 0.002, top, "accent")
        if closure.look in ("bottle", "tumbler", "thermos", "vial", "box"):
            pen.knurl(radius - 0.0008, base, top - 0.002, "dark")
        if closure.look == "grinder":
            pen.shape("sphere", (0, 0, top + 0.008), (0.010, 0, 0), "steel")
    if closure.mechanism == "press" and not closure.control:  # a pump's spout and stem
        pen.shape("box", (radius + 0.014, 0, base + 0.35 * height), (0.018, 0.005, 0.004), "accent")
        pen.ring(0.006, -variant.depth - 0.004, 0, "steel")
    if closure.look in ("wine", "decanter"):  # the plug, hidden in the neck while closed
        pen.ring(closure.neck[0] * 0.75, -variant.depth, 0, "dark")
    # a white stroke from centre to rim makes rotation visible
    pen.shape(
        "box",
        (closure.offset + 0.55 * radius, 0, top + 0.0003),
        (0.4 * radius, 0.0012, 0.0006),
        "mark",
    )


def _studio(spec: mujoco.MjSpec) -> None:
    visual = spec.visual
    visual.headlight.ambient, visual.headlight.diffuse = (0.32, 0.32, 0.34), (0.28, 0.28, 0.28)
    visual.headlight.specular = (0.05, 0.05, 0.05)
    visual.global_.offwidth, visual.global_.offheight = 1280, 960
    visual.quality.shadowsize = (
        2048  # no reflections: each pass draws 134,000 faces, in software on most machines
    )
    visual.map.znear, visual.map.zfar = 0.02, 20.0
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
    world = spec.worldbody
    for kind, pos, size, material in (
        ("box", (0.45, 0, -0.021), (0.75, 0.65, 0.02), "bench"),
        ("box", (0.50, 0, -0.0005), (0.20, 0.26, 0.0004), "mat"),
    ):
        world.add_geom(
            type=SHAPES[kind],
            pos=pos,
            size=size,
            material=material,
            contype=0,
            conaffinity=0,
            group=1,
        )
    world.add_light(
        pos=(0.9, -0.8, 1.6), dir=(-0.3, 0.5, -1), diffuse=(0.62, 0.60, 0.56), castshadow=True
    )
    world.add_light(
        pos=(0.2, 1.2, 1.3), dir=(0.25, -0.8, -0.8), diffuse=(0.25, 0.27, 0.30), castshadow=False
    )
