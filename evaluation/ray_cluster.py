"""Connecting to a Ray cluster, and refusing one that would give other results than this machine."""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from uncap.evaluation.places import Command
from uncap.evaluation.ray_cells import RayPlace, paths_of, threads_of
from uncap.evaluation.ray_node import other_version, versions

PATIENCE = 30.0  # s for a cluster to answer
NODE_PATIENCE = 120.0  # s for a node to say what it has; it may have to start a process for it


@contextlib.contextmanager
def connected(
    address: str, jobs: int | None, command: Command, flags: Sequence[Mapping[str, Any]]
) -> Iterator[RayPlace]:
    """A cluster, for as long as the block lasts.

    Args:
        address: of it.
        jobs: trainings at once; None: as many as it has processors for.
        command: makes a training's process from its arguments.
        flags: of the cells that are trained there.

    Raises:
        ValueError: Ray is not installed, the cluster does not answer, or it cannot train the
            cells; in one line.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--ray needs Ray: pip install 'uncap[ray]'") from None
    _check_answers(address)
    ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    try:
        threads = max(map(threads_of, flags), default=1)
        paths = {path for given in flags for path in paths_of(given)}
        at_once = _check_nodes(address, threads, sorted(paths))
        yield RayPlace(jobs or at_once, command)
    finally:
        ray.shutdown()


_TRY = """
import sys, ray
try:
    ray.init(address=sys.argv[1], logging_level="critical", log_to_driver=False)
except Exception as error:
    sys.exit(" ".join(str(error).split()) or type(error).__name__)
ray.shutdown()
"""


def _check_answers(address: str) -> None:
    """Refuse an address at which no cluster answers, or one of other versions.

    A process of its own connects: Ray would try for minutes, and may end the process.

    Raises:
        ValueError: in one line, why.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE / 3).close()
        except (OSError, UnicodeError) as error:  # the latter of what can be no name of a host
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"no Ray cluster answers at {address}: {why}") from None
    words = [sys.executable, "-c", _TRY, address]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        import ray  # optional

        raise ValueError(
            f"no cluster of Ray {ray.__version__} answers at {address} within {PATIENCE:.0f} s"
        ) from None
    if done.returncode:
        *_, why = [
            "it ends without a word",
            *filter(None, map(str.strip, done.stderr.splitlines())),
        ]
        raise ValueError(f"the Ray cluster at {address} cannot be used: {why}")


def _check_nodes(address: str, threads: int, paths: Sequence[str]) -> int:
    """Refuse nodes that would train otherwise than this machine; how many cells go at once.

    Args:
        address: for messages.
        threads: that a cell takes.
        paths: that every node must have.

    Raises:
        ValueError: in one line, what a node lacks.
    """
    import ray  # optional
    from ray.exceptions import RayError

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    places = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes}
    rooms = {node["NodeID"]: int(node["Resources"]["CPU"]) // threads for node in nodes}
    if not any(rooms.values()):
        raise ValueError(f"no node of {address} has {threads} processors, which a cell takes")
    asked = {node: _asked(node, paths) for node in places}
    ours = versions()
    answering = set()
    for node, place in places.items():
        try:
            found: Any = ray.get(asked[node], timeout=NODE_PATIENCE)
        except RayError:  # a node that has just failed; one that is slow is asked again by a cell
            continue
        answering.add(node)
        if problem := _problem(found, ours):
            raise ValueError(f"node {place} of {address} {problem}")
    if not answering:
        raise ValueError(f"no node of {address} answers")
    return max(1, sum(rooms[node] for node in answering))


def _problem(found: Mapping[str, Any], ours: Mapping[str, str]) -> str:
    """Why a node cannot train our cells; empty if it can."""
    if why := found.get("error"):
        return f"cannot import Uncap: {why}; install the same there"
    if unlike := other_version(found["versions"], ours):
        return unlike
    if missing := found["missing"]:
        return f"has no {missing[0]}: what cells read has to be at the same place on every node"
    return ""


def _asked(node: str, paths: Sequence[str]) -> Any:
    """The answer to come of a node on what it has, see `_problem`."""
    import ray  # optional
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node, soft=False)
    task: Any = ray.remote(_asking()).options(num_cpus=0, scheduling_strategy=here, max_retries=0)
    return task.remote(list(paths))


def _asking() -> Callable[[list[str]], dict[str, Any]]:
    """A function that is sent whole, so that a node without Uncap can answer, too."""

    def asking(paths: list[str]) -> dict[str, Any]:
        import os

        try:
            from uncap.evaluation.ray_node import versions
        except Exception as error:
            return {"error": " ".join(str(error).split())}
        missing = [path for path in paths if not os.path.exists(path)]
        return {"versions": versions(), "missing": missing}

    return asking
