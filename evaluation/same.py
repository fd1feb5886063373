"""Whether two run folders hold the same, value for value: results, episodes, metrics, weights."""

from __future__ import annotations

import csv
import json
import pathlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
from safetensors.numpy import load_file

IGNORED = ("seconds", "machine", "per_second", "versions")  # parts of keys that may differ
FOUND = ("results.json", "cosines.json", "beliefs.json", "compare.json", "tune.json")
DIGESTS = ("sha256", "check")  # keys of digests, of seconds too


def compare(a: pathlib.Path, b: pathlib.Path) -> Iterator[str]:
    """A line for every difference between two run folders."""
    yield from json_differences(results(a), results(b), "results")
    for name in ("episodes.csv", "metrics.csv"):
        ours, theirs = tables(a, name), tables(b, name)
        if ours.keys() != theirs.keys():
            yield f"{name}: {sorted(ours)} and {sorted(theirs)}"
        for place in ours.keys() & theirs.keys():
            if ours[place] != theirs[place]:
                yield f"{place}: {first_difference(ours[place], theirs[place])}"
    ours, theirs = tensors(a), tensors(b)
    if not ours:
        yield "no checkpoint"
    if ours != theirs:
        missing = sum((theirs - ours).values())
        yield f"checkpoints: {missing} of {sum(theirs.values())} tensors are not the same"


def results(run: pathlib.Path) -> dict:
    """Everything in JSON that was found out under a run folder, by its place."""
    files = sorted(file for name in FOUND for file in run.rglob(name))
    return {str(file.relative_to(run)): json.loads(file.read_text("utf-8")) for file in files}


def tables(run: pathlib.Path, name: str) -> dict[str, list[dict[str, str]]]:
    """Every table of a name under a run folder, by its place, without seconds."""
    found = {}
    for file in sorted(run.rglob(name)):
        rows = csv.DictReader(file.read_text("utf-8").splitlines())
        kept = [{k: v for k, v in row.items() if not ignored(k)} for row in rows]
        found[str(file.relative_to(run))] = kept
    return found


def tensors(run: pathlib.Path) -> Counter:
    """Type, shape and bytes of every tensor under a run folder, whatever its name."""
    found: Counter = Counter()
    for file in sorted(run.rglob("*.safetensors")):
        for value in load_file(file).values():
            found[str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()] += 1
    return found


def ignored(key: str) -> bool:
    """Whether values of a key may differ between two runs."""
    return key in DIGESTS or any(part in key for part in IGNORED)


def json_differences(a: object, b: object, place: str) -> Iterator[str]:
    """A line for every value in which two trees differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if key not in a or key not in b:
                yield f"{place}: {key} is only in one of them"
            elif not ignored(key):
                yield from json_differences(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (ours, theirs) in enumerate(zip(a, b, strict=True)):
            yield from json_differences(ours, theirs, f"{place}/{number}")
    elif a != b:
        yield f"{place}: {a} and {b}"


def first_difference(a: list[dict[str, str]], b: list[dict[str, str]]) -> str:
    """Where two tables begin to differ."""
    for number, (row, other) in enumerate(zip(a, b, strict=False), start=1):
        if row != other:
            keys = [key for key in row.keys() | other.keys() if row.get(key) != other.get(key)]
            values = {key: (row.get(key), other.get(key)) for key in sorted(keys)[:4]}
            return f"row {number}: {values}"
    return f"{len(a)} and {len(b)} rows"
