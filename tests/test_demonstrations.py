"""Demonstrations: what Minari reads is what happened, and cloning learns from it."""

import dataclasses
import json
import os
import pathlib
import sys

import numpy as np
import pytest

from uncap.agents.bursts import BURST, bursts
from uncap.agents.config import CloneConfig, LearnerConfig
from uncap.agents.demonstrations import (
    DemoConfig,
    clone,
    load,
    metadata,
    record,
    task_indices,
)
from uncap.agents.files import Busy, owned
from uncap.agents.learner import Learner
from uncap.envs import CLOSURES, TASK_SETS, ClosureVectorEnv
from uncap.envs.experts import expert_action
from uncap.envs.observations import SIZE

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")

TASKS = ("mug", "flip-mug")  # of 80 and of 100 steps
NAME = "uncap/two-v0"
CONFIG = DemoConfig(episodes=4, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    assert record(folder, NAME, TASKS, CONFIG) == folder / "uncap" / "two-v0"
    assert os.listdir(folder) == ["uncap"]  # nothing temporary stays
    return folder


@pytest.fixture(scope="module")
def episodes(root):
    return list(minari.MinariDataset(root / NAME / "data"))


def test_minaris_own_loader_reads_the_quota(root, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    dataset = minari.load_dataset(NAME)
    assert list(minari.list_local_datasets()) == [NAME]
    assert dataset.spec.dataset_id == NAME
    assert dataset.total_episodes == 8
    assert dataset.total_steps == 4 * (80 + 100)
    env = ClosureVectorEnv(TASKS, 1, conditioning="parameters")
    assert dataset.observation_space == env.single_observation_space
    assert dataset.action_space == env.single_action_space


def test_a_dataset_carries_its_environment(root, episodes):
    dataset = minari.MinariDataset(root / NAME / "data")
    env = dataset.recover_environment(eval_env=True)
    assert env.observation_space == dataset.observation_space
    assert env.action_space == dataset.action_space
    for number in (0, 1):  # an episode of each row
        first, task = episodes[number].observations, TASKS[number]
        [noted] = dataset.storage.get_episode_metadata([number])
        observation, _ = env.reset(seed=int(noted["seed"]), options={"task": task})
        assert np.array_equal(observation["task"], first["task"][0])
        assert observation["state"].shape == first["state"][0].shape


def test_every_episode_is_of_its_task_and_as_long_as_its_row(root, episodes):
    space = minari.MinariDataset(root / NAME / "data").observation_space
    for k, episode in enumerate(episodes):
        steps = CLOSURES[TASKS[k % 2]].steps
        assert len(episode) == steps
        assert episode.actions.shape == (steps, 5)
        assert episode.observations["state"].shape == (steps + 1, SIZE)
        assert all(len(values) == steps + 1 for values in episode.infos.values())
        assert not episode.terminations.any()
        assert np.array_equal(np.flatnonzero(episode.truncations), [steps - 1])
        assert (episode.infos["task"] == k % 2).all()
        for name, values in episode.observations.items():
            assert all(value in space.spaces[name] for value in values)


@pytest.mark.parametrize("number", [0, 3])  # one of each row
def test_an_episode_happens_again_and_its_labels_are_the_experts(root, episodes, number):
    storage = minari.MinariDataset(root / NAME / "data").storage
    seeds = [noted["seed"] for noted in storage.get_episode_metadata(range(8))]
    assert len(set(seeds)) == 8
    episode = episodes[number]
    env = ClosureVectorEnv(  # alone in its batch
        TASKS[number % 2], 1, conditioning="parameters", autoreset_mode="Disabled"
    )
    observation, info = env.reset(seed=[seeds[number]])
    for t in range(len(episode) + 1):
        for name, values in observation.items():
            assert np.array_equal(episode.observations[name][t], values[0])
        label = expert_action(env.batch.measure())[0].astype(np.float32)
        assert np.array_equal(episode.infos["expert_action"][t], label)
        assert episode.infos["success"][t] == info["success"][0]
        assert episode.infos["progress"][t] == info["progress"][0]
        if t < len(episode):
            observation, reward, _, _, info = env.step(episode.actions[t][None])
            assert episode.rewards[t] == reward[0]


def test_only_perturbed_steps_depart_from_the_expert(episodes):
    held = 0  # steps that repeat the action of the step before, in a burst
    for episode in episodes:
        steps = len(episode)
        burst = episode.infos["perturbed"]  # (steps + 1,)
        differs = (episode.actions != episode.infos["expert_action"][:steps]).any(1)
        assert np.array_equal(differs, burst[:steps])
        assert not burst[steps // 2 + BURST :].any()
        same = (np.diff(episode.actions, axis=0) == 0).all(1)  # (steps - 1,)
        held += (same & burst[1:steps]).sum()
    assert held > 8  # a burst holds one action


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_bursts_take_their_share(share):
    shares = []
    for seed in range(5):
        perturbed, _ = bursts(np.random.default_rng(seed), 4000, 4000, share)
        shares.append(perturbed[:2000].mean())
    assert np.mean(shares) == pytest.approx(share, abs=0.03)


def test_the_same_seed_gives_the_same_bytes(root, tmp_path):
    record(tmp_path / "again", NAME, TASKS, CONFIG)
    record(tmp_path / "other", NAME, TASKS, dataclasses.replace(CONFIG, seed=6))
    first = load(root)
    again = load(tmp_path / "again")
    other = load(tmp_path / "other")
    for name, values in first.items():
        assert values.tobytes() == again[name].tobytes()
        assert values.dtype == again[name].dtype
    assert first["state"].tobytes() != other["state"].tobytes()


def test_an_episode_depends_neither_on_the_quota_nor_on_other_rows(root, tmp_path):
    record(tmp_path, NAME, TASKS[1:], dataclasses.replace(CONFIG, episodes=2))
    few = load(tmp_path)
    whole = load(root)
    for episode, same in ((0, 1), (1, 3)):
        label = few["label"][few["episode"] == episode]
        assert np.array_equal(label, whole["label"][whole["episode"] == same])


def test_flat_arrays_are_the_episodes(root, episodes):
    data = load(root)
    assert all(len(values) == 4 * 180 for values in data.values())
    assert data["state"].dtype == data["label"].dtype == data["task"].dtype == np.float32
    for k, episode in enumerate(episodes):
        own = {name: values[data["episode"] == k] for name, values in data.items()}
        assert np.array_equal(own["state"], episode.observations["state"][:-1])
        assert np.array_equal(own["label"], episode.infos["expert_action"][:-1])
        assert (own["index"] == k % 2).all()
        assert (own["success"] == episode.infos["success"][-1]).all()
        assert np.array_equal(own["task"][0], CLOSURES[TASKS[k % 2]].vector)


def test_metadata_says_what_was_recorded(root):
    noted = metadata(root)
    settings = dataclasses.asdict(CONFIG)
    assert noted["tasks"] == list(TASKS)
    assert {name: noted[name] for name in settings} == settings
    for name in TASKS:
        row = noted["rows"][name]
        assert row["vector"] == CLOSURES[name].vector.tolist()
        assert row["torque"] == list(CLOSURES[name].torque)
    assert noted["versions"]["minari"] == minari.__version__
    assert {"mujoco", "numpy", "h5py"} < set(noted["versions"])
    assert noted["commit"] == "unknown" or len(noted["commit"].removesuffix("-dirty")) == 40
    assert noted["splits"] == {}
    assert "author" not in json.loads((root / NAME / "data" / "metadata.json").read_text())


def test_indices_of_recorded_tasks(root):
    assert task_indices(root, TASKS).tolist() == [0, 1]
    assert task_indices(root, ("flip-mug", "mug")).tolist() == [1, 0]
    assert task_indices(root, ("flip-mug",)).tolist() == [-1, 0]
    with pytest.raises(ValueError, match=r"no demonstrations of cork \(recorded: mug, flip-mug\)"):
        task_indices(root, ("mug", "cork"))


def test_a_task_set_is_known_by_its_hash(tmp_path):
    split = TASK_SETS["unrelated"]
    record(tmp_path, "uncap/unrelated-v0", split.train, DemoConfig(episodes=1, conditioning="none"))
    assert metadata(tmp_path)["splits"] == {"unrelated": split.hash}
    assert load(tmp_path)["task"].shape == (320, 0)


def test_cloning_opens_a_mug(tmp_path):
    record(tmp_path, "mug-v0", ("mug",), DemoConfig(episodes=20, perturb=0.0))
    data = load(tmp_path)
    assert data["success"].mean() >= 0.95
    learner = Learner(("mug",), LearnerConfig(num_envs=20, warm=True), seed=0)
    losses = []

    def on_epoch(done, loss):
        losses.append(loss)
        return True

    config = CloneConfig(epochs=10, minibatch=256)
    clone(learner.policy, data, config, np.random.default_rng(0), on_epoch)
    assert len(losses) == 10
    assert losses[-1] < 0.5 * losses[0]
    env = ClosureVectorEnv("mug", 20, conditioning="parameters", autoreset_mode="Disabled")
    observation, info = env.reset(seed=0)
    for _ in range(CLOSURES["mug"].steps):
        with_index = {**observation, "index": np.zeros((20, 1), np.float32)}
        action, _ = learner.policy.predict(with_index, deterministic=True)
        observation, _, _, _, info = env.step(action)
    assert info["success"].mean() >= 0.5


def test_data_that_do_not_fit_the_policy_are_refused(root):
    data = load(root)
    other_vector = {**data, "task": data["task"][:, :1]}
    nothing = {name: values[:0] for name, values in data.items()}
    config = LearnerConfig(conditioning="one_hot", num_envs=1, warm=True)
    learner = Learner(("mug",), config, seed=0)
    for wrong in (data, other_vector, nothing):
        with pytest.raises(ValueError, match="do not fit"):
            clone(learner.policy, wrong, CloneConfig(), np.random.default_rng(0))


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
    settings = dict(changes)
    name = settings.pop("name", NAME)
    tasks = settings.pop("tasks", TASKS)
    config = dataclasses.replace(CONFIG, **settings)
    with pytest.raises((ValueError, KeyError), match=message) as caught:
        record(root, name, tasks, config)
    assert "\n" not in str(caught.value)
    assert os.listdir(root) == ["uncap"]


def test_an_interrupted_recording_leaves_nothing(tmp_path):
    def interrupt(done, total):
        assert (done, total) == (2, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(tmp_path, NAME, TASKS, DemoConfig(episodes=1), interrupt)
    assert os.listdir(tmp_path) == []


def test_a_relative_folder_is_recorded_and_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = record(pathlib.Path("demos"), NAME, ("mug",), DemoConfig(episodes=1))
    assert folder == tmp_path / "demos" / NAME
    assert sorted(os.listdir(tmp_path)) == ["demos"]
    assert set(load(pathlib.Path("demos"))["index"]) == {0}


def test_what_a_killed_recording_left_is_replaced(tmp_path):
    left = tmp_path / ".demos-a-v0" / "dataset" / "data"
    left.mkdir(parents=True)
    (left / "metadata.json").write_text("{half")
    record(tmp_path, "a-v0", ("mug",), DemoConfig(episodes=1))
    assert os.listdir(tmp_path) == ["a-v0"]


def test_one_process_records_a_dataset(tmp_path):
    place = tmp_path / ".demos-a-v0"
    place.mkdir()
    with owned(place), pytest.raises(Busy, match=f"process {os.getpid()}"):
        record(tmp_path, "a-v0", ("mug",), DemoConfig(episodes=1))
    assert os.listdir(tmp_path) == [".demos-a-v0"]


def combined(root: pathlib.Path, monkeypatch, parts: dict[str, DemoConfig]) -> pathlib.Path:
    """The dataset that Minari combines from recordings of one task each."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    for task, config in parts.items():
        record(root, f"{task}-v0", (task,), config)
    datasets = [minari.MinariDataset(root / f"{task}-v0" / "data") for task in parts]
    minari.combine_datasets(datasets, "both-v0")
    return root / "both-v0"


def test_combined_recordings_are_read_by_what_they_hold(tmp_path, monkeypatch):
    one = DemoConfig(episodes=1)
    folder = combined(tmp_path, monkeypatch, {"mug": one, "cork": one})
    assert metadata(folder)["tasks"] == ["mug", "cork"]
    data = load(folder)
    own = [load(tmp_path / f"{task}-v0") for task in ("mug", "cork")]
    for index, part in enumerate(own):
        steps = data["index"] == index
        assert np.array_equal(data["label"][steps], part["label"])
    assert task_indices(folder, ("cork",)).tolist() == [-1, 0]


def test_combined_recordings_that_tell_no_rows_are_refused(tmp_path, monkeypatch):
    blind = DemoConfig(episodes=1, conditioning="one_hot")
    folder = combined(tmp_path, monkeypatch, {"mug": blind, "cork": blind})
    with pytest.raises(ValueError, match="do not tell the rows"):
        load(folder)


@pytest.mark.parametrize("damage", ["nan", "range"])
def test_what_others_wrote_is_checked_by_its_values(tmp_path, damage):
    folder = record(tmp_path, "a-v0", ("mug",), DemoConfig(episodes=1))
    path = folder / "data" / "metadata.json"
    stored = json.loads(path.read_text())
    del stored["uncap"]
    path.write_text(json.dumps(stored))
    assert metadata(folder)["tasks"] == ["mug"]
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/infos/expert_action"][3] = np.nan if damage == "nan" else 7
    with pytest.raises(ValueError, match="finite" if damage == "nan" else "range"):
        load(folder)


@pytest.mark.parametrize(
    "damage",
    ["missing", "empty", "garbage", "edited", "format", "no data", "truncated", "flipped", "two"],
)
def test_damage_gives_one_clear_error(tmp_path, damage):
    record(tmp_path, "a-v0", ("mug",), DemoConfig(episodes=1))
    folder = damaged(tmp_path, damage)
    with pytest.raises(ValueError) as caught:
        load(folder)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def damaged(root, damage):
    """Damage the one recording in root; returns the folder to load."""
    if damage == "missing":
        return root / "missing"
    if damage == "empty":
        (root / "empty").mkdir()
        return root / "empty"
    if damage == "two":
        record(root, "b-v0", ("mug",), DemoConfig(episodes=1))
    elif damage in ("garbage", "edited", "format"):
        damage_notes(root / "a-v0" / "data" / "metadata.json", damage)
    else:
        damage_arrays(root / "a-v0" / "data" / "main_data.hdf5", damage)
    return root


def damage_notes(path, damage):
    stored = json.loads(path.read_text())
    if damage == "garbage":
        path.write_text("{nope")
        return
    if damage == "edited":
        stored["total_episodes"] = 0
    else:
        stored["uncap"]["format"] = 99
    path.write_text(json.dumps(stored))


def damage_arrays(path, damage):
    content = bytearray(path.read_bytes())
    if damage == "no data":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[:-100])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def test_without_minari_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ValueError, match=r'pip install "uncap\[demos\]"'):
        record(tmp_path, NAME, TASKS, CONFIG)
    with pytest.raises(ValueError, match=r'pip install "uncap\[demos\]"'):
        load(tmp_path)
