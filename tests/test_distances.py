"""The distance of a row to a set of rows, and what a row asks for that no row of the set does."""

import pytest

from uncap.envs import CLOSURES, TASK_SETS, distance
from uncap.envs.distances import (
    DEMANDS,
    WRIST_RANGE,
    demands,
    edits,
    fewest_edits,
    in_words,
    nearest,
    unseen,
)
from uncap.envs.mechanisms import LID_JOINTS, LIFT, MECHANISMS, TILT_X, TILT_Y, TWIST, X, Y
from uncap.envs.panda import WRIST_LIMIT


def rows(*names):
    return [CLOSURES[name] for name in names]


def trained(task_set):
    return rows(*TASK_SETS[task_set].train)


@pytest.mark.parametrize(
    ("target", "sources", "expected"),
    [
        # pressing and twisting are seen, pressing while twisting is not
        ("pill-box", trained("recombination"), ["press_and_turn"]),
        ("solvent-can", trained("recombination"), ["press_and_turn"]),
        ("pill-box", rows("canister"), ["press", "press_and_turn"]),
        # the other way round
        ("gas-bottle", rows("canteen", "bottle"), ["clockwise"]),
        ("bottle", rows("gas-bottle"), ["anticlockwise"]),
        ("gas-bottle", rows("bottle"), ["clockwise", "grip_anew"]),
        ("stove-knob", rows("valve"), ["clockwise"]),
        # an interpolation asks for nothing new; a part of the whole does not, either
        ("thermos", trained("first"), []),
        ("grinder", rows("thermos"), []),
        ("thermos", rows("grinder"), ["lift", "thread", "remove"]),
        ("canister", trained("first"), ["turn_then_lift"]),
        ("soap-box", rows("valve"), ["swing", "off_axis"]),
        ("mug", rows("flip-mug"), ["lift", "remove", "round"]),
        # a control, from closures: it shares the robot only
        ("reach", trained("first"), ["mark"]),
        ("puck", trained("first"), ["slide", "roam", "mark"]),
        ("button", trained("first"), ["press"]),
        ("bottle", rows("reach"), ["lift", "turn", "anticlockwise", "thread", "remove", "round"]),
    ],
)
def test_what_no_source_asks_for_is_named(target, sources, expected):
    assert list(unseen(CLOSURES[target], sources)) == expected


def test_nothing_is_unseen_in_what_was_trained():
    for name, row in CLOSURES.items():
        assert unseen(row, [row]) == ()
        assert set(unseen(row, [])) == demands(row), name


def test_every_joint_and_gate_of_a_mechanism_is_named_by_a_demand():
    """A mechanism with a gate that none of them names would seem to ask for nothing new."""
    by_joint = {X: "slide", Y: "roam", TWIST: "turn", TILT_Y: "swing"}
    for row in CLOSURES.values():
        mechanism, asked = MECHANISMS[row.mechanism], demands(row)
        assert TILT_X not in mechanism.travels, "DEMANDS needs a row for it"
        for joint in mechanism.travels:
            named = by_joint.get(joint)
            assert named in asked if named else asked & {"lift", "press"}, LID_JOINTS[joint]
        gates = {"press_and_turn": (LIFT, TWIST), "turn_then_lift": (TWIST, LIFT)}
        for stage in mechanism.stages:
            if stage.keeps is not None:
                named = [name for name in gates if name in asked]
                found = (stage.keeps, stage.joint)
                assert [gates[name] for name in named] == [found], "DEMANDS needs a row for it"


def test_further_than_the_wrist_goes_is_what_the_robot_says():
    assert pytest.approx(2 * WRIST_LIMIT) == WRIST_RANGE


def test_words():
    assert in_words(["clockwise", "thread"]) == (
        "no source opens clockwise; no source climbs a thread"
    )
    assert in_words(["of-another-version"]) == "of-another-version"
    assert in_words([]) == ""
    assert all(demand.name == name and demand.words for name, demand in DEMANDS.items())


def test_the_nearest_row_of_a_set():
    row, found = nearest(CLOSURES["thermos"], trained("first"))
    assert row.name == "tumbler"
    assert found == distance("thermos", "tumbler")
    assert all(found <= distance("thermos", source) for source in TASK_SETS["first"].train)
    assert nearest(CLOSURES["jar"], trained("first")) == (CLOSURES["jar"], 0.0)
    with pytest.raises(ValueError, match="at least one row"):
        nearest(CLOSURES["jar"], [])


def test_the_default_set_holds_out_rows_near_farther_and_apart():
    """By structure: the nearest row that asks for nothing new, the nearest closure that does, and
    the control that is farthest."""
    split = TASK_SETS["first"]
    sources = trained("first")
    left = [row for name, row in CLOSURES.items() if name not in split.train]
    near, farther, apart = rows(*split.held_out)

    def away(row):
        return nearest(row, sources)[1]

    known = [row for row in left if not unseen(row, sources)]
    new = [row for row in left if unseen(row, sources) and not row.control]
    controls = [row for row in left if row.control]
    assert near == min(known, key=away)
    assert farther == min(new, key=away)
    assert apart == max(controls, key=away)
    assert away(near) < away(farther) < away(apart)


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ("composed-right-ccw-up-0", "composed-right-ccw-up-5", 0),
        ("composed-right-ccw-up-0", "canister", 1),
        ("composed-right-ccw-up-0", "composed-ccw-right-0", 2),
        ("composed-cw-0", "stove-knob", 0),
        ("composed-left-0", "composed-right-0", 1),
        ("bottle", "bottle-left", 1),
        ("bottle", "reach", None),
    ],
)
def test_edits_count_the_stages_that_differ(a, b, expected):
    assert edits(CLOSURES[a], CLOSURES[b]) == edits(CLOSURES[b], CLOSURES[a]) == expected


def test_a_composed_row_names_the_pairs_of_stages_that_no_source_has():
    row = CLOSURES["composed-right-ccw-up-0"]
    sources = [CLOSURES[name] for name in ("composed-right-ccw-0", "composed-up-0")]
    assert unseen(row, sources) == ("turn_then_lift", "ccw-up")
    assert in_words(["ccw-up"]) == "no source goes ccw, then up"
    assert unseen(row, [*sources, CLOSURES["canister"]]) == ()
    assert fewest_edits(row, sources) == 1
    assert fewest_edits(row, [CLOSURES["reach"]]) is None
