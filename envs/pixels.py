"""Camera observations: two views of every sub-environment, drawn off-screen, without shadows."""

from __future__ import annotations

import numpy as np

from envs.render import FRONT, Camera
from envs.structure import Variant

VIEWS = (
    FRONT,
    (235.0, -40.0, 0.5),
)  # azimuth and elevation (degrees), distance (m): from the left, and from the right, higher


class Pixels:
    """Draws batches of states.

    Args:
        pool: every variant of the batch.
        size: height and width of a view in pixels.

    Raises:
        RenderingUnavailable: no OpenGL back end works; the message says what to install.
    """

    def __init__(self, pool: list[Variant], size: int = 84):
        self.pool, self.size = pool, size
        self._camera = Camera(pool[0], size, size, smooth=False, shadows=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one observation: the views' channels follow each other."""
        return (self.size, self.size, 3 * len(VIEWS))

    def draw(
        self, variant: np.ndarray, qpos: np.ndarray, mocap_pos: np.ndarray, mocap_quat: np.ndarray
    ) -> np.ndarray:
        """Pictures (n, size, size, 6) uint8 of n states."""
        pictures = np.empty((len(variant), *self.shape), np.uint8)
        for i, k in np.ndindex(len(variant), len(VIEWS)):
            frame = self._camera.draw(
                qpos[i], mocap_pos[i], mocap_quat[i], VIEWS[k], self.pool[variant[i]]
            )
            pictures[i, ..., 3 * k : 3 * k + 3] = frame
        return pictures

    def close(self) -> None:
        """Free the renderer."""
        self._camera.close()
