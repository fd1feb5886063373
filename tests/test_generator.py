"""Generated closures, and a task that is added while the program runs."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs import CLOSURES, Closure, distance, register, sample_closure
from envs.conditioning import vectors
from envs.mechanisms import MECHANISMS
from envs.scene import build
from envs.structure import AXES
from envs.tables import lookup
from evaluation.protocol import BUILT_IN, evaluate


@pytest.mark.parametrize("near", ["bottle", "cork", "valve", "pill-box", "canister"])
@pytest.mark.parametrize("wanted", [0.1, 0.3, 0.5])
def test_generated_closure_lies_at_the_distance_asked_for(near, wanted):
    drawn = [
        sample_closure(np.random.default_rng(seed), near=near, distance=wanted) for seed in range(5)
    ]
    for c in drawn:
        assert distance(c, near) == pytest.approx(wanted, rel=0.011)
        assert c.mechanism == CLOSURES[near].mechanism
        build(c.draw(np.random.default_rng(0))).compile()
    assert len({c.name for c in drawn}) == 5 and len({c.vector.tobytes() for c in drawn}) == 5


def test_the_same_seed_draws_the_same_closure():
    a, b = (sample_closure(np.random.default_rng(3), near="jar", distance=0.2) for _ in range(2))
    assert a == b


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_can_be_generated(mechanism):
    c = sample_closure(np.random.default_rng(1), mechanism=mechanism)
    assert c.mechanism == mechanism
    build(c.draw(np.random.default_rng(0))).compile()


def test_another_mechanism_is_as_far_as_it_must_be():
    least = min(distance("bottle", c) for c in CLOSURES.values() if c.mechanism == "pull")
    c = sample_closure(
        np.random.default_rng(0), mechanism="pull", near="bottle", distance=least + 0.3
    )
    assert distance(c, "bottle") == pytest.approx(least + 0.3, rel=0.011)
    with pytest.raises(ValueError, match=r"no pull at distance 0.2 from bottle: reached"):
        sample_closure(np.random.default_rng(0), mechanism="pull", near="bottle", distance=0.2)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="needs a row to be near"):
        sample_closure(np.random.default_rng(0), distance=0.2)
    with pytest.raises(KeyError, match="did you mean 'screw'"):
        sample_closure(np.random.default_rng(0), mechanism="skrew")
    with pytest.raises(ValueError, match=r"grip_radius must lie in \[0.006, 0.0355\]"):
        Closure(**{**_row(), "grip_radius": (0.03, 0.05)})
    with pytest.raises(ValueError, match="a screw needs a lead"):
        Closure(**{**_row(), "lead": (0.0, 0.0)})


@pytest.mark.parametrize(
    "near", ["jar", "cork", "valve", "pill-box", "canister", "flip-mug", "slide-mug", "pump"]
)
def test_generated_neighbours_can_be_opened(near, table):
    for seed in range(3):
        c = sample_closure(np.random.default_rng(seed), near=near, distance=0.25)
        register(c)
        assert np.mean([e.success for e in evaluate(BUILT_IN["expert"], (c.name,), 16)]) >= 0.9


def test_axes_add_up_to_the_distance():
    for a, b in (("bottle", "cork"), ("pill-box", "pump"), ("reach", "jar")):
        parts = [distance(a, b, axis) for axis in AXES]
        assert distance(a, b) == pytest.approx(np.sqrt(np.square(parts).sum()))
    assert distance("valve", "grinder", "mechanism") == 0
    assert distance("gas-cap", "bottle", "mechanism") == 0 < distance("gas-cap", "bottle", "motion")
    assert (
        distance("pill-box", "solvent-can")
        < distance("pill-box", "spice-jar")
        < distance("pill-box", "reach")
    )


def _row() -> dict:
    return {
        "name": "ink-bottle",
        "description": "unscrew an ink bottle",
        "source": "made up",
        "mechanism": "screw",
        "grip": "cap",
        "look": "jar",
        "body": (0.030, 0.070),
        "neck": (0.015, 0.008),
        "grip_radius": (0.016, 0.018),
        "grip_height": (0.018, 0.022),
        "angle": (1.6, 2.0),
        "lead": (0.006, 0.008),
        "torque": (0.2, 0.3),
    }


def test_a_row_added_at_run_time_gets_everything(table):
    register(Closure(**_row()))
    assert lookup(CLOSURES, "ink-bottle", "closure").gym_id == "Uncap/InkBottle-v0"
    env = gym.make("Uncap/InkBottle-v0").unwrapped
    check_env(env, skip_render_check=True)
    pool = env._vector.batch.pool
    assert len({v.grip_radius for v in pool}) == len(pool) == 8
    assert vectors("parameters", ("ink-bottle",)).shape == (1, 23)
    assert np.mean([e.success for e in evaluate(BUILT_IN["expert"], ("ink-bottle",), 64)]) >= 0.95
    assert (
        np.mean([e.success_any for e in evaluate(BUILT_IN["random"], ("ink-bottle",), 64)]) < 0.05
    )
