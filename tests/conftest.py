"""What tests share. Workers have a core each: physics then runs on one thread, not every worker's threads on every core."""

import os

import gymnasium as gym
import pytest

from envs import CLOSURES


def pytest_configure(config):
    """Pin this process, when it is one of pytest-xdist's workers, where the system can."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture
def table():
    """Tables that forget what a test adds."""
    before = dict(CLOSURES)
    yield
    for name in set(CLOSURES) - set(before):
        gym.registry.pop(CLOSURES.pop(name).gym_id)
