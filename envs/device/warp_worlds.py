"""MuJoCo Warp for `DeviceClosures`: its memory as tensors, its steps in their CUDA graph."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from uncap.envs.batch import ClosureBatch
from uncap.envs.cores import default_threads
from uncap.envs.device.pictures import Pictures
from uncap.envs.device.starts import DERIVED, STATE
from uncap.envs.device.streams import on_torchs_stream
from uncap.envs.engine_warp import (
    DEVICE,
    WarpEngine,
    capture_problem,
    device,
    mujoco_warp,
    recorded,
    warp,
)
from uncap.envs.engines import EngineUnavailable
from uncap.envs.scene import SUBSTEPS
from uncap.envs.structure import Variant

_WARM_UPS = 2  # calls before a graph is captured


class _CaptureFailed(Exception):
    """Control steps cannot be captured; the message is one line."""


def torch_device() -> torch.device:
    """Where worlds will be, as torch names it.

    Raises:
        EngineUnavailable: there is no such device, or torch cannot use it.
    """
    chosen = device()
    if chosen.is_cuda and not torch.cuda.is_available():
        raise EngineUnavailable(
            f"PyTorch {torch.__version__} finds no GPU, and MuJoCo Warp does: it needs a build for "
            f"CUDA ({DEVICE}=cpu runs on the processor)"
        )
    return torch.device(warp.device_to_torch(chosen))


class WarpWorlds:
    """See `closures.Engine`.

    Args:
        batch: of the closures, on the CPU.
        n: worlds.

    Attributes:
        engine: that has them.
        is_captured: whether a whole control step is one CUDA graph; else the physics is a graph.

    Raises:
        EngineUnavailable: there is no such device, or too little memory on it.
    """

    def __init__(self, batch: ClosureBatch, n: int):
        torch_device()  # refuses what torch cannot use
        self.engine = WarpEngine(batch.scene, n, default_threads())
        for name in (*STATE, *DERIVED, "eq_active"):
            self.engine.bind(name)
        self.fields: Mapping[str, np.ndarray] | None = self.engine.fields
        self.arrays: Mapping[str, torch.Tensor] = {
            name: warp.to_torch(array) for name, array in self.engine.arrays.items()
        }
        first = torch.as_tensor(batch.model.eq_active0, device=self.arrays["qpos"].device)
        self.arrays["eq_active"][:] = first.bool()
        self.is_captured = False
        # a step of the physics, where it is a graph alone
        self._recorded: Callable[[], None] | None = None
        self._captured: Any = None  # Warp's part of the graph of a control step: it holds kernels
        self._is_alone = not self.engine.device.is_cuda  # the physics is a graph of its own
        warp.synchronize_device(self.engine.device)

    def step(self) -> None:
        """See `closures.Engine`."""
        if self._is_alone:
            with warp.ScopedDevice(self.engine.device):
                self._step_recorded()
            return
        with on_torchs_stream(self.arrays["qpos"].device):
            for _ in range(SUBSTEPS):
                self._step_once()

    def check(self) -> None:
        """See `closures.Engine`."""
        self.engine.count_overflows()

    def pictures(self, pool: list[Variant]) -> Pictures:
        """See `closures.Engine`."""
        with self.engine.running():
            return Pictures(pool, self.engine.model, self.engine.data)

    def _step_recorded(self) -> None:
        """The same, recorded.

        It is on Warp's own stream, which on a GPU waits for torch's default one, and that for it.
        """
        steps = SUBSTEPS
        if self._recorded is None:
            self._step_once()  # loads the kernels, which cannot be loaded while they are recorded
            steps -= 1
            self._recorded = recorded(self._step_once, self.engine.device)  # it is not done
        for _ in range(steps):
            self._recorded()

    def _step_once(self) -> None:
        mujoco_warp.step(self.engine.model, self.engine.data)

    def captured(self, advance: Callable[[], None]) -> Callable[[], None]:
        """See `closures.Engine`.

        Raises:
            EngineUnavailable: too little memory.
        """
        if not self.engine.device.is_cuda:
            return advance
        # torch makes streams on its present device, which may be another GPU
        with self.engine.running(), torch.cuda.device(self.arrays["qpos"].device):
            return self._captured_there(advance)

    def _captured_there(self, advance: Callable[[], None]) -> Callable[[], None]:
        before = torch.cuda.current_stream()
        side = torch.cuda.Stream()
        side.wait_stream(before)
        stream = warp.stream_from_torch(side)
        # dead graphs are not freed while another is captured: that would end the capture
        gc.collect()
        gc.disable()
        try:
            with warp.ScopedStream(stream, sync_enter=False):
                self._warm_up(advance, side)
                return self._capture(advance, side, stream)
        except _CaptureFailed as failed:
            warnings.warn(
                f"no CUDA graph of whole control steps: {failed}; the physics is one of its own, "
                "and the rest is launched anew in every step",
                stacklevel=3,
            )
            self._is_alone = True
            return advance
        finally:
            torch.cuda.set_stream(before)  # a capture that fails leaves torch on its own stream
            gc.enable()

    def _warm_up(self, advance: Callable[[], None], side: torch.cuda.Stream) -> None:
        """Compute before anything is captured: kernels are loaded, constants are copied."""
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                advance()
        torch.cuda.synchronize()

    def _capture(
        self, advance: Callable[[], None], side: torch.cuda.Stream, stream: Any
    ) -> Callable[[], None]:
        """The graph of `advance`, captured on torch's stream, which Warp has as its own.

        Raises:
            _CaptureFailed: it cannot be captured.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with (
                torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
                warp.ScopedCapture(stream=stream, external=True) as capture,
            ):
                advance()
        except RuntimeError as error:
            raise _CaptureFailed(capture_problem(error)) from error
        self._captured = capture.graph
        self.is_captured = True
        return graph.replay
