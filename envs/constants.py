"""Numbers of the variants, as the batch looks them up: one row per variant, one column per number.

A group of columns is a function of the variant. Columns that experts and rewards read
are copied into the batch's measurements by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from uncap.envs import mechanisms
from uncap.envs.mechanisms import LID_JOINTS, MECHANISMS, X
from uncap.envs.rewards import TERMS
from uncap.envs.scene import grip_height, mechanism_of, seat_height
from uncap.envs.structure import Variant
from uncap.envs.tables import lookup

MARK = 0.008  # m from a mark that counts as there
MARK_RANGE = 0.12  # m from a mark in the air at which progress begins


def constants(pool: list[Variant]) -> np.ndarray:
    """Numbers of each variant.

    Args:
        pool: v variants.

    Returns:
        Structured array (v,); the functions below say what its columns are.
    """
    rows = [_row(variant) for variant in pool]
    columns = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    layout = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    table = np.empty(len(pool), np.dtype(layout, align=True))
    for name, column in columns.items():
        table[name] = column
    return table


def _row(variant: Variant) -> dict[str, Any]:
    return {
        **_holding(variant),
        **_opening(variant),
        **_mark(variant),
        **_gate(variant),
        **_geometry(variant),
        **_experts_and_rewards(variant),
    }


def _holding(variant: Variant) -> dict[str, Any]:
    """What holds the lid, and what counts as the hand's work."""
    mechanism = mechanism_of(variant)
    return {
        "engaged": mechanism.engaged(),  # bool (7,) in the order of mechanisms.CONSTRAINTS
        "separates": mechanism.separates,
        "hold_rule": mechanism.contact == "hold",
        "free_rule": mechanism.contact == "none",
    }


def _opening(variant: Variant) -> dict[str, Any]:
    """How far and which way each joint goes."""
    mechanism = mechanism_of(variant)
    direction = variant.closure.direction
    full = mechanisms.full_travel(mechanism, direction, variant.angle, variant.depth)
    inverse_full = np.divide(1.0, full, out=np.zeros_like(full), where=full != 0)
    shares = np.array([mechanism.opens.get(joint, 0.0) for joint in range(len(LID_JOINTS))])
    angle_if_it_stays = 0.0 if mechanism.separates else variant.angle
    return {
        "full": full,  # (6,) m, rad, see `mechanisms.full_travel`
        "inverse_full": inverse_full,  # (6,) 1/m, 1/rad; 0 where a joint does not count
        "shares": shares,  # (6,) of the joints in the progress
        # (6,) times a lid's joints: the angle by which a lid that stays has turned (rad)
        "swing": angle_if_it_stays * shares * inverse_full,
        "direction": direction,  # +1, -1 or 0
        "angle": variant.angle,  # rad
        "depth": variant.depth,  # m
    }


def _mark(variant: Variant) -> dict[str, Any]:
    """Where something shall be that is moved sideways, or to a mark."""
    mechanism = mechanism_of(variant)
    return {
        "marked": mechanism.marked,
        "reached": mechanism.marked and not mechanism.free,  # by the hand, not by the lid
        "goal": (variant.depth, 0.0, 0.0),  # of a lid that is pushed to a mark (m)
        "range": variant.depth if mechanism.free else MARK_RANGE,  # m at which progress begins
        "sideways": float(X in mechanism.free),  # 1 where the lid moves along x, else 0
    }


def _gate(variant: Variant) -> dict[str, Any]:
    """The joint that is jammed until another has gone its way; zeros without a gate."""
    mechanism = mechanism_of(variant)
    gate = mechanism.gate
    if gate is None:
        return {
            "gated": False,
            "gate_key": 0,
            "gate_jammed": 0,
            "gate_threshold": 0.0,
            "gate_open": 0.0,
            "gate_shut": 0.0,
        }
    friction = mechanisms.frictions(mechanism, variant.force, variant.torque)  # (6,) N, N m
    return {
        "gated": True,
        "gate_key": gate.key,  # joint
        "gate_jammed": gate.jammed,  # joint
        "gate_threshold": gate.threshold,  # share of the key's full way
        "gate_open": friction[gate.jammed],  # N, N m
        "gate_shut": mechanisms.jam(gate.jammed),  # N, N m
    }


def _geometry(variant: Variant) -> dict[str, Any]:
    """Sizes and places (m)."""
    closure = variant.closure
    return {
        "foot": closure.body[0],  # radius of the container
        "seat": seat_height(variant),
        "grip_radius": variant.grip_radius,
        "grip_height": variant.grip_height,
        "dimensions": (variant.grip_radius, variant.grip_height, closure.cap_radius),
        "offset": closure.offset,
        # out and up from the hinge to the point that the hand goes to
        "lever": (closure.offset + closure.cap_radius, grip_height(variant)),
        "bar": closure.grip == "bar",
    }


def _experts_and_rewards(variant: Variant) -> dict[str, Any]:
    """Who makes which move and pays which term: a bool for each, by name."""
    mechanism = mechanism_of(variant)
    paid = TERMS if mechanism.pays is None else mechanism.pays
    for term in paid:
        lookup(TERMS, term, "reward term")
    return {
        "moves": _chosen(mechanism.moves, every_move()),
        "pays": _chosen(paid, TERMS),
    }


def every_move() -> tuple[str, ...]:
    """Names of the moves that mechanisms are opened by."""
    names = [name for mechanism in MECHANISMS.values() for name in mechanism.moves]
    return tuple(dict.fromkeys(names))


def _chosen(names: Iterable[str], among: Iterable[str]) -> np.ndarray:
    """Which of the names are chosen: a structured array () with a bool for each."""
    among = tuple(among)
    chosen = set(names)
    layout = np.dtype([(name, bool) for name in among])
    return np.array(tuple(name in chosen for name in among), layout)
