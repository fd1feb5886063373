"""Trained policies that come with the package: what their names stand for, and how they are made.

They act, and have no critic: a run of one's own is what can be resumed and transferred.
"""

from __future__ import annotations

import importlib.resources
import pathlib
from typing import Any

from uncap.agents import checkpoints
from uncap.agents.files import write_json

FOLDER = pathlib.Path(str(importlib.resources.files("uncap"))) / "pretrained"
NAMES = {  # folders by what stands in place of a run
    "pretrained": FOLDER / "first",
    "pretrained-mt16": FOLDER / "mt16",
}
_DROPPED = ("state", "clock", "env_steps", "critic_warmup", "updates")  # what only learning needs
_CRITIC = "policy/critic"


def located(run: str | pathlib.Path) -> pathlib.Path:
    """The run folder that a word names: that of a policy of the package, or the word itself."""
    return NAMES.get(str(run), pathlib.Path(run))


def write(config: dict[str, Any], checkpoint: pathlib.Path, folder: pathlib.Path) -> None:
    """Make a folder of the package from a run: what acting needs, and where it comes from.

    Args:
        config: the run's config.json.
        checkpoint: the run's.
        folder: is made or written over.
    """
    tensors, meta = checkpoints.load(checkpoint)
    acting = {
        name: value
        for name, value in tensors.items()
        if not name.startswith(("optimizer", "state/", "obs", "starts", _CRITIC))
    }
    meta = {key: value for key, value in meta.items() if key not in _DROPPED}
    checkpoints.save(folder / checkpoint.name, acting, {**meta, "acts_only": True})
    words = str(config["command"]).split()
    if "--out" in words:  # a folder of the machine that trained it
        place = words.index("--out")
        del words[place : place + 2]
    write_json(folder / "config.json", {**config, "command": " ".join(words)})
