"""One universal scene: every variant compiles to the same sizes.

    world: table, Panda, container (mocap: its pose is state) > lid (six joints)

Heights are above the table top (z = 0). `seat` is the plane between container and
lid; collision shapes meet there, so the part of a neck inside its lid is only drawn.
"""

from __future__ import annotations

import mujoco
import numpy as np

from envs import drawing
from envs.mechanisms import MECHANISMS, OVERTRAVEL, add_constraints, add_lid_joints
from envs.robot import CONTAINER_BIT, HAND_BIT, LID_BIT, TABLE_BIT, add_panda
from envs.structure import Variant

TIMESTEP = 0.005  # s; with 10 substeps: control at 20 Hz
SUBSTEPS = 10
DISC_HEIGHT = 0.006  # m, of the disc under a knob or bar
FINGERTIP = 0.011  # m that the tips reach below the point between them
# a light lid must not sink into its container: the shortest time constant that MuJoCo
# allows, two steps, leaves no more than one step's travel of a falling lid (measured)
CONTACT_SOLREF, CONTACT_SOLIMP = (2 * TIMESTEP, 1.0), (0.999, 0.9999, 0.0005, 0.5, 2)
SEAT_GAP = 0.0005  # m between the collision shapes of a closed lid and its container
WORKSPACE = (0.50, 0.0)  # m, centre of the containers' poses


def seat_height(variant: Variant) -> float:
    """Height of the lid's seat above the table (m)."""
    return variant.closure.body[1] + variant.closure.neck[1]


def grip_height(variant: Variant) -> float:
    """Height above the seat of the point that the fingers go to (m).

    Where they hold the lid, with their tips clear of the disc; where they touch a head
    that is pressed; or, in the air above the lid, the mark to reach.
    """
    top = base_height(variant) + variant.grip_height
    if variant.closure.mechanism == "reach":
        return top + variant.depth
    if variant.closure.mechanism == "press":
        return top + FINGERTIP
    return base_height(variant) + max(0.6 * variant.grip_height, FINGERTIP)


def base_height(variant: Variant) -> float:
    """Height of the held part's foot above the seat (m)."""
    return DISC_HEIGHT if variant.closure.cap_radius else 0.0


def sink(variant: Variant) -> float:
    """How far the lid can be pressed into its container (m)."""
    return variant.depth + OVERTRAVEL[0] if MECHANISMS[variant.closure.mechanism].sprung else 0.0


def build(
    variant: Variant, visual: bool = False, free: bool = False, meshes: bool = True
) -> mujoco.MjSpec:
    """The scene of one variant.

    Args:
        variant: one draw of a closure.
        visual: draw meshes, decoration, and lights; the state keeps its layout.
        free: the lid has come off: nothing of its mechanism is left.
        meshes: those of the robot; a visual scene without them has the same materials, in 0.4 MB instead of 25.

    Returns:
        An MjSpec; `spec.compile()` gives the model.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    option = spec.option
    option.timestep = TIMESTEP
    option.integrator = (
        mujoco.mjtIntegrator.mjINT_DISCRETE
    )  # position servos in contact stay stable at 5 ms
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC  # the pyramidal cone lets a grip creep
    option.impratio = 10
    option.disableflags |= (
        mujoco.mjtDisableBit.mjDSBL_FILTERPARENT
    )  # a lid rests on its container, its parent
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(1.2, 1.2, 0.05),
        contype=TABLE_BIT,
        conaffinity=HAND_BIT | LID_BIT,
        group=3 if visual else 0,
    )
    add_panda(spec, visual, meshes)
    closure, mechanism = variant.closure, MECHANISMS[variant.closure.mechanism]
    container = world.add_body(name="container", mocap=True, pos=(*WORKSPACE, 0))
    _cylinder(container, "body", closure.body[0], 0.0, closure.body[1], CONTAINER_BIT)
    _cylinder(
        container,
        "neck",
        closure.neck[0],
        closure.body[1] - sink(variant),
        seat_height(variant) - SEAT_GAP - sink(variant),
        CONTAINER_BIT,
    )

    lid = container.add_body(name="lid", pos=(0, 0, seat_height(variant)))
    add_lid_joints(lid, mechanism, variant, free, hinge=-closure.cap_radius)
    radius, height = closure.cap_radius or variant.grip_radius, grip_height(variant)
    lid.explicitinertial = True
    tall = base_height(variant) + variant.grip_height
    lid.mass, lid.ipos = variant.mass, (0, 0, tall / 2)
    across = variant.mass * (radius**2 / 4 + tall**2 / 12)
    lid.inertia = (across, across, variant.mass * radius**2 / 2)
    base, offset = base_height(variant), closure.offset
    # a lid that is all cap keeps a small disc inside it, out of reach: every variant has the same shapes
    _cylinder(lid, "disc", closure.cap_radius or 0.005, 0.0, DISC_HEIGHT, LID_BIT)
    if closure.grip == "bar":
        lid.add_geom(
            name="grip",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(offset, 0, base + variant.grip_height / 2),
            size=(closure.bar_half, variant.grip_radius, variant.grip_height / 2),
            **_collides(LID_BIT),
        )
    else:
        _cylinder(
            lid, "grip", variant.grip_radius, base, base + variant.grip_height, LID_BIT, offset
        )
    lid.add_site(name="grip", pos=(offset, 0, height))
    lead = (
        closure.direction * 2 * np.pi * variant.depth / variant.angle if mechanism.threaded else 0.0
    )
    add_constraints(spec, mechanism, lead)
    for side in ("left", "right"):
        spec.add_sensor(
            name=f"touch_{side}",
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=f"finger_{side}",
            reftype=mujoco.mjtObj.mjOBJ_BODY,
            refname="lid",
            intprm=[2, 3, 1],
        )  # data: force; reduce: net force; one slot
    if visual:
        for geom in [g for body in (container, lid) for g in body.geoms]:
            geom.group = 3
        drawing.draw(spec, container, lid, variant, base)
    return spec


def _collides(bit: int) -> dict:
    masks = {LID_BIT: HAND_BIT | CONTAINER_BIT | TABLE_BIT, CONTAINER_BIT: HAND_BIT | LID_BIT}
    return {
        "contype": bit,
        "conaffinity": masks[bit],
        "mass": 0,
        "friction": (0.8, 0.005, 0.0001),
        "solref": CONTACT_SOLREF,
        "solimp": CONTACT_SOLIMP,
    }


def _cylinder(
    body, name: str, radius: float, bottom: float, top: float, bit: int, x: float = 0.0
) -> None:
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=(x, 0, (bottom + top) / 2),
        size=(radius, (top - bottom) / 2, 0),
        **_collides(bit),
    )
