"""One universal scene: every variant compiles to the same sizes.

    world: table, Panda, container (mocap: its pose is state) > lid (six joints)

Heights are above the table top (z = 0). `seat` is the plane between container and
lid; collision shapes meet there, so the part of a neck inside its lid is only drawn.
"""

# mujoco's extension modules come without stubs: pyright knows none of their names
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import mujoco

from uncap.envs import drawing
from uncap.envs.lid import add_constraints, add_lid_joints
from uncap.envs.mechanisms import MECHANISMS, Mechanism
from uncap.envs.robot import (
    CONTACT_SOLIMP,
    CONTACT_SOLREF,
    CONTAINER_BIT,
    HAND_BIT,
    LID_BIT,
    TABLE_BIT,
    add_panda,
)
from uncap.envs.stages import StageNumbers, lid_stages, sink
from uncap.envs.structure import Variant

TIMESTEP = 0.005  # s; with 10 substeps: control at 20 Hz
SUBSTEPS = 10
DISC_HEIGHT = 0.006  # m, of the disc under a knob or bar
# A lid that is all cap has a small disc inside it, out of reach: variants have the same shapes
HIDDEN_DISC_RADIUS = 0.005  # m
FINGERTIP = 0.011  # m that the tips reach below the point between them
HELD_AT = 0.6  # of the held part's height, where the fingers take it
CONTACT_FRICTION = (0.8, 0.005, 0.0001)  # sliding, torsional (m), rolling (m)
TABLE_FRICTION = (1.0, 0.005, 0.001)  # the last one stops a lid that rolls on its rim
SEAT_GAP = 0.0005  # m between the collision shapes of a closed lid and its container
# What the physics changes, and which has diverged where a number is larger: positions, velocities,
# accelerations
DIVERGES = ("qpos", "qvel", "qacc_warmstart")
LARGEST = mujoco.mjMAXVAL  # pyright: ignore[reportAttributeAccessIssue]
WORKSPACE = (0.50, 0.0)  # m, centre of the containers' poses
COLLISION_GROUP = 3  # of geoms that a visual scene does not draw


def mechanism_of(variant: Variant) -> Mechanism:
    """The row of MECHANISMS that holds the variant's lid."""
    return MECHANISMS[variant.closure.mechanism]


def looked_at(variant: Variant) -> float:
    """Height above the table at which cameras look (m)."""
    return 0.8 * variant.closure.seat_height + 0.03


def base_height(variant: Variant) -> float:
    """Height of the held part's foot above the seat (m)."""
    return DISC_HEIGHT if variant.closure.cap_radius else 0.0


def top_height(variant: Variant) -> float:
    """Height of the held part's top above the seat (m)."""
    return base_height(variant) + variant.grip_height


def grip_height(variant: Variant) -> float:
    """Height above the seat of the point that the hand goes to (m), see `Mechanism.hand_at`."""
    return _HAND_HEIGHTS[mechanism_of(variant).hand_at](variant)


def _beside_height(variant: Variant) -> float:
    """Where the fingers hold the lid, with their tips clear of the disc (m)."""
    return base_height(variant) + max(HELD_AT * variant.grip_height, FINGERTIP)


def _on_top_height(variant: Variant) -> float:
    """Where the fingertips touch a head that is pressed (m)."""
    return top_height(variant) + FINGERTIP


def _mark_height(variant: Variant) -> float:
    """Where the mark in the air above the lid is (m)."""
    return top_height(variant) + variant.depth


_HAND_HEIGHTS = {
    "beside": _beside_height,
    "on_top": _on_top_height,
    "mark": _mark_height,
}


def build(
    variant: Variant,
    visual: bool = False,
    free: bool = False,
    meshes: bool = True,
    wrist: bool = False,
) -> mujoco.MjSpec:
    """The scene of one variant.

    Args:
        variant: one draw of a closure.
        visual: draw meshes, decoration, and lights; the state keeps its layout.
        free: the lid has come off: nothing of its mechanism is left.
        meshes: those of the robot; a visual scene without them has the same materials,
            in 0.4 MB instead of 25.
        wrist: sense force and torque at the wrist; it changes nothing else, and takes 6 % of
            the physics' time.

    Returns:
        An MjSpec; `spec.compile()` gives the model.
    """
    spec = mujoco.MjSpec()
    _set_options(spec)
    _add_table(spec, visual)
    add_panda(spec, visual, meshes)
    container = _add_container(spec, variant)
    first = lid_stages(variant)[0]
    lid = _add_lid(container, variant, first, free)
    add_constraints(spec, mechanism_of(variant), first.ratio)
    _add_touch_sensors(spec)
    if wrist:
        _add_wrist_sensors(spec)
    if visual:
        _dress(spec, container, lid, variant)
    return spec


def _set_options(spec: mujoco.MjSpec) -> None:
    spec.compiler.degree = False
    option = spec.option
    option.timestep = TIMESTEP
    # position servos in contact stay stable at 5 ms
    option.integrator = mujoco.mjtIntegrator.mjINT_DISCRETE
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC  # the pyramidal cone lets a grip creep
    option.impratio = 10
    # a lid rests on its container, its parent
    option.disableflags |= mujoco.mjtDisableBit.mjDSBL_FILTERPARENT


def _add_table(spec: mujoco.MjSpec, visual: bool) -> None:
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(1.2, 1.2, 0.05),
        contype=TABLE_BIT,
        conaffinity=HAND_BIT | LID_BIT,
        solref=CONTACT_SOLREF,
        solimp=CONTACT_SOLIMP,
        condim=6,  # with rolling friction
        friction=TABLE_FRICTION,
        group=COLLISION_GROUP if visual else 0,
    )


def _add_container(spec: mujoco.MjSpec, variant: Variant) -> mujoco.MjsBody:
    """Body and neck; a lid that is pressed down sinks into the room above them."""
    closure = variant.closure
    container = spec.worldbody.add_body(name="container", mocap=True, pos=(*WORKSPACE, 0))
    room = sink(variant)  # m
    _add_cylinder(
        container,
        "body",
        radius=closure.body[0],
        bottom=0.0,
        top=closure.body[1],
        bit=CONTAINER_BIT,
    )
    _add_cylinder(
        container,
        "neck",
        radius=closure.neck[0],
        bottom=closure.body[1] - room,
        top=variant.closure.seat_height - SEAT_GAP - room,
        bit=CONTAINER_BIT,
    )
    return container


def _add_lid(
    container: mujoco.MjsBody, variant: Variant, first: StageNumbers, free: bool
) -> mujoco.MjsBody:
    """The lid's body: joints, inertia, disc, held part, and the site that the hand goes to."""
    closure = variant.closure
    lid = container.add_body(name="lid", pos=(0, 0, variant.closure.seat_height))
    hinge = -closure.cap_radius
    add_lid_joints(lid, mechanism_of(variant), variant, first, free, hinge)
    _set_inertia(lid, variant)
    _add_cylinder(
        lid,
        "disc",
        radius=closure.cap_radius or HIDDEN_DISC_RADIUS,
        bottom=0.0,
        top=DISC_HEIGHT,
        bit=LID_BIT,
    )
    _add_held_part(lid, variant)
    lid.add_site(name="grip", pos=(closure.offset, 0, grip_height(variant)))
    return lid


def _set_inertia(lid: mujoco.MjsBody, variant: Variant) -> None:
    """Mass and inertia of a solid cylinder as wide as the lid and as tall."""
    mass = variant.mass  # kg
    radius = variant.closure.cap_radius or variant.grip_radius  # m
    height = top_height(variant)  # m
    across = mass * (radius**2 / 4 + height**2 / 12)  # kg m^2
    lid.explicitinertial = True
    lid.mass = mass
    lid.ipos = (0, 0, height / 2)
    lid.inertia = (across, across, mass * radius**2 / 2)


def _add_held_part(lid: mujoco.MjsBody, variant: Variant) -> None:
    """The part between the fingers: a bar with flat sides, or a round cap."""
    closure = variant.closure
    base = base_height(variant)
    if closure.grip == "bar":
        lid.add_geom(
            name="grip",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(closure.offset, 0, base + variant.grip_height / 2),
            size=(closure.bar_half, variant.grip_radius, variant.grip_height / 2),
            **_collides(LID_BIT),
        )
    else:
        _add_cylinder(
            lid,
            "grip",
            radius=variant.grip_radius,
            bottom=base,
            top=top_height(variant),
            bit=LID_BIT,
            x=closure.offset,
        )


def _add_touch_sensors(spec: mujoco.MjSpec) -> None:
    """The net force of each finger on the lid; contacts of container and lid with anything."""
    for side in ("left", "right"):
        spec.add_sensor(
            name=f"touch_{side}",
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_BODY,
            objname=f"finger_{side}",
            reftype=mujoco.mjtObj.mjOBJ_BODY,
            refname="lid",
            intprm=[2, 3, 1],  # data: force; reduce: net force; one slot
        )
    spec.add_sensor(
        name="closure_contacts",
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=mujoco.mjtObj.mjOBJ_XBODY,  # the container and all that hangs on it: the lid
        objname="container",
        intprm=[1, 0, 1],  # data: how many were found; one slot
    )


def _add_wrist_sensors(spec: mujoco.MjSpec) -> None:
    """Force and torque of the arm on the hand, at the flange and in the hand's frame."""
    for name, kind in (
        ("wrist_force", mujoco.mjtSensor.mjSENS_FORCE),
        ("wrist_torque", mujoco.mjtSensor.mjSENS_TORQUE),
    ):
        spec.add_sensor(name=name, type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname="wrist")


def _dress(
    spec: mujoco.MjSpec,
    container: mujoco.MjsBody,
    lid: mujoco.MjsBody,
    variant: Variant,
) -> None:
    """Hide the collision shapes of container and lid, and draw what they look like."""
    for body in (container, lid):
        for geom in body.geoms:
            geom.group = COLLISION_GROUP
    drawing.draw(spec, container, lid, variant, base_height(variant))


def _add_cylinder(
    body: mujoco.MjsBody,
    name: str,
    *,
    radius: float,
    bottom: float,
    top: float,
    bit: int,
    x: float = 0.0,
) -> None:
    """Add an upright collision cylinder between two heights in the body's frame (m)."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        pos=(x, 0, (bottom + top) / 2),
        size=(radius, (top - bottom) / 2, 0),
        **_collides(bit),
    )


def _collides(bit: int) -> dict[str, Any]:
    """Contact settings of a part of the closure: who may touch it, and how hard it is."""
    touched_by = {
        LID_BIT: HAND_BIT | CONTAINER_BIT | TABLE_BIT,
        CONTAINER_BIT: HAND_BIT | LID_BIT,
    }
    return {
        "contype": bit,
        "conaffinity": touched_by[bit],
        "mass": 0,
        "friction": CONTACT_FRICTION,
        "solref": CONTACT_SOLREF,
        "solimp": CONTACT_SOLIMP,
    }
