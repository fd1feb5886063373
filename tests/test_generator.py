"""Generated closures, and a task that is added while the program runs."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from uncap.envs import CLOSURES, Closure, distance, register, sample_closure, telling
from uncap.envs.conditioning import vectors
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.scene import build
from uncap.envs.structure import AXES
from uncap.envs.tables import lookup
from uncap.evaluation.protocol import BUILT_IN, evaluate


@pytest.mark.parametrize("near", ["bottle", "cork", "valve", "pill-box", "canister"])
@pytest.mark.parametrize("wanted", [0.1, 0.3, 0.5])
def test_generated_closure_lies_at_the_distance_asked_for(near, wanted):
    drawn = [
        sample_closure(np.random.default_rng(seed), near=near, distance=wanted) for seed in range(5)
    ]
    for closure in drawn:
        assert distance(closure, near) == pytest.approx(wanted, rel=0.011)
        assert closure.mechanism == CLOSURES[near].mechanism
        build(closure.draw(np.random.default_rng(0))).compile()
    assert len({closure.name for closure in drawn}) == 5
    assert len({closure.vector.tobytes() for closure in drawn}) == 5


def test_the_same_seed_draws_the_same_closure():
    first = sample_closure(np.random.default_rng(3), near="jar", distance=0.2)
    second = sample_closure(np.random.default_rng(3), near="jar", distance=0.2)
    assert first == second


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_can_be_generated(mechanism):
    closure = sample_closure(np.random.default_rng(1), mechanism=mechanism)
    assert closure.mechanism == mechanism
    build(closure.draw(np.random.default_rng(0))).compile()


def test_another_mechanism_is_as_far_as_it_must_be():
    pulls = [row for row in CLOSURES.values() if row.mechanism == "pull"]
    wanted = min(distance("bottle", row) for row in pulls) + 0.3
    rng = np.random.default_rng(0)
    closure = sample_closure(rng, mechanism="pull", near="bottle", distance=wanted)
    assert distance(closure, "bottle") == pytest.approx(wanted, rel=0.011)
    with pytest.raises(ValueError, match=r"no pull at distance 0.2 from bottle: reached"):
        sample_closure(np.random.default_rng(0), mechanism="pull", near="bottle", distance=0.2)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="needs a row to be near"):
        sample_closure(np.random.default_rng(0), distance=0.2)
    with pytest.raises(KeyError, match="did you mean 'screw'"):
        sample_closure(np.random.default_rng(0), mechanism="skrew")


@pytest.mark.parametrize(
    "near", ["jar", "cork", "valve", "pill-box", "canister", "flip-mug", "slide-mug", "pump"]
)
def test_generated_neighbours_can_be_opened(near, table):
    for seed in range(3):
        closure = sample_closure(np.random.default_rng(seed), near=near, distance=0.25)
        register(closure)
        episodes = evaluate(BUILT_IN["expert"], (closure.name,), 16)
        assert np.mean([episode.success for episode in episodes]) >= 0.9


def test_axes_add_up_to_the_distance():
    for a, b in (("bottle", "cork"), ("pill-box", "pump"), ("reach", "jar")):
        parts = [distance(a, b, axis) for axis in AXES]
        assert distance(a, b) == pytest.approx(np.sqrt(np.square(parts).sum()))
    assert distance("valve", "grinder", "mechanism") == 0
    assert distance("gas-cap", "bottle", "mechanism") == 0 < distance("gas-cap", "bottle", "motion")
    to_twin = distance("pill-box", "solvent-can")
    to_cap = distance("pill-box", "spice-jar")
    to_reach = distance("pill-box", "reach")
    assert to_twin < to_cap < to_reach


def test_a_row_added_at_run_time_gets_everything(table, ink_bottle):
    register(Closure(**ink_bottle))
    assert lookup(CLOSURES, "ink-bottle", "closure").gym_id == "Uncap/InkBottle-v0"
    env = gym.make("Uncap/InkBottle-v0").unwrapped
    check_env(env, skip_render_check=True)
    pool = env._vector.batch.pool
    assert len(pool) == 8
    assert len({variant.grip_radius for variant in pool}) == 8
    assert vectors("parameters", ("ink-bottle",)).shape == (1, telling.SIZE)
    opened = evaluate(BUILT_IN["expert"], ("ink-bottle",), 64)
    assert np.mean([episode.success for episode in opened]) >= 0.95
    by_chance = evaluate(BUILT_IN["random"], ("ink-bottle",), 64)
    assert np.mean([episode.success_any for episode in by_chance]) < 0.05


@pytest.mark.parametrize("axis", ["motion", "geometry", "dynamics"])
@pytest.mark.parametrize("near", ["jar", "pill-box", "pump"])
def test_a_closure_drawn_along_one_axis_differs_in_no_other(axis, near):
    closure = sample_closure(np.random.default_rng(2), near=near, distance=0.1, axis=axis)
    parts = {name: distance(closure, near, name) for name in AXES}
    assert parts.pop(axis) == pytest.approx(0.1, rel=0.011)
    assert set(parts.values()) == {0.0}


def test_an_axis_that_cannot_be_drawn_is_named():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="mechanism has no numbers to draw: allowed: motion"):
        sample_closure(rng, near="jar", axis="mechanism")
    with pytest.raises(KeyError, match="unknown axis 'looks'"):
        sample_closure(rng, near="jar", axis="looks")
    with pytest.raises(ValueError, match="differs from jar, a screw, in more than one axis"):
        sample_closure(rng, "pull", near="jar", axis="geometry")


def test_closures_of_composed_mechanisms_are_drawn_too():
    rng = np.random.default_rng(0)
    anywhere = sample_closure(rng, mechanism="right-ccw-up")
    assert anywhere.mechanism == "right-ccw-up" and len(anywhere.ways) == 3
    near = sample_closure(rng, near="composed-right-ccw-up-0", distance=0.3)
    assert distance(near, "composed-right-ccw-up-0") == pytest.approx(0.3, rel=0.02)
    far = sample_closure(rng, mechanism="right-ccw-up", near="canister", distance=2.0)
    assert distance(far, "canister") == pytest.approx(2.0, rel=0.02)
    with pytest.raises(KeyError, match="nothing is lowered"):
        sample_closure(rng, mechanism="up-down")
