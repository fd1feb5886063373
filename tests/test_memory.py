"""Policies with a memory: what it names, how it is taught, kept, loaded and exported."""

import dataclasses
import hashlib
import io
import os
import pathlib
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console

from uncap.agents import checkpoints, exported
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.learner import Learner
from uncap.agents.memory import Recall
from uncap.agents.policy import Acting, load, load_policy
from uncap.agents.tables import MEMORIES
from uncap.agents.trials import TrialCollector, TrialDagger, round_length
from uncap.envs import CLOSURES, ClosureVectorEnv, named_set, searching
from uncap.envs.closures import groups
from uncap.envs.conditioning import REMEMBERING, vectors
from uncap.envs.experts import expert_action
from uncap.envs.observations import SIZE
from uncap.evaluation import beliefs, cli, commands, curves, effects, forecast, runs
from uncap.evaluation.config import JobConfig, TransferConfig
from uncap.evaluation.protocol import by_attempt, evaluate

ROWS = ("bottle", "bottle-left", "jar", "jar-left", "jar-pushed")
STEPS, ATTEMPTS = 4, 2
PPO = PPOConfig(warm_rollout=6, minibatches=2, warm_epochs=1, critic_warmup=1)
UPDATE = 6 * len(ROWS)  # environment steps
NETWORK = NetworkConfig(width=16, memory_size=8)
KINDS = [(kind, cell) for kind in MEMORIES for cell in ("gru", "lstm")]


def made(kind: str, cell: str = "gru", **changes) -> Learner:
    network = dataclasses.replace(NETWORK, cell=cell)
    config = LearnerConfig(
        conditioning=kind,
        num_envs=len(ROWS),
        episode_steps=STEPS,
        attempts=ATTEMPTS,
        warm=True,
        network=network,
        ppo=PPO,
    )
    return Learner(ROWS, dataclasses.replace(config, **changes), 0)


def taught(learner: Learner, trials: int = 3, on_round=lambda *_: True) -> Learner:
    """Teach it for so many trials in each sub-environment; two rounds each, of most kinds."""
    config = DaggerConfig(
        steps=trials * STEPS * ATTEMPTS * len(ROWS),
        rollout=STEPS * ATTEMPTS // 2,
        updates=10,
        minibatch=32,
        trials=4,
        memory_every=5,
        lead=0.4,
        told=0.3,
    )
    learner.imitate_experts(config, on_round)
    return learner


def test_every_conditioning_with_a_memory_has_one():
    assert set(MEMORIES) == set(REMEMBERING)


def test_the_truth_is_told_where_it_is_what_a_memory_learns():
    assert set(effects._KNOWING) == {kind for kind in MEMORIES if not MEMORIES[kind].searched}
    assert set(effects._BELIEVING) == {kind for kind in MEMORIES if MEMORIES[kind].is_belief}


def test_a_memory_learns_in_the_first_whole_trials_what_it_could_not_before(monkeypatch):
    minibatches = []
    loss = TrialDagger._belief_loss
    monkeypatch.setattr(
        TrialDagger, "_belief_loss", lambda *a: minibatches.append(a[0].done) or loss(*a)
    )
    taught(made("belief"), trials=2)  # two rounds each, and two minibatches of the memory in each
    assert minibatches == [1] * 4 + [2] * 2 + [3] * 2


# The networks


def memory(kind, cell="gru", rows=5, **changes):
    torch.manual_seed(0)
    network = dataclasses.replace(NETWORK, cell=cell, **changes)
    made = MEMORIES[kind](SIZE, rows, network)
    made.vectors[:] = torch.as_tensor(vectors("parameters", tuple(CLOSURES)[:rows]))
    return made


@pytest.mark.parametrize(("kind", "cell"), KINDS)
def test_a_trial_at_once_is_the_same_as_step_by_step(kind, cell):
    net = memory(kind, cell)
    inputs = torch.randn(7, 3, SIZE + 6)
    with torch.no_grad():
        whole, last = net(inputs)
        numbers = torch.zeros(3, net.size)
        for t in range(7):
            outputs, hidden = net.step(inputs[t], numbers)
            numbers = torch.cat([hidden, torch.zeros(3, 5)], 1)
            assert torch.allclose(outputs, whole[t], atol=1e-6)
    assert torch.allclose(hidden, last, atol=1e-6)
    assert net.told(whole).shape == (7, 3, net.told_size)


def saying(vector: np.ndarray) -> torch.Tensor:
    """Outputs of a `PartBelief` that is sure of a vector (36,)."""
    found = []
    for stage in vector[:21].reshape(3, 7):
        joint, (way, pressed, threaded) = stage[:4], stage[4:]
        choice = np.argmax(joint) if joint.any() else 4
        logits = np.where(np.arange(5) == choice, 5.0, -5.0)
        said = 20 * np.array([way > 0, pressed, threaded]) - 10
        found += [*logits, said[0], abs(way), *said[1:]]
    return torch.tensor([*found, *vector[23:]], dtype=torch.float32)


def test_the_parts_of_every_vector_can_be_said():
    """Of mechanisms that no row has, too."""
    names = (*CLOSURES, *named_set("composed-32").train, *named_set("composed-32").held_out)
    told = vectors("parameters", names)
    outputs = torch.stack([saying(vector) for vector in told])
    found = memory("belief_parts").told(outputs).numpy()
    assert np.allclose(found, told, atol=1e-5)


@pytest.mark.parametrize("kind", ["belief", "belief_parts"])
def test_what_is_so_is_less_wrong_than_what_is_not(kind):
    net = memory(kind)
    rows = torch.arange(5)
    if kind == "belief":
        sure = 5.0 * torch.eye(5)
    else:
        sure = torch.stack([saying(vector.numpy()) for vector in net.vectors])
    right = net.loss(sure[None], rows[None])
    wrong = net.loss(sure.roll(1, 0)[None], rows[None])
    assert right < 0.2 < wrong
    known = net.known(sure)
    assert torch.allclose(known.sum(-1), torch.ones(5))
    assert (known.argmax(-1) == rows).all()


def test_a_hypothesis_keeps_sizes_and_masses():
    net = memory("belief_parts")
    told = net.told_as(torch.tensor([0]), torch.tensor([1]))[0]
    assert torch.equal(told[:29], net.vectors[1][:29])
    assert torch.equal(told[29:], net.vectors[0][29:])


def test_the_reward_is_read_where_that_is_asked_for():
    plain, paid = memory("belief"), memory("belief", memory_reward=True)
    state, begins = torch.zeros(2, SIZE), torch.tensor([[0.0], [1.0]])
    reward = torch.ones(2, 1)
    assert plain.inputs(state, torch.zeros(2, plain.size), begins, reward).shape[1] == SIZE + 6
    inputs = paid.inputs(state, torch.zeros(2, paid.size), begins, reward)
    assert inputs[:, -1].tolist() == [1.0, 0.0]  # none before an attempt begins


# What is remembered


def test_a_memory_is_kept_over_attempts_and_wiped_where_a_trial_begins():
    env = ClosureVectorEnv(
        ROWS, 5, conditioning="belief", attempts=2, episode_steps=2, autoreset_mode="SameStep"
    )
    observation, _ = env.reset(seed=0)
    recall = Recall(memory("belief"), env)
    began, kept = [], []
    for _ in range(6):
        kept.append(bool(recall.numbers.any()))
        recall.observe(observation["state"])
        began.append(recall.inputs[:, SIZE + 5].tolist())
        action = np.full((5, 5), 0.5)
        recall.acted(action)
        observation = env.step(action)[0]
    assert [set(flags) for flags in began] == [{1.0}, {0.0}, {1.0}, {0.0}, {1.0}, {0.0}]
    assert kept == [False, *[True] * 5]  # it is wiped when the first state of a trial is read
    fresh = Recall(recall.memory, env)
    env.reset(seed=1)
    first, _ = env.reset(seed=1)
    assert np.array_equal(recall.observe(first["state"]), fresh.observe(first["state"]))
    assert torch.equal(recall.numbers, fresh.numbers)


# Learning


@pytest.mark.parametrize("kind", list(MEMORIES))
def test_a_memory_is_taught_and_what_is_learned_is_repeated(kind):
    rounds = []
    first = taught(made(kind), on_round=lambda steps, loss: rounds.append(steps) or True)
    again = taught(made(kind))
    # where a trial ends in the environment, which is a round ahead; the last one, learned
    assert rounds == ([40, 80, 120] if first.policy.memory.is_belief else [80, 120])
    untaught = made(kind).policy.state_dict()
    for name, value in first.policy.state_dict().items():
        assert torch.equal(value, again.policy.state_dict()[name]), name
        if name.startswith(("memory.encoder", "actor")):
            assert not torch.equal(value, untaught[name]), name
    assert first.env.recall is not None
    assert first.env.recall.memory is first.policy.memory


class Killed(BaseException):
    pass


@pytest.mark.parametrize("kind", ["belief", "belief_search", "recurrent"])
def test_what_is_interrupted_ends_the_same(kind, tmp_path):
    whole = taught(made(kind))
    whole.learn(2 * UPDATE, lambda: True)

    def save_and_die(*_):
        learner.save(tmp_path)
        raise Killed

    learner = made(kind)
    for _ in range(2):
        with pytest.raises(Killed):
            taught(learner, on_round=save_and_die)
        learner = made(kind)
        learner.resume(tmp_path)
    taught(learner)
    with pytest.raises(Killed):
        learner.learn(2 * UPDATE, save_and_die)
    learner = made(kind)
    learner.resume(tmp_path)
    learner.learn(2 * UPDATE, lambda: True)
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, learner.policy.state_dict()[name]), name


def test_a_state_of_other_rounds_is_refused():
    learner = made("belief")
    teacher = TrialDagger(
        learner.policy, learner.env, lambda: None, DaggerConfig(steps=40), np.random.default_rng(0)
    )
    state = teacher.state()
    teacher.load(state)  # nothing is collected yet, or left to learn
    state["schedule"]["total_iters"] = 13
    with pytest.raises(checkpoints.CheckpointError, match="taught a memory in other rounds"):
        teacher.load(state)


@pytest.mark.parametrize("kind", ["belief_search", "recurrent"])
def test_a_trial_is_labelled_the_same_however_the_last_one_ended(kind, monkeypatch):
    monkeypatch.setattr(searching, "UNHELD", 2)  # control steps: fewer than an attempt has
    trials = []
    for followed in (True, False):
        learner = made(kind)
        rng = np.random.default_rng(0)
        collector = TrialCollector(learner.env, lambda: np.zeros((5, 5)), learner.policy, rng)
        collector.observation = learner.env.reset()
        collector.followed[:] = followed
        trials += collector.collect(STEPS * ATTEMPTS, 1.0)
    for name, values in trials[0].items():
        assert np.array_equal(values, trials[1][name]), name


@pytest.mark.parametrize(
    ("trial", "least", "steps"), [(300, 20, 20), (390, 20, 26), (97, 20, 97), (8, 20, 8)]
)
def test_equal_rounds_make_a_trial(trial, least, steps):
    assert round_length(trial, least) == steps


def test_where_the_policy_is_told_the_truth_it_learns_and_its_memory_does_not():
    learner = made("belief_parts")
    config = DaggerConfig(steps=2 * STEPS * ATTEMPTS * len(ROWS), rollout=STEPS, told=0.5)
    teacher = TrialDagger(
        learner.policy, learner.env, lambda: None, config, np.random.default_rng(0)
    )
    rounds = [teacher.collector.collect(STEPS, 0.0)[0] for _ in range(2 * ATTEMPTS)]
    data = {
        name: torch.as_tensor(np.concatenate([one[name] for one in rounds])) for name in rounds[0]
    }
    told, row, first = data["told"], data["row"], data["taken_for"][:, :, 0]
    assert torch.equal(told, told[:, :1].expand_as(told))
    assert torch.equal(told[:5], told[5:10])  # of one trial
    assert told.any()
    assert torch.equal(row[told], first[told])
    vectors_told = teacher.memory.vectors[row[:, 0]]
    acted = learner.policy.actor(data["inputs"][:, 0, :SIZE], vectors_told, torch.zeros(20).long())
    last = data["inputs"][:, 1, SIZE : SIZE + 5]  # the actions of the first control step
    is_told = told[:, 0]
    assert torch.allclose(last[is_told], acted.clamp(-1, 1)[is_told], atol=1e-5)
    assert not torch.allclose(last[~is_told], acted.clamp(-1, 1)[~is_told], atol=1e-3)
    places = teacher._whole_trials(data)
    assert places.shape == ((~is_told).sum() // 2, 2)
    assert not told[places.flatten()].any()


def test_reinforcement_goes_on_from_what_the_memory_says():
    learner = taught(made("belief"))
    before = {name: value.clone() for name, value in learner.policy.state_dict().items()}
    learner.learn(3 * UPDATE, lambda: True)
    after = learner.policy.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "critic" in changed
    assert "memory" not in changed


def test_reinforcement_imitates_the_expert_of_the_row_that_the_policy_is_told():
    learner = made("belief", guided=True)
    observation = learner.env.reset()
    batch, recall = learner.closures.batch, learner.env.recall
    assert np.array_equal(observation["task"], recall.told)
    taken_for = np.array([1, 0, 3, 2, 2])
    recall.outputs = torch.eye(len(ROWS))[taken_for]
    assert np.array_equal(learner.label(), expert_action(batch.measure_as(taken_for)))


def test_reinforcement_imitates_the_expert_of_the_row_most_like_what_is_believed():
    learner = made("belief_parts", guided=True)
    learner.env.reset()
    batch, recall = learner.closures.batch, learner.env.recall
    likest = torch.cdist(torch.as_tensor(recall.told), recall.memory.vectors).argmin(1).numpy()
    assert not np.array_equal(likest, learner.closures.task)
    assert np.array_equal(learner.label(), expert_action(batch.measure_as(likest)))


def test_trials_are_the_episodes_of_reinforcement_with_a_memory():
    env = made("belief").env
    env.reset()
    ended = []
    for _ in range(2 * STEPS * ATTEMPTS):
        _, _, done, infos = env.step(np.zeros((len(ROWS), 5)))
        ended.append(bool(done.all()))
        assert done.all() == done.any()
        for info in infos:
            assert ("terminal_observation" in info) == info["TimeLimit.truncated"] == done.all()
            assert not done.all() or info["episode"]["l"] == STEPS * ATTEMPTS
    trial = [False] * (STEPS * ATTEMPTS - 1) + [True]
    assert ended == 2 * trial
    assert len(env.episodes) == 2 * ATTEMPTS * len(ROWS)


def test_trials_are_the_episodes_of_recurrent_ppo():
    """Rewarded and remembered through all attempts; the last action is read within an attempt."""
    config = LearnerConfig(
        conditioning="none",
        algorithm="recurrent_ppo",
        num_envs=5,
        episode_steps=2,
        attempts=3,
    )
    learner = Learner(ROWS, config, 0)
    assert learner.algorithm.model.n_steps == 84  # 14 trials: the fewest that have 80 steps
    env = learner.env
    env.reset()
    ended, begins, last = [], [], []
    for _ in range(12):
        observation, _, done, infos = env.step(np.full((5, 5), 2.0))
        ended.append(bool(done.all()))
        begins.append(bool(observation["state"][0, -1]))
        last.append(float(observation["state"][0, SIZE]))
        assert all(("terminal_observation" in info) == bool(done.all()) for info in infos)
    assert ended == [False] * 5 + [True] + [False] * 5 + [True]
    assert begins == [False, True] * 6
    assert last == [1.0, 0.0] * 6


# Out of its training


@pytest.fixture(scope="module", params=["belief", "belief_parts", "recurrent"])
def saved(request, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp(request.param)
    taught(made(request.param, cell="lstm" if request.param == "belief" else "gru")).save(
        folder / "checkpoint"
    )
    return folder


def played(env, act) -> list[np.ndarray]:
    """Actions of two trials."""
    observation, info = env.reset(seed=3)
    found = []
    for _ in range(2 * STEPS * ATTEMPTS):
        found.append(act(observation, info["task_index"]))
        observation, _, _, _, info = env.step(found[-1])
    return found


def environment() -> ClosureVectorEnv:
    return ClosureVectorEnv(
        ROWS,
        5,
        conditioning="none",
        attempts=ATTEMPTS,
        episode_steps=STEPS,
        autoreset_mode="SameStep",
    )


@pytest.mark.parametrize("as_file", [False, True])
def test_a_loaded_policy_acts_as_in_evaluation(saved, as_file, tmp_path):
    policy, meta = load_policy(saved / "checkpoint")
    assert meta["attempts"] == ATTEMPTS
    path = saved
    if as_file:
        path = tmp_path / "policy.onnx"
        assert exported.export(policy, meta, path, {}) < exported.TOLERANCE
    anywhere = load(path)
    assert (anywhere.reads.episode_steps, anywhere.reads.attempts) == (STEPS, ATTEMPTS)
    env = environment()
    state = None

    def act(observation, _):
        nonlocal state
        begins, first = env.steps == 0, env.attempt == 0
        actions, state = anywhere.predict(
            observation, state, begins & first, next_attempt=begins & ~first
        )
        return actions

    found = played(env, act)
    env = environment()
    expected = played(env, Acting(policy, meta["tasks"])(env))
    assert np.allclose(found, expected, atol=1e-5)


def test_an_exported_policy_is_evaluated_in_its_own_attempts(tmp_path, monkeypatch):
    made("belief").save(tmp_path / "checkpoint")
    policy, meta = load_policy(tmp_path / "checkpoint")
    path = tmp_path / "policy.onnx"
    exported.export(policy, meta, path, {})
    [actor] = commands.actors(path, ())
    assert (actor.episode_steps, actor.attempts, actor.remembers) == (STEPS, ATTEMPTS, True)
    whole = exported.described
    older = ("episode_steps", "attempts")  # are not in files of before
    monkeypatch.setattr(
        exported, "described", lambda r: {k: v for k, v in whole(r).items() if k not in older}
    )
    exported.export(policy, meta, path, {})
    [actor] = commands.actors(path, ())
    assert (actor.episode_steps, actor.attempts) == (None, 1)


def test_what_a_policy_does_not_read_is_refused(tmp_path):
    state, flags = np.zeros((2, SIZE)), np.zeros(2, bool)
    for kind, memory_reward in (("belief", True), ("parameters", False)):
        made(kind, network=dataclasses.replace(NETWORK, memory_reward=memory_reward)).save(
            tmp_path / kind / "checkpoint"
        )
    paid, told = load(tmp_path / "belief"), load(tmp_path / "parameters")
    with pytest.raises(ValueError, match=r"task has no effect here: .* is told nothing"):
        paid.predict(state, task="jar")
    with pytest.raises(ValueError, match=r"next_attempt has no effect here: .* has no memory"):
        told.predict(state, task="jar", next_attempt=flags)
    with pytest.raises(ValueError, match=r"reward has no effect here: .* reads no rewards"):
        told.predict(state, task="jar", reward=np.zeros(2))
    _, kept = paid.predict(state)  # none was paid before the first control step
    with pytest.raises(ValueError, match="give reward="):
        paid.predict(state, kept, flags)
    paid.predict(state, kept, flags, reward=np.zeros(2))
    paid.predict(state, kept, flags, next_attempt=~flags)


def test_a_recurrent_policy_is_given_the_sensors_of_its_training(tmp_path, monkeypatch):
    config = LearnerConfig(
        conditioning="none", algorithm="recurrent_ppo", sensors="arm", num_envs=2, episode_steps=2
    )
    Learner(("jar",), config, 0).save(tmp_path)
    asked = []

    def evaluated(*_, sensors, **__):
        asked.append(sensors)
        raise Killed

    monkeypatch.setattr(forecast, "evaluate", evaluated)
    monkeypatch.setattr(curves, "evaluate", evaluated)
    source: Any = SimpleNamespace(memory=load_policy(tmp_path), engine="cpu")
    with pytest.raises(Killed):
        forecast.first_attempt(source, "mug", cast("Any", None))
    monkeypatch.setattr(curves.beginnings, "beginning", lambda *_: (*source.memory, None))
    session: Any = SimpleNamespace(config=SimpleNamespace(transfer=TransferConfig()))
    which: Any = SimpleNamespace(kind="attempts-2", target=CLOSURES["mug"], seed=0)
    with pytest.raises(Killed):
        curves.attempts(which, session, (None, {}))
    assert asked == ["arm", "arm"]


def test_wrong_states_are_refused(saved):
    policy = load(saved)
    state = np.zeros((2, SIZE))
    _, kept = policy.predict(state)
    policy.predict(state, kept, [False, True])
    one, _ = policy.predict(state[0])
    assert one.shape == (5,)
    for wrong in ((np.zeros((3, 4)),), kept[0], (kept[0][:1],)):
        with pytest.raises(ValueError, match="state must be what predict returned"):
            policy.predict(state, wrong)
    with pytest.raises(ValueError, match="next_attempt must have 2 values"):
        policy.predict(state, kept, next_attempt=[True])
    with pytest.raises(ValueError, match="a state must have 36 numbers"):
        policy.predict(np.zeros((2, 8 * SIZE)))


def test_wiping_a_memory_makes_the_attempts_alike(saved):
    policy, meta = load_policy(saved / "checkpoint")
    tables = [
        evaluate(
            Acting(policy, meta["tasks"]),
            ROWS,
            2,
            conditioning=meta["conditioning"],
            episode_steps=STEPS,
            attempts=2,
            wiped=wiped,
        )
        for wiped in (False, True)
    ]
    kept, wiped = ([e.total_reward for e in table if e.attempt == 1] for table in tables)
    first = [[e.total_reward for e in table if e.attempt == 0] for table in tables]
    assert first[0] == first[1]
    if not policy.memory.is_belief:  # what is believed in has not changed in so few steps
        assert kept != wiped
    assert len(by_attempt(tables[0])) == 2


def test_beliefs_are_those_of_the_memory(saved):
    policy, meta = load_policy(saved / "checkpoint")
    if not policy.memory.is_belief:
        pytest.skip("it believes nothing that has a name")
    found = beliefs.recorded(Acting(policy, meta["tasks"]), meta)
    assert np.shape(found["own"]) == (ATTEMPTS, STEPS)
    assert np.shape(found["after"]) == (ATTEMPTS, len(ROWS), len(ROWS))
    assert np.allclose(np.sum(found["after"], -1), 1.0, atol=1e-3)
    last = np.mean([found["after"][-1][k][k] for k in range(len(ROWS))])
    assert last == pytest.approx(found["own"][-1][-1], abs=1e-3)
    assert beliefs.own_figure(found).axes
    first, last = beliefs.after_figure(found).axes
    assert (first.get_ylabel(), last.get_xlabel()) == ("true row", "row that is believed in")
    assert len(found["right"]) == ATTEMPTS
    assert f"{found['right'][-1]:.2f} of the trials it takes" in beliefs.line(found)
    several = {**found, "after": [found["after"][0]] * 5}
    assert len(beliefs.after_figure(several).axes) == 5
    wide = {**several, "rows": ["row"] * 40, "after": [np.eye(40).tolist()] * 5}
    titles = [axes.get_title() for axes in beliefs.after_figure(wide).axes]
    assert titles == ["after attempt 1", "after attempt 5"]


def test_a_belief_in_what_has_no_trial_counts(saved, monkeypatch):
    """Of more mechanisms than are shown, one that is not shown may be what is believed in."""
    policy, meta = load_policy(saved / "checkpoint")
    if not policy.memory.is_belief:
        pytest.skip("it believes nothing that has a name")
    monkeypatch.setattr(beliefs, "MOST_ROWS", 1)
    in_the_last = np.eye(len(ROWS))[-1]  # which is no screw, as the first one is
    monkeypatch.setattr(Recall, "known", lambda self: np.tile(in_the_last, (200, 1)))
    found = beliefs.recorded(Acting(policy, meta["tasks"]), meta)
    assert found["rows"] == ["screw"] and found["after"] == [[[0.0]]] * ATTEMPTS
    assert found["right"] == [0.0] * ATTEMPTS


def test_of_many_rows_the_mechanisms_are_what_is_believed_in(saved, monkeypatch):
    policy, meta = load_policy(saved / "checkpoint")
    if not policy.memory.is_belief:
        pytest.skip("it believes nothing that has a name")
    monkeypatch.setattr(beliefs, "MOST_ROWS", 3)
    kinds = beliefs.kinds_of(ROWS)
    assert kinds.names == ["screw", "pull"]
    found = beliefs.recorded(Acting(policy, meta["tasks"]), meta)
    assert (found["kind"], found["rows"]) == ("mechanism", kinds.names)
    assert np.shape(found["after"]) == (ATTEMPTS, 2, 2)
    assert np.allclose(np.sum(found["after"], -1), 1.0, atol=1e-3)
    assert "belief in the true mechanism" in beliefs.line(found)
    assert kinds.sums(np.array([[0.1, 0.2, 0.3, 0.0, 0.4]]))[0] == pytest.approx([0.6, 0.4])


# Rows that look alike


def test_the_first_observation_does_not_tell_rows_that_look_alike_apart():
    """A least-squares classifier is at chance on unseen starts: nothing leaks before a touch."""
    rows = named_set("alike").train
    starts = 60
    env = ClosureVectorEnv(rows, starts * len(rows), conditioning="none")
    observation, _ = env.reset(seed=5)
    state = observation["state"].astype(float)
    state = (state - state.mean(0)) / (state.std(0) + 1e-9)  # what is tiny counts as well
    state = np.column_stack([state, np.ones(len(state))])
    names = np.array(env.task_names)
    right, chance, total = 0.0, 0.0, 0
    for members in map(list, groups(rows).values()):
        mine = np.flatnonzero(np.isin(names, members))
        learned, tested = mine[: len(mine) // 2], mine[len(mine) // 2 :]
        truth = (names[:, None] == members).astype(float)
        weights = np.linalg.lstsq(state[learned], truth[learned], rcond=None)[0]
        guess = (state[tested] @ weights).argmax(1)
        right += (truth[tested, guess] == 1).sum()
        chance += len(tested) / len(members)
        total += len(tested)
    deviation = np.sqrt(total * 0.5 * 0.5)
    assert right < chance + 3 * deviation


# The command line


RECURRENT = "--algorithm recurrent_ppo --conditioning none --warm-start none"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--attempts 0", "attempts must be at least 1"),
        ("--attempts 3", "--attempts has no effect here: it needs a --conditioning with a memory"),
        ("--conditioning belief --warm-start none", "taught by --warm-start dagger only"),
        ("--conditioning belief --head per_task", "--head shared only"),
        ("--conditioning belief --alone", "has nothing to find out with --alone"),
        ("--conditioning belief --task-set mt8", "give --episode-steps"),
        ("--memory-size 64", "--memory-size has no effect here"),
        ("--dagger.told 0.5", "--dagger.told has no effect here"),
        ("--conditioning recurrent --dagger.other 0.3", "--dagger.other has no effect here"),
        ("--conditioning belief --dagger.other 2", "dagger.other must be at most 1"),
        ("--conditioning recurrent --dagger.told 0.5", "--dagger.told has no effect here"),
        ("--conditioning belief --dagger.told 1", "dagger.told must be at most 0.9"),
        ("--conditioning belief --cell rnn", "unknown cell 'rnn'"),
        ("--conditioning belief --algorithm sac", "which --algorithm sac cannot train"),
        (
            "--conditioning belief --memory-reward --reward sparse --env-steps 100",
            "--memory-reward goes with --reward dense only, not with sparse",
        ),
        (f"{RECURRENT} --attempts 3 --task-set mt8", "a trial needs episodes of one length"),
        (
            f"{RECURRENT} --attempts 3 --tasks jar --held-out mug flip-mug",
            "a trial needs episodes of one length",
        ),
    ],
)
def test_what_no_memory_can_do_gets_one_line(words, line):
    with pytest.raises((ValueError, SystemExit), match=re.escape(line)):
        said("--quick", "--transfer-steps", "0", *words.split())


def test_a_warm_start_that_experts_lead_throughout_is_said():
    job = JobConfig(task_set="alike", conditioning="belief", attempts=3)
    small, enough = (
        dataclasses.replace(job, dagger=DaggerConfig(steps=steps)) for steps in (1_000, 19_200)
    )
    said_of_small = commands.led_throughout(small)
    assert "is one trial in each sub-environment, 7,680 environment steps" in said_of_small
    assert commands.led_throughout(enough) == ""
    assert commands.led_throughout(dataclasses.replace(small, warm_start="none")) == ""


def said(*words) -> str:
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli.run(words, console)
    return console.file.getvalue()  # type: ignore


def test_a_whole_job_with_a_memory(tmp_path):
    run = tmp_path / "run"
    words = (
        "--quick --task-set alike --conditioning belief --attempts 2 --episode-steps 4 "
        "--env-steps 0 --episodes 1 --validation-episodes 1 --no-videos --num-envs 15 "
        "--dagger.steps 240 --dagger.updates 2 --width 16 --memory-size 8"
    )
    said(*words.split(), "--out", str(run))
    page = (run / "report.html").read_text("utf-8")
    assert (
        "Attempts" in page and "<td>scripted search</td>" in page and "<th>attempt 2</th>" in page
    )
    searched = runs.read_results(run)["scripted_search"]["by_attempt"]
    assert [(row["rows"], row["episodes"]) for row in searched] == [(15, 15)] * 2
    printed = said("evaluate", str(run), "--episodes", "1", "--out", str(tmp_path / "scored"))
    assert "attempt 2" in printed
    assert "memory kept" in printed
    printed = said("evaluate", str(run), "--episodes", "1", "--wiped", "--tasks", "jar")
    assert "memory wiped before each" in printed
    with pytest.raises(runs.RunError, match="has a memory, which is not transferred"):
        said("transfer", str(run), "--target", "mug")
    (run / beliefs.FILE).write_text('{"rows": ["a"], "own": [], "after": []}')
    with pytest.raises(runs.RunError, match=r"beliefs.json is damaged"):
        said("report", str(run))


TAUGHT = """
import sys
sys.path.insert(0, {tests!r})
from test_memory import made, taught, weights_in_short
print(weights_in_short(taught(made("recurrent"), trials=2)))
"""


def weights_in_short(learner: Learner) -> str:
    values = learner.policy.state_dict().values()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in values)).hexdigest()


def test_what_is_learned_does_not_depend_on_the_threads_that_there_are():
    """The thread that fits has MKL's number of threads, unless it is told another one."""
    code = TAUGHT.format(tests=str(pathlib.Path(__file__).parent))
    command = [sys.executable, "-c", code]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    other = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    here = weights_in_short(taught(made("recurrent"), trials=2))
    assert other.communicate()[0].strip() == here
