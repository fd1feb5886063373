"""Adversaries: policies that want success without opening anything, and the reward's own audit."""

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.experts import expert_action
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.rewards import SUCCESS_WEIGHT
from uncap.evaluation.audit import STEPS, replay, rows, search, touching

N = 16


def play(name, act):
    """Play one episode in N simulations.

    Args:
        name: a row.
        act: gives the actions (N, 5) of (control step, measured).

    Returns:
        Success at any time (N,), total reward (N,), and the environment.
    """
    env = ClosureVectorEnv(name, N, autoreset_mode="Disabled")
    env.reset(seed=123)
    total = np.zeros(N)
    for step in range(CLOSURES[name].steps):
        _, reward, _, _, info = env.step(act(step, env.batch.measure()))
        total += reward
    return info["success_any"], total, env


def stay(step, measured):
    """Zero actions."""
    return np.zeros((N, 5))


def constant(step, measured):
    """Full speed in one random direction per simulation."""
    return np.sign(np.random.default_rng(0).normal(size=(N, 5)))


def chatter(step, measured):
    """Full speed in random directions, new ones in every step."""
    draws = np.random.default_rng(1).normal(size=(step + 1, N, 5))
    return np.sign(draws[step])


def alternate(step, measured):
    """Full speed to and fro."""
    return np.full((N, 5), 1.0 if step % 2 else -1.0)


def ram(step, measured):
    """Full speed into the lid from the side, fist closed."""
    away = np.where(step % 20 < 10, 1.0, -1.0)
    towards = np.clip(measured["grip_offset"] / 0.03, -1, 1)  # (N, 3)
    across = np.sign(towards[:, :2]) * away
    return np.column_stack([across, towards[:, 2], np.zeros(N), -np.ones(N)])


def crush(step, measured):
    """Press down as hard as the arm can, fist closed, over the axis."""
    towards = np.clip(measured["grip_offset"] / 0.03, -1, 1)  # (N, 3)
    turn = np.ones(N) * (-1) ** step
    return np.column_stack([towards[:, :2], -np.ones(N), turn, -np.ones(N)])


ATTACKS = {attack.__name__: attack for attack in (constant, chatter, alternate, ram, crush)}
# (attack, mechanism) that is honest work of the hand: pressing down hard is how a press is
# opened, and a slider may be rammed open
HONEST = {
    ("crush", "press"),
    ("ram", "slide"),
    ("ram", "push"),
    ("ram", "flip"),
    ("crush", "slide"),
    ("crush", "flip"),
}


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (attack, name)
        for attack in ATTACKS
        for name, row in CLOSURES.items()
        if (attack, row.mechanism) not in HONEST
    ],
)
def test_brute_force_opens_nothing(attack, name):
    success, _, _ = play(name, ATTACKS[attack])
    assert success.mean() < 0.07  # at most one of sixteen by chance


@pytest.mark.parametrize("name", CLOSURES)
def test_reset_is_no_success_and_nothing_done_earns_little(name):
    env = ClosureVectorEnv(name, N, autoreset_mode="Disabled")
    _, info = env.reset(seed=0)
    assert not info["success"].any()
    assert not info["success_any"].any()
    success, total, _ = play(name, stay)
    assert not success.any()
    assert (total < 0.1 * CLOSURES[name].steps).all()


def solve(step, measured):
    """The expert's action."""
    return expert_action(measured)


def stall_before_the_end(step, measured):
    """The expert's action until the lid is almost open; then only the fingers go on holding it."""
    action = expert_action(measured)
    hold = np.column_stack([np.zeros((N, 4)), action[:, 4]])
    almost_open = measured["progress"] > 0.6  # (N,)
    return np.where(almost_open[:, None], hold, action)


@pytest.mark.parametrize("name", CLOSURES)
def test_a_solved_episode_outscores_every_stalled_one(name):
    _, solved, env = play(name, solve)
    assert env.success.all()
    success, stalled, env = play(name, stall_before_the_end)
    # even perfect scores in every other term could not make up for the success
    best_without = (1 - SUCCESS_WEIGHT) * CLOSURES[name].steps
    assert solved.min() > best_without
    assert (stalled[~success] < solved.min()).all()


@pytest.mark.parametrize("name", rows())
def test_a_lid_moved_by_an_invisible_hand_is_no_success(name):
    """Joint forces open the lid, as a vibration or a throw would; the hand is away from it."""
    env = ClosureVectorEnv(name, N, autoreset_mode="Disabled")
    env.reset(seed=0)
    batch = env.batch
    batch.hand_over(np.arange(N))
    applied = batch.sim.bind("qfrc_applied")  # (N, nv) N, N m
    full = batch.now["full"]  # (N, 6) m, rad
    push = np.sign(full) * [60, 60, 60, 8, 8, 8] * (full != 0)  # (N, 6) N, N m
    mechanism = MECHANISMS[CLOSURES[name].mechanism]
    away = np.tile([0, 0, 1.0, 0, 1.0], (N, 1))
    farthest = 0.0
    for _ in range(CLOSURES[name].steps):
        applied[:, batch.lid_dof_columns] = push * ~batch.released[:, None]
        if mechanism.marked:  # no joint opens it: push it along x, up to the mark
            short_of_mark = batch.measure()["lid"][:, 0] < batch.constants["depth"]
            applied[:, batch.lid_dof_columns.start] = 2.5 * short_of_mark
        _, _, _, _, info = env.step(away)
        assert not info["success"].any()
        farthest = max(farthest, info["progress"].max())
    assert farthest > 0.5  # it did move
    assert (info["contact_fraction"] < 0.5).all()


# twins of a row are left to `train.py audit`: it takes minutes for all of them
@pytest.mark.parametrize("name", [name for name in rows() if not CLOSURES[name].group])
def test_search_for_progress_without_contact_finds_no_success(name):
    """2,000 plans: the palm turns and lifts lids, but successes were opened by the fingers."""
    found = search(name, seed=7)
    assert found.candidates == 2000
    assert found.cheats == 0
    assert found.untouched > 0.02  # it did look for it


def test_rows_without_contact_are_not_searched():
    assert set(CLOSURES) - set(rows()) == {"reach"}


def test_a_near_miss_can_be_replayed():
    found = search("slide-mug", seed=7, population=20, rounds=2)
    env = ClosureVectorEnv("slide-mug", 1, autoreset_mode="Disabled")
    _, info = env.reset(seed=[7])
    act = replay(found.plan)(env)
    untouched = 0.0
    for _ in range(STEPS):
        progress = info["progress"][0]
        touched_before = touching(env)[0]
        _, _, _, _, info = env.step(act(None, info["task_index"]))
        gain = info["progress"][0] - progress
        touched = touched_before or touching(env)[0]
        untouched += min(gain, 0.0) if touched else gain
    # the film shows what was found
    assert max(untouched, 0.0) == pytest.approx(found.untouched)
