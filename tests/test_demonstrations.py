"""Demonstrations: what Minari reads is what happened, and cloning learns from it."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest

from agents import demonstrations
from agents.config import CloneConfig, PPOConfig
from agents.demonstrations import BURST, DemoConfig, clone, load, metadata, record
from agents.learner import Learner
from envs import CLOSURES, TASK_SETS, ClosureVectorEnv
from envs.experts import expert_action
from envs.observations import SIZE

pytest.importorskip("h5py")
minari = pytest.importorskip("minari")

TASKS, NAME, CONFIG = (
    ("mug", "flip-mug"),
    "uncap/two-v0",
    DemoConfig(episodes=4, seed=5),
)  # of 80 and of 100 steps


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    assert record(folder, NAME, TASKS, CONFIG) == folder / "uncap" / "two-v0"
    assert os.listdir(folder) == ["uncap"]  # nothing temporary stays
    return folder


@pytest.fixture(scope="module")
def episodes(root):
    return list(minari.MinariDataset(root / NAME / "data"))


def test_minaris_own_loader_reads_the_quota(root, episodes, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    dataset = minari.load_dataset(NAME)
    assert list(minari.list_local_datasets()) == [NAME]
    assert (
        dataset.spec.dataset_id == NAME
        and dataset.total_episodes == 8
        and dataset.total_steps == 4 * (80 + 100)
    )
    env = ClosureVectorEnv(TASKS, 1, conditioning="parameters")
    assert (
        dataset.observation_space == env.single_observation_space
        and dataset.action_space == env.single_action_space
    )
    for k, e in enumerate(episodes):
        n = CLOSURES[TASKS[k % 2]].steps
        assert (
            len(e) == n
            and e.actions.shape == (n, 5)
            and e.observations["state"].shape == (n + 1, SIZE)
        )
        assert all(len(v) == n + 1 for v in e.infos.values())
        assert not e.terminations.any() and np.array_equal(np.flatnonzero(e.truncations), [n - 1])
        assert (e.infos["task"] == k % 2).all()
        assert all(
            v in dataset.observation_space.spaces[name]
            for name, seen in e.observations.items()
            for v in seen
        )


def test_an_episode_happens_again_and_its_labels_are_the_experts(root, episodes):
    seeds = [
        m["seed"]
        for m in minari.MinariDataset(root / NAME / "data").storage.get_episode_metadata(range(8))
    ]
    assert len(set(seeds)) == 8
    for k in (0, 3):  # one of each row, alone in a batch
        e, env = (
            episodes[k],
            ClosureVectorEnv(TASKS[k % 2], 1, conditioning="parameters", autoreset_mode="Disabled"),
        )
        observation, info = env.reset(seed=[seeds[k]])
        for t in range(len(e) + 1):
            assert all(
                np.array_equal(e.observations[name][t], v[0]) for name, v in observation.items()
            )
            assert np.array_equal(
                e.infos["expert_action"][t],
                expert_action(env.batch.measure())[0].astype(np.float32),
            )
            assert (
                e.infos["success"][t] == info["success"][0]
                and e.infos["progress"][t] == info["progress"][0]
            )
            if t < len(e):
                observation, reward, _, _, info = env.step(e.actions[t][None])
                assert e.rewards[t] == reward[0]


def test_only_perturbed_steps_depart_from_the_expert(episodes):
    held = 0
    for e in episodes:
        n, burst = len(e), e.infos["perturbed"]
        differs = (e.actions != e.infos["expert_action"][:n]).any(1)
        assert np.array_equal(differs, burst[:n])
        assert not burst[n // 2 + BURST :].any()
        held += ((np.diff(e.actions, axis=0) == 0).all(1) & burst[1:n]).sum()
    assert held > 8  # a burst holds one action


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_bursts_take_their_share(share):
    masks = [
        demonstrations._bursts(np.random.default_rng(k), 4000, 4000, share)[0] for k in range(5)
    ]
    assert np.mean([m[:2000].mean() for m in masks]) == pytest.approx(share, abs=0.03)


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    record(again, NAME, TASKS, CONFIG)
    record(other, NAME, TASKS, dataclasses.replace(CONFIG, seed=6))
    a, b, c = load(root), load(again), load(other)
    assert all(a[k].tobytes() == b[k].tobytes() and a[k].dtype == b[k].dtype for k in a)
    assert a["state"].tobytes() != c["state"].tobytes()
    record(
        tmp_path / "few", NAME, TASKS[1:], dataclasses.replace(CONFIG, episodes=2)
    )  # neither the quota nor other rows matter
    d = load(tmp_path / "few")
    for mine, theirs in ((0, 1), (1, 3)):
        assert np.array_equal(d["label"][d["episode"] == mine], a["label"][a["episode"] == theirs])


def test_flat_arrays_are_the_episodes(root, episodes):
    data = load(root)
    assert all(len(v) == 4 * 180 for v in data.values())
    assert data["state"].dtype == data["label"].dtype == data["task"].dtype == np.float32
    for k, e in enumerate(episodes):
        own = data["episode"] == k
        assert np.array_equal(data["state"][own], e.observations["state"][:-1])
        assert np.array_equal(data["label"][own], e.infos["expert_action"][:-1])
        assert (data["index"][own] == k % 2).all() and (
            data["success"][own] == e.infos["success"][-1]
        ).all()
        assert np.array_equal(data["task"][own][0], CLOSURES[TASKS[k % 2]].vector)


def test_metadata_says_what_was_recorded(root):
    noted = metadata(root)
    assert noted["tasks"] == list(TASKS) and {
        k: noted[k] for k in dataclasses.asdict(CONFIG)
    } == dataclasses.asdict(CONFIG)
    for name in TASKS:
        row = noted["rows"][name]
        assert row["vector"] == CLOSURES[name].vector.tolist() and row["torque"] == list(
            CLOSURES[name].torque
        )
    assert noted["versions"]["minari"] == minari.__version__ and {"mujoco", "numpy", "h5py"} < set(
        noted["versions"]
    )
    assert noted["commit"] == "unknown" or len(noted["commit"].removesuffix("-dirty")) == 40
    assert noted["splits"] == {} and "author" not in json.loads(
        (root / NAME / "data" / "metadata.json").read_text()
    )


def test_a_task_set_is_known_by_its_hash(tmp_path):
    split = TASK_SETS["unrelated"]
    record(tmp_path, "uncap/unrelated-v0", split.train, DemoConfig(episodes=1, conditioning="none"))
    assert metadata(tmp_path)["splits"] == {"unrelated": split.hash}
    assert load(tmp_path)["task"].shape == (320, 0)


def test_cloning_opens_a_mug(tmp_path):
    record(tmp_path, "mug-v0", ("mug",), DemoConfig(episodes=20, perturb=0.0))
    data, losses = load(tmp_path), []
    assert data["success"].mean() >= 0.95
    learner = Learner(
        ("mug",), conditioning="parameters", ppo=PPOConfig(), num_envs=20, seed=0, warm=True
    )
    config = CloneConfig(epochs=10, minibatch=256)
    clone(
        learner.policy,
        data,
        config,
        np.random.default_rng(0),
        lambda done, loss: losses.append(loss) is None,
    )
    assert len(losses) == 10 and losses[-1] < 0.5 * losses[0]
    env = ClosureVectorEnv("mug", 20, conditioning="parameters", autoreset_mode="Disabled")
    observation, info = env.reset(seed=0)
    for _ in range(CLOSURES["mug"].steps):
        given = {**observation, "index": np.zeros((20, 1), np.float32)}
        observation, _, _, _, info = env.step(learner.policy.predict(given, deterministic=True)[0])
    assert info["success"].mean() >= 0.5


def test_data_that_do_not_fit_the_policy_are_refused(root):
    data, rng = load(root), np.random.default_rng(0)
    learner = Learner(
        ("mug",), conditioning="one_hot", ppo=PPOConfig(), num_envs=1, seed=0, warm=True
    )
    for wrong in (data, {**data, "task": data["task"][:, :1]}, {k: v[:0] for k, v in data.items()}):
        with pytest.raises(ValueError, match="do not fit"):
            clone(learner.policy, wrong, CloneConfig(), rng)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "exists"),
        ({"name": "two"}, "no dataset id"),
        ({"name": "../two-v0"}, "no dataset id"),
        ({"tasks": ("mug", "mug")}, "different tasks"),
        ({"episodes": 0}, "episodes from 1"),
        ({"perturb": 1.0}, "perturb in"),
        ({"tasks": ("mugg",)}, "did you mean 'mug'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(root, changes, message):
    config = dataclasses.replace(CONFIG, **{k: v for k, v in changes.items() if hasattr(CONFIG, k)})
    with pytest.raises((ValueError, KeyError), match=message) as caught:
        record(root, changes.get("name", NAME), changes.get("tasks", TASKS), config)
    assert "\n" not in str(caught.value)
    assert os.listdir(root) == ["uncap"]


def test_an_interrupted_recording_leaves_nothing(tmp_path):
    def interrupt(done, total):
        assert (done, total) == (2, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(tmp_path, NAME, TASKS, DemoConfig(episodes=1), interrupt)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "garbage", "stranger", "format", "no data", "truncated", "flipped", "two"],
)
def test_damage_gives_one_clear_error(tmp_path, damage):
    record(tmp_path, "a-v0", ("mug",), DemoConfig(episodes=1))
    notes, arrays = (
        tmp_path / "a-v0" / "data" / "metadata.json",
        tmp_path / "a-v0" / "data" / "main_data.hdf5",
    )
    stored, content = json.loads(notes.read_text()), bytearray(arrays.read_bytes())
    if damage in ("missing", "empty"):
        tmp_path = tmp_path / damage
        if damage == "empty":
            tmp_path.mkdir()
    elif damage == "garbage":
        notes.write_text("{nope")
    elif damage == "stranger":
        notes.write_text(json.dumps({k: v for k, v in stored.items() if k != "uncap"}))
    elif damage == "format":
        notes.write_text(json.dumps({**stored, "uncap": {**stored["uncap"], "format": 99}}))
    elif damage == "no data":
        arrays.unlink()
    elif damage == "truncated":
        arrays.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        arrays.write_bytes(content)
    else:
        record(tmp_path, "b-v0", ("mug",), DemoConfig(episodes=1))
    with pytest.raises(ValueError) as caught:
        load(tmp_path)
    assert (
        type(caught.value) is ValueError
        and "\n" not in str(caught.value)
        and str(tmp_path) in str(caught.value)
    )


def test_without_minari_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    for call in (lambda: record(tmp_path, NAME, TASKS, CONFIG), lambda: load(tmp_path)):
        with pytest.raises(ValueError, match=r'pip install "uncap\[demos\]"'):
            call()
