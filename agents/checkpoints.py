"""Checkpoints: tensors as safetensors, everything else as JSON. Loading one runs no code."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FORMAT = 1  # of the files below; a checkpoint of another format is refused


class CheckpointError(ValueError):
    """A folder is no checkpoint this version can load; the message says why."""


def save(folder: pathlib.Path, tensors: dict[str, np.ndarray], meta: dict) -> None:
    """Write a checkpoint folder, whole or not at all."""
    temporary = folder.with_name(folder.name + ".tmp")
    old = folder.with_name(folder.name + ".old")
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(contiguous, temporary / "tensors.safetensors")
    (temporary / "meta.json").write_text(
        json.dumps({"format": FORMAT, **meta}, indent=1), encoding="utf-8"
    )
    if folder.exists():
        os.replace(folder, old)
    os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], dict]:
    """Read a checkpoint folder.

    Returns:
        Tensors by name, and the JSON part.

    Raises:
        CheckpointError: missing, half-written, or of another format.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "tensors.safetensors")
    except FileNotFoundError as error:
        missing = pathlib.Path(error.filename or "").name
        raise CheckpointError(f"no checkpoint in {folder}: {missing} is missing") from None
    except (json.JSONDecodeError, SafetensorError, UnicodeDecodeError) as error:
        raise CheckpointError(f"the checkpoint in {folder} is damaged: {error}") from None
    if meta.get("format") != FORMAT:
        raise CheckpointError(
            f"the checkpoint in {folder} has format {meta.get('format')}; "
            f"this version reads format {FORMAT}"
        )
    return tensors, meta


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
