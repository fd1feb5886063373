"""Experts prove that every row can be solved; random actions prove that it is not solved by chance."""

import numpy as np
import pytest

from envs import CLOSURES, ClosureVectorEnv
from envs.batch import ClosureBatch
from envs.experts import expert_action
from evaluation.protocol import BUILT_IN, evaluate


@pytest.mark.parametrize("name", CLOSURES)
def test_expert_opens_and_chance_does_not(name):
    expert = evaluate(BUILT_IN["expert"], (name,), 64)
    assert np.mean([e.success for e in expert]) >= 0.95
    assert np.mean([e.contact_fraction for e in expert]) > 0.9
    assert np.mean([e.success_any for e in evaluate(BUILT_IN["random"], (name,), 80)]) < 0.05


def test_what_is_pressed_and_turned_stays_between_the_fingers():
    """A harder press slides the fingers down a cap that is down already; its spring then throws it up, and it is shut again."""
    env = ClosureVectorEnv(["pill-box", "solvent-can"], 64, autoreset_mode="Disabled")
    env.reset(seed=0)
    held, lost = np.zeros(64, bool), np.zeros(64)
    for _ in range(80):
        m = env.batch.measure()
        lost += held & ~m["holds"] & (m["progress"] < 1)
        held = m["holds"] & (m["progress"] > 0)
        env.step(expert_action(m))
    assert (m["progress"] == 1).all() and lost.mean() < 0.1


def test_expert_is_a_function_of_the_measured_state():
    batch, ids = ClosureBatch(tuple(CLOSURES), 20), np.arange(20)
    batch.reset(ids, ids % len(CLOSURES), [np.random.default_rng(i) for i in ids])
    order = np.random.default_rng(0).permutation(20)
    for _ in range(40):
        m = batch.measure()
        action = expert_action(m)
        assert np.array_equal(action, expert_action({k: v.copy() for k, v in m.items()}))
        assert np.array_equal(action[order], expert_action({k: v[order] for k, v in m.items()}))
        assert (np.abs(action) <= 1).all()
        batch.step(action)


def test_a_lid_that_comes_off_without_the_fingers_is_no_success():
    env = ClosureVectorEnv("mug", 4, autoreset_mode="Disabled")
    env.reset(seed=0)
    lift = env.batch.model.joint("lid_lift").dofadr[0]
    env.batch.sim.bind("qfrc_applied")[:, lift] = 30.0  # an invisible hand pulls
    for _ in range(8):
        _, _, _, _, info = env.step(np.zeros((4, 5)))
    assert (info["progress"] == 1).all()
    assert not info["success_any"].any() and (info["contact_fraction"] < 0.5).all()
