"""LeRobotDatasets: they hold what Minari holds of the same episodes, and say so of themselves."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from uncap.agents import demonstrations, lerobot
from uncap.agents.demonstrations import DemoConfig
from uncap.agents.files import Busy, owned
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.observations import SIZE
from uncap.envs.opengl import RenderingUnavailable
from uncap.evaluation.commands import demos
from uncap.evaluation.config import DemosConfig
from uncap.evaluation.progress import make_console

minari = pytest.importorskip("minari")
pytest.importorskip("h5py")
parquet = pytest.importorskip("pyarrow.parquet")

TASKS = ("mug", "flip-mug")  # of 80 and of 100 steps
NAME = "uncap/two"
MINARI = f"{NAME}-v0"


def recorder(tasks=TASKS, episodes=2, seed=5, **settings):
    """What records a Minari dataset into a folder."""

    def record(root):
        config = DemoConfig(episodes=episodes, seed=seed, **settings)
        return demonstrations.record(root, MINARI, tasks, config)

    return record


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    recorder()(folder)
    assert lerobot.write(folder, NAME, recorder()) == folder / NAME
    assert os.listdir(folder) == ["uncap"]  # nothing temporary stays
    assert sorted(os.listdir(folder / NAME)) == ["data", "meta"]
    return folder


@pytest.fixture(scope="module")
def episodes(root):
    return list(minari.MinariDataset(root / MINARI / "data"))


@pytest.fixture(scope="module")
def frames(root):
    return columns_of(root / NAME)


def columns_of(dataset):
    """Every column of a dataset's frames, as an array."""
    paths = sorted(dataset.glob("data/*/*.parquet"))
    tables = [parquet.read_table(path).to_pydict() for path in paths]
    return {name: np.array([v for table in tables for v in table[name]]) for name in tables[0]}


def noted(dataset, name):
    """A JSON file of a dataset's metadata."""
    return json.loads((dataset / "meta" / f"{name}.json").read_text(encoding="utf-8"))


def episode_rows(dataset):
    """What a dataset says of each episode."""
    return parquet.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()


def task_rows(dataset):
    """The table of a dataset's tasks."""
    return parquet.read_table(dataset / "meta/tasks.parquet")


def test_every_frame_is_what_minari_holds(frames, episodes):
    first = 0
    for number, episode in enumerate(episodes):
        steps = len(episode)
        own = {name: values[first : first + steps] for name, values in frames.items()}
        same = {
            "observation.state": episode.observations["state"][:-1],
            "observation.task": episode.observations["task"][:-1],
            "action": episode.actions,
            "expert_action": episode.infos["expert_action"][:-1],
            "next.reward": episode.rewards.astype(np.float32),
            "next.done": episode.truncations,
            "next.success": episode.infos["success"][1:],
            "timestamp": (np.arange(steps) / 20).astype(np.float32),
            "frame_index": np.arange(steps),
            "episode_index": np.full(steps, number),
            "index": np.arange(first, first + steps),
            "task_index": np.full(steps, number % 2),
        }
        assert set(own) == set(same)
        for name, values in same.items():
            assert np.array_equal(own[name], values), name
        first += steps
    assert first == len(frames["index"]) == 2 * (80 + 100)
    assert frames["next.success"].any()


def test_the_files_have_the_types_that_the_features_say(root):
    info = noted(root / NAME, "info")
    schema = parquet.read_schema(root / NAME / "data/chunk-000/file-000.parquet")
    assert schema.names == list(info["features"])
    for name, feature in info["features"].items():
        kind = schema.field(name).type
        [size] = feature["shape"]
        assert size == (kind.list_size if hasattr(kind, "list_size") else 1)
        own = kind.value_type if size > 1 else kind
        assert str(own) == {"float32": "float"}.get(feature["dtype"], feature["dtype"])
        assert feature["names"] is None or len(feature["names"]) == size
    assert info["features"]["action"]["names"] == ["dx", "dy", "dz", "dyaw", "opening"]
    assert len(info["features"]["observation.state"]["names"]) == SIZE


def test_the_metadata_are_those_of_the_frames(root, frames):
    info = noted(root / NAME, "info")
    said = {name: info[name] for name in ("total_episodes", "total_frames", "total_tasks", "fps")}
    assert said == {"total_episodes": 4, "total_frames": 360, "total_tasks": 2, "fps": 20}
    assert info["codebase_version"] == "v3.0"
    assert info["splits"] == {"train": "0:4"}
    assert info["video_path"] is None
    assert (root / NAME / info["data_path"].format(chunk_index=0, file_index=0)).exists()
    words = [CLOSURES[task].description for task in TASKS]
    assert task_rows(root / NAME).to_pydict() == {"task_index": [0, 1], "task": words}
    rows = episode_rows(root / NAME)
    for number, row in enumerate(rows):
        assert row["episode_index"] == number
        assert row["tasks"] == [words[number % 2]]
        own = frames["episode_index"] == number
        assert row["length"] == own.sum()
        ends = np.flatnonzero(own)[[0, -1]] + (0, 1)
        assert [row["dataset_from_index"], row["dataset_to_index"]] == ends.tolist()
        assert row["data/chunk_index"] == row["data/file_index"] == 0
        check_statistics(frames, own, lambda name, key, row=row: row[f"stats/{name}/{key}"])
    stats = noted(root / NAME, "stats")
    assert set(stats) == set(info["features"])
    check_statistics(frames, slice(None), lambda name, key: stats[name][key])


def check_statistics(frames, rows, said):
    """Compare what is said of some frames with these frames."""
    for name, values in frames.items():
        own = values[rows].reshape(len(values[rows]), -1).astype(float)
        assert said(name, "count") == [len(own)]
        for key in ("min", "max", "mean", "std"):
            assert np.allclose(said(name, key), getattr(own, key)(0))
        assert np.allclose(said(name, "q50"), np.median(own, axis=0))
        assert len(said(name, "q01")) == own.shape[1]


def test_the_recordings_own_notes_are_kept(root):
    notes = noted(root / NAME, "uncap")
    minaris = demonstrations.metadata(root / MINARI)
    assert notes["tasks"] == list(TASKS)
    assert notes["rows"] == minaris["rows"]
    assert notes["seed"] == 5
    storage = minari.MinariDataset(root / MINARI / "data").storage
    seeds = [episode["seed"] for episode in storage.get_episode_metadata(range(4))]
    assert notes["episodes"] == [
        {"row": TASKS[k % 2], "seed": seed, "actor": "expert"} for k, seed in enumerate(seeds)
    ]


def test_combined_recordings_are_converted_by_what_they_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    parts = []
    for task in TASKS:
        config = DemoConfig(episodes=1)
        folder = demonstrations.record(tmp_path, f"{task}-v0", (task,), config)
        parts.append(minari.MinariDataset(folder / "data"))
    minari.combine_datasets(parts, "both-v0")
    lerobot.convert(tmp_path / "both-v0", tmp_path / "made")
    assert [e["row"] for e in noted(tmp_path / "made", "uncap")["episodes"]] == list(TASKS)
    words = [[CLOSURES[task].description] for task in TASKS]
    assert [row["tasks"] for row in episode_rows(tmp_path / "made")] == words


def test_the_same_episodes_give_the_same_bytes(root, tmp_path):
    lerobot.convert(root / MINARI, tmp_path)
    for path in tmp_path.rglob("*.*"):
        assert path.read_bytes() == (root / NAME / path.relative_to(tmp_path)).read_bytes()
    assert len(list(tmp_path.rglob("*.*"))) == 6


def test_rows_with_the_same_words_are_one_task(tmp_path):
    twins = ("drawn-screw-2", "drawn-screw-3")
    assert len({CLOSURES[row].description for row in twins}) == 1
    lerobot.write(tmp_path, NAME, recorder(twins, episodes=1))
    assert task_rows(tmp_path / NAME).num_rows == 1
    assert set(columns_of(tmp_path / NAME)["task_index"]) == {0}
    assert [e["row"] for e in noted(tmp_path / NAME, "uncap")["episodes"]] == list(twins)


def test_without_a_task_vector_there_is_no_column_of_it(tmp_path):
    recording = recorder(("mug",), episodes=1, conditioning="history")(tmp_path)
    lerobot.convert(recording, tmp_path / "made")
    features = noted(tmp_path / "made", "info")["features"]
    assert "observation.task" not in features
    assert features["observation.state"]["shape"] == [8 * SIZE]
    assert features["observation.state"]["names"] is None


def test_files_have_a_largest_size(tmp_path, root, frames, monkeypatch):
    monkeypatch.setattr(lerobot, "_LARGEST_FILE", 0.05)  # MB: two episodes
    monkeypatch.setattr(lerobot, "_FILES", 1)  # in a chunk
    lerobot.convert(root / MINARI, tmp_path)
    paths = sorted(tmp_path.glob("data/*/*.parquet"))
    assert len(paths) > 1
    assert len({path.parent for path in paths}) == len(paths)
    for name, values in columns_of(tmp_path).items():
        assert np.array_equal(values, frames[name])
    for row in episode_rows(tmp_path):
        place = {key: row[f"data/{key}"] for key in ("chunk_index", "file_index")}
        table = parquet.read_table(tmp_path / lerobot._DATA.format(**place))
        assert row["episode_index"] in table["episode_index"].to_pylist()


@pytest.fixture
def short(tmp_path):
    """A recording by hand of five control steps, and its pictures (6, 84, 84, 6)."""
    try:
        env = ClosureVectorEnv("button", 1, conditioning="none", observation="state+rgb")
    except RenderingUnavailable:
        pytest.skip("no OpenGL here")
    observation, info = env.reset(seed=[3])
    recording = demonstrations.Recording("button", 3)
    pictures = [observation["rgb"][0]]
    rng = np.random.default_rng(0)
    for _ in range(5):
        recording.see(observation["state"][0], info["success"][0], info["progress"][0])
        action = rng.uniform(-1, 1, 5).astype(np.float32)
        observation, reward, _, truncated, info = env.step(action[None])
        recording.act(action, float(reward[0]), bool(truncated[0]), by_hand=True)
        pictures.append(observation["rgb"][0])
    recording.see(observation["state"][0], info["success"][0], info["progress"][0])
    return demonstrations.append(tmp_path, recording), np.stack(pictures)


def decoded(column):
    """The pictures (n, height, width, 3) of a column."""
    return np.stack([np.asarray(Image.open(io.BytesIO(each["bytes"]))) for each in column])


def test_pictures_are_those_of_the_environment(short, tmp_path):
    recording, pictures = short
    lerobot.convert(recording, tmp_path / "made", pictures=True)
    frames = columns_of(tmp_path / "made")
    sides = [decoded(frames[f"observation.images.{side}"]) for side in ("left", "right")]
    assert np.array_equal(np.concatenate(sides, -1), pictures[:5])
    assert frames["next.done"].tolist() == [False] * 4 + [True]
    features = noted(tmp_path / "made", "info")["features"]
    stats = noted(tmp_path / "made", "stats")
    for side, shown in zip(("left", "right"), sides, strict=True):
        feature = features[f"observation.images.{side}"]
        assert (feature["dtype"], feature["shape"]) == ("image", [84, 84, 3])
        own = stats[f"observation.images.{side}"]
        assert own["count"] == [5]
        assert {np.shape(own[key]) for key in own if key != "count"} == {(3, 1, 1)}
        shares = shown.reshape(-1, 3) / 255
        for key in ("min", "max", "mean", "std"):
            assert np.allclose(np.ravel(own[key]), getattr(shares, key)(0))
        assert np.allclose(np.ravel(own["q90"]), np.quantile(shares, 0.9, axis=0), atol=0.01)


def test_what_does_not_repeat_gets_no_pictures(short, tmp_path, monkeypatch):
    recording, _ = short
    before = lerobot._columns

    def changed(episode):
        columns = before(episode)
        columns["observation.state"][3] += 0.1
        return columns

    monkeypatch.setattr(lerobot, "_columns", changed)
    with pytest.raises(ValueError, match="does not repeat"):
        lerobot.convert(recording, tmp_path / "made", pictures=True)


def test_an_existing_dataset_is_refused_before_anything_is_recorded(root):
    before = sorted(root.rglob("*"))
    with pytest.raises(ValueError, match="two exists: choose another --out") as caught:
        lerobot.write(root, NAME, lambda folder: pytest.fail("recorded"))
    assert "\n" not in str(caught.value)
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("where", ["_write", "close"])
def test_what_fails_midway_leaves_nothing(where, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(lerobot._Writer, where, fail)
    with pytest.raises(KeyboardInterrupt):
        lerobot.write(tmp_path, NAME, recorder(("mug",), episodes=1))
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_replaced(tmp_path):
    left = tmp_path / ".demos-lerobot-uncap-two" / "made" / "meta"
    left.mkdir(parents=True)
    (left / "info.json").write_text("{half")
    (left.parent / "metadata.json").write_text("{half")
    lerobot.write(tmp_path, NAME, recorder(("mug",), episodes=1))
    assert os.listdir(tmp_path) == ["uncap"]
    assert noted(tmp_path / NAME, "info")["total_episodes"] == 1


def test_one_process_writes_a_dataset(tmp_path):
    place = tmp_path / ".demos-lerobot-uncap-two"
    place.mkdir()
    with owned(place), pytest.raises(Busy, match=f"process {os.getpid()}"):
        lerobot.write(tmp_path, NAME, recorder(("mug",), episodes=1))
    assert os.listdir(tmp_path) == [place.name]


def test_names_have_one_slash_and_no_version():
    names = {"uncap/first-v0": "uncap/first", "uncap/a/b-v12": "uncap/a-b", "own-v0": "own"}
    assert {name: lerobot.name_of(name) for name in names} == names


def test_without_pyarrow_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'uncap\[lerobot\]'"):
        lerobot.write(tmp_path / "new", NAME, recorder())
    assert os.listdir(tmp_path) == []


def test_the_command_writes_either_format(tmp_path, capsys):
    settings = {"task_set": "unrelated/reach", "episodes": 2, "out": tmp_path}
    policies = ("expert", "random")
    demos(DemosConfig(format="lerobot", policy=policies, **settings), make_console())
    [made] = (tmp_path / "uncap").iterdir()
    assert made.name == "unrelated-reach-policy"
    assert made.name in capsys.readouterr().out
    assert [e["actor"] for e in noted(made, "uncap")["episodes"]] == list(policies)
    assert noted(made, "info")["total_episodes"] == 2
    with pytest.raises(ValueError, match="--pictures goes with --format lerobot"):
        demos(DemosConfig(pictures=True, **settings), make_console())
