"""Camera observations: two views of every sub-environment, drawn off-screen, without shadows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from uncap.envs.render import FRONT, Camera, Look, View
from uncap.envs.sensors import PICTURE_SIZE
from uncap.envs.structure import Variant

VIEWS = (
    FRONT,  # from the left
    View(235.0, -40.0, 0.5),  # from the right, higher
)


class Pixels:
    """Draws batches of states.

    Args:
        pool: every variant of the batch.
        size: height and width of a view in pixels.
        opened: open the renderer now; else the first picture does. Who learns from pictures of
            another renderer needs none here.

    Raises:
        RenderingUnavailable: no OpenGL back end works; the message says what to install.
    """

    def __init__(self, pool: list[Variant], size: int = PICTURE_SIZE, opened: bool = True):
        self.pool = pool
        self.size = size
        self._camera: Camera | None = self._make_camera() if opened else None

    def _make_camera(self) -> Camera:
        return Camera(self.pool[0], self.size, self.size, smooth=False, shadows=False)

    def __getstate__(self) -> dict[str, Any]:
        """All but the renderer, which a copy makes anew at its first picture."""
        return {**self.__dict__, "_camera": None}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one observation: the channels of one view, then those of the next."""
        return (self.size, self.size, 3 * len(VIEWS))

    def draw(
        self,
        variant: np.ndarray,
        qpos: np.ndarray,
        mocap_pos: np.ndarray,
        mocap_quat: np.ndarray,
        disturbed: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Pictures of n states.

        Args:
            variant: (n,) indices in the pool.
            qpos: (n, nq) joint positions.
            mocap_pos: (n, 1, 3) of the containers (m).
            mocap_quat: (n, 1, 4) of the containers.
            disturbed: (n,) values of the quantities that act on pictures, see
                `Variation.pictured`; None: none does.

        Returns:
            (n, size, size, 6) uint8.
        """
        self._camera = self._camera or self._make_camera()
        pictures = np.empty((len(variant), *self.shape), np.uint8)
        for i, v in enumerate(variant):
            look = Look.of({name: value[i] for name, value in (disturbed or {}).items()})
            for k, view in enumerate(VIEWS):
                frame = self._camera.draw(
                    qpos[i], mocap_pos[i], mocap_quat[i], view, self.pool[v], look
                )  # (size, size, 3)
                pictures[i, ..., 3 * k : 3 * k + 3] = frame
        return pictures

    def close(self) -> None:
        """Free the renderer; another picture makes it anew."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
