"""Disturbances: what they draw, that twins stay twins, the table, and its words."""

import copy
import csv
import functools
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from uncap.envs import ClosureEnv, ClosureVectorEnv, disturbances
from uncap.envs.disturbances import FACTORS, STRENGTHS
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.scene import WORKSPACE
from uncap.envs.variation import PICTURED as PICTURED_NAMES
from uncap.envs.variation import QUANTITIES, Variation
from uncap.evaluation import commands, disturb
from uncap.evaluation.config import EvaluateConfig
from uncap.evaluation.flags import parse
from uncap.evaluation.progress import make_console
from uncap.evaluation.protocol import Episode, summary
from uncap.evaluation.statistics import mcnemar, paired_difference

TASK = "pill-box"
SEEN = [name for name, factor in FACTORS.items() if not factor.pictured]
PICTURED = [name for name, factor in FACTORS.items() if factor.pictured]
SHOWN_WITHOUT_CONTACT = ("noise", "delay", "push", "start", "tilt")
CHANGES_THE_START = ("start", "tilt")


@pytest.fixture(autouse=True, scope="module")
def two_variants():
    """Two variants per row instead of eight: compiling is most of what these tests do."""
    patch = pytest.MonkeyPatch()
    few = functools.partialmethod(ClosureVectorEnv.__init__, variants=2)
    patch.setattr(ClosureVectorEnv, "__init__", few)
    yield
    patch.undo()


def make(disturb=None, **changes):
    env = ClosureVectorEnv(TASK, 3, disturb=disturb, autoreset_mode="SameStep", **changes)
    env.reset(seed=5)
    return env


def roll(env, steps):
    """The bytes of what some steps of random actions return."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(steps):
        observation, reward, *_ = env.step(rng.uniform(-1, 1, (env.num_envs, 5)))
        found.append(np.column_stack((observation["state"], reward)))
    return np.array(found)


# The table of factors


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_has_three_strengths_of_the_same_quantities_each_farther_from_neutral(name):
    factor = FACTORS[name]
    assert factor.words and factor.basis
    assert len(factor.strengths) == len(STRENGTHS)
    for ranges in factor.strengths:
        assert ranges.keys() == factor.strengths[0].keys() <= QUANTITIES.keys()
    for quantity in factor.strengths[0].keys() - {"tilt_way"}:
        neutral = QUANTITIES[quantity].neutral
        reach = [max(abs(v - neutral) for v in ranges[quantity]) for ranges in factor.strengths]
        assert 0 < reach[0] < reach[1] < reach[2]


def test_strengths_are_drawn_within_their_ranges_by_the_same_share():
    shares = []
    for strength in STRENGTHS:
        variation = Variation({}, 20, disturbances.ranges({"friction": strength}))
        variation.draw(np.arange(20), [np.random.default_rng(k) for k in range(20)])
        low, high = FACTORS["friction"].at(strength)["friction"]
        drawn = variation.values["friction"]
        assert (low <= drawn).all() and (drawn <= high).all() and len(set(drawn)) == 20
        shares.append((drawn - low) / (high - low))
    assert np.allclose(shares[0], shares[1]) and np.allclose(shares[0], shares[2])


def test_a_factor_draws_the_same_alone_and_with_others():
    alone, both = make({"mass": 2}).batch, make({"friction": 1, "mass": 2}).batch
    assert np.array_equal(alone.variation.values["mass"], both.variation.values["mass"])
    assert not np.array_equal(both.variation.values["friction"], np.ones(3))


# Pairs


@pytest.fixture(scope="module")
def plain():
    env = make()
    return (
        env.batch.qpos.copy(),
        env.batch.mocap_pos.copy(),
        env.batch.variant.copy(),
        roll(env, 85),
    )


@pytest.mark.parametrize("level", ["default", "randomised"])
def test_at_neutral_strength_nothing_differs_in_any_bit(level, plain):
    expected = plain[3] if level == "default" else roll(make(level=level), 20)
    # a factor takes the place of what the level varies: what `randomised` does not vary is left
    names = SEEN if level == "default" else ["start"]
    env = make(dict.fromkeys(names, 0), level=level)
    assert np.array_equal(roll(env, len(expected)), expected)


@pytest.mark.parametrize("name", SEEN)
def test_a_disturbed_episode_starts_as_its_twin_and_then_differs(name, plain):
    qpos, mocap_pos, variant, rolled = plain
    env = make({name: 3})
    assert np.array_equal(env.batch.variant, variant)
    same = np.array_equal(env.batch.qpos, qpos) and np.array_equal(env.batch.mocap_pos, mocap_pos)
    assert same is (name not in CHANGES_THE_START)
    if name in SHOWN_WITHOUT_CONTACT:
        assert not np.array_equal(roll(env, 40), rolled[:40])


def test_what_scales_the_model_scales_it():
    env, twin = make({"friction": 3, "torque": 3, "mass": 3}), make()
    for one in (env, twin):
        one.batch.hand_over(np.arange(one.num_envs))  # what holds the lid acts from a touch on
    lid = env.batch.model.body("lid").id
    dof = env.batch.model.joint("lid_twist").dofadr[0]
    values = env.batch.variation.values
    for field, at, name in (
        ("geom_friction", (slice(None), 3, 0), "friction"),
        ("body_mass", (slice(None), lid), "mass"),
        ("dof_frictionloss", (slice(None), dof), "breakaway"),
    ):
        ratio = env.batch.sim.expand(field)[at] / twin.batch.sim.expand(field)[at]
        assert ratio == pytest.approx(values[name])


def test_a_start_is_its_twins_so_many_times_farther_off():
    env, twin = make({"start": 3}).batch, make().batch
    spread = env.variation.values["spread"]
    middle = np.array(WORKSPACE)
    off = twin.mocap_pos[:, 0, :2] - middle
    assert env.mocap_pos[:, 0, :2] - middle == pytest.approx(spread[:, None] * off)
    assert (spread > 1.5).all()


@pytest.mark.parametrize("late", [0, 1, 2, 3])
def test_an_action_arrives_so_many_control_steps_late(late):
    variation = Variation({}, 2, disturbances.ranges({"delay": late}))
    variation.draw(np.arange(2), [np.random.default_rng(k) for k in range(2)])
    sent = np.arange(1, 7)[:, None, None] * np.ones((6, 2, 5))
    arrived = np.array([variation.delayed(action) for action in sent])
    assert np.array_equal(arrived[late:], sent[: 6 - late])
    assert np.array_equal(arrived[:late], np.tile([0.0, 0, 0, 0, 1], (late, 2, 1)))


@pytest.mark.parametrize("level", ["default", "randomised"])
def test_snapshots_and_copies_go_on_the_same(level):
    env = make({"delay": 3, "push": 2, "noise": 1}, level=level)
    roll(env, 7)
    snapshot, copied = env.snapshot(), copy.deepcopy(env)
    expected = roll(env, 30)
    assert np.array_equal(roll(copied, 30), expected)
    env.restore(snapshot)
    assert np.array_equal(roll(env, 30), expected)
    with pytest.raises(ValueError, match="its level is"):
        make(level=level).restore(snapshot)


def test_the_single_environment_is_disturbed_as_the_vector_one():
    env = ClosureEnv("jar", disturb={"mass": 2})
    env.reset(seed=1)
    assert env._vector.batch.variation.values["mass"][0] > 1.4


# Pictures


def test_pictures_change_with_their_factors_and_not_at_neutral():
    try:
        env = ClosureVectorEnv("jar", 1, observation="rgb", disturb=dict.fromkeys(PICTURED, 3))
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    values = env.batch.variation.values
    assert env._pixels is not None
    draw = env._pixels.draw
    state = env.batch.variant, env.batch.qpos, env.batch.mocap_pos, env.batch.mocap_quat

    def mean_difference(names):
        chosen = {name: values[name] if name in names else neutral[name] for name in PICTURED_NAMES}
        return abs(draw(*state, chosen).astype(int) - plain).mean()

    neutral = {name: np.full(1, QUANTITIES[name].neutral) for name in PICTURED_NAMES}
    seen = env.reset(seed=0)[0]["rgb"].astype(int)
    plain = draw(*state).astype(int)
    assert mean_difference([]) == 0
    for factor in PICTURED:
        assert mean_difference(FACTORS[factor].strengths[0]) > 2
    assert np.array_equal(draw(*state, env.batch.variation.pictured()), seen)
    assert np.array_equal(draw(*state), plain)  # nothing is left of the last look
    assert seen.mean() < plain.mean()
    env.close()


# Statistics: literals with known answers


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (5, 1, 0.21875), (1, 5, 0.21875), (0, 5, 0.0625), (4, 4, 1.0), (10, 0, 2**-9)],
)
def test_mcnemar_is_the_exact_binomial_test_of_discordant_pairs(lost, gained, p):
    assert mcnemar(lost, gained) == pytest.approx(p)


def test_the_interval_of_a_paired_difference_is_newcombes():
    # Newcombe (1998), 36, 12, 2 and 0 of 50 pairs, method 10
    assert paired_difference(36, 2, 12, 0) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    assert paired_difference(36, 12, 2, 0) == pytest.approx((-0.2, -0.3404, -0.0569), abs=5e-5)
    difference, low, high = paired_difference(0, 4, 0, 0)
    assert difference == low == -1.0 and -0.5 < high < 0


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (3, -1, 0, 0)])
def test_numbers_of_pairs_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="need numbers of pairs"):
        paired_difference(*counts)


def test_negative_pairs_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar(-1, 2)


# The table


def episode(start, success, attempt=0):
    return Episode("jar", start, success, success, 1.0, 3, 1.0, 5.0, attempt=attempt)


def test_the_table_counts_pairs():
    outcomes = [(True, True), (True, False), (True, False), (False, True), (False, False)]
    twins = [episode(k, twin) for k, (twin, _) in enumerate(outcomes)]
    disturbed = [episode(k, success) for k, (_, success) in enumerate(outcomes)]
    rows = [*disturb.undisturbed(twins), *disturb.paired(disturbed, twins, ("mass", 2))]
    [row] = disturb.compared(rows)
    assert (row.factor, row.strength, row.pairs, row.lost, row.gained) == ("mass", 2, 5, 2, 1)
    assert (row.undisturbed, row.disturbed) == (0.6, 0.4)
    assert (row.difference, row.p) == (pytest.approx(-0.2), 1.0)
    with pytest.raises(ValueError, match="are no pair"):
        disturb.paired([replace(disturbed[0], start=9)], twins[:1], ("mass", 2))


def test_of_trials_the_last_attempts_are_pairs():
    trials = [(start, attempt) for start in range(4) for attempt in range(3)]
    twins = [episode(start, attempt > 0, attempt) for start, attempt in trials]
    disturbed = [episode(start, attempt == 2 and start > 0, attempt) for start, attempt in trials]
    rows = disturb.paired(disturbed, twins, ("mass", 2))
    assert len(rows) == 12
    [row] = disturb.compared(rows)
    assert (row.pairs, row.lost, row.gained) == (4, 1, 0)
    assert (row.undisturbed, row.disturbed) == (summary(twins)["mean_success"], 0.75)
    [found] = disturb.results(rows)
    assert found["per_task"]["jar"]["pairs"] == 4
    with pytest.raises(ValueError, match="are no pair"):
        disturb.paired(disturbed[:1], twins[1:2], ("mass", 2))


def test_the_table_is_ruled_on_a_terminal_only():
    twins = [episode(0, True)]
    table = disturb.compared(disturb.paired(twins, twins, ("mass", 2)))
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
        disturb.show(table, console)
        text = console.file.getvalue()  # type: ignore
        assert ("│" in text) is terminal
        assert "mass" in text and "1.00 [0.21, 1.00]" in text


# The command


def test_the_command_writes_pairs_and_table(tmp_path):
    out = tmp_path / "out"
    words = ["zero", "--tasks", "button", "--disturb", "delay=3", "--episodes", "2"]
    config = parse(EvaluateConfig, [*words, "--disturb=mass=1", "--out", str(out)], "evaluate")
    assert config.disturb == ("delay=3", "mass=1")
    commands.evaluate(config, make_console())
    with open(out / "episodes.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    conditions = [(row["factor"], row["strength"], row["start"]) for row in rows]
    kinds = [("none", "0"), ("delay", "3"), ("mass", "1")]
    assert conditions == [(*kind, start) for kind in kinds for start in "01"]
    assert {(row["success"], row["twin_success"]) for row in rows} == {("False", "False")}
    found = json.loads((out / "results.json").read_text(encoding="utf-8"))["disturbances"]
    assert [(row["factor"], row["per_task"]["button"]["pairs"]) for row in found] == [
        ("delay", 2),
        ("mass", 2),
    ]
    with open(out / "disturbances.csv", encoding="utf-8") as file:
        assert [row["factor"] for row in csv.DictReader(file)] == ["delay", "mass"]


def test_all_leaves_out_what_acts_on_pictures():
    conditions, skipped = disturb.conditions(["all"])
    assert conditions == [(name, strength) for name in SEEN for strength in STRENGTHS]
    assert skipped == PICTURED
    assert disturb.conditions(["mass=2", "mass"])[0] == [("mass", 2), ("mass", 1), ("mass", 3)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--disturb frictio=1", "unknown factor 'frictio': did you mean 'friction'? allowed: st"),
        ("--disturb friction=4", "unknown strength '4' of friction: allowed: 1, 2, 3"),
        ("--disturb friction=0", "unknown strength '0' of friction: allowed: 1, 2, 3"),
        ("--disturb friction=", "unknown strength '' of friction"),
        ("--disturb all=2", "all takes no strength"),
        ("--disturb =2", "unknown factor ''"),
        ("--disturb", "--disturb needs a value"),
        ("--disturb friction=1 --level tiltd", "unknown level 'tiltd'"),
    ],
)
def test_mistakes_get_one_line(words, says):
    with pytest.raises(ValueError) as caught:
        parse(EvaluateConfig, ["zero", *words.split()], "evaluate")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_pictures_are_refused_for_policies_without():
    with pytest.raises(ValueError, match="camera acts on pictures only"):
        disturb.conditions(["friction=1", "camera=1"])
