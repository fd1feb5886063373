"""The engine on the processor: MuJoCo's batch, with the same results for any number of threads."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

from typing import Any

import mujoco
import mujoco.batch
import numpy as np

from uncap.envs import forks
from uncap.envs.engines import Scene

_NOTHING = mujoco.mjtStage.mjSTAGE_NONE.value
_POSITIONS = mujoco.mjtStage.mjSTAGE_POS.value
_DIVERGED = np.array(  # warnings of a simulation that diverged
    [
        mujoco.mjtWarning.mjWARN_BADQPOS.value,
        mujoco.mjtWarning.mjWARN_BADQVEL.value,
        mujoco.mjtWarning.mjWARN_BADQACC.value,
    ]
)
_NONE = np.empty(0, np.int64)


class CpuEngine:
    """See `engines.Engine`.

    Args:
        scene: what is simulated.
        n: simulations.
        threads: that step.
    """

    def __init__(self, scene: Scene, n: int, threads: int):
        self.batch = mujoco.batch.Batch(scene.model, n, threads)
        self.state = self.batch.state
        self.bind = self.batch.bind
        self.expand = self.batch.expand
        self.threads = threads
        self.lost = False
        forks.watch(self)

    def lose_threads(self) -> None:
        """Note, in a child process, that there are no threads to step by."""
        self.lost = True

    def reset(self, ids: np.ndarray) -> None:
        """See `engines.Engine`."""
        self.batch.reset(ids, stage=_NOTHING)

    def place(self, ids: np.ndarray) -> None:
        """See `engines.Engine`."""
        self.batch.forward(ids, stage=_POSITIONS)

    def forward(self, ids: np.ndarray) -> None:
        """See `engines.Engine`."""
        self.batch.forward(ids)

    def step(self, steps: int) -> None:
        """See `engines.Engine`."""
        self.batch.step(nstep=steps)

    def diverged(self) -> np.ndarray:
        """See `engines.Engine`."""
        counts = self.batch.warning[:, _DIVERGED, 1]  # (n, 3)
        if not counts.any():
            return _NONE
        ids = np.flatnonzero(counts.any(1))
        self.batch.warning[ids] = 0
        return ids

    def get_model(self, simulation: int) -> Any:
        """See `engines.Engine`."""
        return self.batch.get_model(simulation)

    def get_data(self, simulation: int) -> Any:
        """See `engines.Engine`."""
        return self.batch.get_data(simulation)
