"""Camera observations: two views of every sub-environment, drawn off-screen."""

from __future__ import annotations

import numpy as np

from envs.render import FRONT, Camera
from envs.structure import Variant

VIEWS = (FRONT, (90.0, -75.0, 0.55))  # azimuth and elevation (degrees), distance (m): front, top
_KEPT = 24  # visual models that are kept; the oldest is freed


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
        self._cameras: dict[int, Camera] = {}
        self._camera(0)  # fail now rather than in the first step

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one observation: the views' channels follow each other."""
        return (self.size, self.size, 3 * len(VIEWS))

    def _camera(self, variant: int) -> Camera:
        if variant not in self._cameras:
            if len(self._cameras) >= _KEPT:
                self._cameras.pop(next(iter(self._cameras))).close()
            self._cameras[variant] = Camera(self.pool[variant], self.size, self.size)
        return self._cameras[variant]

    def draw(self, variant: np.ndarray, qpos: np.ndarray, mocap_pos: np.ndarray, mocap_quat: np.ndarray) -> np.ndarray:
        """Pictures (n, size, size, 6) uint8 of n states."""
        pictures = np.empty((len(variant), *self.shape), np.uint8)
        for i in np.argsort(variant, kind="stable"):  # variant by variant: fewer changes of the model
            for k, view in enumerate(VIEWS):
                frame = self._camera(int(variant[i])).draw(qpos[i], mocap_pos[i], mocap_quat[i], view)
                pictures[i, ..., 3 * k : 3 * k + 3] = frame
        return pictures

    def close(self) -> None:
        """Free every renderer."""
        while self._cameras:
            self._cameras.popitem()[1].close()
