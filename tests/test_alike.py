"""Rows that cannot be told apart until they are touched, and variants that were never trained."""

import dataclasses

import numpy as np
import pytest

from agents.learner import Learner
from envs import CLOSURES, TASK_SETS, ClosureVectorEnv, register
from envs.closures import groups, guess_ceiling
from envs.experts import expert_action
from envs.mechanisms import MECHANISMS
from envs.opengl import RenderingUnavailable
from envs.pool import VARIANT_STREAMS, draw_pool
from envs.structure import LOOK_ALIKE
from evaluation import training
from evaluation.protocol import Zero, evaluate

GROUPS = {name: rows for name, rows in groups(tuple(CLOSURES)).items() if len(rows) > 1}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)
SEEDS = 50
STEPS = 24  # until nearly all hands that are sent to a lid have touched it
SPLIT = TASK_SETS["alike"]


def columns(first):
    """Index in ROWS of the first, or last, row of the group of each row."""
    of_row = {row: rows[0 if first else -1] for rows in GROUPS.values() for row in rows}
    return [ROWS.index(of_row[row]) for row in ROWS]


def started(seeds, **kwargs):
    """An environment of all rows for each seed, seeds x rows, and its first observation."""
    n = seeds * len(ROWS)
    env = ClosureVectorEnv(ROWS, n, conditioning="none", autoreset_mode="Disabled", **kwargs)
    observation, _ = env.reset(seed=[i // len(ROWS) for i in range(n)])
    return env, observation


def by_row(values, seeds):
    return values.reshape(seeds, len(ROWS), *values.shape[1:])


def test_rows_of_a_group_give_the_same_states_until_they_are_touched():
    env, observation = started(SEEDS)
    rng = np.random.default_rng(0)
    firsts, lasts = columns(first=True), columns(first=False)
    kinds = np.arange(SEEDS)[:, None, None] % 4
    before = np.zeros((SEEDS, len(ROWS)), bool)  # touched, one step before
    for _ in range(STEPS):
        states = by_row(observation["state"], SEEDS)
        differ = (states != states[:, firsts]).any(-1)
        # the step in which it is touched included
        assert not (differ & ~(before & before[:, firsts])).any()
        touched = by_row(env.batch.touched, SEEDS)
        assert np.array_equal(touched[~before], touched[:, firsts][~before])
        before = touched.copy()
        expert = by_row(expert_action(env.batch.measure()), SEEDS)
        dive = np.zeros((SEEDS, len(ROWS), 5))
        dive[..., :3] = by_row(env.batch.measure()["grip_offset"], SEEDS) / 0.03
        random = np.repeat(rng.uniform(-1, 1, (SEEDS, 1, 5)), len(ROWS), 1)
        action = np.choose(kinds, [expert[:, firsts], expert[:, lasts], dive[:, firsts], random])
        observation, *_ = env.step(action.clip(-1, 1).reshape(-1, 5))
    for kind in range(3):
        assert before[kind::4].mean() > 0.8
    states = by_row(observation["state"], SEEDS)
    assert (states != states[:, firsts]).any()  # once they are touched, they differ


def test_the_first_observation_does_not_tell_the_row():
    """The nearest mean of standardised observations, fitted on half of the seeds."""
    _, observation = started(SEEDS)
    states = by_row(observation["state"], SEEDS).astype(float)
    for rows in GROUPS.values():
        own = states[:, [ROWS.index(row) for row in rows]]  # (seeds, rows, numbers)
        spread = own.reshape(-1, own.shape[-1]).std(0)
        scaled = own / np.where(spread > 0, spread, 1.0)
        means = scaled[::2].mean(0)  # (rows, numbers)
        away = np.linalg.norm(scaled[1::2, :, None] - means, axis=-1)  # (seeds, rows, means)
        right = away.argmin(-1) == np.arange(len(rows))
        assert right.mean() <= 1 / len(rows)


def test_pictures_of_a_group_are_the_same():
    try:
        env, observation = started(1, observation="rgb")
    except RenderingUnavailable:
        pytest.skip("no OpenGL")
    pictures = by_row(observation["rgb"], 1)
    assert np.array_equal(pictures, pictures[:, columns(first=True)])
    env.close()


def test_alike_has_groups_of_two_and_three():
    sizes = [len(rows) for rows in groups(SPLIT.train).values()]
    assert sum(sizes) >= 12
    assert set(sizes) == {2, 3}
    assert SPLIT.guess_ceiling == pytest.approx(np.mean([1 / k for k in sizes for _ in range(k)]))
    assert guess_ceiling(("jar", "mug")) == 1.0


@pytest.mark.parametrize("field", LOOK_ALIKE)
def test_a_row_that_can_be_told_from_its_group_is_refused(field, table):
    row = CLOSURES["jar-left"]
    others = {"grip": "bar", "look": "vial", "control": True, "steps": 81}
    value = getattr(row, field)
    if field in others:
        value = others[field]
    elif isinstance(value, tuple):
        value = (value[0], *[0.99 * number for number in value[1:]])
        value = (value[0], value[1] * 1.02) if field in ("grip_radius", "grip_height") else value
        value = (value[0], 0.02) if field == "mass" else value
    else:
        value = value + 0.001
    other = dataclasses.replace(row, name="other-jar", **{field: value})
    with pytest.raises(ValueError, match=f"{field} must be that of jar"):
        register(other)
    assert "other-jar" not in CLOSURES


def test_a_lid_that_is_observed_in_another_way_is_refused(table):
    slides = dataclasses.replace(
        CLOSURES["jar-left"], name="other-jar", mechanism="slide", depth=(0.02, 0.03)
    )
    with pytest.raises(ValueError, match="cannot be in one group with jar"):
        register(slides)


def test_lids_are_at_rest_when_they_are_handed_over():
    names = tuple(CLOSURES)
    env = ClosureVectorEnv(names, len(names), conditioning="none", autoreset_mode="Disabled")
    env.reset(seed=0)
    env.batch.hand_over(np.arange(env.num_envs))
    up = np.tile([0.0, 0.0, 0.0, 0.0, 1.0], (env.num_envs, 1))
    for _ in range(4):
        env.step(up)
        assert np.abs(env.batch.measure()["lid"]).max() < 2e-5  # m, rad


def test_a_touch_is_a_latch_that_snapshots_carry():
    env = ClosureVectorEnv(("pill-box", "jar"), 4, conditioning="none", autoreset_mode="Disabled")
    env.reset(seed=0)
    taken = {}
    for step in range(40):
        if not env.batch.touched.any():
            taken["before"] = env.snapshot(), step
        elif env.batch.touched.all() and "after" not in taken:
            taken["after"] = env.snapshot(), step
        env.step(expert_action(env.batch.measure()))
    end = env.snapshot()["batch"]["state"]
    assert set(taken) == {"before", "after"}
    for snapshot, step in taken.values():
        env.restore(snapshot)
        for _ in range(step, 40):
            env.step(expert_action(env.batch.measure()))
        assert np.array_equal(env.snapshot()["batch"]["state"], end)
    env.step(np.tile([0.0, 0.0, 1.0, 0.0, 1.0], (4, 1)))
    assert env.batch.touched.all()
    env.reset(seed=0)
    assert not env.batch.touched.any()


def test_an_untouched_lid_is_exactly_at_rest():
    names = tuple(CLOSURES)
    env = ClosureVectorEnv(names, len(names), conditioning="none", autoreset_mode="Disabled")
    env.reset(seed=0)
    applied = env.batch.sim.bind("qfrc_applied")
    applied[:, env.batch.lid_dof_columns] = 5.0  # N, N m
    for _ in range(3):
        env.step(np.zeros((env.num_envs, 5)))
        measured = env.batch.measure()
        assert not measured["lid"].any() and not measured["lid_velocity"].any()
    opened = [MECHANISMS[CLOSURES[name].mechanism].opens != {} for name in names]
    assert not measured["progress"][opened].any()


def numbers(names, stream):
    """Every number of the variants that is drawn from a range."""
    pool = draw_pool(names, 8, VARIANT_STREAMS[stream])
    return {(v.closure.name, v.grip_radius, v.grip_height, v.mass) for v in pool}


def test_streams_share_no_variant():
    names = tuple(CLOSURES)
    drawn = [numbers(names, stream) for stream in VARIANT_STREAMS]
    assert len(set().union(*drawn)) == sum(len(part) for part in drawn)


class Pools(Zero):
    """Does nothing, and notes the variants that it meets."""

    met: list = []

    def __init__(self, env):
        self.met.append(env.batch.pool)


def test_evaluation_meets_no_trained_variant(monkeypatch):
    monkeypatch.setattr(Pools, "met", [])
    names = ("button", "puck")
    evaluate(Pools, names, 1)
    evaluate(Pools, names, 1, variants="validation")
    trained = ClosureVectorEnv(names).batch.pool  # the default: what learners train on
    pools = [trained, *Pools.met]
    radii = [{variant.grip_radius for variant in pool} for pool in pools]
    assert len(set().union(*radii)) == 3 * 2 * 8
    with pytest.raises(KeyError, match="stream of variants"):
        evaluate(Pools, names, 1, variants="trained")


def test_validation_has_variants_of_its_own(monkeypatch, tmp_path):
    given = {}

    def noted(*args, **kwargs):
        given.update(kwargs)
        raise InterruptedError

    monkeypatch.setattr(training, "evaluate", noted)
    best = object.__new__(training.BestCheckpoint)
    best.learner = object.__new__(Learner)
    best.learner.__dict__.update(tasks=("jar",), known_tasks=("jar",), vectors="none")
    best.learner.algorithm = type("Algorithm", (), {"policy": None})()
    best.episodes = 1
    with pytest.raises(InterruptedError):
        best.validate("now")
    assert given["variants"] == "validation"
