"""Policies that leave their run: loaded without a simulation, and exported as ONNX."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import stored
import torch

from uncap.agents import checkpoints, exported
from uncap.agents.config import LearnerConfig, NetworkConfig
from uncap.agents.files import FileError
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting, LoadedPolicy, _acts, _spaces, load, load_policy, reads
from uncap.agents.tables import ALGORITHMS, BODIES, HEADS
from uncap.envs import CLOSURES, Closure, ClosureVectorEnv, register
from uncap.envs.conditioning import CONDITIONINGS, HISTORY
from uncap.envs.observations import SIZE, layout
from uncap.envs.panda import ACTIONS
from uncap.evaluation import commands, experiment, foreign

ROOT = pathlib.Path(__file__).parent.parent
TASKS = ("jar", "mug")
WITHOUT_SIMULATION = """
import sys
from uncap.agents.policy import load
policy = load(sys.argv[1])
action, state = policy.predict([[0.1] * 36] * 2, task="jar")
heavy = {"mujoco", "numba"} & set(sys.modules)
print(action.shape, state, sorted(heavy))
"""
ALONE = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = json.loads(session.get_modelmeta().custom_metadata_map["uncap"])
size = sum(part["size"] for part in about["state"])
inputs = {"state": np.full((1, size), 0.1), "task": [about["vectors"]["jar"]]}
inputs = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
print(json.dumps(session.run(None, inputs)[0][0].tolist()))
assert not {"torch", "agents", "envs"} & set(sys.modules)
"""


def checkpoint(folder: pathlib.Path, algorithm: str = "ppo", **changes) -> pathlib.Path:
    """A run folder with the checkpoint of a learner that has learned nothing."""
    network = NetworkConfig(
        **{key: changes.pop(key) for key in ("body", "head") if key in changes}, width=8
    )
    config = LearnerConfig(algorithm=algorithm, num_envs=2, network=network, **changes)
    learner = Learner(TASKS, config, seed=0)
    learner.save(folder / "checkpoint")
    learner.closures.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    return checkpoint(tmp_path_factory.mktemp("run"))


def observations(policy: LoadedPolicy, n: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Random states (n, s), and a task for each."""
    rng = np.random.default_rng(n)
    size = policy.reads.state_size * policy.reads.states
    state = rng.uniform(-1, 1, (n, size)).astype(np.float32)
    return {"state": state}, [TASKS[i % 2] for i in range(n)]


# Loaded


KINDS = [
    ("ppo", {}),
    ("ppo", {"conditioning": "embedding"}),
    ("ppo", {"conditioning": "history", "head": "per_task"}),
    ("sac", {"conditioning": "one_hot"}),
    ("sac", {"sensors": "arm", "body": "transformer"}),
    ("plain_ppo", {"conditioning": "one_hot"}),
    ("recurrent_ppo", {"conditioning": "none"}),
    ("ppo", {"conditioning": "stage"}),
    ("ppo", {"conditioning": "parameters", "body": "attention"}),
]


@pytest.mark.parametrize(("algorithm", "changes"), KINDS)
def test_a_loaded_policy_acts_as_the_run_does_and_so_does_its_file(tmp_path, algorithm, changes):
    policy = load(checkpoint(tmp_path, algorithm, **changes))
    trained, meta = load_policy(tmp_path / "checkpoint")
    env = ClosureVectorEnv(
        TASKS,
        3,
        conditioning=meta["conditioning"],
        known_tasks=meta["known"],
        sensors=meta["sensors"],
        threads=1,
    )
    observation, info = env.reset(seed=0)
    expected = Acting(trained, meta["tasks"])(env)(observation, info["task_index"])
    is_told = policy.reads.task_size or policy.reads.index
    names = env.task_names if is_told else [None] * 3
    every = {"task": names} if is_told else {}
    action, state = policy.predict(observation, **every)
    assert np.array_equal(action, expected)
    one, _ = policy.predict(observation["state"][1], task=names[1])
    assert np.allclose(one, expected[1], atol=1e-6) and one.shape == (5,)
    assert state is None or policy.reads.states == HISTORY or policy.reads.memory
    exported.export(trained, meta, tmp_path / "policy.onnx", {})
    file = load(tmp_path / "policy.onnx")
    assert dataclasses.replace(file.reads, vectors={}) == dataclasses.replace(
        policy.reads, vectors={}
    )
    for name in TASKS:
        assert np.array_equal(file.reads.vector(name), policy.reads.vector(name))
    found, _ = file.predict(observation, **every)
    assert np.abs(found - expected).max() < exported.TOLERANCE
    env.close()


def test_loading_and_acting_need_no_simulation(run):
    words = [sys.executable, "-c", WITHOUT_SIMULATION, str(run)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert (
        done.stdout.split("\n")[0] == f"(2, 5) {load(run).predict([[0.1] * 36], task='jar')[1]} []"
    )


def test_memory_holds_the_last_states_and_begins_with_an_episode(tmp_path):
    policy = load(checkpoint(tmp_path, conditioning="history"))
    env = ClosureVectorEnv(TASKS, 2, conditioning="history", threads=1)
    stacked, _ = env.reset(seed=0)
    memory, starts = None, None
    for step in range(12):
        if step == 9:  # one begins anew
            stacked, _ = env.reset(options={"reset_mask": np.array([True, False])})
            starts = np.array([True, False])
        now = {"state": stacked["state"][:, -SIZE:]}
        action, memory = policy.predict(now, memory, starts)
        assert np.array_equal(action, policy.predict(stacked)[0])
        assert memory is not None
        assert np.array_equal(memory[0].reshape(2, -1), stacked["state"])
        stacked, *_ = env.step(action)
        starts = np.zeros(2, bool)
    env.close()
    with pytest.raises(ValueError, match="episode_start must have 2 values"):
        policy.predict(now, memory, [True])
    with pytest.raises(ValueError, match="what predict returned for 2 environments"):
        policy.predict(now, (np.zeros(3),))


def test_actions_are_drawn_when_asked_for(run):
    policy = load(run)
    observation, tasks = observations(policy, 4)
    mean, _ = policy.predict(observation, task=tasks)
    assert np.array_equal(mean, policy.predict(observation, task=tasks)[0])
    drawn, _ = policy.predict(observation, deterministic=False, task=tasks)
    assert 0.01 < np.abs(drawn - mean).mean() < 1
    assert np.abs(drawn).max() <= 1


def test_what_is_observed_of_the_task_is_used_unless_it_is_named(run):
    policy = load(run)
    observation, _ = observations(policy, 1)
    jar = policy.predict(observation, task="jar")[0]
    told = {**observation, "task": policy.reads.vector("jar")[None]}
    assert np.array_equal(policy.predict(told)[0], jar)
    assert np.array_equal(
        policy.predict(told, task="mug")[0], policy.predict(observation, task="mug")[0]
    )
    assert not np.array_equal(policy.predict(told, task="thermos")[0], jar)  # not trained


def test_a_run_of_rows_that_are_nowhere_else_can_be_loaded(
    tmp_path, table, ink_bottle, monkeypatch
):
    row = Closure(**ink_bottle)
    register(row)
    monkeypatch.setattr(sys.modules[__name__], "TASKS", ("jar", row.name))
    policy = load(checkpoint(tmp_path))
    expected = policy.predict(np.zeros(SIZE), task=row.name)[0]
    kept = CLOSURES.pop(row.name)
    try:
        again = load(tmp_path).predict(np.zeros(SIZE), task=row.name)[0]
    finally:
        CLOSURES[row.name] = kept
    assert np.array_equal(again, expected)


def test_a_language_policy_keeps_its_vectors(tmp_path, monkeypatch):
    vectors = {name: np.full(3, k, np.float32) for k, name in enumerate((*TASKS, "cork"))}
    run = checkpoint(tmp_path, conditioning=vectors)
    policy, meta = load_policy(run / "checkpoint")
    exported.export(policy, meta, run / "p.onnx", {})
    for loaded in (load(run), load(run / "p.onnx")):
        assert loaded.reads.conditioning == "language"
        assert np.array_equal(loaded.reads.vector("cork"), vectors["cork"])
        assert loaded.predict(np.zeros(SIZE), task="cork")[0].shape == (5,)


WRONG = {
    "another state": (dict(observation=np.zeros((2, 7))), "must have 36 numbers"),
    "no state": (dict(observation={"task": np.zeros(36)}), "must have a state"),
    "nan": (dict(observation=np.full(36, np.nan)), "NaN or infinite"),
    "text": (dict(observation="x"), "an array of numbers"),
    "no task": (dict(observation=np.zeros(36)), "give task=..., one of jar, mug"),
    "another task": (dict(observation=np.zeros(36), task="jarr"), "did you mean 'jar'"),
    "too many tasks": (dict(observation=np.zeros(36), task=["jar", "mug"]), "or 1 of them"),
    "vector": (
        dict(observation={"state": np.zeros(36), "task": np.zeros(4)}),
        "task must have the shape",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_get_one_line(run, name):
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as refused:
        load(run).predict(**call)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_loaded_gets_one_line(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint in"):
        load(tmp_path)
    checkpoint(tmp_path / "alone" / "jar")
    with pytest.raises(checkpoints.CheckpointError, match="a policy per row.*alone/jar"):
        load(tmp_path)


# Exported


NETWORKS = [(body, head, "parameters") for body in BODIES for head in HEADS]


@pytest.mark.parametrize(
    ("body", "head", "conditioning"), [*NETWORKS, ("film", "shared", "embedding")]
)
def test_every_network_acts_as_torch_does(tmp_path, body, head, conditioning):
    network = NetworkConfig(body=body, head=head, width=8, embedding=conditioning == "embedding")
    vectors = CONDITIONINGS[conditioning].vectors(TASKS, TASKS)
    meta = {
        "tasks": TASKS,
        "known": TASKS,
        "num_tasks": 2,
        "popart": False,
        "conditioning": conditioning,
        "sensors": "full",
        "algorithm": "ppo",
        "episode_steps": None,
        "attempts": 1,
        "network": dataclasses.asdict(network),
        "vectors": dict(zip(TASKS, vectors.tolist(), strict=True)),
    }
    made = {**meta, "vectors": dict(zip(TASKS, vectors, strict=True))}
    algorithm = ALGORITHMS["ppo"]
    box = gym.spaces.Box(-1, 1, (len(ACTIONS),), np.float32)
    policy = algorithm.build_policy(_spaces(made, algorithm), box, made)
    torch.manual_seed(0)
    for parameter in policy.parameters():  # some bodies ignore the task at first
        parameter.data += 0.1 * torch.randn_like(parameter)
    path = tmp_path / "policy.onnx"
    assert exported.export(policy, made, path, {}) < exported.TOLERANCE
    file = exported.read(path)
    assert file.reads.index == reads(policy, made).index
    for n in (1, 5):
        observation, tasks = observations(file, n)
        index = np.array([[TASKS.index(task)] for task in tasks], np.float32)
        told = {**observation, "task": np.stack([made["vectors"][task] for task in tasks])}
        if conditioning == "embedding":
            del told["task"]
        expected = _acts(policy, {**told, "index": index}, True)[0]
        assert np.abs(file.predict(observation, task=tasks)[0] - expected).max() < 1e-5
    by_task = [file.predict(np.zeros(SIZE), task=task)[0] for task in TASKS]
    assert not np.array_equal(*by_task)


def test_the_file_is_enough_for_onnxruntime_and_says_what_it_reads(run, tmp_path):
    path = tmp_path / "policy.onnx"
    policy, meta = load_policy(run / "checkpoint")
    exported.export(policy, meta, path, {"reward_version": 3})
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(path)], capture_output=True, text=True, check=True
    )
    expected = load(run).predict(np.full(SIZE, 0.1), task="jar")[0]
    assert np.allclose(json.loads(done.stdout), expected, atol=1e-5)
    session = exported.open_session(path.read_bytes(), path)
    about = json.loads(session.get_modelmeta().custom_metadata_map["uncap"])
    assert [part["name"] for part in about["state"]] == [p.name for p in layout("full").parts]
    assert [row["scale"] for row in about["action"]] == [0.03, 0.03, 0.03, 0.4, 0.02]
    assert about["reward_version"] == 3
    assert set(about["vectors"]) == set(TASKS)


def test_the_actions_table_is_what_an_action_does():
    env = ClosureVectorEnv("jar", 1, threads=1)
    env.reset(seed=0)
    tcp = env.batch.measure()["tcp"].copy()
    opening = ACTIONS[4].offset - ACTIONS[4].scale / 2
    for _ in range(15):
        env.step(np.array([[0, 0, 0, 0, -0.5]]))
    assert env.batch.measure()["opening"][0] == pytest.approx(opening, abs=1e-3)
    env.step(np.array([[0, 0, 0.5, 0, -0.5]]))
    moved = env.batch.measure()["tcp"][0, 2] - tcp[0, 2]
    assert 0.2 < moved / (ACTIONS[2].scale / 2) < 1.2
    env.close()


def test_a_run_is_exported_with_its_held_out_rows(tmp_path):
    run = stored.make_run(tmp_path / "run")
    assert experiment.export_run(run, tmp_path / "policy.onnx") < exported.TOLERANCE
    first = (tmp_path / "policy.onnx").read_bytes()
    assert {"jar", "thermos"} <= set(exported.read(tmp_path / "policy.onnx").reads.vectors)
    experiment.export_run(run, tmp_path / "policy.onnx")
    assert (tmp_path / "policy.onnx").read_bytes() == first
    assert str(tmp_path).encode() not in first
    [ours] = commands.actors(run, ())
    [file] = commands.actors(tmp_path / "policy.onnx", ())
    assert file._replace(policy=ours.policy) == ours._replace(known_tasks=file.known_tasks)
    assert list(file.known_tasks or ()) == ours.known_tasks
    env = ClosureVectorEnv(("mug", "jar"), 2, conditioning="parameters", threads=1)
    observation, info = env.reset(seed=0)
    acts = [actor.policy(env)(observation, info["task_index"]) for actor in (ours, file)]
    assert np.abs(acts[0] - acts[1]).max() < exported.TOLERANCE
    env.close()
    with pytest.raises(ValueError, match="--sensors has no effect here"):
        commands.actors(tmp_path / "policy.onnx", (), foreign.Told(sensors="arm"))


def test_what_differs_from_torch_is_not_written(run, tmp_path, monkeypatch):
    policy, meta = load_policy(run / "checkpoint")
    monkeypatch.setattr(exported, "TOLERANCE", 1e-12)
    with pytest.raises(ValueError, match="differ from torch's by .*not written"):
        exported.export(policy, meta, tmp_path / "policy.onnx", {})
    assert not list(tmp_path.iterdir())


def test_the_extra_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'uncap\[onnx\]'"):
        load(tmp_path / "policy.onnx")


def test_files_of_others_and_damaged_ones_get_one_line(run, tmp_path):
    policy, meta = load_policy(run / "checkpoint")
    path = tmp_path / "policy.onnx"
    exported.export(policy, meta, path, {})
    content = path.read_bytes()
    place = content.index(b'"conditioning"')
    for damaged, words in (
        (content[:100], "no digest"),
        (content[:place] + b"x" + content[place + 1 :], "does not fit its digest"),
        (b"", "no digest"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(FileError, match=words) as refused:
            load(path)
        assert str(path) in str(refused.value)
    monkey = exported._sealed(
        exported._traced(
            exported._Network(policy, ("state", "task")),
            exported._examples(load(run).reads, ("state", "task")),
        ),
        {**exported.described(load(run).reads), "states": 3},
    )
    path.write_bytes(monkey)
    with pytest.raises(FileError, match="its inputs are"):
        load(path)
