"""Trials: several attempts at one closure, of one variant, from a new start each."""

import dataclasses
import io
import re

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console

from uncap.agents.files import FileError
from uncap.envs import CLOSURES, ClosureVectorEnv, TaskSet, named_set, searching
from uncap.envs.experts import expert_action
from uncap.envs.searching import Searcher, hypotheses
from uncap.evaluation import cli, commands, compare_report, measured, training, unseen
from uncap.evaluation.config import EvaluateConfig, JobConfig
from uncap.evaluation.flags import parse
from uncap.evaluation.protocol import BUILT_IN, Search, by_attempt, evaluate, summary

ROWS = ("jar", "mug", "reach")
STEPS = 3


def make(attempts=3, n=6, **choices):
    choices = {"episode_steps": STEPS, "conditioning": "none", **choices}
    return ClosureVectorEnv(ROWS, n, attempts=attempts, **choices)


def still(env):
    return np.zeros((env.num_envs, 5))


def played(env, steps, seed=0) -> list[dict]:
    """What there was before each control step."""
    _, info = env.reset(seed=seed)
    found = []
    for _ in range(steps):
        found.append(
            {
                "attempt": info.get("attempt", np.zeros(env.num_envs, int)).copy(),
                "task": env.task.copy(),
                "variant": env.batch.variant.copy(),
                "hand": env.batch.qpos[:, :7].copy(),
            }
        )
        _, _, _, _, info = env.step(still(env))
    return found


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_trial_is_of_one_variant_with_a_new_start_each(mode):
    env = make(autoreset_mode=mode, assignment="deck")
    length = STEPS + (mode == "NextStep")  # the step that restarts
    steps = played(env, 2 * 3 * length)
    starts = steps[::length]
    assert [step["attempt"].tolist() for step in starts] == [[k] * 6 for k in (0, 1, 2, 0, 1, 2)]
    for first in (0, 3):
        of_trial = starts[first : first + 3]
        assert all((step["task"] == of_trial[0]["task"]).all() for step in of_trial)
        assert all((step["variant"] == of_trial[0]["variant"]).all() for step in of_trial)
        hands = [step["hand"] for step in of_trial]
        assert not np.isclose(hands[0], hands[1]).all(1).any()
    trials = [
        {(int(t), int(v)) for t, v in zip(s["task"], s["variant"], strict=True)} for s in starts
    ]
    assert trials[0] != trials[3]  # other closures


def test_one_attempt_is_what_there_was_before():
    plain = ClosureVectorEnv(ROWS, 6, episode_steps=STEPS, conditioning="none")
    one = make(1)
    for a, b in zip(played(plain, 9), played(one, 9), strict=True):
        assert np.array_equal(a["hand"], b["hand"])
        assert np.array_equal(a["variant"], b["variant"])
    _, info = one.reset(options={"next_attempt": True})  # it has ended: a new one begins
    assert "attempt" not in info


def test_a_reset_begins_a_trial_and_goes_on_with_one_only_where_that_is_asked_for():
    env = make(autoreset_mode="Disabled")
    env.reset(seed=0)
    variants = []
    for attempt in range(4):
        variants.append(env.batch.variant.copy())
        for _ in range(STEPS):
            _, _, _, truncated, info = env.step(still(env))
        assert truncated.all()
        assert (info["attempt"] == attempt % 3).all()
        env.reset(options={"next_attempt": True})
    assert (variants[0] == variants[1]).all() and (variants[1] == variants[2]).all()
    assert (variants[3] != variants[2]).any()
    _, info = env.reset(options={"next_attempt": np.array([True, False] * 3)})
    assert info["attempt"].tolist() == [2, 0] * 3
    _, info = env.reset()
    assert (info["attempt"] == 0).all()


def test_a_snapshot_knows_its_attempt():
    env = make()
    env.reset(seed=1)
    for _ in range(STEPS + 2):
        env.step(still(env))
    kept = env.snapshot()
    ahead = [env.step(still(env)) for _ in range(2 * STEPS)]
    copy = make()
    copy.restore(kept)
    for observation, _, _, _, info in ahead:
        theirs, _, _, _, other = copy.step(still(copy))
        assert np.array_equal(observation["state"], theirs["state"])
        assert np.array_equal(info["attempt"], other["attempt"])
    with pytest.raises(ValueError, match="attempts"):
        make(2).restore(kept)


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "3", None, True, 10**6])
def test_a_number_that_is_none_is_refused(attempts):
    with pytest.raises(ValueError, match="attempts must be"):
        make(attempts)


def test_what_no_trial_can_do_is_refused():
    env = make()
    with pytest.raises(gym.error.ResetNeeded):
        env.reset(options={"next_attempt": True})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="exclude each other"):
        env.reset(options={"next_attempt": True, "task": "jar"})
    with pytest.raises(ValueError, match="next_attempt"):
        env.reset(options={"next_attempt": [True]})


# Taking a closure for another one


def in_motion(rows, n, steps, **choices):
    """An environment in which the experts are at work."""
    env = ClosureVectorEnv(rows, n, conditioning="none", **choices)
    env.reset(seed=3)
    for _ in range(steps):
        env.step(expert_action(env.batch.measure()))
    return env


@pytest.mark.parametrize("steps", [0, 12, 25, 40])
def test_a_closure_taken_for_itself_is_measured_as_it_is(steps):
    rows = (*CLOSURES, "composed-right-ccw-up-0", "composed-pressleft-cw-0")
    env = in_motion(rows, len(rows), steps)
    measured = env.batch.measure()
    as_itself = env.batch.measure_as(env.task)
    assert measured.keys() == as_itself.keys()
    for name, values in measured.items():
        assert np.array_equal(np.asarray(values), as_itself[name]), name


def test_taking_it_for_another_one_changes_nothing():
    rows = named_set("alike").train
    env = in_motion(rows, len(rows), 20)
    twin = in_motion(rows, len(rows), 20)
    other = (env.task + 1) % len(rows)
    as_another = env.batch.measure_as(other)
    assert not np.array_equal(as_another["sense"], env.batch.measure()["sense"])
    for _ in range(20):
        env.batch.measure_as(other)
        action = expert_action(env.batch.measure())
        observation = env.step(action)[0]
        theirs = twin.step(expert_action(twin.batch.measure()))[0]
        assert np.array_equal(observation["state"], theirs["state"])


def success_by_attempt(rows, steps, attempts=3, wiped=False):
    """Success of the scripted search in each attempt, (attempts, n)."""
    env = ClosureVectorEnv(
        rows,
        2 * len(rows),
        attempts=attempts,
        episode_steps=steps,
        conditioning="none",
        autoreset_mode="Disabled",
    )
    env.reset(seed=0)
    search = Searcher(env)
    found = []
    for _ in range(attempts):
        for _ in range(steps):
            info = env.step(search.act())[-1]
        found.append(info["success"])
        env.reset(options={"next_attempt": True})
        if wiped:
            search = Searcher(env)
    return np.array(found)


def test_a_search_finds_out_within_an_attempt_that_is_long_enough():
    found = success_by_attempt(("bottle", "bottle-left", "jar", "jar-left"), 80, attempts=1)
    assert found.mean() >= 0.9


def test_a_search_remembers_what_it_has_tried():
    rows = ("bottle", "bottle-left", "grinder", "grinder-clockwise")
    first, second, third = success_by_attempt(rows, 40).mean(1)
    assert first <= 0.6  # one of two ways
    assert min(second, third) >= 0.9
    wiped = success_by_attempt(rows, 40, wiped=True).mean(1)
    assert wiped.max() <= 0.6


def test_a_guess_with_which_nothing_can_be_held_is_dropped():
    rows = ("unseen-push-twist-10", "unseen-press-0")  # a cap that is held, a head that cannot be
    found = success_by_attempt(rows, 100, attempts=2)
    assert found[1].mean() >= 0.9


def test_what_moves_a_lid_one_way_rules_out_the_other_way():
    env = ClosureVectorEnv(
        ("bottle", "bottle-left"), 2, conditioning="none", attempts=2, episode_steps=80
    )
    env.reset(seed=0)
    search = Searcher(env)
    for _ in range(80):
        env.step(search.act())
    assert search.useful.sum(1).tolist() == [1, 1]
    assert search.alive.sum(1).tolist() == [1, 1]
    assert search.taken_for.tolist() == [0, 1]


def test_what_must_be_pressed_is_tried_first():
    tasks = ("pill-box-plain", "pill-box", "mug")
    env = ClosureVectorEnv(tasks, 3, conditioning="none")
    assert Searcher(env).hypotheses.tolist() == [[1, 0], [1, 0], [2, -1]]


def kinds(names) -> set[str]:
    """What the names of drawn rows say of how they open."""
    return {re.sub(r"^(drawn|unseen|composed)-|-\d+$", "", name) for name in names}


def test_a_drawn_closure_may_be_of_every_kind_that_is_held_so():
    tasks = named_set("drawn-64").train
    found = hypotheses(tasks)
    for name, row in zip(tasks, found, strict=True):
        may_be = [tasks[k] for k in row if k >= 0]
        held_so = [other for other in tasks if CLOSURES[other].grip == CLOSURES[name].grip]
        assert kinds(may_be) == kinds(held_so)
        assert {CLOSURES[other].grip for other in may_be} == {CLOSURES[name].grip}
    most = [name for name in tasks if "pull" in name and name in {tasks[k] for k in found[0]}]
    assert len(most) == 1  # one of each kind, which goes as far as any
    assert CLOSURES[most[0]].middle("depth") == max(
        CLOSURES[name].middle("depth") for name in tasks if "pull" in name
    )


def test_a_search_opens_drawn_closures_that_it_is_told_nothing_of():
    rows = ("unseen-pull-0", "unseen-screw-0", "unseen-turn-0", "unseen-push-twist-0")
    found = success_by_attempt(rows, 100)
    assert found[-1].mean() >= 0.7


# Evaluated


TWINS = ("bottle", "bottle-left")


def test_an_evaluation_has_every_attempt_and_sums_up_the_last_ones():
    kept = evaluate(BUILT_IN["search"], TWINS, 4, attempts=2, episode_steps=40)
    assert [(e.task, e.start, e.attempt) for e in kept] == [
        (task, start, attempt) for task in TWINS for start in range(4) for attempt in range(2)
    ]
    first, second = by_attempt(kept)
    assert first["episodes"] == second["episodes"] == 8
    assert first["success"] <= 0.6 < 0.9 <= second["success"]
    assert summary(kept)["mean_success"] == second["success"]
    wiped = evaluate(BUILT_IN["search"], TWINS, 4, attempts=2, episode_steps=40, wiped=True)
    assert by_attempt(wiped)[1]["success"] <= 0.6


def test_attempts_need_one_length():
    with pytest.raises(ValueError, match=r"have 80, 100 control steps: give --episode-steps"):
        evaluate(BUILT_IN["zero"], ("mug", "flip-mug"), 1, attempts=2)
    found = evaluate(BUILT_IN["zero"], ("mug", "flip-mug"), 1, attempts=2, episode_steps=5)
    assert len(found) == 4


def said(*words) -> str:
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli.run(words, console)
    return console.file.getvalue()  # type: ignore


SEARCH = ("evaluate", "search", "--tasks", *TWINS, "--episodes", "1", "--episode-steps", "4")


def test_the_command_prints_attempts_and_tables_keep_them_apart(tmp_path):
    words = SEARCH
    printed = said(*words, "--attempts", "2", "--out", str(tmp_path / "two"))
    assert "attempt 1    0.000" in printed and "attempt 2    0.000" in printed
    assert "attempts of 4 control steps (0.2 s), memory kept:" in printed
    wiped = said(*words, "--attempts", "2", "--wiped", "--out", str(tmp_path / "wiped"))
    assert "attempts of 4 control steps (0.2 s), memory wiped before each:" in wiped
    said(*words, "--out", str(tmp_path / "one"))
    ranked = said("table", str(tmp_path / "two"), str(tmp_path / "wiped"))
    assert re.search(r"^1 +0\.00 \[.*\n2 +0\.00 \[", ranked, re.M), ranked
    assert "attempts of 4 control steps (0.2 s):" in ranked
    assert re.search(r"^attempt +search +search, memory wiped$", ranked, re.M), ranked
    results = measured.read(tmp_path / "two")
    assert [row["episodes"] for row in results["by_attempt"]] == [2, 2]
    with pytest.raises(FileError, match="with another number of attempts"):
        said("table", str(tmp_path / "one"), str(tmp_path / "two"))
    with pytest.raises(ValueError, match="--wiped has no effect here"):
        said(*words, "--wiped")


@pytest.mark.parametrize("policy", ["zero", "expert", "pretrained"])
def test_what_has_no_memory_keeps_none_and_cannot_be_wiped(policy, tmp_path):
    words = ("evaluate", policy, *SEARCH[2:], "--attempts", "2")
    line = f"--wiped has no effect here: .*{policy} has no memory"
    with pytest.raises(ValueError, match=line):
        said(*words, "--wiped", "--out", str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    if policy == "zero":
        printed = said(*words)
        assert "zero has no memory: its attempts at a closure are independent episodes" in printed
        assert "attempts of 4 control steps (0.2 s), no memory:" in printed


def test_a_search_says_where_it_is_the_expert():
    assert searching.known(("bottle", "mug", "bottle-left")) == ["mug"]
    words = ("--episodes", "1", "--episode-steps", "1")
    printed = said("evaluate", "search", "--tasks", "bottle", "mug", *words)
    assert "search acts as the expert on bottle, mug: " in printed
    assert "acts as the expert" not in said("evaluate", "search", "--tasks", *TWINS, *words)


def test_a_policy_keeps_its_own_length_in_any_task_set(monkeypatch):
    lengths = {}
    for own in (40, None):
        actor = commands.Actor(Search, "none", None, TWINS, TWINS, episode_steps=own)
        monkeypatch.setattr(commands, "actors", lambda *_, actor=actor: [actor])
        config = parse(EvaluateConfig, ["search", "--task-set", "alike"], "evaluate")
        sides, _ = commands._sides(config, Console(quiet=True))
        lengths[own] = {actor.episode_steps for side in sides for actor in side}
    assert lengths == {40: {40}, None: {50}}


def test_attempts_have_the_length_that_their_task_set_says(monkeypatch):
    alike = named_set("alike")
    assert (alike.steps(1), alike.steps(3)) == (50, 40)
    assert (named_set("first").steps(1), named_set("first").steps(3)) == (None, None)
    job = JobConfig(task_set="alike/jar", attempts=3, conditioning="belief")
    assert training.learner_config(job).episode_steps == 40
    config = parse(EvaluateConfig, ["search", "--task-set", "alike", "--attempts", "2"], "evaluate")
    sides, _ = commands._sides(config, Console(quiet=True))
    assert {actor.episode_steps for side in sides for actor in side} == {40}
    for attempts, steps in ((1, 50), (3, 40)):
        env = gym.make_vec(alike.gym_id, 1, attempts=attempts)
        assert set(env.unwrapped.task_steps) == {steps}  # type: ignore
        env.close()
    env = gym.make_vec(alike.gym_id, 1, attempts=3, episode_steps=30)
    assert set(env.unwrapped.task_steps) == {30}  # type: ignore
    env.close()


def test_each_kind_of_held_out_rows_has_its_attempts():
    kinds = {"near": ("thermos",), "far_away": ("cork", "mug")}
    held_out = ("thermos", "cork", "mug")
    split = TaskSet("own", ("bottle",), held_out, "", held_out_kinds=kinds)
    table = evaluate(BUILT_IN["zero"], held_out, 2, attempts=2, episode_steps=4)
    opened = ("cork", 1)  # at the second attempt
    table = [dataclasses.replace(one, success=(one.task, one.attempt) == opened) for one in table]
    found = unseen.attempts(split, table)
    rates = {
        kind: [(row["success"], row["episodes"]) for row in rows]
        for kind, rows in found["kinds_by_attempt"].items()
    }
    assert rates == {"near": [(0.0, 2), (0.0, 2)], "far_away": [(0.0, 4), (0.5, 4)]}
    assert [row["success"] for row in found["by_attempt"]] == pytest.approx([0.0, 1 / 3])
    compared = compare_report._attempts([{"held_out": found}, {"held_out": found}])
    assert compared["held-out rows, far away"] == [0.0, 0.5]
    assert set(compared) == {"held-out rows", "held-out rows, near", "held-out rows, far away"}
    console = Console(file=io.StringIO(), width=100)
    commands._print_attempts({**found, "attempt_steps": 4}, False, True, console)
    printed = console.file.getvalue()  # type: ignore
    assert re.search(r"^attempt 2    0\.500  \[.*n=4, far away$", printed, re.M), printed


def test_the_rows_that_a_drawn_set_leaves_out_are_a_kind():
    kinds = named_set("drawn-21-without-pull").held_out_kinds
    assert {len(rows) for rows in kinds.values()} == {28, 16}
    assert {CLOSURES[row].mechanism for row in kinds["left_out"]} == {"pull"}


def test_a_comparison_says_how_long_attempts_are():
    row = {"success": 0.5}
    results = [{"by_attempt": [row, row], "attempt_steps": 40}, {"by_attempt": [row, row]}]
    assert compare_report._attempt_steps(results) == 40
    assert compare_report._length({"attempt_steps": 40}) == " of 40 control steps (2.0 s)"
    assert compare_report._length({"attempt_steps": compare_report._attempt_steps([{}])}) == ""
