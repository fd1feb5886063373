"""MuJoCo Warp for `DeviceClosures`: its memory as tensors, its steps in their CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mujoco_warp
import numpy as np
import torch
import warp

from uncap.envs.batch import ClosureBatch
from uncap.envs.cores import default_threads
from uncap.envs.device.pictures import Pictures
from uncap.envs.device.starts import DERIVED, STATE
from uncap.envs.engine_warp import WarpEngine
from uncap.envs.scene import SUBSTEPS
from uncap.envs.structure import Variant

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
        self._recorded: Any = None  # the steps of a control step, on the processor
        warp.synchronize_device(self.engine.device)

    def step(self) -> None:
        """See `closures.Engine`."""
        if not self.engine.device.is_cuda:
            self._step_on_processor()
            return
        stream = warp.stream_from_torch(torch.cuda.current_stream())
        with warp.ScopedStream(stream, sync_enter=False):
            self._advance()

    def check(self) -> None:
        """See `closures.Engine`."""
        self.engine.count_overflows()

    def pictures(self, pool: list[Variant]) -> Pictures:
        """See `closures.Engine`."""
        return Pictures(pool, self.engine.model, self.engine.data)

    def _step_on_processor(self) -> None:
        """The same from the second call on, recorded: launching kernels from Python takes longer.

        The first call loads the kernels, which cannot be loaded while they are recorded.
        """
        if self._recorded is not None:
            warp.capture_launch(self._recorded)
            return
        self._advance()
        with warp.ScopedCapture(device=self.engine.device) as capture:
            self._advance()  # it is not done
        self._recorded = capture.graph

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
