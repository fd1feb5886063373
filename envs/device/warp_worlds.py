"""MuJoCo Warp for `DeviceClosures`: its memory as tensors, its steps in their CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mujoco_warp
import numpy as np
import torch
import warp

from uncap.envs.batch import ClosureBatch
from uncap.envs.cores import default_threads
from uncap.envs.device.starts import DERIVED, STATE
from uncap.envs.engine_warp import WarpEngine
from uncap.envs.scene import SUBSTEPS

_WARM_UPS = 2  # calls before a graph is captured: kernels are loaded, constants are copied


class WarpWorlds:
    """See `closures.Engine`.

    Args:
        batch: of the closures, on the CPU.
        n: worlds.

    Attributes:
        engine: that has them.
    """

    def __init__(self, batch: ClosureBatch, n: int):
        self.engine = WarpEngine(batch.scene, n, default_threads())
        for name in (*STATE, *DERIVED, "eq_active"):
            self.engine.bind(name)
        self.fields: Mapping[str, np.ndarray] | None = self.engine.fields
        self.arrays: Mapping[str, torch.Tensor] = {
            name: warp.to_torch(array) for name, array in self.engine.arrays.items()
        }
        first = torch.as_tensor(batch.model.eq_active0, device=self.arrays["qpos"].device)
        self.arrays["eq_active"][:] = first.bool()
        warp.synchronize_device(self.engine.device)

    def step(self) -> None:
        """See `closures.Engine`."""
        if not self.engine.device.is_cuda:
            self._advance()
            return
        stream = warp.stream_from_torch(torch.cuda.current_stream())
        with warp.ScopedStream(stream, sync_enter=False):
            self._advance()

    def _advance(self) -> None:
        for _ in range(SUBSTEPS):
            mujoco_warp.step(self.engine.model, self.engine.data)

    def captured(self, advance: Callable[[], None]) -> Callable[[], None]:
        """See `closures.Engine`."""
        if not self.engine.device.is_cuda:
            return advance
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                advance()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        stream = warp.stream_from_torch(side)
        with (
            torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
            warp.ScopedStream(stream, sync_enter=False),
            warp.ScopedCapture(stream=stream, external=True),
        ):
            advance()
        return graph.replay
