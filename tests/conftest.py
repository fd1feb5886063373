"""What tests share.

Every worker of pytest-xdist has a core of its own, so that the physics runs on one thread.
Otherwise every worker would run as many threads as there are cores.
"""

import os

import gymnasium as gym
import pytest
from rows import INK_BOTTLE

from uncap.envs import CLOSURES


def pytest_configure(config):
    """Pin this process to a core, when it is one of pytest-xdist's workers and the system can."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        number = int(worker.removeprefix("gw"))
        os.sched_setaffinity(0, {cores[number % len(cores)]})


@pytest.fixture
def table():
    """Tables that forget what a test adds."""
    before = dict(CLOSURES)
    yield
    for name in set(CLOSURES) - set(before):
        gym.registry.pop(CLOSURES.pop(name).gym_id)


@pytest.fixture
def ink_bottle():
    """The fields of a valid row that is in no table."""
    return dict(INK_BOTTLE)
