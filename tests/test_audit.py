"""Adversaries: policies that want success without opening anything, and the reward's own audit."""

import numpy as np
import pytest

from envs import CLOSURES, ClosureVectorEnv
from envs.experts import expert_action
from envs.rewards import SUCCESS_WEIGHT
from evaluation.audit import STEPS, replay, rows, search, touching

N = 16


def play(name, actions, n=N):
    """Success ever (n,), last info and the env after an episode of actions(step, measurements) -> (n, 5)."""
    env = ClosureVectorEnv(name, n, autoreset_mode="Disabled")
    env.reset(seed=123)
    total = np.zeros(n)
    for step in range(CLOSURES[name].steps):
        _, reward, _, _, info = env.step(actions(step, env.batch.measure()))
        total += reward
    return info["success_any"], total, env


def corners():
    rng = np.random.default_rng(0)
    constant = np.sign(rng.normal(size=(N, 5)))
    return lambda step, m: constant


def chatter():
    rng = np.random.default_rng(1)
    return lambda step, m: np.sign(rng.normal(size=(N, 5)))


def alternate(step, m):
    return np.full((N, 5), 1.0 if step % 2 else -1.0)


def ram(step, m):
    """Full speed into the lid from the side, fist closed."""
    away = np.where(step % 20 < 10, 1.0, -1.0)
    to = np.clip(m["grip_offset"] / 0.03, -1, 1)
    return np.column_stack([np.sign(to[:, :2]) * away, to[:, 2], np.zeros(N), -np.ones(N)])


def crush(step, m):
    """Press down as hard as the arm can, fist closed, over the axis."""
    to = np.clip(m["grip_offset"] / 0.03, -1, 1)
    return np.column_stack([to[:, :2], -np.ones(N), np.ones(N) * (-1) ** step, -np.ones(N)])


ATTACKS = {
    "constant": corners,
    "chatter": chatter,
    "alternate": lambda: alternate,
    "ram": lambda: ram,
    "crush": lambda: crush,
}
# Pressing down hard is how a press is opened, and a slider may be rammed open: honest work of the hand
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
    [(a, n) for a in ATTACKS for n in CLOSURES if (a, CLOSURES[n].mechanism) not in HONEST],
)
def test_brute_force_opens_nothing(attack, name):
    success, _, _ = play(name, ATTACKS[attack]())
    assert success.mean() < 0.07  # at most one of sixteen by chance


@pytest.mark.parametrize("name", CLOSURES)
def test_reset_is_no_success_and_nothing_done_earns_little(name):
    env = ClosureVectorEnv(name, N, autoreset_mode="Disabled")
    _, info = env.reset(seed=0)
    assert not info["success"].any() and not info["success_any"].any()
    success, total, _ = play(name, lambda step, m: np.zeros((N, 5)))
    assert not success.any() and (total < 0.1 * CLOSURES[name].steps).all()


@pytest.mark.parametrize("name", CLOSURES)
def test_a_solved_episode_outscores_every_stalled_one(name):
    _, solved, env = play(name, lambda step, m: expert_action(m))
    assert env.success.all()

    def stall_before_the_end(step, m):
        """The expert, until the lid is almost open; then whatever pays best: hold on, with full contact."""
        action = expert_action(m)
        still = np.column_stack([np.zeros((N, 4)), action[:, 4]])
        return np.where((m["progress"] > 0.6)[:, None], still, action)

    success, stalled, env = play(name, stall_before_the_end)
    # even perfect scores in every other term could not make up for it
    best = (1 - SUCCESS_WEIGHT) * CLOSURES[name].steps
    assert solved.min() > best
    assert (stalled[~success] < solved.min()).all()


@pytest.mark.parametrize("name", [n for n, c in CLOSURES.items() if c.mechanism != "reach"])
def test_a_lid_moved_by_an_invisible_hand_is_no_success(name):
    """Joint forces open the lid while the robot stands away from it: by vibration, a throw or a stuck simulation."""
    env = ClosureVectorEnv(name, N, autoreset_mode="Disabled")
    env.reset(seed=0)
    force, batch = env.batch.sim.bind("qfrc_applied"), env.batch
    full, own = batch.constants["full"], batch.constants
    up = np.tile([0, 0, 1.0, 0, 1.0], (N, 1))
    farthest = 0.0
    for _ in range(CLOSURES[name].steps):
        force[:, batch.lid_dof_columns] = (
            np.sign(full) * [60, 60, 60, 8, 8, 8] * (full != 0) * ~batch.released[:, None]
        )
        if (own["marked"] & ~own["reached"]).any():
            force[:, batch.lid_dof_columns.start] = 2.5 * (
                batch.measure()["lid"][:, 0] < own["depth"]
            )
        _, _, _, _, info = env.step(up)
        assert not info["success"].any()
        farthest = max(farthest, info["progress"].max())
    assert farthest > 0.5  # it did move
    assert (info["contact_fraction"] < 0.5).all()


@pytest.mark.parametrize("name", rows())
def test_search_for_progress_without_contact_finds_no_success(name):
    """2,000 candidates; the palm does turn and lift lids, but what counts as a success was opened by the fingers."""
    found = search(name, seed=7)
    assert found.candidates == 2000
    assert found.cheats == 0
    assert found.untouched > 0.02  # it did look for it


def test_a_near_miss_can_be_replayed():
    found = search("slide-mug", seed=7, population=20, rounds=2)
    env = ClosureVectorEnv("slide-mug", 1, autoreset_mode="Disabled")
    _, info = env.reset(seed=[7])
    act, untouched = replay(found.plan)(env), 0.0
    for _ in range(STEPS):
        before, touched = info["progress"], touching(env)[0]
        _, _, _, _, info = env.step(act(None, info["task"]))
        gain = (info["progress"] - before)[0]
        untouched += min(gain, 0.0) if touched or touching(env)[0] else gain
    assert max(untouched, 0.0) == pytest.approx(
        found.untouched
    )  # what the film shows is what was found
