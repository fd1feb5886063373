"""Where a training on a device is saved that is stopped, and goes on.

All that its next step reads is saved: weights and optimizer, the worlds' memory, labelled states,
generators. So what follows is, on Warp's CPU device, bit for bit what would have followed; on a
GPU it is not, as no two runs are.
"""

from __future__ import annotations

import pathlib
import shutil
from typing import Any, Protocol

from uncap.agents import checkpoints

FOLDER = "device"  # in a run folder, until its training has ended


class Saved(Protocol):
    """What can be saved: `DeviceDagger`, `DevicePPO`."""

    def snapshot(self) -> dict[str, Any]:
        """Nested dictionaries of copied arrays, and of what JSON holds."""
        ...

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Return to a snapshot."""
        ...


def exists(run: pathlib.Path) -> bool:
    """Whether a run folder holds a training that goes on."""
    return checkpoints.exists(run / FOLDER)


def save(run: pathlib.Path, teacher: Saved, **meta: Any) -> None:
    """Save what learns into a run folder, whole or not at all; call it between rounds or updates.

    Args:
        run: the folder.
        teacher: what learns.
        meta: what JSON holds, to keep with it.
    """
    tensors, rest = checkpoints.separate(teacher.snapshot(), "")
    checkpoints.save(run / FOLDER, tensors, {"state": rest, **meta})


def restore(run: pathlib.Path, teacher: Saved) -> dict[str, Any]:
    """Return to what was saved; what was kept with it.

    Raises:
        CheckpointError: there is none, or it is damaged, or of another training.
    """
    tensors, meta = checkpoints.load(run / FOLDER)
    try:
        teacher.restore(checkpoints.together(tensors, "", meta["state"]))
    except (KeyError, ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise checkpoints.CheckpointError(
            f"the state in {run / FOLDER} is of another training: {problem}"
        ) from None
    return meta


def forget(run: pathlib.Path) -> None:
    """Remove what was saved of a training that has ended."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)
