"""Checkpoints: tensors and JSON in one file, as safetensors. Loading one runs no code.

A checkpoint is a folder with one file, which is replaced whole. Its metadata hold the JSON part
and a digest of everything in it, so that damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from uncap.agents.files import flush

FORMAT = 2  # of what is written; FIRST_FORMAT is read, too
FIRST_FORMAT = 1  # its JSON part is a file of its own, and it has no digest
FILE = "tensors.safetensors"
TEMPORARY = f"{FILE}.tmp"  # while it is written; of a process that was killed, it means nothing
_FIRST_META = "meta.json"  # of FIRST_FORMAT
Tensors = dict[str, np.ndarray]


class CheckpointError(ValueError):
    """A folder is no checkpoint this version can load; the message says why."""


def save(folder: pathlib.Path, tensors: Tensors, meta: Mapping[str, Any]) -> None:
    """Write a checkpoint folder, whole or not at all, and onto the disk: power may fail."""
    folder.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    text = json.dumps({"format": FORMAT, **meta})
    metadata = {"meta": text, "sha256": digest(contiguous, text)}
    save_file(contiguous, folder / TEMPORARY, metadata)
    flush(folder / TEMPORARY)
    os.replace(folder / TEMPORARY, folder / FILE)
    flush(folder)
    (folder / _FIRST_META).unlink(missing_ok=True)  # of the checkpoint that is replaced


def exists(folder: pathlib.Path) -> bool:
    """Whether there is a checkpoint in a folder, damaged or not."""
    return (folder / FILE).exists()


def load(folder: pathlib.Path) -> tuple[Tensors, dict[str, Any]]:
    """Read a checkpoint folder.

    Returns:
        Tensors by name, and the JSON part.

    Raises:
        CheckpointError: missing, damaged, or of another format.
    """
    try:
        tensors, metadata = _read(folder / FILE)
        first = "meta" not in metadata
        text = (folder / _FIRST_META).read_text("utf-8") if first else metadata["meta"]
        meta = json.loads(text)
    except FileNotFoundError as error:
        missing = pathlib.Path(error.filename or FILE).name
        raise CheckpointError(f"no checkpoint in {folder}: {missing} is missing") from None
    except (OSError, SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"the checkpoint in {folder} is damaged: {error}") from None
    if not first and metadata.get("sha256") != digest(tensors, text):
        raise CheckpointError(
            f"the checkpoint in {folder} is damaged: its content does not fit its digest"
        )
    found = meta.get("format") if isinstance(meta, dict) else None
    if found != (FIRST_FORMAT if first else FORMAT):
        raise CheckpointError(
            f"the checkpoint in {folder} has format {found}; this version reads format {FORMAT}"
        )
    return tensors, meta


def _read(file: pathlib.Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    if not file.exists():
        raise FileNotFoundError(2, "missing", str(file))
    with safe_open(file, "numpy") as opened:
        names = opened.keys()
        return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}


def digest(tensors: Mapping[str, np.ndarray], text: str = "") -> str:
    """SHA-256 of contiguous tensors and a text, in hexadecimal."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
        found.update(value.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def separate(tree: Mapping[str, Any], prefix: str) -> tuple[Tensors, dict[str, Any]]:
    """Nested dictionaries as tensors with `flatten`ed names, and what else is in them, for JSON."""
    tensors: Tensors = {}
    rest: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            below, others = separate(value, f"{prefix}{key}/")
            tensors |= below
            if others or not value:
                rest[key] = others
        elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
            tensors[f"{prefix}{key}"] = np.asarray(value)
        else:
            rest[key] = value.tolist() if isinstance(value, np.ndarray) else value
    return tensors, rest


def together(
    tensors: Mapping[str, np.ndarray], prefix: str, rest: Mapping[str, Any]
) -> dict[str, Any]:
    """The nested dictionary of which `separate` made tensors and the rest."""
    return _merged(unflatten(tensors, prefix), rest)


def _merged(tree: dict, other: Mapping[str, Any]) -> dict:
    """A nested dictionary with the entries of another one added."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merged(tree[key], value)
        else:
            tree[key] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dictionaries of arrays as one dictionary with names joined by '/'."""
    flat: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}/"))
        else:
            flat[f"{prefix}{key}"] = np.asarray(value)
    return flat


def unflatten(flat: Mapping[str, np.ndarray], prefix: str) -> dict:
    """The nested dictionary under a prefix of `flatten`ed names."""
    tree: dict = {}
    for name, value in flat.items():
        if not name.startswith(prefix):
            continue
        *path, leaf = name.removeprefix(prefix).split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, np.ndarray]]:
    """What an optimizer remembers of each parameter, by the parameter's number."""
    states = optimizer.state_dict()["state"]
    return {
        str(number): {name: value.cpu().numpy() for name, value in state.items()}
        for number, state in states.items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, states: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """Give an optimizer what `optimizer_state` gave."""
    tensors = {
        int(number): {name: torch.tensor(value) for name, value in state.items()}
        for number, state in states.items()
    }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": tensors})


def generator_in(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator in a state of `bit_generator`."""
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng
