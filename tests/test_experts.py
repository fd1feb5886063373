"""Experts prove that every row can be solved; random actions prove that it is not by chance."""

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.batch import ClosureBatch
from uncap.envs.experts import MOVES, Move, expert_action
from uncap.evaluation.protocol import BUILT_IN, evaluate


@pytest.mark.parametrize("name", CLOSURES)
def test_expert_opens_and_chance_does_not(name):
    expert = evaluate(BUILT_IN["expert"], (name,), 64)
    assert np.mean([episode.success for episode in expert]) >= 0.95
    assert np.mean([episode.contact_fraction for episode in expert]) > 0.9
    chance = evaluate(BUILT_IN["random"], (name,), 80)
    assert np.mean([episode.success_any for episode in chance]) < 0.05


def test_what_is_pressed_and_turned_stays_between_the_fingers():
    """A harder press slides the fingers down a cap that is down already.

    Its spring then throws it up, and it is shut again.
    """
    n = 64
    env = ClosureVectorEnv(["pill-box", "solvent-can"], n, autoreset_mode="Disabled")
    env.reset(seed=0)
    held = np.zeros(n, bool)
    lost = np.zeros(n)
    for _ in range(80):
        measured = env.batch.measure()
        lost += held & ~measured["holds"] & (measured["progress"] < 1)
        held = measured["holds"] & (measured["progress"] > 0)
        env.step(expert_action(measured))
    assert (measured["progress"] == 1).all()
    assert lost.mean() < 0.1


def test_expert_is_a_function_of_the_measured_state():
    n = 20
    ids = np.arange(n)
    batch = ClosureBatch(tuple(CLOSURES), n)
    batch.reset(ids, ids % len(CLOSURES), [np.random.default_rng(i) for i in ids])
    order = np.random.default_rng(0).permutation(n)
    for _ in range(40):
        measured = batch.measure()
        action = expert_action(measured)
        copied = {key: value.copy() for key, value in measured.items()}
        shuffled = {key: value[order] for key, value in measured.items()}
        assert np.array_equal(action, expert_action(copied))
        assert np.array_equal(action[order], expert_action(shuffled))
        assert (np.abs(action) <= 1).all()
        batch.step(action)


def test_a_new_move_is_one_function_and_one_row(monkeypatch):
    env = ClosureVectorEnv(("mug", "reach"), 4)
    env.reset(seed=0)
    measured = env.batch.measure()
    before = expert_action(measured)

    def wave(measured, mine, plan):
        plan.turn[mine] = 1.0

    monkeypatch.setitem(MOVES, "reach", Move(wave, lambda measured: measured["at_mark"]))
    after = expert_action(measured)
    assert np.array_equal(after[::2], before[::2])  # of the mugs
    assert (after[1::2] == [0, 0, 0, 1, 1]).all()


def test_a_lid_that_comes_off_without_the_fingers_is_no_success():
    env = ClosureVectorEnv("mug", 4, autoreset_mode="Disabled")
    env.reset(seed=0)
    lift = env.batch.model.joint("lid_lift").dofadr[0]
    env.batch.hand_over(np.arange(4))  # as if it were touched
    env.batch.sim.bind("qfrc_applied")[:, lift] = 30.0  # an invisible hand pulls
    for _ in range(8):
        _, _, _, _, info = env.step(np.zeros((4, 5)))
    assert (info["progress"] == 1).all()
    assert not info["success_any"].any()
    assert (info["contact_fraction"] < 0.5).all()
