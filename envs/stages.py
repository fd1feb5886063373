"""What holds the lid of one variant in each stage: ways, friction, limits, spring and thread.

A stage is a table of numbers for the six joints. The first one is built into the model; the
batch writes the next one when a stage is done. This module needs NumPy only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from uncap.envs.mechanisms import (
    LID_JOINTS,
    LIFT,
    MECHANISMS,
    PRESSED,
    TWIST,
    Mechanism,
    Stage,
    X,
    Y,
    jam,
)
from uncap.envs.structure import Variant

HARD_SOLIMP = (0.9999, 0.9999, 0.001, 0.5, 2.0)
HELD_ARMATURE = (0.1, 0.1, 0.1, 3e-3, 3e-3, 3e-3)  # kg (slides), kg m^2 (hinges)
# Friction of a twist that is free without a torque of its own, as a pulled lid's in its seat:
# about the least breakaway force of such a lid at the radius of its seat
SEAT_TORQUE = 0.05  # N m
# From the end of a way to the stop of a lid that stays
OVERTRAVEL_SLIDE = 0.002  # m
OVERTRAVEL_HINGE = 0.1  # rad
WIDE = 9.0  # m, rad: the stop of a joint that only another stage limits
# m/N that a held lid presses into the stop of its lift: MuJoCo's (1 - d) / d, over its stiffness
# of a stop with a time constant of 0.02 s, over the armature
_STOP_COMPLIANCE = (1 - HARD_SOLIMP[0]) * 0.02**2 / HELD_ARMATURE[LIFT]
_SHUT_PLAY = 0.2  # of the overtravel that a closed lid can be turned further shut


class Gate(NamedTuple):
    """`jammed` does not move until `key` has gone `threshold` of its way: two joints, a share."""

    key: int
    jammed: int
    threshold: float


class StageNumbers(NamedTuple):
    """What holds in one stage. Joints are (6,), in m, rad, N and N m.

    Attributes:
        stage: which it is; None of a lid that has latched, or is moved to a mark.
        way: signed way of its joint (m, rad).
        start: where the joints are when it begins.
        full: their signed ways in it; 0 where a joint has no part in it.
        shares: of each joint in the progress.
        done_before: share of the progress that is latched.
        friction: breakaway friction; of a gate's joint that of the open gate.
        limits: (6, 2) lowest and highest value; NaN without limits.
        stiffness: of the spring on the lift (N/m).
        ratio: lift per twist of the thread (m/rad, signed); 0 where it does not act.
        gate: what must be kept in its place; None without.
    """

    stage: Stage | None
    way: float
    start: np.ndarray
    full: np.ndarray
    shares: np.ndarray
    done_before: float
    friction: np.ndarray
    limits: np.ndarray
    stiffness: float
    ratio: float
    gate: Gate | None


def lid_stages(variant: Variant) -> list[StageNumbers]:
    """The stages of a variant, at least one; behind them what holds a lid that has latched."""
    mechanism = MECHANISMS[variant.closure.mechanism]
    if not mechanism.stages:
        return [_without_stages(variant, mechanism)]
    ways = signed_ways(variant)
    at = np.zeros(len(LID_JOINTS))  # where the joints are, m and rad
    found = []
    for chain in mechanism.chains():
        found += [_numbers(variant, mechanism, chain, k, ways, at.copy()) for k in chain]
        for k in chain:
            at[mechanism.stages[k].joint] += ways[k]
            at[LIFT] += thread_ratio(variant, mechanism.stages[k]) * ways[k]
    if mechanism.latches and not mechanism.separates:
        found.append(_latched(variant, mechanism))
    return found


def signed_ways(variant: Variant) -> list[float]:
    """The signed way of each stage (m, rad)."""
    mechanism = MECHANISMS[variant.closure.mechanism]
    senses = [
        stage.sign * (variant.closure.direction if stage.joint == TWIST else 1.0)
        for stage in mechanism.stages
    ]
    return [sense * way for sense, way in zip(senses, variant.stage_ways, strict=True)]


def thread_ratio(variant: Variant, stage: Stage) -> float:
    """Lift per twist of a stage's thread (m/rad, signed); 0 without one."""
    if not stage.threaded:
        return 0.0
    if not variant.ways:  # a thread ties the travel to the angle
        lead = variant.closure.direction * 2 * np.pi * variant.depth / variant.angle
        return lead / (2 * np.pi)
    return stage.sign * variant.lead / (2 * math.pi)


def sink(variant: Variant) -> float:
    """How far the lid can be pressed into its container (m)."""
    depth = way_down(variant)
    return depth + OVERTRAVEL_SLIDE if depth else 0.0


def way_down(variant: Variant) -> float:
    """How far down the lid goes on its way (m); 0 where it does not."""
    stages = MECHANISMS[variant.closure.mechanism].stages
    ways = [
        variant.depth if stage.pressed else way
        for stage, way in zip(stages, variant.stage_ways, strict=True)
        if stage.lowers
    ]
    return max(ways, default=0.0)


def _latched(variant: Variant, mechanism: Mechanism) -> StageNumbers:
    """Of a lid that stays where its last stage has ended: all joints are jammed."""
    limits = np.full((len(LID_JOINTS), 2), np.nan)
    limits[sorted(mechanism.travels)] = (-WIDE, WIDE)
    friction = [jam(joint) * (joint in mechanism.free) for joint in range(len(LID_JOINTS))]
    open_ = _without_stages(variant, mechanism)
    return open_._replace(done_before=1.0, friction=np.array(friction), limits=limits)


def _without_stages(variant: Variant, mechanism: Mechanism) -> StageNumbers:
    """Of a lid that is moved to a mark, or of none."""
    none = np.zeros(len(LID_JOINTS))
    return StageNumbers(
        stage=None,
        way=0.0,
        start=none,
        full=none,
        shares=none,
        done_before=0.0,
        friction=_friction(variant, mechanism, ()),
        limits=np.full((len(LID_JOINTS), 2), np.nan),
        stiffness=0.0,
        ratio=0.0,
        gate=None,
    )


def _numbers(
    variant: Variant,
    mechanism: Mechanism,
    chain: list[int],
    k: int,
    ways: list[float],
    start: np.ndarray,
) -> StageNumbers:
    """The numbers of stage k, which is latched together with its chain.

    Args:
        variant: one draw of a closure.
        mechanism: its row.
        chain: stages that are latched together.
        k: one of them.
        ways: signed, of all stages.
        start: (6,) where the chain begins.
    """
    stages = [mechanism.stages[i] for i in chain]
    full = np.zeros(len(LID_JOINTS))
    shares = np.zeros(len(LID_JOINTS))
    for i, stage in zip(chain, stages, strict=True):
        full[stage.joint] = ways[i]
        shares[stage.joint] = 1 / len(mechanism.stages)
    gate = _gate(stages)
    if gate is not None and full[gate.key] == 0.0:
        full[gate.key] = -variant.depth  # pressed down
    return StageNumbers(
        stage=mechanism.stages[k],
        way=ways[k],
        start=start,
        full=full,
        shares=shares,
        done_before=chain[0] / len(mechanism.stages),
        friction=_friction(variant, mechanism, tuple(stages)),
        limits=_limits(variant, mechanism, chain, full, start, gate),
        stiffness=_stiffness(variant, stages),
        ratio=thread_ratio(variant, stages[0]),
        gate=gate,
    )


def _gate(stages: list[Stage]) -> Gate | None:
    """The live gate of a chain."""
    for stage in stages:
        if stage.keeps is not None:
            threshold = PRESSED if stage.pressed else 1.0
            return Gate(stage.keeps, stage.joint, threshold)
    return None


def _friction(variant: Variant, mechanism: Mechanism, stages: tuple[Stage, ...]) -> np.ndarray:
    """Breakaway friction (6,) of the joints in a chain: those of other stages are jammed."""
    acting = {stage.joint for stage in stages} | set(mechanism.loose)
    floats = any(stage.springs or stage.threaded for stage in stages)
    values = np.zeros(len(LID_JOINTS))
    for joint in mechanism.free:
        if joint == LIFT and floats:
            continue  # a spring or a thread holds it
        if joint not in acting:
            values[joint] = jam(joint)
        elif joint in (X, Y, LIFT):
            values[joint] = variant.force
        else:
            values[joint] = variant.torque or (SEAT_TORQUE if joint == TWIST else 0.0)
    return values


def _limits(
    variant: Variant,
    mechanism: Mechanism,
    chain: list[int],
    full: np.ndarray,
    start: np.ndarray,
    gate: Gate | None,
) -> np.ndarray:
    """Stops (6, 2) of the joints: where a way begins; and ends, unless the lid comes off there."""
    limits = np.full((len(LID_JOINTS), 2), np.nan)
    if len(mechanism.chains()) > 1 or mechanism.latches:  # of the other stages
        limits[sorted(mechanism.travels)] = (-WIDE, WIDE)
    last = chain[-1] == len(mechanism.stages) - 1
    sprung = any(mechanism.stages[i].springs for i in chain)
    for joint in np.flatnonzero(full).tolist():
        slack = np.sign(full[joint]) * _overtravel(joint)
        shut = start[joint]
        if chain[0] > 0:
            shut -= slack + (variant.depth if joint == LIFT else 0.0)  # where it was pressed to
        elif joint >= TWIST:
            shut -= _SHUT_PLAY * slack
        if sprung and joint == LIFT:
            shut -= _STOP_COMPLIANCE * variant.force / 2  # at 0, the spring's load and the stop's
        comes_off = mechanism.separates and last and not (gate and joint == gate.key)
        beyond = full[joint] if comes_off else slack
        limits[joint] = sorted((shut, start[joint] + full[joint] + beyond))
    return limits


def _overtravel(joint: int) -> float:
    return OVERTRAVEL_HINGE if joint >= TWIST else OVERTRAVEL_SLIDE


def _stiffness(variant: Variant, stages: list[Stage]) -> float:
    """Stiffness of the spring (N/m): half its force at rest, all of it at the depth."""
    if any(stage.springs for stage in stages):
        return variant.force / (2 * variant.depth)
    return 0.0
