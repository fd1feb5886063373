"""Frames for people: what Gymnasium's `render()` gives of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from uncap.envs.batch import ClosureBatch
from uncap.envs.render import Camera
from uncap.envs.tables import lookup

ALONE = (640, 480)  # pixels of the frame of one simulation: width, height
AMONG_OTHERS = (320, 240)  # of each of several
MODES = {  # of `render()`, and one line on each
    "rgb_array": "a frame of every sub-environment",
    "mosaic": "one picture with all of them",
}


class Frames:
    """Draws the present states of a batch; the renderer is opened by the first frame.

    Args:
        mode: a row of MODES.
        num_envs: simulations of the batch.
    """

    def __init__(self, mode: str, num_envs: int):
        self.mode = mode
        self.width, self.height = ALONE if num_envs == 1 else AMONG_OTHERS
        self._camera: Camera | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the renderer, which a copy opens anew."""
        return {**self.__dict__, "_camera": None}

    def draw(self, batch: ClosureBatch) -> tuple[np.ndarray, ...] | np.ndarray:
        """A frame (height, width, 3) uint8 of every simulation, or the mosaic of them.

        Raises:
            RenderingUnavailable: no OpenGL back end works.
        """
        variants = [batch.pool[index] for index in batch.variant]
        if self._camera is None:
            self._camera = Camera(variants[0], self.width, self.height)
        states = zip(variants, batch.qpos, batch.mocap_pos, batch.mocap_quat, strict=True)
        frames = tuple(
            self._camera.draw(qpos, pos, quat, variant=variant)
            for variant, qpos, pos, quat in states
        )
        return mosaic(frames) if self.mode == "mosaic" else frames

    def close(self) -> None:
        """Free the renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None


def frames_in(mode: str | None, num_envs: int) -> Frames | None:
    """What draws n simulations in a render mode; None without one.

    Raises:
        KeyError: no such mode; close matches are named.
    """
    if mode is None:
        return None
    lookup(MODES, mode, "render_mode")
    return Frames(mode, num_envs)


def mosaic(frames: Sequence[np.ndarray]) -> np.ndarray:
    """One picture of frames (height, width, 3), row by row; as many columns as rows, or one more.

    Cells without a frame are black.
    """
    columns = math.ceil(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    cells = [*frames, *[np.zeros_like(frames[0])] * (rows * columns - len(frames))]
    lines = [np.hstack(cells[k * columns : (k + 1) * columns]) for k in range(rows)]
    return np.vstack(lines)
