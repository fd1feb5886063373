"""How many cores this process may use, and how many threads the physics takes of them."""

from __future__ import annotations

import math
import os
import pathlib


def cores() -> int:
    """Cores that this process may use: of its affinity, and of its cgroup's share of time."""
    quota = cpu_quota()
    most = math.inf if quota is None else max(1, math.ceil(quota))
    return int(min(_affinity(), most))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: pathlib.Path = pathlib.Path("/")) -> float | None:
    """Cores' worth of time that Linux's control groups allow this process; None: any.

    Containers limit their processors so. A group is bound by the groups above it, too.

    Args:
        root: of the file system.
    """
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8")
    except (OSError, ValueError):  # no Linux
        return None
    quotas = []
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "-", "-"][:3]
        if not controllers:  # version 2
            groups, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            groups, read = root / "sys/fs/cgroup" / controllers, _quota_v1
            groups = groups if groups.is_dir() else root / "sys/fs/cgroup/cpu"
        else:
            continue
        own = groups / path.lstrip("/")
        for group in (own, *own.parents):
            quotas.append(read(group))
            if group == groups:
                break
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(group: pathlib.Path) -> float | None:
    return _share(_words(group / "cpu.max"))


def _quota_v1(group: pathlib.Path) -> float | None:
    return _share(_words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us"))


def _words(path: pathlib.Path) -> list[str]:
    """The words of a file; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []


def _share(words: list[str]) -> float | None:
    """Time over period, of two words; None where there is no limit: `max` or -1."""
    try:
        time, period = map(float, words)
        return time / period if time > 0 and period > 0 else None
    except ValueError:
        return None


_threads = 0  # of `set_threads`


def set_threads(threads: int) -> None:
    """Set how many threads a batch has that is not told; 0: as many as there are `cores`."""
    global _threads
    _threads = threads


def default_threads() -> int:
    """Threads of a batch that is not told how many."""
    return _threads or cores()
