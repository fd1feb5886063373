"""Snapshots that know what they are of, and are looked at before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from uncap.envs.tables import brief

Identity = dict[str, Any]  # what a snapshot is of, by name
_OLDER: Identity = {"engine": "cpu"}  # what snapshots did not say when there was no other


def encoded(identity: Identity) -> np.ndarray:
    """What a snapshot is of, as uint8 (k,): checkpoints hold arrays."""
    return np.frombuffer(json.dumps(identity, sort_keys=True).encode(), np.uint8).copy()


def refuse_other(given: Any, own: Identity, *, copies: bool = False) -> None:
    """Refuse a snapshot of something else.

    Args:
        given: the snapshot; one without `of` is of an older version, and only its arrays tell.
        own: what it is restored into.
        copies: take a snapshot of one sub-environment for any number of them.

    Raises:
        ValueError: no snapshot, or the first thing that differs.
    """
    if not isinstance(given, Mapping):
        raise ValueError(
            f"a snapshot is the dictionary that snapshot() gives, not a {_kind(given)}"
        )
    if "of" not in given:
        return
    try:
        identity = _OLDER | json.loads(bytes(np.asarray(given["of"], np.uint8)))
        differing = [name for name in own if identity[name] != own[name]]
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ValueError("the snapshot is damaged: it does not say what it is of") from None
    if "num_envs" in differing and identity["num_envs"] == 1 and copies:
        differing.remove("num_envs")
    if differing == ["num_envs"] and identity["num_envs"] == 1:
        raise ValueError(
            f"the snapshot is of 1 sub-environment, not of {own['num_envs']}: "
            "restore(snapshot, copies=True) gives each the same state"
        )
    if differing:
        name = differing[0]
        raise ValueError(
            f"the snapshot is of something else: its {name} is {brief(identity[name])}, "
            f"not {brief(own[name])}"
        )


def part(given: Mapping[str, Any], name: str) -> Any:
    """A part of a snapshot.

    Raises:
        ValueError: it is missing.
    """
    if name not in given:
        raise ValueError(f"the snapshot is damaged: {name} is missing")
    return given[name]


def fitted(given: Mapping[str, Any], like: Mapping[str, Any], n: int) -> dict[str, Any]:
    """The arrays of a snapshot, copied, of the shapes and types of those that are there now.

    Args:
        given: the snapshot; names that `like` does not have are left out.
        like: a snapshot of what it is restored into.
        n: simulations; an array of one is repeated for each.

    Raises:
        ValueError: an array is missing, or of another shape or type.
    """
    found: dict[str, Any] = {}
    for name, own in like.items():
        value = part(given, name)
        if isinstance(own, Mapping):
            if not isinstance(value, Mapping):
                raise ValueError(f"the snapshot is damaged: {name} is no dictionary")
            found[name] = fitted(value, own, n)
        else:
            found[name] = _fitted_array(name, value, own, n)
    return found


def _fitted_array(name: str, given: Any, own: np.ndarray, n: int) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:  # of lists that are no array
        array = np.empty(0, object)
    if array.shape == (1, *own.shape[1:]) and own.shape[:1] == (n,):
        array = np.repeat(array, n, 0)
    if array.shape != own.shape or not np.can_cast(array.dtype, own.dtype, "same_kind"):
        raise ValueError(
            f"the snapshot is damaged: {name} must be {own.dtype} of shape {own.shape}, "
            f"not {array.dtype} of shape {array.shape}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"the snapshot is damaged: {name} holds numbers that are not finite")
    return array.astype(own.dtype)


def _kind(value: Any) -> str:
    return type(value).__name__
