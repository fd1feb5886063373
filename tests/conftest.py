"""What tests share.

Every worker of pytest-xdist has a core of its own, so that the physics runs on one thread.
Otherwise every worker would run as many threads as there are cores.
"""

import os

import gymnasium as gym
import pytest
from rows import INK_BOTTLE

from uncap.envs import CLOSURES, batch


def pytest_addoption(parser):
    """Run the tests of physics on another engine: `pytest --engine warp tests/test_stages.py`."""
    parser.addoption("--engine", default="cpu", help="what runs simulations that are not told")


def pytest_configure(config):
    set_default_engine(config.getoption("--engine"))
    pin()


def set_default_engine(engine):
    """Make an engine the one of batches and environments that are not told another one."""
    if engine == "cpu":
        return
    from uncap.envs.batch import ClosureBatch
    from uncap.envs.vector_env import ClosureVectorEnv

    *others, _ = ClosureBatch.__init__.__defaults__
    ClosureBatch.__init__.__defaults__ = (*others, engine)
    ClosureVectorEnv.__init__.__kwdefaults__["engine"] = engine


def pin():
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


@pytest.fixture(scope="module")
def warp_on_the_cpu():
    """Have the engine warp run on Warp's CPU device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNCAP_WARP_DEVICE", "cpu")
        yield


@pytest.fixture
def opened_engines(monkeypatch):
    """Names of the engines that are opened from now on."""
    found = []
    open_engine = batch.open_engine

    def noting(name, *others):
        found.append(name)
        return open_engine(name, *others)

    monkeypatch.setattr(batch, "open_engine", noting)
    return found
