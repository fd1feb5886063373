"""Reward terms: bounded, and each stage of opening pays more than the one before."""

import functools

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv, rewards
from uncap.envs.experts import expert_action
from uncap.envs.panda import FINGER_OPEN
from uncap.envs.rewards import register_reward

ALL_TERMS = np.ones(1, [(name, bool) for name in rewards.TERMS])


@functools.cache
def real() -> dict[str, np.ndarray]:
    """Measurements of a jar at a start, for what the tests below leave alone."""
    env = ClosureVectorEnv("jar")
    env.reset(seed=0)
    return env.batch.measure()


def measured(**changes):
    """Measurements of one lid of 15 mm radius with the hand open at its grip, unless changed."""
    m = {
        **real(),
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
        "pays": ALL_TERMS,
    }
    return m | {k: np.asarray(v) for k, v in changes.items()}


def terms_of(held_progress=0.0, **changes) -> dict[str, float]:
    """The terms of one lid, without success."""
    terms = rewards.reward_terms(
        measured(**changes),
        held_progress=np.array([held_progress]),
        success=np.array([False]),
    )
    return {name: value[0] for name, value in terms.items()}


def grasp(**changes) -> float:
    return terms_of(**changes)["grasp"]


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
    assert stages == sorted(stages)
    assert len(set(stages)) == len(stages)
    assert stages[0] < 0.01
    assert stages[-1] == 1.0


def test_a_closed_hand_at_the_grip_is_not_around_the_lid():
    assert grasp(opening=[0.0]) < grasp(opening=[0.016])


@pytest.mark.parametrize("radius", [0.007, 0.015, 0.035])
def test_closing_pays_from_wide_open_to_the_lid(radius):
    openings = np.linspace(FINGER_OPEN, radius + 1e-6, 9)
    paid = [grasp(grip_radius=[radius], opening=[opening]) for opening in openings]
    assert np.diff(paid) == pytest.approx(0.5 / 8, abs=1e-3)


def test_pads_that_give_way_keep_their_pay():
    assert grasp(opening=[0.013]) == pytest.approx(0.7)  # one finger lost the lid for a moment
    assert grasp(opening=[0.005]) < 0.1  # closed beside it


def test_fingers_close_along_a_bar_rather_than_across_it():
    def on_a_bar(angle, opening=0.016):
        return grasp(bar=[True], bar_yaw_offset=[angle], opening=[opening])

    paid = [on_a_bar(angle) for angle in (0.0, 0.1, 0.3, 1.2)]
    assert paid == sorted(paid, reverse=True)
    assert paid[2] < 0.4 * paid[1]
    assert paid[0] == grasp(opening=[0.016])
    assert on_a_bar(0.3, opening=0.016) <= on_a_bar(0.3, opening=0.04)  # turn first, then close


def test_fingers_that_clamp_the_ends_of_a_bar_do_not_hold_it():
    held = {"bar": [True], "opening": [0.015], "contact": [True], "holds": [True]}
    around = grasp(bar=[True], bar_yaw_offset=[0.0], opening=[0.04])
    # a turn against friction leaves a hand a little askew
    assert grasp(bar_yaw_offset=[0.2], **held) == 1.0
    assert grasp(bar_yaw_offset=[0.6], **held) < around


def test_what_opened_by_itself_pays_nothing_but_the_hand_near_it():
    by_itself = terms_of(held_progress=0.0, progress=[1.0])
    by_hand = terms_of(held_progress=1.0, progress=[1.0])
    assert by_itself["open"] == by_itself["separate"] == 0.0
    assert by_hand["open"] == by_hand["separate"] == 1.0


def test_a_lid_pays_for_its_opening_only_while_it_is_in_the_fingers():
    lid = {"progress": [1.0], "separates": [True], "released": [True], "separation": [0.06]}
    flung = terms_of(held_progress=1.0, **lid, holds=[False])
    held = terms_of(held_progress=1.0, **lid, holds=[True])
    assert flung["open"] == flung["separate"] == 0.0
    assert held["open"] == held["separate"] == 1.0


def test_one_finger_that_turns_a_lid_is_paid_half_until_it_comes_off_and_less_askew_on_a_bar():
    def opened(**changes) -> float:
        return terms_of(held_progress=0.5, progress=[0.5], separates=[True], **changes)["open"]

    one_finger = opened(contact=[True])
    askew = opened(contact=[True], bar=[True], bar_yaw_offset=[1.0])
    assert one_finger == pytest.approx(0.5 * opened(contact=[True], holds=[True]))
    assert 0.0 < askew < 0.2 < one_finger
    assert opened() == opened(contact=[True], released=[True]) == 0.0


def test_a_term_that_is_not_paid_is_zero():
    pays = ALL_TERMS.copy()
    pays["reach"] = False
    assert terms_of()["reach"] == 1.0
    assert terms_of(pays=pays) == terms_of() | {"reach": 0.0}


def test_every_term_says_what_it_pays_and_the_reward_is_at_most_one():
    for term in rewards.TERMS.values():
        assert term.weight > 0
        assert len(term.words) > 20 and "\n" not in term.words
    full = {name: np.ones(1) for name in (*rewards.TERMS, "success")}
    assert rewards.total(full) == pytest.approx(1.0)


def test_terms_are_bounded_and_the_experts_climb_them():
    env = ClosureVectorEnv(tuple(CLOSURES), 2 * len(CLOSURES), autoreset_mode="Disabled")
    env.reset(seed=0)
    rewards_so_far = []
    for _ in range(80):  # the shortest episode
        _, reward, _, _, info = env.step(expert_action(env.batch.measure()))
        rewards_so_far.append(reward)
        for name in (*rewards.TERMS, "success"):
            assert (info[name] >= 0).all()
            assert (info[name] <= 1).all()
        holds = env.batch.measure()["holds"]
        assert (info["grasp"][holds] == 1).all()  # whatever the load turns their hands by
    assert (rewards_so_far[-1] > rewards_so_far[0]).all()


def test_a_new_term_is_one_function_and_one_row(monkeypatch):
    def gentle(situation: rewards.Situation) -> np.ndarray:
        return 1 / (1 + situation.measured["touch"].sum(1))

    words = "the fingers press on the lid no more than they must"
    monkeypatch.setitem(rewards.TERMS, "gentle", rewards.Term(gentle, 0.25, words))
    share = 0.25 / sum(term.weight for term in rewards.TERMS.values())  # of the potential
    env = ClosureVectorEnv(tuple(CLOSURES), len(CLOSURES), autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(40):
        _, reward, _, _, info = env.step(expert_action(env.batch.measure()))
        assert ((info["gentle"] > 0) & (info["gentle"] <= 1)).all()
        assert ((reward >= 0) & (reward <= 1)).all()
        others = {name: info[name] for name in (*rewards.TERMS, "success")}
        without = rewards.total(others | {"gentle": np.zeros(len(reward))})
        potential_weight = 1 - rewards.SUCCESS_WEIGHT
        assert reward - without == pytest.approx(potential_weight * share * info["gentle"])
    assert info["gentle"].min() < 0.5


# Which reward is paid


@pytest.fixture
def rewards_table(monkeypatch):
    """The table, which forgets what a test adds."""
    monkeypatch.setattr(rewards, "REWARDS", dict(rewards.REWARDS))
    return rewards.REWARDS


def stepped(reward: str, steps: int = 40) -> list:
    """Rewards and infos of the expert in one closure."""
    env = ClosureVectorEnv("puck", 2, reward=reward, threads=1)
    env.reset(seed=0)
    found = []
    for _ in range(steps):
        _, paid, *_, info = env.step(expert_action(env.batch.measure()))
        found.append((paid, info))
    return found


def test_a_sparse_reward_is_success_alone():
    found = stepped("sparse", CLOSURES["puck"].steps)
    assert all((paid == info["success"]).all() for paid, info in found)
    assert found[-1][0].all() and not found[0][0].any()
    dense = stepped("dense", 1)[0]
    assert (dense[0] == rewards.total(dense[1])).all() and dense[0].all()


def test_a_reward_of_ones_own(rewards_table):
    register_reward("halved", lambda info: info["progress"] / 2, "half of the progress")
    assert all((paid == info["progress"] / 2).all() for paid, info in stepped("halved"))
    register_reward("halved", rewards_table["halved"].of)
    with pytest.raises(ValueError, match="already registered"):
        register_reward("halved", lambda info: info["progress"])
    with pytest.raises(ValueError, match="the name of a reward must be of small letters"):
        register_reward("my/own", len)
    with pytest.raises(ValueError, match="a function of the info is needed, not 3"):
        register_reward("three", 3)  # type: ignore


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (lambda info: 1.0, r"finite and of shape \(2,\)"),
        (lambda info: np.full(2, np.nan), "finite and of shape"),
        (lambda info: "x", "the reward gave no numbers"),
    ],
)
def test_a_reward_that_is_no_number_for_each_gets_one_line(rewards_table, of, says):
    register_reward("wrong", of)
    with pytest.raises(ValueError, match=says):
        stepped("wrong", 1)
