"""Numbers of the variants, as the batch looks them up: one row per variant, one column per number.

A group of columns is a function of the variant. Columns that experts and rewards read
are copied into the batch's measurements by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from uncap.envs import mechanisms
from uncap.envs.mechanisms import LIFT, MOST_STAGES, TWIST, Stage, X
from uncap.envs.rewards import TERMS
from uncap.envs.scene import grip_height, mechanism_of
from uncap.envs.stages import Gate, StageNumbers, lid_stages, sink, way_down
from uncap.envs.structure import Variant
from uncap.envs.tables import lookup

MARK = 0.008  # m from a mark that counts as there
MARK_RANGE = 0.12  # m from a mark in the air at which progress begins
NO_JOINT = -1  # moves in a stage of a lid that is moved to a mark
# Columns of sizes and places: they are seen, whatever the lid is taken for
GEOMETRY = ("foot", "seat", "grip_radius", "grip_height", "dimensions", "offset", "lever", "bar")


def constants(pool: list[Variant]) -> np.ndarray:
    """Numbers of each variant.

    Args:
        pool: v variants.

    Returns:
        Structured array (v,); the functions below say what its columns are.
    """
    return _table([_row(variant) for variant in pool])


def stage_constants(pool: list[Variant]) -> np.ndarray:
    """Numbers of each variant's stages.

    Args:
        pool: v variants.

    Returns:
        Structured array (v, MOST_STAGES + 1); `_stage` says what its columns are. Behind the last
        stage is what holds a lid that has latched; what is behind that is not read.
    """
    rows = []
    for variant in pool:
        stages = lid_stages(variant)
        found = [_stage(variant, stages, k) for k in range(len(stages))]
        rows += found + found[-1:] * (MOST_STAGES + 1 - len(found))
    return _table(rows).reshape(len(pool), MOST_STAGES + 1)


def _table(rows: list[dict[str, Any]]) -> np.ndarray:
    """Rows of the same columns as a structured array."""
    columns = {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
    layout = [(name, column.dtype, column.shape[1:]) for name, column in columns.items()]
    table = np.empty(len(rows), np.dtype(layout, align=True))
    for name, column in columns.items():
        table[name] = column
    return table


def _row(variant: Variant) -> dict[str, Any]:
    return {
        **_holding(variant),
        **_opening(variant),
        **_mark(variant),
        **_geometry(variant),
        **_rewards(variant),
    }


def _holding(variant: Variant) -> dict[str, Any]:
    """What holds the lid, where the hand goes, and what counts as its work."""
    mechanism = mechanism_of(variant)
    return {
        "engaged": mechanism.engaged(),  # bool (7,) in the order of mechanisms.CONSTRAINTS
        "separates": mechanism.separates,
        "hold_rule": mechanism.contact == "hold",
        "free_rule": mechanism.contact == "none",
        "beside": mechanism.hand_at == "beside",
        "on_top": mechanism.hand_at == "on_top",
        "at_mark": mechanism.hand_at == "mark",
    }


def _opening(variant: Variant) -> dict[str, Any]:
    """How far and which way the lid goes."""
    mechanism = mechanism_of(variant)
    depth = way_down(variant)
    return {
        "stages": len(mechanism.stages),
        # index of the last stage, or of the latched lid behind it
        "last_stage": len(lid_stages(variant)) - 1,
        "direction": variant.closure.direction,  # +1, -1 or 0
        "angle": variant.angle,  # rad
        "depth": variant.depth,  # m
        "lowest": -sink(variant),  # m, of the lid in its container
        # 1/m, of how far down the lid goes on its way; 0 where it does not
        "per_down": 1 / depth if depth else 0.0,
    }


def _stage(variant: Variant, stages: list[StageNumbers], k: int) -> dict[str, Any]:
    """One stage: what it asks of the hand, what it adds to progress, and what holds the lid."""
    return {
        **_asked(variant, stages, k),
        **_sideways(variant, stages[k]),
        **_added(variant, stages, k),
        **_held(stages[k]),
    }


def _asked(variant: Variant, stages: list[StageNumbers], k: int) -> dict[str, Any]:
    """What a stage asks of the hand."""
    numbers = stages[k]
    stage = numbers.stage or Stage(NO_JOINT)
    mechanism = mechanism_of(variant)
    last = k == len(mechanism.stages) - 1
    kept_by_next = k + 1 < len(mechanism.stages) and mechanism.stages[k + 1].keeps == stage.joint
    twists = _twists_to_come(stages[k:])
    return {
        "joint": stage.joint,  # NO_JOINT without a stage
        "sense": np.sign(numbers.way),  # +1 or -1, along the joint; 0 without a stage
        "end": _end(numbers),  # m, rad: of its joint, when the stage is done
        "pressed": stage.pressed,  # the lid must be kept down meanwhile
        "pressed_to": numbers.full[LIFT] if stage.pressed else 0.0,  # m, at the full depth
        "keeps_twist": stage.keeps == TWIST,
        "twist_end": numbers.start[TWIST] + numbers.full[TWIST],  # rad
        "comes_off": last and mechanism.separates,
        "latches": mechanism.latches,  # where the stage ends, by itself
        # its joint goes a little further than its end
        "overdone": (last and not mechanism.separates) or kept_by_next,
        "will_twist": bool(twists),
        "lowest_twist": min(twists, default=0.0),  # rad, of those that are still to come
        "highest_twist": max(twists, default=0.0),
    }


def _end(numbers: StageNumbers) -> float:
    """Where a stage's joint is when the stage is done (m, rad); 0 without a stage."""
    return numbers.start[numbers.stage.joint] + numbers.way if numbers.stage else 0.0


def _sideways(variant: Variant, numbers: StageNumbers) -> dict[str, Any]:
    """Whether the lid moves sideways in a stage, and where to."""
    mechanism = mechanism_of(variant)
    slides = numbers.stage is not None and numbers.stage.joint == X
    drifts = mechanism.marked and X in mechanism.free
    return {
        "sideways": float(slides or drifts),  # 1 or 0
        "sideways_to": variant.depth if drifts else _end(numbers) * slides,  # m
    }


def _added(variant: Variant, stages: list[StageNumbers], k: int) -> dict[str, Any]:
    """What a stage adds to progress."""
    numbers = stages[k]
    joint = numbers.stage.joint if numbers.stage else NO_JOINT
    mechanism = mechanism_of(variant)
    full = numbers.full
    inverse_full = np.divide(1.0, full, out=np.zeros_like(full), where=full != 0)
    stays = k == len(mechanism.stages) - 1 and not mechanism.separates
    angle_if_it_stays = abs(numbers.way) if stays and joint >= TWIST else 0.0
    swing = np.zeros_like(full)
    swing[joint] = angle_if_it_stays * inverse_full[joint]
    return {
        "start": numbers.start,  # (6,) m, rad
        "full": full,  # (6,) m, rad: signed ways
        "inverse_full": inverse_full,  # (6,) 1/m, 1/rad; 0 where a joint has no part in it
        "shares": numbers.shares,  # (6,) of the joints in the progress
        "done_before": numbers.done_before,
        # (6,) times a lid's joints: the angle by which a lid that stays has turned (rad)
        "swing": swing,
        "swing_end": angle_if_it_stays,  # rad
    }


def _held(numbers: StageNumbers) -> dict[str, Any]:
    """What holds the lid in a stage."""
    gate = numbers.gate or Gate(0, 0, 0.0)
    return {
        "friction": numbers.friction,  # (6,) N, N m
        "limits": np.nan_to_num(numbers.limits, nan=0.0),  # (6, 2) m, rad
        "stiffness": numbers.stiffness,  # N/m, of the lift
        "threaded": numbers.ratio != 0.0,
        "ratio": numbers.ratio,  # m/rad
        "gated": numbers.gate is not None,
        "gate_key": gate.key,  # joint
        "gate_jammed": gate.jammed,  # joint
        "gate_threshold": gate.threshold,  # share of the key's full way
        "gate_open": numbers.friction[gate.jammed],  # N, N m
        "gate_shut": mechanisms.jam(gate.jammed),  # N, N m
    }


def _twists_to_come(stages: list[StageNumbers]) -> list[float]:
    """Twists (rad) at which the stages that twist are done."""
    return [
        float(numbers.start[TWIST] + numbers.way)
        for numbers in stages
        if numbers.stage is not None and numbers.stage.joint == TWIST
    ]


def _mark(variant: Variant) -> dict[str, Any]:
    """Where something shall be that is moved to a mark."""
    mechanism = mechanism_of(variant)
    return {
        "marked": mechanism.marked,
        "reached": mechanism.marked and not mechanism.free,  # by the hand, not by the lid
        "goal": (variant.depth, 0.0, 0.0),  # of a lid that is pushed to a mark (m)
        "range": variant.depth if mechanism.free else MARK_RANGE,  # m at which progress begins
    }


def _geometry(variant: Variant) -> dict[str, Any]:
    """Sizes and places (m)."""
    closure = variant.closure
    return {
        "foot": closure.body[0],  # radius of the container
        "seat": variant.closure.seat_height,
        "grip_radius": variant.grip_radius,
        "grip_height": variant.grip_height,
        "dimensions": (variant.grip_radius, variant.grip_height, closure.cap_radius),
        "offset": closure.offset,
        # out and up from the hinge to the point that the hand goes to
        "lever": (closure.offset + closure.cap_radius, grip_height(variant)),
        "bar": closure.grip == "bar",
    }


def _rewards(variant: Variant) -> dict[str, Any]:
    """Who pays which term: a bool for each, by name."""
    mechanism = mechanism_of(variant)
    paid = TERMS if mechanism.pays is None else mechanism.pays
    for term in paid:
        lookup(TERMS, term, "reward term")
    return {"pays": _chosen(paid, TERMS)}


def _chosen(names: Iterable[str], among: Iterable[str]) -> np.ndarray:
    """Which of the names are chosen: a structured array () with a bool for each."""
    among = tuple(among)
    chosen = set(names)
    layout = np.dtype([(name, bool) for name in among])
    return np.array(tuple(name in chosen for name in among), layout)
