"""Camera observations: two views of every sub-environment, drawn off-screen, without shadows."""

from __future__ import annotations

import numpy as np

from envs.render import FRONT, Camera, View
from envs.structure import Variant

VIEWS = (
    FRONT,  # from the left
    View(235.0, -40.0, 0.5),  # from the right, higher
)


class Pixels:
    """Draws batches of states.

    Args:
        pool: every variant of the batch.
        size: height and width of a view in pixels.

    Raises:
        RenderingUnavailable: no OpenGL back end works; the message says what to install.
    """

    def __init__(self, pool: list[Variant], size: int = 84):
        self.pool = pool
        self.size = size
        self._camera = Camera(pool[0], size, size, smooth=False, shadows=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one observation: the channels of one view, then those of the next."""
        return (self.size, self.size, 3 * len(VIEWS))

    def draw(
        self, variant: np.ndarray, qpos: np.ndarray, mocap_pos: np.ndarray, mocap_quat: np.ndarray
    ) -> np.ndarray:
        """Pictures of n states.

        Args:
            variant: (n,) indices in the pool.
            qpos: (n, nq) joint positions.
            mocap_pos: (n, 1, 3) of the containers (m).
            mocap_quat: (n, 1, 4) of the containers.

        Returns:
            (n, size, size, 6) uint8.
        """
        pictures = np.empty((len(variant), *self.shape), np.uint8)
        for i, v in enumerate(variant):
            for k, view in enumerate(VIEWS):
                frame = self._camera.draw(
                    qpos[i], mocap_pos[i], mocap_quat[i], view, self.pool[v]
                )  # (size, size, 3)
                pictures[i, ..., 3 * k : 3 * k + 3] = frame
        return pictures

    def close(self) -> None:
        """Free the renderer."""
        self._camera.close()
