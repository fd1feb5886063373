"""Recordings as LeRobotDatasets, of codebase version 3.0: written with pyarrow alone.

A frame is what a control step began with, its action, and what came of it:

    observation.state, observation.task   as recorded; the task vector where there is one
    observation.images.left, .right       pictures, if they are asked for
    action, expert_action                 executed; what the expert would have done, to be cloned
    next.reward, next.done, next.success  after the step

A task of LeRobot's is a closure's one-line description; rows with the same one are one task.
`meta/uncap.json` says the row of every episode, its seed and who acted, and what the recording
noted.
"""

from __future__ import annotations

import importlib
import io
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import uncap.envs
from uncap.agents import demonstrations, files
from uncap.envs import CLOSURES
from uncap.envs.batch import CONTROL_DT
from uncap.envs.observations import FULL, layout
from uncap.envs.panda import ACTIONS

CODEBASE = "v3.0"  # version of the format
CAMERAS = ("left", "right")  # `pixels.VIEWS`: where they look from
ROBOT = "panda"
_INFO, _STATS, _TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
_NOTES = "meta/uncap.json"
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_DATA, _EPISODES = f"data/{_FILE}", f"meta/episodes/{_FILE}"
_LARGEST_FILE = 100  # MB of data in a file, before another is begun
_FILES = 1000  # in a chunk
_QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_LEVELS = 256  # of a pixel's colour
_RECORDING = ".recording"  # folder of the Minari dataset, until it is converted
_INDICES = ("frame_index", "episode_index", "index", "task_index")  # int64

Progress = Callable[[int, int], None]
Columns = dict[str, np.ndarray]  # (steps, ...) of an episode
Features = dict[str, dict[str, Any]]  # as in info.json: dtype, shape, names


def write(
    root: pathlib.Path,
    name: str,
    record: Callable[[pathlib.Path], pathlib.Path],
    pictures: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> pathlib.Path:
    """Record, and write `<root>/<name>`, whole or not at all.

    Args:
        root: folder of datasets; made if missing. LeRobot finds the dataset by its name where
            HF_LEROBOT_HOME names this folder.
        name: (namespace/)name.
        record: writes a Minari dataset into a folder and returns its folder, as
            `demonstrations.record` does; it is removed again.
        pictures: whether the dataset has pictures, of two cameras.
        on_progress: called with (episodes converted, all of them).

    Returns:
        The dataset's folder.

    Raises:
        ValueError: it exists; no pyarrow, no Minari; what `record` and `convert` raise.
        Busy: another process writes it.
        RenderingUnavailable: pictures without OpenGL.
    """
    check_installed()
    root = pathlib.Path(root).resolve()
    folder = root / name
    files.check_free(folder)
    if pictures:
        _check_pictures()
    place = root / f"{demonstrations.TEMPORARY}lerobot-{'-'.join(folder.relative_to(root).parts)}"
    with files.making(folder, place) as dataset:
        recording = record(dataset / _RECORDING)
        convert(recording, dataset, pictures, on_progress)
        shutil.rmtree(dataset / _RECORDING)
    return folder


def name_of(dataset_id: str) -> str:
    """LeRobot's name for what has an id of Minari's: without version, and with one slash at most.

    Args:
        dataset_id: (namespace/)name-v0.
    """
    namespace, slash, name = dataset_id.rpartition("-v")[0].partition("/")
    return f"{namespace}{slash}{name.replace('/', '-')}"


def check_installed() -> None:
    """Refuse to go on without pyarrow, or without Minari, which is recorded first.

    Raises:
        ValueError: one is not installed.
    """
    _pyarrow()
    demonstrations.check_installed()


def convert(
    recording: pathlib.Path,
    dataset: pathlib.Path,
    pictures: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> None:
    """Write a Minari dataset as a LeRobotDataset.

    Args:
        recording: a dataset that Uncap recorded, see `demonstrations.metadata`.
        dataset: folder for the files.
        pictures: whether to draw them: the episodes are repeated from their seeds and actions.
        on_progress: called with (episodes converted, all of them).

    Raises:
        ValueError: the recording is damaged; an episode does not repeat; no pyarrow, no Minari.
        RenderingUnavailable: pictures without OpenGL.
    """
    check_installed()
    steps = demonstrations.load(recording)  # refuses what is damaged
    notes = demonstrations.metadata(recording)
    _, first = np.unique(steps["episode"], return_index=True)
    rows = [notes["tasks"][index] for index in steps["index"][first]]  # of the episodes
    minari = importlib.import_module("minari").MinariDataset(notes["data"])
    noted = minari.storage.get_episode_metadata(range(len(rows)))
    said = list(dict.fromkeys(CLOSURES[row].description for row in notes["tasks"]))
    writer: _Writer | None = None
    about: list[dict[str, Any]] = []
    for number, (row, stored, episode) in enumerate(zip(rows, noted, minari, strict=True)):
        columns = _columns(episode)
        if pictures:
            columns |= _pictures(row, stored.get("seed"), columns, notes.get("sensors", FULL))
        writer = writer or _Writer(dataset, _features(columns, notes), said)
        writer.add(columns, CLOSURES[row].description)
        about.append({"row": row, "seed": stored.get("seed")})
        if "actor" in episode.infos and "actors" in notes:
            about[-1]["actor"] = notes["actors"][int(episode.infos["actor"][0])]
        on_progress(number + 1, len(rows))
    assert writer is not None  # `load` refuses a recording without episodes
    writer.close()
    kept = {key: value for key, value in notes.items() if key not in ("data", files.DIGEST)}
    files.write_json(dataset / _NOTES, {**kept, "episodes": about})


def _columns(episode: Any) -> Columns:
    """What LeRobot holds of one of Minari's episodes, but for indices and pictures."""
    steps = len(episode)
    seen = episode.observations
    columns = {"observation.state": np.asarray(seen["state"][:steps], np.float32)}
    if "task" in seen and seen["task"].shape[1]:
        columns["observation.task"] = np.asarray(seen["task"][:steps], np.float32)
    return columns | {
        "action": np.asarray(episode.actions, np.float32),
        "expert_action": np.asarray(episode.infos["expert_action"][:steps], np.float32),
        "next.reward": np.asarray(episode.rewards, np.float32),
        "next.done": np.asarray(episode.terminations | episode.truncations, bool),
        "next.success": np.asarray(episode.infos["success"][1:], bool),
    }


def _features(columns: Columns, notes: Mapping[str, Any]) -> Features:
    """The table of info.json, for the columns of an episode."""
    actions = [action.name for action in ACTIONS]
    names = {"observation.state": _state_names(notes), "action": actions, "expert_action": actions}
    features: Features = {}
    for name, values in columns.items():
        if values.dtype == np.uint8:
            shape = list(values.shape[1:])
            parts = ["height", "width", "channels"]
            features[name] = {"dtype": "image", "shape": shape, "names": parts}
            continue
        size = values.shape[1] if values.ndim > 1 else 1
        own = names.get(name)
        named = own if own and len(own) == size else None  # several states behind each other: none
        features[name] = {"dtype": str(values.dtype), "shape": [size], "names": named}
    kinds = {"timestamp": "float32", **dict.fromkeys(_INDICES, "int64")}
    for name, kind in kinds.items():
        features[name] = {"dtype": kind, "shape": [1], "names": None}
    return features


def _state_names(notes: Mapping[str, Any]) -> list[str]:
    """A name for each number of a state."""
    names: list[str] = []
    for part in layout(notes.get("sensors", FULL)).parts:
        several = [f"{part.name}.{k}" for k in range(part.size)]
        names += several if part.size > 1 else [part.name]
    return names


class _Writer:
    """Writes episodes one after the other, and at the end what LeRobot reads of them all.

    Args:
        dataset: folder for the files.
        features: of every frame.
        tasks: what LeRobot's tasks say, in the order of their indices.
    """

    def __init__(self, dataset: pathlib.Path, features: Features, tasks: Sequence[str]):
        self.dataset = dataset
        self.features = features
        self.tasks = list(tasks)
        self.frames = 0
        self._file = 0
        self._bytes = 0  # of the present file, before compression
        self._data: Any = None  # pyarrow's writer of it
        self._episodes: list[dict[str, Any]] = []
        self._numbers: dict[str, list[np.ndarray]] = {}  # columns of all episodes, but pictures
        self._counts: dict[str, np.ndarray] = {}  # of the levels of all pictures, see `_levels`

    def add(self, columns: Columns, task: str) -> None:
        """Write an episode.

        Args:
            columns: see `_columns`; pictures (steps, height, width, 3) uint8.
            task: what is to be done, in words.
        """
        steps = len(columns["action"])
        number = len(self._episodes)
        frame = np.arange(steps)
        columns = {
            **columns,
            "timestamp": (frame * CONTROL_DT).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(steps, number),
            "index": self.frames + frame,
            "task_index": np.full(steps, self.tasks.index(task)),
        }
        self._write(columns)
        place = dict(zip(("chunk_index", "file_index"), divmod(self._file, _FILES), strict=True))
        noted: dict[str, Any] = {"episode_index": number, "tasks": [task], "length": steps}
        noted |= {f"data/{key}": value for key, value in place.items()}
        noted |= {"dataset_from_index": self.frames, "dataset_to_index": self.frames + steps}
        for name, values in columns.items():
            for key, value in self._statistics(name, values).items():
                noted[f"stats/{name}/{key}"] = value
        noted |= {f"meta/episodes/{key}": 0 for key in place}
        self._episodes.append(noted)
        self.frames += steps

    def _statistics(self, name: str, values: np.ndarray) -> dict[str, Any]:
        """Of an episode's column, which is added to what all of them hold."""
        if self.features[name]["dtype"] == "image":
            counts = _levels(values)
            self._counts[name] = self._counts.get(name, 0) + counts
            return _of_levels(counts, len(values))
        self._numbers.setdefault(name, []).append(values)
        return _of_numbers(values)

    def _write(self, columns: Columns) -> None:
        """Add an episode to the present file of data, or to the next one where that is full."""
        pa, parquet = _pyarrow()
        table = pa.table(
            {name: _array(pa, columns[name], feature) for name, feature in self.features.items()}
        )
        if self._data is not None and self._bytes + table.nbytes > _LARGEST_FILE * 2**20:
            self._data.close()
            self._data = None
            self._file += 1
            self._bytes = 0
        if self._data is None:
            path = self._path(_DATA, self._file)
            kinds = {"info": {"features": {k: _kind(v) for k, v in self.features.items()}}}
            schema = table.schema.with_metadata({"huggingface": json.dumps(kinds)})
            self._data = parquet.ParquetWriter(path, schema)
        self._data.write_table(table)  # a row group of its own
        self._bytes += table.nbytes

    def _path(self, pattern: str, file: int = 0) -> pathlib.Path:
        """Where a file lies; its folder is made."""
        chunk, index = divmod(file, _FILES)
        path = self.dataset / pattern.format(chunk_index=chunk, file_index=index)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def close(self) -> None:
        """Write what LeRobot reads of all episodes."""
        pa, parquet = _pyarrow()
        self._data.close()
        noted = {name: [episode[name] for episode in self._episodes] for name in self._episodes[0]}
        parquet.write_table(pa.table(noted), self._path(_EPISODES))
        parquet.write_table(_task_table(pa, self.tasks), self._path(_TASKS))
        stats = {name: _of_numbers(np.concatenate(v)) for name, v in self._numbers.items()}
        stats |= {name: _of_levels(v, self.frames) for name, v in self._counts.items()}
        _write_plain(self._path(_STATS), stats)
        _write_plain(self._path(_INFO), self._info())

    def _info(self) -> dict[str, Any]:
        """What info.json says."""
        return {
            "codebase_version": CODEBASE,
            "robot_type": ROBOT,
            "total_episodes": len(self._episodes),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": _FILES,
            "data_files_size_in_mb": _LARGEST_FILE,
            "video_files_size_in_mb": 200,  # LeRobot's default; there are none
            "fps": round(1 / CONTROL_DT),
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": _DATA,
            "video_path": None,
            "features": self.features,
        }


def _write_plain(path: pathlib.Path, value: Mapping[str, Any]) -> None:
    """Write JSON as LeRobot expects it: nothing but what it reads."""
    files.write_text(path, json.dumps(value, indent=4))


def _array(pa: Any, values: np.ndarray, feature: Mapping[str, Any]) -> Any:
    """A column (steps, ...) as pyarrow's array, in the type that LeRobot makes of a feature."""
    if feature["dtype"] == "image":
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        return pa.array([{"bytes": _png(picture), "path": None} for picture in values], kind)
    flat = pa.array(values.reshape(-1))
    [size] = feature["shape"]
    return flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)


def _kind(feature: Mapping[str, Any]) -> dict[str, Any]:
    """A feature in the words of the library `datasets`: what a viewer of the files goes by."""
    if feature["dtype"] == "image":
        return {"_type": "Image"}
    value = {"dtype": feature["dtype"], "_type": "Value"}
    [size] = feature["shape"]
    return value if size == 1 else {"feature": value, "length": size, "_type": "List"}


def _png(picture: np.ndarray) -> bytes:
    """A picture (height, width, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def _task_table(pa: Any, tasks: Sequence[str]) -> Any:
    """The words of the tasks by their indices; pandas takes the words for the rows' names."""
    columns = [("task_index", "int64", "int64"), ("task", "unicode", "object")]
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": n, "field_name": n, "pandas_type": p, "numpy_type": k, "metadata": None}
            for n, p, k in columns
        ],
    }
    table = pa.table({"task_index": np.arange(len(tasks)), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


def _of_numbers(values: np.ndarray) -> dict[str, list[Any]]:
    """Statistics of a column (n,) or (n, size), each a list of size numbers; and n."""
    rows = values.reshape(len(values), -1).astype(float)
    found = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    for share, value in zip(_QUANTILES, np.quantile(rows, _QUANTILES, axis=0), strict=True):
        found[_quantile_name(share)] = value
    return {**{name: value.tolist() for name, value in found.items()}, "count": [len(values)]}


def _levels(pictures: np.ndarray) -> np.ndarray:
    """How often each level occurs in the pictures (n, height, width, 3), for each colour (3, 256).

    From these counts come all statistics, of an episode and of their sum.
    """
    colours = pictures.reshape(-1, pictures.shape[-1]).T
    return np.stack([np.bincount(colour, minlength=_LEVELS) for colour in colours])


def _of_levels(counts: np.ndarray, pictures: int) -> dict[str, list[Any]]:
    """Statistics of pictures from the counts (3, 256) of levels, as shares of the largest.

    Returns:
        Each a nested list (3, 1, 1); and the number of pictures.
    """
    level = np.arange(_LEVELS) / (_LEVELS - 1)
    share = counts / counts.sum(1, keepdims=True)
    upto = share.cumsum(1)
    mean = share @ level  # (3,)
    there = counts > 0
    found = {
        "min": level[there.argmax(1)],
        "max": level[_LEVELS - 1 - there[:, ::-1].argmax(1)],
        "mean": mean,
        "std": np.sqrt((share * (level - mean[:, None]) ** 2).sum(1)),
    }
    for wanted in _QUANTILES:
        found[_quantile_name(wanted)] = level[(upto >= wanted).argmax(1)]
    shaped = {name: value.reshape(-1, 1, 1).tolist() for name, value in found.items()}
    return {**shaped, "count": [pictures]}


def _quantile_name(share: float) -> str:
    return f"q{round(100 * share):02}"


def _pictures(row: str, seed: int | None, columns: Columns, sensors: str) -> Columns:
    """Pictures of an episode, which is repeated for it.

    Args:
        row: the closure.
        seed: of the episode, if it is known.
        columns: what was recorded.
        sensors: that the recorded states are of.

    Returns:
        For each camera (steps, height, width, 3) uint8.

    Raises:
        ValueError: it does not repeat.
    """
    actions = columns["action"]
    env = uncap.envs.ClosureVectorEnv(
        row,
        1,
        conditioning="none",
        observation="state+rgb",
        sensors=sensors,
        episode_steps=len(actions),
        autoreset_mode="Disabled",
    )
    observation, _ = env.reset(seed=None if seed is None else [int(seed)])
    size = observation["state"].shape[1]  # of the newest state, where several were recorded
    drawn = []
    for state, action in zip(columns["observation.state"], actions, strict=True):
        if not np.array_equal(observation["state"][0], state[-size:]):
            raise ValueError(
                f"an episode of {row} does not repeat from its seed and actions, so that no "
                "pictures of it can be drawn"
            )
        drawn.append(observation["rgb"][0])
        observation, *_ = env.step(action[None])
    env.close()
    pictures = np.stack(drawn)  # (steps, height, width, 6)
    return {
        f"observation.images.{camera}": pictures[..., 3 * k : 3 * k + 3]
        for k, camera in enumerate(CAMERAS)
    }


def _check_pictures() -> None:
    """Refuse pictures where none can be drawn.

    Raises:
        RenderingUnavailable: no OpenGL back end works.
    """
    uncap.envs.ClosureVectorEnv(next(iter(CLOSURES)), 1, observation="rgb").close()


def _pyarrow() -> tuple[Any, Any]:
    """The library, which is optional, and its part for Parquet.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError("LeRobotDatasets need pyarrow: pip install 'uncap[lerobot]'") from None
