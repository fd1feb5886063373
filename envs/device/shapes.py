"""What is drawn of the variants, as tables: one visual model for all, with places for their shapes.

MuJoCo Warp has the types of a model's shapes once for all worlds, and their number, too. So the
model has as many cylinders, boxes, ... on the container and on the lid as any variant draws there;
a world's places, sizes and materials are those of its variant, and what it does not need is a
speck inside the container.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from uncap.envs.drawing import SHAPES
from uncap.envs.pixels import VIEWS
from uncap.envs.robot import MESH_GROUP
from uncap.envs.scene import build, looked_at
from uncap.envs.structure import Variant

DRAWN_GROUP = 1  # of shapes that are only drawn
GROUPS = (DRAWN_GROUP, MESH_GROUP)  # what a picture shows
_BODIES = ("container", "lid")
_SPECK = 1e-5  # m
_SPECK_PLACE = (0.0, 0.0, 0.01)  # m, inside the container

Kind = tuple[str, str]  # body, and a row of `drawing.SHAPES`


class Shape(NamedTuple):
    """A drawn shape, see `drawing.Pen.shape`."""

    kind: Kind
    pos: np.ndarray  # (3,) m
    quat: np.ndarray  # (4,)
    size: np.ndarray  # (3,) m
    material: str


class Drawings(NamedTuple):
    """What is drawn of V variants.

    Attributes:
        model: an MjModel with the robot, the bench and places for S shapes; a camera for each of
            `pixels.VIEWS`.
        places: (S,) ids of the places among the model's shapes.
        pos: (V, S, 3) m, in the frames of their bodies.
        quat: (V, S, 4).
        size: (V, S, 3) m.
        material: (V, S) id in the model.
        rgba: (V, materials, 4) in [0, 1].
        tinted: bool (materials,), whether a tint acts on it: on all but the robot's.
        looked_at: (V,) height above the container's foot at which cameras look (m).
    """

    model: Any
    places: np.ndarray
    pos: np.ndarray
    quat: np.ndarray
    size: np.ndarray
    material: np.ndarray
    rgba: np.ndarray
    tinted: np.ndarray
    looked_at: np.ndarray

    @classmethod
    def of(cls, variants: Sequence[Variant]) -> Drawings:
        """The drawings of variants.

        Raises:
            FileNotFoundError: the robot's meshes are not installed.
        """
        specs = [build(variant, visual=True, meshes=False) for variant in variants]
        shapes = [_shapes_in(spec) for spec in specs]
        model, ids = _model_of(variants[0], _most(shapes))
        tables = _tables(model, shapes, ids)
        names = [model.material(number).name for number in range(model.nmat)]
        rgba = np.tile(model.mat_rgba.astype(float), (len(variants), 1, 1))
        for own, spec in zip(rgba, specs, strict=True):
            for number, name in enumerate(names):
                own[number] = spec.material(name).rgba
        heights = [looked_at(variant) for variant in variants]
        return cls(
            model,
            np.array([number for of_kind in ids.values() for number in of_kind], np.int64),
            *tables,
            rgba,
            np.array([not name.startswith("panda") for name in names]),
            np.array(heights),
        )


def _shapes_in(spec: Any) -> list[Shape]:
    """What a scene draws of its container and its lid."""
    names = {kind: name for name, kind in SHAPES.items()}
    return [
        Shape(
            (body, names[geom.type]),
            np.array(geom.pos),
            np.array(geom.quat),
            np.nan_to_num(geom.size),
            geom.material,
        )
        for body in _BODIES
        for geom in spec.body(body).geoms
        if geom.group == DRAWN_GROUP
    ]


def _most(shapes: Sequence[Sequence[Shape]]) -> Counter[Kind]:
    """How many shapes of each kind any variant has."""
    most: Counter[Kind] = Counter()
    for own in shapes:
        most |= Counter(shape.kind for shape in own)
    return most


def _model_of(variant: Variant, most: Counter[Kind]) -> tuple[Any, dict[Kind, list[int]]]:
    """The model, and ids of the places for shapes of each kind."""
    spec = build(variant, visual=True)
    for body in _BODIES:
        for geom in [geom for geom in spec.body(body).geoms if geom.group == DRAWN_GROUP]:
            spec.delete(geom)
    for (body, kind), number in most.items():
        for place in range(number):
            spec.body(body).add_geom(
                name=f"{body} {kind} {place}",
                type=SHAPES[kind],
                pos=_SPECK_PLACE,
                size=(_SPECK,) * 3,
                material="steel",
                contype=0,
                conaffinity=0,
                mass=0,
                group=DRAWN_GROUP,
            )
    for number in range(len(VIEWS)):
        spec.worldbody.add_camera(name=f"view {number}")
    model = spec.compile()
    ids = {
        (body, kind): [model.geom(f"{body} {kind} {place}").id for place in range(number)]
        for (body, kind), number in most.items()
    }
    return model, ids


def _tables(
    model: Any, shapes: Sequence[Sequence[Shape]], ids: dict[Kind, list[int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, orientations, sizes and materials, (V, S, ...): see `Drawings`."""
    column = {kind: 0 for kind in ids}
    first = 0
    for kind, own in ids.items():
        column[kind] = first
        first += len(own)
    pos = np.tile(np.array(_SPECK_PLACE), (len(shapes), first, 1))
    quat = np.tile(np.array((1.0, 0.0, 0.0, 0.0)), (len(shapes), first, 1))
    size = np.full((len(shapes), first, 3), _SPECK)
    material = np.full((len(shapes), first), model.material("steel").id)
    for v, own in enumerate(shapes):
        taken: Counter[Kind] = Counter()
        for shape in own:
            s = column[shape.kind] + taken[shape.kind]
            taken[shape.kind] += 1
            pos[v, s] = shape.pos
            quat[v, s] = shape.quat / np.linalg.norm(shape.quat)
            size[v, s] = shape.size
            material[v, s] = model.material(shape.material).id
    return pos, quat, size, material
