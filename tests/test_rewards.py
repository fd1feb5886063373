"""Reward terms: bounded, and each stage of opening pays more than the one before."""

import numpy as np
import pytest

from envs import CLOSURES, ClosureVectorEnv, rewards
from envs.experts import expert_action
from envs.robot import FINGER_OPEN


def measured(**changes):
    """Measurements of one lid of 15 mm radius with the hand open at its grip, unless changed."""
    m = {
        "grip_offset": np.zeros((1, 3)),
        "opening": np.array([0.04]),
        "grip_radius": np.array([0.015]),
        "contact": np.array([False]),
        "hold_rule": np.array([True]),
        "separates": np.array([False]),
        "separation": np.zeros(1),
        "released": np.array([False]),
        "holds": np.array([False]),
        "progress": np.zeros(1),
        "bar": np.array([False]),
        "bar_yaw_offset": np.zeros(1),
    }
    return m | {k: np.asarray(v) for k, v in changes.items()}


def grasp(**changes) -> float:
    return rewards.reward_terms(measured(**changes), np.zeros(1), np.array([False]))["grasp"][0]


def test_each_stage_of_a_grasp_pays_more():
    on_top = [[0.0, 0.0, -0.015]]  # the grip lies 15 mm below the fingertips
    stages = [
        grasp(grip_offset=on_top, opening=[0.0]),  # a fist on the lid
        grasp(grip_offset=on_top),  # opened wide above it
        grasp(),  # around it
        grasp(opening=[0.025]),  # closing
        grasp(opening=[0.016]),
        grasp(opening=[0.015], contact=[True], holds=[True]),
    ]
    assert (
        stages == sorted(stages)
        and len(set(stages)) == len(stages)
        and stages[0] < 0.01
        and stages[-1] == 1.0
    )


def test_a_closed_hand_at_the_grip_is_not_around_the_lid():
    assert grasp(opening=[0.0]) < grasp(opening=[0.016])


@pytest.mark.parametrize("radius", [0.007, 0.015, 0.035])
def test_closing_pays_from_wide_open_to_the_lid(radius):
    paid = [
        grasp(grip_radius=[radius], opening=[opening])
        for opening in np.linspace(FINGER_OPEN, radius + 1e-6, 9)
    ]
    assert np.diff(paid) == pytest.approx(0.5 / 8, abs=1e-3)


def test_pads_that_give_way_keep_their_pay():
    assert grasp(opening=[0.013]) == pytest.approx(0.7)  # one finger lost the lid for a moment
    assert grasp(opening=[0.005]) < 0.1  # closed beside it


def test_fingers_close_along_a_bar_rather_than_across_it():
    paid = [
        grasp(bar=[True], bar_yaw_offset=[angle], opening=[0.016]) for angle in (0.0, 0.1, 0.3, 1.2)
    ]
    assert (
        paid == sorted(paid, reverse=True)
        and paid[2] < 0.4 * paid[1]
        and paid[0] == grasp(opening=[0.016])
    )
    askew = [
        grasp(bar=[True], bar_yaw_offset=[0.3], opening=[opening]) for opening in (0.04, 0.016)
    ]
    assert askew[1] <= askew[0]  # turn first, then close


def test_fingers_that_clamp_the_ends_of_a_bar_do_not_hold_it():
    held = {"bar": [True], "opening": [0.015], "contact": [True], "holds": [True]}
    assert (
        grasp(bar_yaw_offset=[0.2], **held) == 1.0
    )  # a turn against friction leaves a hand a little askew
    assert grasp(bar_yaw_offset=[0.6], **held) < grasp(
        bar=[True], bar_yaw_offset=[0.0], opening=[0.04]
    )


def test_what_opened_by_itself_pays_nothing_but_the_hand_near_it():
    by_itself = rewards.reward_terms(measured(progress=[1.0]), np.zeros(1), np.array([False]))
    by_hand = rewards.reward_terms(measured(progress=[1.0]), np.ones(1), np.array([False]))
    assert by_itself["open"][0] == by_itself["separate"][0] == 0.0
    assert by_hand["open"][0] == by_hand["separate"][0] == 1.0


def test_a_lid_pays_for_its_opening_only_while_it_is_in_the_fingers():
    lid = {"progress": [1.0], "separates": [True], "released": [True], "separation": [0.06]}
    flung, held = (
        rewards.reward_terms(measured(**lid, holds=[h]), np.ones(1), np.array([False]))
        for h in (False, True)
    )
    assert flung["open"][0] == flung["separate"][0] == 0.0
    assert held["open"][0] == held["separate"][0] == 1.0


def test_one_finger_that_turns_a_lid_is_paid_half_until_it_comes_off_and_less_askew_on_a_bar():
    def opened(**changes) -> float:
        m = measured(progress=[0.5], separates=[True], **changes)
        return rewards.reward_terms(m, np.full(1, 0.5), np.array([False]))["open"][0]

    assert opened(contact=[True]) == pytest.approx(0.5 * opened(contact=[True], holds=[True]))
    assert (
        0.0
        < opened(contact=[True], bar=[True], bar_yaw_offset=[1.0])
        < 0.2
        < opened(contact=[True])
    )
    assert opened() == opened(contact=[True], released=[True]) == 0.0


def test_terms_are_bounded_and_the_experts_climb_them():
    env = ClosureVectorEnv(tuple(CLOSURES), 2 * len(CLOSURES), autoreset_mode="Disabled")
    env.reset(seed=0)
    first = None
    for _ in range(100):
        _, reward, _, _, info = env.step(expert_action(env.batch.measure()))
        first = reward if first is None else first
        for name in (*rewards.TERMS, "success"):
            assert (info[name] >= 0).all() and (info[name] <= 1).all()
        m = env.batch.measure()
        assert (info["grasp"][m["holds"]] == 1).all()  # whatever the load turns their hands by
    assert (reward > first).all()
