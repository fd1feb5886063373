"""Numbers of the variants, as the batch looks them up."""

from __future__ import annotations

import numpy as np

from envs import mechanisms
from envs.mechanisms import MECHANISMS
from envs.scene import grip_height, seat_height
from envs.structure import Variant

MARK = 0.008  # m from a mark that counts as there
MARK_RANGE = 0.12  # m from a mark in the air at which progress begins


def constants(pool: list[Variant]) -> np.ndarray:
    """Numbers of each variant, a structured array (v,)."""

    def column(f) -> np.ndarray:
        return np.array([f(v, v.closure, MECHANISMS[v.closure.mechanism]) for v in pool])

    def gate(f, otherwise=0.0) -> np.ndarray:
        return column(lambda v, c, m: f(v, m) if m.gate else otherwise)

    full = column(lambda v, c, m: mechanisms.full_travel(m, c.direction, v.angle, v.depth))
    inverse_full = np.divide(1.0, full, out=np.zeros_like(full), where=full != 0)
    shares = column(lambda v, c, m: [m.opens.get(j, 0.0) for j in range(6)])
    stays = column(lambda v, c, m: 0.0 if m.separates else v.angle)
    columns = {
        "engaged": column(lambda v, c, m: m.engaged()),
        "mechanism": column(lambda v, c, m: list(MECHANISMS).index(m.name)),
        "hold_rule": column(lambda v, c, m: m.contact == "hold"),
        "free_rule": column(lambda v, c, m: m.contact == "none"),
        "full": full,
        "inverse_full": inverse_full,
        "shares": shares,
        "swing": stays[:, None]
        * shares
        * inverse_full,  # times a lid's joints: the angle it has turned by, if it stays
        "separates": column(lambda v, c, m: m.separates),
        "marked": column(lambda v, c, m: m.marked),
        "goal": column(
            lambda v, c, m: (v.depth, 0.0, 0.0)
        ),  # where a lid that is pushed to a mark shall be
        "range": column(lambda v, c, m: v.depth if m.free else MARK_RANGE),
        "reached": column(lambda v, c, m: m.marked and not m.free),
        "moves": column(lambda v, c, m: float(mechanisms.X in m.free)),
        "gated": column(lambda v, c, m: m.gate is not None),
        "gate_key": gate(lambda v, m: m.gate.key, 0),
        "gate_jammed": gate(lambda v, m: m.gate.jammed, 0),
        "gate_threshold": gate(lambda v, m: m.gate.threshold),
        "gate_open": gate(lambda v, m: mechanisms.frictions(m, v.force, v.torque)[m.gate.jammed]),
        "gate_shut": gate(lambda v, m: mechanisms.jam(m.gate.jammed)),
        "direction": column(lambda v, c, m: c.direction),
        "angle": column(lambda v, c, m: v.angle),
        "depth": column(lambda v, c, m: v.depth),
        "foot": column(lambda v, c, m: c.body[0]),
        "seat": column(lambda v, c, m: seat_height(v)),
        "grip_radius": column(lambda v, c, m: v.grip_radius),
        "grip_height": column(lambda v, c, m: v.grip_height),
        "dimensions": column(lambda v, c, m: (v.grip_radius, v.grip_height, c.cap_radius)),
        "offset": column(lambda v, c, m: c.offset),
        "lever": column(
            lambda v, c, m: (c.offset + c.cap_radius, grip_height(v))
        ),  # (v, 2) from hinge to held point
        "bar": column(lambda v, c, m: c.grip == "bar"),
    }
    table = np.empty(
        len(pool), np.dtype([(k, c.dtype, c.shape[1:]) for k, c in columns.items()], align=True)
    )
    for k, c in columns.items():
        table[k] = c
    return table
