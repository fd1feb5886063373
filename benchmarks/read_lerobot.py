"""LeRobot's own loader reads what `demos --format lerobot` wrote.

    python train.py demos --task-set unrelated --episodes 3 --format lerobot --out demos
    uv venv --python 3.12 other && . other/bin/activate && uv pip install lerobot==0.4.4
    python benchmarks/read_lerobot.py demos/uncap/unrelated

It needs an environment of its own, without Uncap: LeRobot 0.4.4 asks for Python 3.10 or newer (it
ran with 3.12) and torch below 2.11. Prints how long the dataset is, its features, the shapes of
one frame, a sequence of actions as policies of action chunks read it, and the words of its tasks.
Fails if the numbers in the dataset's own description are not those that were read.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pathlib

os.environ["HF_HUB_OFFLINE"] = "1"  # what is not in the folder is asked of nobody

import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CHUNK = 8  # actions in a sequence


def main() -> None:
    """Read every frame of a dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder.resolve()
    name = f"{folder.parent.name}/{folder.name}"
    dataset = LeRobotDataset(name, root=folder)
    print(f"lerobot {importlib.metadata.version('lerobot')}, torch {torch.__version__}")
    print(f"{name}: {len(dataset)} frames, {dataset.num_episodes} episodes, {dataset.fps} Hz")
    for key, feature in dataset.features.items():
        print(f"  {key:28} {feature['dtype']:8} {tuple(feature['shape'])}")
    print("one frame:")
    for key, value in dataset[0].items():
        shape = f"{value.dtype} {tuple(value.shape)}" if torch.is_tensor(value) else repr(value)
        print(f"  {key:28} {shape}")
    print("tasks:")
    for words, row in dataset.meta.tasks.iterrows():
        print(f"  {row['task_index']}  {words}")
    check(dataset)
    ahead = [step / dataset.fps for step in range(CHUNK)]
    chunks = LeRobotDataset(name, root=folder, delta_timestamps={"action": ahead})
    batch = next(iter(torch.utils.data.DataLoader(chunks, batch_size=4, shuffle=True)))
    print(f"a batch of sequences: action {tuple(batch['action'].shape)}, {batch['task'][0]!r}")
    last = LeRobotDataset(name, root=folder, episodes=[dataset.num_episodes - 1])
    print(f"the last episode alone: {len(last)} frames")
    print("all as the dataset says of itself")


def check(dataset: LeRobotDataset) -> None:
    """Compare all frames with what the metadata say."""
    episodes = dataset.meta.episodes
    frames = dataset.hf_dataset.remove_columns(dataset.meta.image_keys)[:]
    assert torch.stack(frames["index"]).tolist() == list(range(len(dataset)))
    for episode in episodes:
        own = slice(episode["dataset_from_index"], episode["dataset_to_index"])
        steps = episode["length"]
        assert torch.stack(frames["episode_index"][own]).eq(episode["episode_index"]).all()
        assert torch.stack(frames["frame_index"][own]).tolist() == list(range(steps))
        assert torch.stack(frames["next.done"][own]).tolist() == [False] * (steps - 1) + [True]
        times = torch.stack(frames["timestamp"][own])
        assert torch.allclose(times, torch.arange(steps) / dataset.fps)
        [index] = set(torch.stack(frames["task_index"][own]).tolist())
        assert [dataset.meta.tasks.iloc[index].name] == episode["tasks"]
    for key in ("observation.state", "action"):
        values = torch.stack(frames[key])
        stats = dataset.meta.stats[key]
        assert torch.allclose(values.double().mean(0), torch.tensor(stats["mean"]))
        assert torch.allclose(values.amax(0).double(), torch.tensor(stats["max"]))


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
