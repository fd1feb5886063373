"""The table: names, ranges, splits and distances."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

import envs
from envs.closures import CLOSURES, TASK_SETS, TaskSet, distance, register
from envs.scene import build
from envs.tables import lookup

ROWS = list(CLOSURES.values())


@pytest.mark.parametrize("row", ROWS, ids=CLOSURES)
def test_row_is_registered_and_within_its_ranges(row):
    assert row.gym_id in gym.registry
    assert row.source and row.description
    rng = np.random.default_rng(0)
    for _ in range(20):
        v = row.draw(rng)
        for name in ("grip_radius", "grip_height", "angle", "torque", "force", "mass"):
            low, high = getattr(row, name)
            assert low <= getattr(v, name) <= high
        if row.mechanism == "screw":
            turns = v.angle / (2 * np.pi)
            assert min(map(abs, row.lead)) * turns <= v.depth <= max(map(abs, row.lead)) * turns
    assert np.abs(row.vector).max() <= 2.5


def test_ids_spell_hyphens_as_capitals():
    assert CLOSURES["gas-cap"].gym_id == "Uncap/GasCap-v0"
    assert "Uncap/First-v0" in gym.registry
    assert CLOSURES["gas-cap"].direction == -1 and CLOSURES["bottle"].direction == 1


def test_first_set_holds_out_two_rows_outside_the_trained_ones():
    split = TASK_SETS["first"]
    assert len(split.train) == 8 and len(split.held_out) == 2
    for name, low, high in (("thermos", "bottle", "tumbler"), ("decanter", "mug", "cork")):
        assert name in split.held_out
        band = CLOSURES[name].grip_radius
        trained = [CLOSURES[t].grip_radius for t in (low, high)]
        assert all(band[0] >= hi or band[1] <= lo for lo, hi in trained)  # its band is reserved


def test_distance_is_a_metric():
    for a, b, c in itertools.product(CLOSURES, repeat=3):
        assert distance(a, b) == pytest.approx(distance(b, a))
        assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-9
    assert all(distance(a, a) == 0 for a in CLOSURES)
    assert all(distance(a, b) > 0 for a, b in itertools.combinations(CLOSURES, 2))
    assert distance("thermos", "tumbler") < distance("thermos", "cork")


@pytest.mark.parametrize("name", TASK_SETS)
def test_every_held_out_row_whose_mechanism_is_trained_has_a_band_of_its_own(name):
    split = TASK_SETS[name]
    trained = {CLOSURES[row].mechanism for row in split.train}
    assert set(split.reserved) == {
        row for row in split.held_out if CLOSURES[row].mechanism in trained
    }


def test_tables_refuse_duplicates_overlaps_and_unknown_names():
    with pytest.raises(ValueError, match="already registered"):
        register(ROWS[0])
    with pytest.raises(ValueError, match="both trained and held out"):
        TaskSet("x", ("jar",), ("jar",), "")
    with pytest.raises(KeyError, match="did you mean 'tumbler'"):
        lookup(CLOSURES, "tumbller", "closure")
    with pytest.raises(KeyError, match="unknown closure"):
        envs.ClosureVectorEnv("spaceship", 1)


def test_every_variant_compiles_to_the_same_sizes():
    rng = np.random.default_rng(0)
    sizes = set()
    for row in ROWS:
        for free in (False, True):
            m = build(row.draw(rng), free=free).compile()
            sizes.add((m.nq, m.nv, m.nu, m.neq, m.ngeom, m.nbody, m.nbvh, m.nsensordata))
    assert len(sizes) == 1


def test_the_visual_twin_has_the_same_state():
    row = CLOSURES["bottle"]
    v = row.draw(np.random.default_rng(0))
    plain, drawn = build(v).compile(), build(v, visual=True).compile()
    assert (plain.nq, plain.nmocap) == (drawn.nq, drawn.nmocap)
    assert drawn.ngeom > plain.ngeom
