"""Rows that cannot be told apart until they are touched, and variants that were never trained."""

import dataclasses
import pathlib
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console

from uncap.envs import CLOSURES, TASK_SETS, ClosureVectorEnv, register
from uncap.envs.batch import START
from uncap.envs.closures import groups, guess_ceiling
from uncap.envs.conditioning import of_twins, vectors
from uncap.envs.experts import expert_action
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.pool import VARIANT_STREAMS, draw_pool
from uncap.envs.structure import LOOK_ALIKE
from uncap.evaluation import commands, training
from uncap.evaluation.config import QUICK, EvaluateConfig
from uncap.evaluation.protocol import Zero, evaluate

GROUPS = {name: rows for name, rows in groups(tuple(CLOSURES)).items() if len(rows) > 1}
ROWS = tuple(row for rows in GROUPS.values() for row in rows)
SEEDS = 50
STEPS = 14  # until most hands that start near a lid and are sent to it have touched it
SPLIT = TASK_SETS["alike"]
OPEN_HAND = np.array([[0.0, 0.0, 0.0, 0.0, 1.0]])


def columns(first):
    """Index in ROWS of the first, or last, row of the group of each row."""
    of_row = {row: rows[0 if first else -1] for rows in GROUPS.values() for row in rows}
    return [ROWS.index(of_row[row]) for row in ROWS]


def made(names, per_row=1, **kwargs):
    n = per_row * len(names)
    return ClosureVectorEnv(names, n, conditioning="none", autoreset_mode="Disabled", **kwargs)


@pytest.fixture(scope="module")
def env():
    """All rows of the groups, once for each seed."""
    return made(ROWS, SEEDS)


def start(env):
    """The first observation, the same seed for all rows: those of the groups, or all."""
    return env.reset(seed=[i // len(env.tasks) for i in range(env.num_envs)])[0]


def by_row(values, seeds=SEEDS):
    return values.reshape(seeds, len(ROWS), *values.shape[1:])


def test_rows_of_a_group_give_the_same_states_until_they_are_touched(env, monkeypatch):
    monkeypatch.setitem(START, "hand_z", (0.02, 0.04))  # m: soon there
    monkeypatch.setitem(START, "hand_xy", 0.02)  # m
    observation = start(env)
    rng = np.random.default_rng(0)
    firsts, lasts = columns(first=True), columns(first=False)
    kinds = np.arange(SEEDS)[:, None, None] % 4
    before = np.zeros((SEEDS, len(ROWS)), bool)  # touched, one step before
    for _ in range(STEPS):
        states = by_row(observation["state"])
        differ = (states != states[:, firsts]).any(-1)
        # the step in which it is touched included
        assert not (differ & ~(before & before[:, firsts])).any()
        touched = by_row(env.batch.touched)
        assert np.array_equal(touched[~before], touched[:, firsts][~before])
        before = touched.copy()
        expert = by_row(expert_action(env.batch.measure()))
        dive = np.zeros((SEEDS, len(ROWS), 5))
        dive[..., :3] = by_row(env.batch.measure()["grip_offset"]) / 0.03
        random = np.repeat(rng.uniform(-1, 1, (SEEDS, 1, 5)), len(ROWS), 1)
        action = np.choose(kinds, [expert[:, firsts], expert[:, lasts], dive[:, firsts], random])
        observation, *_ = env.step(action.clip(-1, 1).reshape(-1, 5))
    assert before.any(0).all()  # each row
    assert all(before[kind::4].any() for kind in range(3))
    states = by_row(observation["state"])
    assert (states != states[:, firsts]).any()  # once they are touched, they differ


def test_the_first_observation_does_not_tell_the_row(env):
    """The nearest mean of standardised observations, fitted on half of the seeds."""
    states = by_row(start(env)["state"], SEEDS).astype(float)
    for rows in GROUPS.values():
        own = states[:, [ROWS.index(row) for row in rows]]  # (seeds, rows, numbers)
        spread = own.reshape(-1, own.shape[-1]).std(0)
        scaled = own / np.where(spread > 0, spread, 1.0)
        means = scaled[::2].mean(0)  # (rows, numbers)
        away = np.linalg.norm(scaled[1::2, :, None] - means, axis=-1)  # (seeds, rows, means)
        right = away.argmin(-1) == np.arange(len(rows))
        assert right.mean() <= 1 / len(rows)


def test_pictures_of_a_group_are_the_same():
    names = [rows for rows in GROUPS.values() if len(rows) == 3]
    try:
        env = made(sum(names, ()), observation="rgb")
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    pictures = start(env)["rgb"].reshape(len(names), 3, -1)
    assert np.array_equal(pictures, pictures[:, [0, 0, 0]])
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


def test_a_touch_is_a_latch_that_snapshots_carry():
    env = made(("pill-box", "jar"), 2)
    start(env)
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
    start(env)
    assert not env.batch.touched.any()


def test_lids_are_exactly_at_rest_until_they_are_touched_and_stay_there():
    names = tuple(CLOSURES)
    env = made(names)
    start(env)
    forces = env.batch.sim.bind("qfrc_applied")
    forces[:, env.batch.lid_dof_columns] = 5.0  # N, N m
    for _ in range(3):
        env.step(OPEN_HAND.repeat(env.num_envs, 0))
        measured = env.batch.measure()
        assert not measured["lid"].any() and not measured["lid_velocity"].any()
    opened = [not MECHANISMS[CLOSURES[name].mechanism].marked for name in names]
    assert not measured["progress"][opened].any()
    forces[:] = 0.0
    env.batch.hand_over(np.arange(env.num_envs))
    for _ in range(3):
        env.step(OPEN_HAND.repeat(env.num_envs, 0))
        assert np.abs(env.batch.measure()["lid"]).max() < 2e-5  # m, rad


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


def test_there_is_no_time_to_try_both_ways():
    """Episodes of the set are shorter than its rows', wherever its policies act."""
    made: Any = gym.make_vec("Uncap/Alike-v0", num_envs=2)
    assert made.max_steps.tolist() == [50, 50]
    env = ClosureVectorEnv("jar", 1, episode_steps=3, autoreset_mode="Disabled")
    env.reset(seed=0)
    ended = [env.step(np.zeros((1, 5)))[3].item() for _ in range(3)]
    assert ended == [False, False, True]
    job = dataclasses.replace(QUICK, task_set="alike")
    assert training.learner_config(job).episode_steps == 50
    asked = dataclasses.replace(job, episode_steps=40)
    assert training.learner_config(asked).episode_steps == 40
    assert (
        training.learner_config(dataclasses.replace(job, task_set="alike/jar")).episode_steps == 50
    )


def test_validation_has_variants_of_its_own(monkeypatch):
    given = {}

    def noted(*args, **kwargs):
        given.update(kwargs)
        raise InterruptedError

    monkeypatch.setattr(training, "evaluate", noted)
    best: Any = object.__new__(training.BestCheckpoint)
    best.learner = SimpleNamespace(
        tasks=("jar",),
        known_tasks=("jar",),
        vectors="none",
        policy=None,
        sensors="full",
        episode_steps=None,
        closures=SimpleNamespace(attempts=1),
    )
    best.episodes = best.quota = 1
    with pytest.raises(InterruptedError):
        best.validate("now")
    assert given["variants"] == "validation"


def test_a_policy_can_be_told_of_each_rows_twin():
    rows = ("jar", "jar-left", "jar-pushed", "bottle", "bottle-left")
    for conditioning in ("parameters", "stage", "one_hot"):
        own = dict(zip(rows, vectors(conditioning, rows), strict=True))
        told = of_twins(conditioning, rows, rows)
        assert np.array_equal(told["jar"], own["jar-left"])
        assert np.array_equal(told["jar-pushed"], own["jar"])
        assert np.array_equal(told["bottle-left"], own["bottle"])
        env = ClosureVectorEnv(rows, 5, conditioning=told)
        observation, _ = env.reset(seed=0)
        assert np.array_equal(observation["task"][0], np.atleast_2d(own["jar-left"])[0])


@pytest.mark.parametrize(
    "conditioning, rows, problem",
    [
        ("parameters", ("jar", "bottle", "bottle-left"), "jar has no twin among the rows"),
        ("none", ("bottle", "bottle-left"), "none tells no vector"),
    ],
)
def test_who_has_no_twin_to_be_told_of_is_refused(conditioning, rows, problem):
    with pytest.raises(ValueError, match=problem):
        of_twins(conditioning, rows)


def test_a_built_in_policy_is_not_told_of_twins():
    config = EvaluateConfig(
        run=pathlib.Path("expert"), tasks=("bottle", "bottle-left"), told="twin"
    )
    with pytest.raises(ValueError, match="a built-in policy is not told"):
        commands.evaluate(config, Console())
