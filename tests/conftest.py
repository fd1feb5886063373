"""Test workers on a core each: physics then runs on one thread, instead of every worker's threads on every core."""

import os


def pytest_configure(config):
    """Pin this process, when it is one of pytest-xdist's workers, where the system can."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
